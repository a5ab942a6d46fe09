"""``Ranking``: which of many keys is to be forgotten first, found without a walk over all."""

from __future__ import annotations

import heapq
import itertools
from typing import Any, Generic, TypeVar

K = TypeVar("K")
R = TypeVar("R", bound=Any)  # ranks are compared with each other

SLACK = 64
"""Entries of the heap that may be out of date, besides one for each key, before it is built again."""


class Ranking(Generic[K, R]):
    """Keys and their ranks; the least key is found in logarithmic time. Of equal ranks, the earliest is the least.

    Guard it by a lock.
    """

    def __init__(self) -> None:
        self._entries: dict[K, tuple[R, int, K]] = {}
        self._heap: list[tuple[R, int, K]] = []  # also entries that are no longer a key's own: ``least`` skips them
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K, default: R) -> R:
        """The rank of *key*, or *default*."""
        entry = self._entries.get(key)
        return default if entry is None else entry[0]

    def put(self, key: K, rank: R) -> None:
        """Give *key* a rank."""
        known = self._entries.get(key)
        if known is not None and known[0] == rank:
            return
        entry = self._entries[key] = (rank, next(self._numbers), key)
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._entries) + SLACK:
            self._heap = list(self._entries.values())
            heapq.heapify(self._heap)

    def remove(self, key: K) -> None:
        """Remove *key*, if it is there."""
        self._entries.pop(key, None)

    def least(self) -> K:
        """The key of the least rank. Raises IndexError if there is none."""
        while self._heap[0] is not self._entries.get(self._heap[0][2]):
            heapq.heappop(self._heap)
        return self._heap[0][2]

    def first_below(self, rank: R) -> K | None:
        """The key of the least rank if that is below *rank*, otherwise ``None``."""
        key = self.least() if self._entries else None
        return key if key is not None and self._entries[key][0] < rank else None
