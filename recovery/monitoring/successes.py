"""Reads the success counter of every operation into the monitor's counters, so that healthy calls cost nothing."""

from __future__ import annotations

from weakref import WeakKeyDictionary, WeakSet

from events.bus import Bus, BusOperation
from recovery.monitoring.counters import Counters
from recovery.operations import OperationKey


class SuccessReader:
    """Reads the counters of the operations on *bus*; successes from before its making are not counted."""

    def __init__(self, bus: Bus, counters: Counters) -> None:
        self._bus = bus
        self._counters = counters
        self._seen: WeakKeyDictionary[BusOperation, int] = WeakKeyDictionary()
        self._operations: dict[OperationKey, WeakSet[BusOperation]] = {}
        self._new_calls: dict[OperationKey, int] = {}
        for operation in bus.operations():
            self._seen[operation] = operation.successes
            self._index(operation)

    def _index(self, operation: BusOperation) -> None:
        self._operations.setdefault((operation.name, operation.key), WeakSet()).add(operation)

    def read_all(self, now: float) -> None:
        """Read the counter of every operation."""
        self._operations = {}
        for operation in self._bus.operations():
            self._index(operation)
            self._read(operation, now)

    def read(self, key: OperationKey, now: float) -> None:
        """Read the counters of one operation key; those of all operations if it has none yet."""
        operations = self._operations.get(key)
        if not operations:
            self.read_all(now)
            return
        for operation in list(operations):
            self._read(operation, now)

    def _read(self, operation: BusOperation, now: float) -> None:
        successes = operation.successes
        new = successes - self._seen.get(operation, 0)
        key = (operation.name, operation.key)
        if new or key in self._counters.operations:  # an operation that was never called is not shown
            self._seen[operation] = successes
            self._counters.of(*key).history.add_successes(now, new)
            self._new_calls[key] = self._new_calls.get(key, 0) + new

    def take_new_calls(self) -> dict[OperationKey, int]:
        """How many calls of each operation key succeeded since this was last asked."""
        new_calls, self._new_calls = self._new_calls, {}
        return new_calls
