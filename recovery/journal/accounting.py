"""Which events were dropped: remembered in bounded memory, so that no receipt promises one of them."""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar

_NO_DROP: tuple[object, int] = (None, 0)
_own_drop: ContextVar[tuple[object, int]] = ContextVar("recovery_own_loss", default=_NO_DROP)
"""Which queue turned which event away in this context. Not the queue itself: contexts live long."""


class DroppedRanges:
    """The numbers of the events that were dropped, as ranges; where these are many, the oldest are taken for one."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._ranges: deque[tuple[int, int]] = deque()

    def add(self, first: int, last: int) -> None:
        """Note that *first* to *last* were dropped."""
        if self._ranges and self._ranges[-1][1] + 1 == first:
            first = self._ranges.pop()[0]
        self._ranges.append((first, last))
        if len(self._ranges) > self._most:
            one, other = self._ranges.popleft(), self._ranges.popleft()
            self._ranges.appendleft((min(*one, *other), max(*one, *other)))

    def between(self, since: int, position: int) -> bool:
        """Whether anything after *since* and up to *position* was dropped."""
        # A copy: a signal handler that publishes adds a range in between.
        return any(first <= position and last > since for first, last in tuple(self._ranges))


class OwnDrops:
    """What one queue turned away from each thread or task.

    Who asks for a receipt later than that must learn of it, though by then the journal may have gone on.
    """

    def __init__(self) -> None:
        self._name = object()

    def note(self, number: int) -> None:
        """This event was turned away from the thread or task that runs now."""
        of, _ = _own_drop.get()
        if of is not self._name:
            _own_drop.set((self._name, number))

    def take(self) -> int | None:
        """The first event that was turned away from this thread or task since it asked last, if there is one."""
        of, number = _own_drop.get()
        if of is not self._name:
            return None
        _own_drop.set(_NO_DROP)
        return number
