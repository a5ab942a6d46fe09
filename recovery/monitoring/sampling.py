"""Times a sample of healthy calls, so that the overhead can be stated as a share of an operation's own time.

An operation is observed (``Operation.is_observed``) only while samples of it are due. Samples become due at each
snapshot, at most one for every 32 calls since the previous one. On average a call pays a 32nd of what timing costs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from events.bus import Bus
from events.event import CallEvent
from events.operation_events import OperationStarted, OperationSucceeded
from events.subscription import Subscription
from recovery.monitoring.overhead import Estimate, Samples
from recovery.operations import OperationKey

SAMPLE_ONE_IN = 32
"""Calls for each sample that becomes due."""

MAX_DUE = 32
"""Samples of one operation key that are due at a time."""

MAX_SAMPLED = 8
"""Operation keys that are sampled at a time: each subscription makes the bus rebuild its ready tuples."""


class Sampler:
    """Times calls from their start to their success. Safe to use from any thread."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._lock = threading.RLock()
        self._samples: dict[OperationKey, Samples] = {}
        self._due: dict[OperationKey, _DueSamples] = {}

    def offer(self, calls: Mapping[OperationKey, int]) -> None:
        """Make samples due, by how many *calls* each operation key had since the previous offer."""
        with self._lock:
            busy = [key for key, number in calls.items() if number >= SAMPLE_ONE_IN and key not in self._due]
            # Those with the fewest samples come first.
            busy.sort(key=lambda key: self._samples[key].taken if key in self._samples else 0)
            for operation_key in busy[: MAX_SAMPLED - len(self._due)]:
                samples = self._samples.setdefault(operation_key, Samples())
                number = min(calls[operation_key] // SAMPLE_ONE_IN, MAX_DUE)
                due = self._due[operation_key] = _DueSamples(number, samples, operation_key, self._finish)
                operation, key = operation_key
                kinds = (OperationStarted, OperationSucceeded)
                due.subscription = self._bus.subscribe(
                    kinds, due.on_event, operation=operation, key=key or None, essential=True
                )

    def estimate(self, key: OperationKey) -> Estimate | None:
        """How long a call of *key* takes, its timing included; None until two calls were sampled."""
        with self._lock:
            samples = self._samples.get(key)
            return None if samples is None or samples.taken < 2 else samples.estimate

    def close(self) -> None:
        """Take no more samples."""
        with self._lock:
            for key in list(self._due):
                self._finish(key)

    def _finish(self, key: OperationKey) -> None:
        with self._lock:
            due = self._due.pop(key, None)
            if due is not None and due.subscription is not None:
                due.subscription.close()


class _DueSamples:
    """The *number* of samples of one operation key that are due."""

    def __init__(
        self, number: int, samples: Samples, key: OperationKey, finish: Callable[[OperationKey], object]
    ) -> None:
        self.subscription: Subscription | None = None
        self._left = number
        self._samples = samples
        self._key = key
        self._finish = finish
        self._lock = threading.Lock()
        self._began: dict[str, float] = {}

    def on_event(self, event: CallEvent) -> None:
        """Time the call of *event* if its first attempt succeeds."""
        if event.key != self._key[1]:
            return
        if isinstance(event, OperationStarted):
            if event.attempt == 1 and len(self._began) < 2 * MAX_DUE:  # bounded: some calls never end
                self._began[event.call] = event.at
            return
        began = self._began.pop(event.call, None)
        if began is None or event.attempt > 1:
            return
        with self._lock:
            self._samples.add(event.at - began)
            self._left -= 1
            is_over = self._left <= 0
        if is_over:
            self._finish(self._key)
