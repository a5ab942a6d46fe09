"""Healthy calls: their successes are read from counters, and a sample of them is timed to estimate the overhead.

An operation is observed (``Operation.is_observed``) only while samples of it are due. Samples become due at each
snapshot, at most one for every 32 calls since the previous one. On average a call pays a 32nd of what timing costs.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from weakref import WeakKeyDictionary

import msgspec

from events.bus import Bus, BusOperation
from events.event import CallEvent
from events.operation_events import OperationStarted, OperationSucceeded
from events.subscription import Subscription
from recovery.monitoring.counters import Counters
from recovery.monitoring.overhead import Estimate, Samples
from recovery.operations import OperationKey

SAMPLE_ONE_IN = 32
"""Calls for each sample that becomes due."""

MAX_DUE = 32
"""Samples of one operation key that are due at a time."""

MAX_SAMPLED = 8
"""Operation keys that are sampled at a time: each subscription makes the bus find their subscribers again."""

KINDS = (OperationStarted, OperationSucceeded)


class SuccessReader:
    """Reads the counters of the operations on *bus*; successes from before its making are not counted."""

    def __init__(self, bus: Bus, counters: Counters) -> None:
        self._bus = bus
        self._counters = counters
        self._seen: WeakKeyDictionary[BusOperation, int] = WeakKeyDictionary()
        self._new_calls: Counter[OperationKey] = Counter()
        for operation in bus.operations():
            self._seen[operation] = operation.successes

    def read_all(self, now: float) -> None:
        """Read the counter of every operation."""
        for operation in self._bus.operations():
            self._read(operation, now)

    def read(self, key: OperationKey, now: float) -> None:
        """Read the counters of one operation key."""
        for operation in self._bus.operations_of(*key):
            self._read(operation, now)

    def _read(self, operation: BusOperation, now: float) -> None:
        successes = operation.successes
        new = successes - self._seen.get(operation, 0)
        key = (operation.name, operation.key)
        if new or key in self._counters.operations:  # an operation that was never called is not shown
            self._seen[operation] = successes
            self._counters.of(*key).history.add_successes(now, new)
            self._new_calls[key] += new

    def take_new_calls(self) -> Counter[OperationKey]:
        """How many calls of each operation key succeeded since this was last asked."""
        new_calls, self._new_calls = self._new_calls, Counter()
        return new_calls


class _Due(msgspec.Struct, eq=False):
    """How many samples of one operation key are due; when the calls under way began."""

    left: int
    began: dict[str, float] = {}
    subscription: Subscription | None = None


class Sampler:
    """Times calls from their start to their success. Safe to use from any thread."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._lock = threading.RLock()
        self._samples: defaultdict[OperationKey, Samples] = defaultdict(Samples)
        self._due: dict[OperationKey, _Due] = {}

    def offer(self, calls: Counter[OperationKey]) -> None:
        """Make samples due, by how many *calls* each operation key had since the previous offer."""
        with self._lock:
            busy = [key for key, number in calls.items() if number >= SAMPLE_ONE_IN and key not in self._due]
            busy.sort(key=lambda key: self._samples[key].taken)  # those with the fewest samples come first
            for key in busy[: MAX_SAMPLED - len(self._due)]:
                due = self._due[key] = _Due(min(calls[key] // SAMPLE_ONE_IN, MAX_DUE))
                due.subscription = self._bus.subscribe(
                    KINDS, self._on_event, operation=key[0], key=key[1] or None, essential=True
                )

    def _on_event(self, event: CallEvent) -> None:
        """Time the call of *event* if its first attempt succeeds."""
        key = (event.operation, event.key)
        due = self._due.get(key)
        if due is None:
            return
        if isinstance(event, OperationStarted):
            if event.attempt == 1 and len(due.began) < 2 * MAX_DUE:  # bounded: some calls never end
                due.began[event.call] = event.at
            return
        began = due.began.pop(event.call, None)
        if began is None or event.attempt > 1:
            return
        with self._lock:
            self._samples[key].add(event.at - began)
            due.left -= 1
            if due.left <= 0:
                self._finish(key)

    def _finish(self, key: OperationKey) -> None:
        due = self._due.pop(key, None)
        if due is not None and due.subscription is not None:
            due.subscription.close()

    def estimate(self, key: OperationKey) -> Estimate | None:
        """How long a call of *key* takes, its timing included; None until two calls were sampled."""
        with self._lock:
            samples = self._samples[key]
            return samples.estimate if samples.taken > 1 else None

    def close(self) -> None:
        """Take no more samples."""
        with self._lock:
            for key in list(self._due):
                self._finish(key)
