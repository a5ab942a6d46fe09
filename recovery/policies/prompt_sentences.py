"""The causes that lie with a prompt of ComfyUI: its graph, its nodes and models, and its server. Pure.

The errors are those of ``adapters.comfyui.errors``; their messages name the node, the file and the class.
"""

from __future__ import annotations

from recovery.policies.sentence import Sentence

ANSWERED = "It goes on by itself once that is answered."

PROMPT_SENTENCES: dict[str, Sentence] = {
    cause: Sentence(*texts)
    for cause, *texts in (
        ("graph", "no server can run this graph", "Correct what the message names."),
        ("prompt-refused", "the server refuses the prompt[: {node}]", "Correct what the message says of its nodes."),
        ("prompt-failed", "a node of the prompt failed[: {node}]",
         "Correct the input of that node, as the message says."),
        ("prompt-model", "a file that the prompt needs is not on the server[: {model}]",
         "Put it into the folder that the message names.", ANSWERED),
        ("prompt-node", "a kind of node that the prompt needs is not on the server[: {class}]",
         "Install the pack of nodes that has it.", ANSWERED),
        ("prompt-paid", "the prompt has nodes that cost money", "Decide whether to pay for it.", ANSWERED),
        ("prompt-account", "a node that costs money needs an account, or credits[: {node}]",
         "Log in to your ComfyUI account, and see that it has credits.", ANSWERED),
        ("prompt-login", "the login of a node that costs money has expired[: {node}]",
         "Log in to your ComfyUI account again."),
        ("prompt-unknown", "the prompt is gone from the server, and it may have run",
         "Look whether its results are there, and decide whether to run it again.", ANSWERED),
        ("prompt-interrupted", "the prompt was interrupted in the server", "Decide whether to run it again.", ANSWERED),
        ("prompt-lost", "the server ended before the prompt was done", "Read its last lines."),
        ("prompt-quarantined", "the server died twice while it ran this prompt",
         "Look for the node that ends the server, and decide whether to run the prompt again.", ANSWERED),
        ("prompt-memory", "the memory is full[: {node} needs more]",
         "Choose a smaller picture, batch or model, or close other programs.", ANSWERED),
        ("prompt-context", "the server can no longer use the graphics card[, since {node} failed]",
         "Restart the server; if that does not help, look at the graphics driver.", ANSWERED),
        ("prompt-down", "the server of prompts does not run", "Start it."),
        ("prompt-no-answer", "a prompt was sent, and no answer came", "Look whether the server still runs."),
        ("prompt-busy", "the server of prompts does not answer for now", "Wait: it may load a model."),
    )
}  # fmt: skip
"""By the name of the cause."""
