"""Who waits until the journal has come so far: very many may, and each batch lets only a few of them go."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from recovery.waiting.waiters import Waiter


class PositionWaiters:
    """Waiters by the position that they wait for, the earliest first. Not safe to use from several threads."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Waiter]] = []
        self._numbers = itertools.count()
        self._waiters: set[Waiter] = set()

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, position: int, waiter: Waiter) -> None:
        """Note that *waiter* waits for *position*."""
        self._waiters.add(waiter)
        heapq.heappush(self._heap, (position, next(self._numbers), waiter))

    def forget(self, waiter: Waiter) -> None:
        """*waiter* waits no more; harmless if it does not."""
        self._waiters.discard(waiter)
        if not self._waiters:
            self._heap.clear()

    def take(self, is_settled: Callable[[int], bool]) -> list[Waiter]:
        """Those whose position *is_settled*, the earliest first; they are forgotten."""
        taken = []
        while self._heap and (self._heap[0][2] not in self._waiters or is_settled(self._heap[0][0])):
            _, _, waiter = heapq.heappop(self._heap)
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                taken.append(waiter)
        return taken
