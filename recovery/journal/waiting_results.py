"""The recorded results that wait to be written, by the key under which a call asks for them."""

from __future__ import annotations

from collections import OrderedDict

from events.event import Event
from events.recorded import Recorded
from recovery.journal.lane import QueuedEvent
from recovery.journal.results import recorded_in, result_key


class WaitingResults:
    """The entries of the write queue that record a result; the earliest first, one for each key."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, QueuedEvent] = OrderedDict()

    def note(self, event: Event, entry: QueuedEvent) -> None:
        """Note that *event*, if it records a result, waits as *entry*."""
        recorded = recorded_in(event)
        if recorded is not None:
            self._entries[key := result_key(event.operation, recorded.key)] = entry
            self._entries.move_to_end(key)

    def find(self, key: str) -> Recorded | None:
        """The latest result with that ``result_key``."""
        entry = self._entries.get(key)
        return None if entry is None else recorded_in(entry.event)

    def forget(self, number: int) -> None:
        """The events up to *number* are written."""
        while self._entries and next(iter(self._entries.values())).number <= number:
            self._entries.popitem(last=False)
