"""Which facts were dropped: remembered in bounded memory, so that no receipt promises one of them."""

from __future__ import annotations

from collections import deque


class Losses:
    """The numbers of the facts that were dropped, as ranges; where these are many, the oldest are taken for one."""

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
        return any(first <= position and last > since for first, last in self._ranges)
