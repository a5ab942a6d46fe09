"""What is asked of a prompt, what it returns, and how it is listed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, cast

import msgspec

from adapters.comfyui.answers import OutputFile
from adapters.comfyui.paid import Paid
from adapters.comfyui.record import PromptProgress
from recovery import validation

Priority: TypeAlias = Literal["high", "normal", "low"]
OnUnknown: TypeAlias = Literal["ask", "resubmit"]

PromptState: TypeAlias = Literal["waiting", "sent", "running", "asking"]
"""A prompt waits for its turn, is in the queue of the server, is executed there, or waits for an answer.

While a server is started again, what it had counts as "sent": the first look at the new process decides.
"""


class Wish(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is asked of a prompt: journalled with its call.

    Args:
        graph: The graph, in the API format.
        outputs: The nodes whose outputs are wanted; None for all.
        paid: Whether nodes that cost money may run.
        priority: Its place before others.
        on_unknown: What is done if it is gone from the server, and no sign says that it did not run.
        partial: Whether a part of its outputs is enough.
        on_memory: Arguments that the server is started again with once all else has failed for want of memory.
    """

    graph: dict[str, Any]
    outputs: tuple[str, ...] | None = None
    paid: Paid = "ask"
    priority: Priority = "normal"
    on_unknown: OnUnknown = "ask"
    partial: bool = False
    on_memory: tuple[str, ...] | None = None


class PromptResult(msgspec.Struct, frozen=True):
    """What a prompt made.

    Args:
        prompt_id: Under which the server knows the run.
        outputs: What each node put out, by its id, as the server says it: those that were asked for.
        files: The files in *outputs*. Those of type "output" are there; a preview may be gone.
    """

    prompt_id: str
    outputs: dict[str, Any]
    files: tuple[OutputFile, ...]


class QueuedPrompt(msgspec.Struct, frozen=True):
    """A prompt that is not done.

    Args:
        name: What it is called.
        state: "waiting" for its turn, "sent" to the server, "running" there, or "asking" a person.
        place: How many prompts are before it.
        progress: How far it is.
        call: The id of its call, as ``recovery why`` takes it.
    """

    name: str
    state: PromptState
    place: int
    progress: PromptProgress
    call: str


def texts(field: str, value: Sequence[str]) -> tuple[str, ...]:
    """The texts in *value*. Raises TypeError, with the name *field*, if it is no collection of texts."""
    found = validation.items(field, value)
    if wrong := [one for one in found if not isinstance(one, str)]:
        raise TypeError(f"{field} must be texts, not {wrong[0]!r:.80}")
    return cast("tuple[str, ...]", found)
