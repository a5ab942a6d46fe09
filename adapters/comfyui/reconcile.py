"""Where a prompt stands: what the server says, together with what the journal says. Pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from adapters.comfyui.answers import Standing
from adapters.comfyui.record import Posted

Verdict: TypeAlias = Literal[
    "done", "failed", "running", "pending", "lost", "cancelled", "interrupted", "unknown", "waiting"
]
"""How a prompt stands.

- "done": it succeeded, and every wanted file answers;
- "failed": the server says why, or a wanted file is gone;
- "running", "pending": in the server;
- "lost": it is in no server, and a sign says that the process that had it is gone: it may be sent again;
- "cancelled": this launcher has deleted or interrupted it;
- "interrupted": somebody else has;
- "waiting": it is not known yet whether the server has taken it;
- "unknown": it is gone, and no sign says why: it may have run.
"""

GRACE = 5.0
"""Seconds after a POST of unknown outcome in which the server may still take it: validation runs beside the answer."""

UNKNOWN_AFTER = 60.0
"""Seconds without a sign after which a person is asked."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the server says.

    Args:
        standing: Where the prompt stands in it.
        server: The process that answered (``Posted.server``); "" for a server that the launcher did not start.
        is_queue_empty: Whether it has no prompt at all.
        number_fell: Whether a later POST got a number that is not above that of the prompt.
        has_outputs: Whether all wanted files are known, from messages or the history, and answer.
        gone_for: Seconds since the prompt was first missed, or since its POST; on a clock that does not jump.
    """

    standing: Standing
    server: str = ""
    is_queue_empty: bool = False
    number_fell: bool = False
    has_outputs: bool = False
    gone_for: float = 0.0


def is_another_process(posted: Posted, seen: Seen) -> bool:
    """Whether a sign says that the process which answers is not the one that the prompt was sent to."""
    if posted.server and seen.server:
        return posted.server != seen.server
    return seen.number_fell or (posted.was_cut and seen.is_queue_empty)


def verdict(posted: Posted, seen: Seen) -> Verdict:
    """How the prompt of *posted* stands, after *seen*."""
    finished = seen.standing.finished
    match seen.standing.state:
        case "finished" if finished is not None:
            if finished.interrupted:
                return "cancelled" if posted.is_deleted else "interrupted"
            return "done" if finished.succeeded and seen.has_outputs else "failed"
        case "running":
            return "running"
        case "pending":
            return "pending"
    if seen.has_outputs:
        return "done"  # its server died after the last file, or forgot it
    if posted.is_deleted:
        return "cancelled"
    if is_another_process(posted, seen):
        return "lost"
    if posted.number is None and seen.gone_for < GRACE:
        return "waiting"
    return "waiting" if seen.gone_for < UNKNOWN_AFTER else "unknown"
