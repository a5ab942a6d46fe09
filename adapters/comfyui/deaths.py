"""What the death of a server means for the prompts that were in it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

Trust: TypeAlias = Literal["trusted", "suspected", "quarantined"]
"""What becomes of a prompt by its deaths: it runs with others; alone, after them; or only if a person says so."""


class Lost(msgspec.Struct, frozen=True):
    """A prompt that a server had accepted when it died, and whose outputs are not all there.

    Args:
        key: Its key.
        number: Its place in the order of the server; None if that is not known: it counts as the last.
        was_running: Whether the server was seen to execute it.
    """

    key: str
    number: float | None = None
    was_running: bool = False


def blamed(lost: Iterable[Lost], *, was_ours: bool, foreign_ran: bool = False) -> str | None:
    """The key of the prompt that a death counts against: the one that was executing; None for none.

    A server executes one prompt at a time, in the order of their numbers: of two that were seen to run, the first had
    ended. Where none was seen to run, it was the oldest one. One without a number counts: a prompt can end a server
    before its POST is answered.

    Args:
        lost: Those that were in the server and are "lost" since it is over (``reconcile.is_over``). A prompt that has
            ended is none of them.
        was_ours: Whether the launcher stopped the server: nothing is to blame.
        foreign_ran: Whether a prompt of another client ran at the last look.
    """
    if was_ours:
        return None
    numbers = {one.key: (one.number is None, one.number or 0.0) for one in lost}
    running = [one.key for one in lost if one.was_running]
    if running:
        return max(running, key=numbers.__getitem__)
    return None if foreign_ran else min(numbers, key=numbers.__getitem__, default=None)


def trust(deaths: int) -> Trust:
    """What becomes of a prompt that was blamed for *deaths* deaths since its last success."""
    return "trusted" if deaths == 0 else "suspected" if deaths == 1 else "quarantined"
