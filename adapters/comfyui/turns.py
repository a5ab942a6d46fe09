"""Which prompts may be sent to the server next. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal, TypeAlias, get_args

import msgspec

Priority: TypeAlias = Literal["high", "normal", "low"]

RANKS = {name: rank for rank, name in enumerate(get_args(Priority))}


class Waiting(msgspec.Struct, frozen=True):
    """A prompt that waits for its turn.

    Args:
        key: Its name in the queue.
        queued: Seconds since the epoch at which it was first asked for.
        priority: "high" goes before "normal", and that before "low".
        is_suspected: Whether a server died while it was executing: it runs alone, after all others.
        is_paused: Whether it is passed over.
    """

    key: str
    queued: float
    priority: Priority = "normal"
    is_suspected: bool = False
    is_paused: bool = False

    @property
    def place(self) -> tuple[bool, int, float, str]:
        """Sorts prompts in the order in which they are sent."""
        return self.is_suspected, RANKS[self.priority], self.queued, self.key


def in_order(waiting: Iterable[Waiting]) -> list[Waiting]:
    """The prompts in the order in which they are sent."""
    return sorted(waiting, key=lambda one: one.place)


def next_ones(
    waiting: Iterable[Waiting], in_server: Collection[bool], window: int, *, is_paused: bool = False
) -> list[str]:
    """The keys of the prompts that may be sent now, in order.

    Args:
        waiting: Those that wait.
        in_server: Of each prompt of this queue that the server has, or may have: whether it is suspected.
        window: How many the server gets at a time.
        is_paused: Whether the queue is.
    """
    if is_paused or any(in_server):  # a suspected prompt runs alone
        return []
    ready = in_order(one for one in waiting if not one.is_paused)
    trusted = [one.key for one in ready if not one.is_suspected][: max(window - len(in_server), 0)]
    if trusted or in_server:
        return trusted
    return [one.key for one in ready[:1]]
