"""How many events wait and may wait, what became of the others, and which were dropped: no receipt promises them."""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar

import msgspec

MAX_RANGES = 256

_NO_DROP: tuple[object, int] = (None, 0)
_own_drop: ContextVar[tuple[object, int]] = ContextVar("recovery_own_drop", default=_NO_DROP)
"""The token of a queue, and the first event that it refused in this context. No queue itself: contexts live long."""


class Counts(msgspec.Struct, frozen=True):
    """What became of the events of this run.

    Args:
        issued: Events that were given a number; the sum of the others.
        stored: Events that are committed.
        coalesced: Events that a later one of the same call made needless (checkpoints).
        dropped: Events that are lost.
        waiting: Events that are accepted and not committed.
    """

    issued: int
    stored: int
    coalesced: int
    dropped: int
    waiting: int


class Backlog(msgspec.Struct, frozen=True):
    """The events that are accepted and not yet written.

    Args:
        events: How many they are.
        bytes: About how many bytes they take.
        since: When the oldest of them happened, on the bus's clock; None without any.
    """

    events: int
    bytes: int
    since: float | None


class Room:
    """How many events wait, and how many may: *capacity*, and *max_bytes* in sum.

    *live* events are all but the *cancelled* ones, which have a capacity of their own and count no bytes.
    """

    def __init__(self, capacity: int, max_bytes: int) -> None:
        self.capacity = capacity
        self.max_bytes = max_bytes
        self._half = capacity // 2
        self._half_bytes = max_bytes // 2
        self.empty()

    def empty(self) -> None:
        """No event waits any longer."""
        self.live = self.cancelled = self.bytes = 0

    def __len__(self) -> int:
        return self.live + self.cancelled

    @property
    def is_half_full(self) -> bool:
        """Whether callers that can wait should."""
        return self.live >= self._half or self.bytes >= self._half_bytes

    def is_full(self, size: int) -> bool:
        """Whether there is no room for one more event of *size* bytes."""
        return self.live >= self.capacity or self.bytes + size > self.max_bytes

    def leaves_half(self, events: int) -> bool:
        """Whether *events* more of average size leave the queue at most half full."""
        size = events * self.max_bytes // self.capacity
        return self.live + events <= self._half and self.bytes + size <= self._half_bytes

    def until_half_full(self, events: int, size: int) -> int:
        """How many records, of up to so many *events* and *size* bytes each, leave the queue at most half full."""
        return max(min((self._half - self.live) // events, (self._half_bytes - self.bytes) // size), 0)


class DroppedRanges:
    """The numbers of the dropped events, as ranges. Beyond *max_ranges* the two oldest ranges merge into one."""

    def __init__(self, max_ranges: int = MAX_RANGES) -> None:
        self._max_ranges = max_ranges
        self._ranges: deque[tuple[int, int]] = deque()

    def add(self, first: int, last: int) -> None:
        """Note that the events *first* to *last* were dropped."""
        if self._ranges and self._ranges[-1][1] + 1 == first:
            first = self._ranges.pop()[0]
        self._ranges.append((first, last))
        if len(self._ranges) > self._max_ranges:
            one, other = self._ranges.popleft(), self._ranges.popleft()
            self._ranges.appendleft((min(*one, *other), max(*one, *other)))

    def between(self, since: int, position: int) -> bool:
        """Whether any event after *since* and up to *position* was dropped."""
        # A copy: a signal handler that publishes may add a range during the loop.
        return any(first <= position and last > since for first, last in tuple(self._ranges))


def note_own_drop(token: object, number: int) -> None:
    """Note that the queue of *token* refused event *number* in the current thread or task.

    The next receipt there must fail, although the journal may have written later events by then.
    """
    if _own_drop.get()[0] is not token:
        _own_drop.set((token, number))


def take_own_drop(token: object) -> int | None:
    """The number of the first event that the queue of *token* refused here since the last ``take_own_drop``."""
    known, number = _own_drop.get()
    if known is not token:
        return None
    _own_drop.set(_NO_DROP)
    return number
