"""What became of a prompt: what the server says now, against what the journal says. Pure.

A server keeps its queue and its history in memory: a new process knows of nothing, and no message says that it is new.
A prompt that the server does not know may therefore be lost, or cancelled, or done with its history cleared.

- The process of an own server has an identity, and that alone tells: once it is over, nothing runs there any more.
- Another's server gives signs of a new process: a connection was cut and now its queue is empty; or its numbers, which
  only rise in one process, fell.
- A POST whose answer is missing may still be on its way, perhaps into the next process. It is looked for before any of
  that counts.
- Times are measured on the monotonic clock of this process: wall clocks jump.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from adapters.comfyui.answers import Finished, Standing
from adapters.comfyui.record import Posted

Verdict: TypeAlias = Literal["done", "failed", "running", "pending", "lost", "cancelled", "interrupted", "unknown"]
"""What became of a prompt.

- "done": every wanted file is there;
- "failed": a node failed, and the standing says why;
- "running", "pending": the server has it;
- "lost": no process runs it or will run it: it is sent again;
- "cancelled": the launcher took it out of the server;
- "interrupted": another client did while it ran;
- "unknown": nothing tells yet: look again, and ask from ``UNKNOWN_AFTER`` on.
"""

GRACE = 10.0
"""Seconds for which a POST without an answer is looked for, in a server that answers: it checks a graph for a while."""

UNKNOWN_AFTER = 60.0
"""Seconds after which a prompt that stays "unknown" is asked about. Files may appear late on a network drive."""


class Seen(msgspec.Struct, frozen=True):
    """A look at a server, for one prompt.

    Args:
        standing: What the server says of it.
        server: The process that said so (``identity.of``); "" for a server that the launcher did not start.
        lives: Whether the process that the prompt was posted to still runs, or another one since, beside *server*.
        is_queue_empty: Whether the server runs nothing and nothing waits in it, of any client.
        number_fell: Whether a POST after the prompt's was given a number not above the prompt's (``fell``).
        is_watched: Whether this process sent the POST itself, and has looked for it ever since.
        unknown_for: Seconds since the first of the verdicts in a row that were "unknown"; 0 if the last one was not.
    """

    standing: Standing
    server: str
    lives: bool = False
    is_queue_empty: bool = False
    number_fell: bool = False
    is_watched: bool = False
    unknown_for: float = 0.0


def verdict(posted: Posted, seen: Seen, wanted_done: bool) -> Verdict:
    """What became of a prompt.

    Args:
        posted: What the journal says of its POST.
        seen: What the server says.
        wanted_done: Whether every wanted output is known, from the history or from the journalled messages, and the
            server has each of its files.
    """
    match seen.standing:
        case Standing("pending"):
            return "pending"
        case Standing("running"):
            return "running"
        case Standing("finished", finished=Finished(succeeded=True)) if wanted_done:
            return "done"
        case _ if posted.is_deleted:
            return "cancelled" if _is_settled(posted, seen) else "unknown"
        case Standing("finished", finished=Finished(succeeded=True)):
            return "unknown"  # a file is missing, and a second run in this process would be answered from its cache
        case Standing("finished", finished=Finished(interrupted=True)):
            return "interrupted"
        case Standing("finished"):
            return "failed"
        case _ if not _is_settled(posted, seen):
            return "unknown"
        case _ if wanted_done:
            return "done"
        case _:
            return "lost" if is_over(posted, seen) or _was_never_taken(posted, seen) else "unknown"


def is_over(posted: Posted, seen: Seen) -> bool:
    """Whether there is a sign that the process that a "lost" prompt was posted to is over, which may be its doing."""
    if posted.server:
        return seen.server != posted.server
    return not seen.server and (seen.number_fell or (posted.was_cut and seen.is_queue_empty))


def after(posted: Posted, standing: Standing, server: str = "") -> Posted:
    """What the journal says once the process *server* has said *standing*: a prompt that is there survived a cut.

    A POST that was on its way when its process died may reach the next one: then that one has the prompt.
    """
    if standing.state == "absent":
        return posted
    number = posted.number if standing.number is None else standing.number
    was_running = posted.was_running or standing.state == "running"
    return msgspec.structs.replace(
        posted, server=server or posted.server, number=number, was_seen=True, was_running=was_running, was_cut=False
    )


def fell(posted: Posted, number: float) -> bool:
    """Whether *number*, which the server gave to a later POST of this launcher, shows that it is a new process."""
    return posted.number is not None and number <= posted.number


def _is_settled(posted: Posted, seen: Seen) -> bool:
    """Whether no POST is on its way any more, and no other process has it: what the server says is all there is."""
    if seen.lives and seen.server != posted.server:
        return False
    is_taken = posted.number is not None or posted.was_seen or seen.standing.state == "finished"
    return is_taken or seen.unknown_for >= GRACE


def _was_never_taken(posted: Posted, seen: Seen) -> bool:
    """Whether a POST without an answer, which is settled by now, has not reached the server.

    The own process that it was meant for would know of it, and answer a second run from its cache.
    """
    if posted.number is not None or posted.was_seen:
        return False
    return seen.is_watched or (posted.server != "" and seen.server == posted.server)
