"""What became of the events: counts, and the numbers of dropped events, so that no receipt promises one of them."""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar

import msgspec

MAX_RANGES = 256

_NO_DROP: tuple[object, int] = (None, 0)
_own_drop: ContextVar[tuple[object, int]] = ContextVar("recovery_own_drop", default=_NO_DROP)
"""The token of a queue, and the first event that it refused in this context. No queue itself: contexts live long."""


class Counts(msgspec.Struct, frozen=True):
    """What became of the events of this run: *issued* is the sum of the others."""

    issued: int
    stored: int
    coalesced: int
    dropped: int
    waiting: int


class Backlog(msgspec.Struct, frozen=True):
    """The events that are accepted and not yet written.

    *bytes* is an estimate. *since* is when the oldest of them happened, on the bus's clock; ``None`` without any.
    """

    events: int
    bytes: int
    since: float | None


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


class OwnDrops:
    """The first event that one queue refused in each thread or task since that last asked for a receipt.

    The next receipt there must fail, although the journal may have written later events by then.
    """

    def __init__(self) -> None:
        self._token = object()

    def note(self, number: int) -> None:
        """Note that the queue refused event *number* in the current thread or task."""
        token, _ = _own_drop.get()
        if token is not self._token:
            _own_drop.set((self._token, number))

    def take(self) -> int | None:
        """The number of the first event refused here since the last ``take``, or ``None``."""
        token, number = _own_drop.get()
        if token is not self._token:
            return None
        _own_drop.set(_NO_DROP)
        return number
