"""What to do about a full memory, and about a broken CUDA context: one step further each time. Pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

from adapters.comfyui.errors import BrokenContextError, MemoryFullError, OutOfMemoryError, PoisonedContextError
from events.evidence import Remedy

Trouble: TypeAlias = Literal["memory", "context"]
"""What keeps a prompt from running: the memory is full, or the CUDA context is broken."""

Step: TypeAlias = Literal["free", "restart", "argue", "ask"]
"""Unload the models, restart the server, restart it with the arguments of the user's policy, or ask a person."""

RELIEVED: dict[Step, str] = {"free": "freed", "restart": "restarted", "argue": "argued", "ask": ""}
"""What ``PromptRecord.relieved`` says once a step was taken. An answer "yes" begins anew."""

STEPS: dict[Trouble, tuple[Step, ...]] = {
    "memory": ("free", "restart", "argue", "ask"),
    "context": ("restart", "ask"),  # /free of a broken context fails, too
}


def trouble_of(error: Exception) -> Trouble | None:
    """What the failure of a prompt says of its server; None for another failure."""
    match error:
        case MemoryFullError():
            return "memory"
        case PoisonedContextError():
            return "context"
    return None


def next_step(trouble: Trouble, relieved: str, *, has_policy: bool, can_restart: bool) -> Step:
    """The step after those that were taken. Each is taken once, the mildest first.

    A server with a broken context is restarted in any case, also if a person is asked about this prompt: all that it
    runs would fail.

    Args:
        trouble: What keeps the prompt from running.
        relieved: The last step taken: "", "freed", "restarted", or "argued".
        has_policy: Whether the user gave arguments for this case, as ``on_memory=("--lowvram",)``.
        can_restart: Whether the server is one of the launcher's.
    """
    taken = list(RELIEVED.values()).index(relieved) if relieved else -1
    for step in STEPS[trouble]:
        if list(RELIEVED).index(step) <= taken:
            continue
        if step in ("restart", "argue") and not can_restart:
            continue
        if step == "argue" and not has_policy:
            continue
        return step
    return "ask"


def asked(trouble: Trouble, error: Exception, name: str, *, can_restart: bool) -> OutOfMemoryError | BrokenContextError:
    """The question after the last step; its names are ``memory:NAME`` and ``context:NAME``.

    Args:
        trouble: What keeps the prompt from running.
        error: The last failure, whose message names the node.
        name: The prompt's.
        can_restart: Whether the server is one of the launcher's, and so was restarted.
    """
    tried = "also after a restart of the server" if can_restart else "and the launcher did not start this server"
    if trouble == "memory":
        cure = "Choose a smaller picture, batch or model, or close other programs. Then answer yes to try it again"
        return OutOfMemoryError(f"{error}, {tried}", remedy=Remedy(f"{cure}. {error}", question=f"memory:{name}"))
    first = "Check the graphics driver" if can_restart else "Restart the server"
    remedy = Remedy(f"{first}. Then answer yes to try it again. {error}", question=f"context:{name}")
    return BrokenContextError(f"{error}, {tried}", remedy=remedy)
