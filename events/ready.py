"""The subscribers of each (event, operation, key), ready to be called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeAlias

from events.event import Event
from events.parts import Parts
from events.subscription import Subscription

Subscriber: TypeAlias = Callable[[Any], object]
Ready: TypeAlias = tuple[tuple[Subscriber, Subscription | None], ...]
Table: TypeAlias = dict[tuple[type[Event], str, str], Ready]


class ReadyTuples:
    """Two tables of ready tuples, which are read without a lock. Guard the methods by one.

    ``with_details`` holds those for the time that the log wants details, ``table`` all others.

    Args:
        most: How many tuples a table holds; both are emptied beyond.
    """

    def __init__(self, most: int) -> None:
        self.table: Table = {}
        self.with_details: Table = {}
        self._most = most
        self._parts: defaultdict[type[Event], Parts] = defaultdict(Parts)  # that have a tuple in either table

    def keep(self, kind: type[Event], operation: str, key: str, ready: Ready, *, details: bool) -> None:
        """Keep the ready tuple of such events."""
        table = self.with_details if details else self.table
        if len(table) >= self._most:
            for one in (self.table, self.with_details, self._parts):
                one.clear()
        self._parts[kind].add((operation, key))
        table[kind, operation, key] = ready

    def drop(self, kind: type[Event], operation: str | None, key: str) -> None:
        """Drop the tuples of *kind* that are of *operation* and *key*, as for ``Parts.within``."""
        for part in self._parts[kind].within(operation, key):
            self._parts[kind].discard(part)
            self.table.pop((kind, *part), None)
            self.with_details.pop((kind, *part), None)
