"""Whose turn it is: which prompts may be posted next. Pure.

The server gets a window of prompts, and all others wait outside, where their order can still change.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import msgspec

Priority: TypeAlias = Literal["high", "normal", "low"]
"""Which prompts go first, among those that wait outside the server."""

RANKS: dict[Priority, int] = {"high": 0, "normal": 1, "low": 2}


class Waiting(msgspec.Struct, frozen=True):
    """A prompt that waits for its turn.

    Args:
        id: Its key.
        queued: When it was first asked for (``queued_at``).
        priority: It goes before those of a lower one.
        is_suspected: Whether the server died once while it ran: it goes after all others, and runs alone.
    """

    id: str
    queued: float
    priority: Priority = "normal"
    is_suspected: bool = False


class InServer(msgspec.Struct, frozen=True):
    """A prompt that the server has, or may have: one whose POST has no answer counts.

    Args:
        id: Its key; "" for one of another client.
        is_suspected: Whether it must run alone.
    """

    id: str = ""
    is_suspected: bool = False


def may_post(
    waiting: Iterable[Waiting], in_server: Sequence[InServer], window: int = 2, is_paused: bool = False
) -> tuple[str, ...]:
    """The ids of those that may be posted now, in this order.

    Args:
        waiting: Every prompt that could be posted: none that waits for an answer or for a time. Without room for one
            it is not gone through.
        in_server: Every prompt in the server, those of other clients too: only a suspected one waits for these.
        window: How many prompts of this launcher the server gets at once; at least 1.
        is_paused: Whether none may be posted.
    """
    room = window - sum(one.id != "" for one in in_server)
    if is_paused or room <= 0 or any(one.is_suspected for one in in_server):
        return ()
    waiting = list(waiting)
    trusted = [one for one in waiting if not one.is_suspected]
    if trusted:
        return tuple(one.id for one in heapq.nsmallest(room, trusted, key=_order))
    return (min(waiting, key=_order).id,) if waiting and not in_server else ()


def in_order(waiting: Iterable[Waiting]) -> list[Waiting]:
    """Those that wait, in the order in which they are posted."""
    return sorted(waiting, key=_order)


def queued_at(now: float, latest: float) -> float:
    """When a new prompt counts as asked for: after *latest*, the last one, though the clock says *now* and jumps."""
    return max(now, math.nextafter(latest, math.inf))


def _order(one: Waiting) -> tuple[bool, int, float, str]:
    return one.is_suspected, RANKS[one.priority], one.queued, one.id
