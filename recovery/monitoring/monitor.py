"""The monitor: subscribes to a bus, counts its events, publishes alerts, and makes snapshots.

It has no thread. Counters are updated and alerts evaluated when events arrive and at each snapshot; overhead, and all
operations together, at snapshots only.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from events.bus import Bus
from events.counting import as_counted
from events.event import Event
from events.operation_events import Parked, RetryScheduled
from recovery.journal.journal import Journal
from recovery.monitoring.alerts import ALL_OPERATIONS, EVALUATE_AFTER_SECONDS, EVALUATED_EVENTS, Alerts, Thresholds
from recovery.monitoring.calibration import Calibrations
from recovery.monitoring.counters import COUNTED_EVENTS, OVERFLOW, Counters, count
from recovery.monitoring.minutes import NO_CALLS, Minute, minutes_of
from recovery.monitoring.overhead import Overhead, combined_overhead, overhead
from recovery.monitoring.sampling import Sampler, SuccessReader
from recovery.monitoring.snapshot import OperationSnapshot, Snapshot, combined_windows, counts_of, journal_snapshot
from recovery.monitoring.totals import OperationTotals, Totals
from recovery.monitoring.windows import Window
from recovery.operations import OperationKey
from recovery.policies.circuit_states import Circuit, Forced
from recovery.settings import ConfigOf
from recovery.settings_check import Defaults, make_config
from recovery.subscribers.incidents import Incident

BATCH = 64
"""Events that are counted together, unless the first of them is a second old."""

WAITING_CALL_BYTES = 1240
"""Memory of a call that waits for its next attempt, besides its task, by estimate; ``make report`` measures it."""

UNDEFINED_CONFIG = make_config({}, defaults=Defaults(), has_store=False)
"""The config of an operation that no service has defined."""


class Monitor:
    """Counts what happens on a bus, by operation and key; ``with`` closes it.

    Attached to a service by ``Recovery.monitor()``; a bus without a service can be monitored too. A healthy call costs
    nothing but its share of sampling (see ``recovery.monitoring.sampling``): successes are read from the operations'
    counters. The successes of an operation that was garbage-collected count up to the latest reading.

    Args:
        bus: Where events come from, and where ``AlertRaised`` and ``AlertCleared`` are published.
        thresholds: When alerts are raised and cleared.
        config_of: Finds the config of an operation by its name.
        journal: Returns the journal, or None.
        waiting: Returns how many calls wait.
        circuits: Returns the circuits that are forced, or not closed without a failure.
        incidents: Returns the incidents that are open.

    Raises:
        ImportError: The extra ``monitor`` is not installed.
    """

    def __init__(
        self,
        bus: Bus,
        thresholds: Thresholds | None = None,
        *,
        config_of: ConfigOf = lambda _name: None,
        journal: Callable[[], Journal | None] = lambda: None,
        waiting: Callable[[], int] = lambda: 0,
        circuits: Callable[[], Mapping[OperationKey, Circuit | Forced]] = dict,
        incidents: Callable[[], Sequence[Incident]] = tuple,
    ) -> None:
        if not isinstance(thresholds, Thresholds | None):
            raise TypeError(f"thresholds must be Thresholds, not {thresholds!r}")
        self._bus = bus
        self._config_of = config_of
        self._journal = journal
        self._waiting = waiting
        self._circuits = circuits
        self._incidents = incidents
        self._lock = threading.RLock()
        self._counters = Counters(bus.clock())
        self.thresholds = thresholds or Thresholds()
        self._counters.incidents.update({(one.operation, one.key): one.category for one in incidents()})
        self._alerts = Alerts(self.thresholds, self._counters.incidents)
        self._successes = SuccessReader(bus, self._counters)
        self._sampler = Sampler(bus)
        self._calibrations = Calibrations()
        # Events are noted, and counted in batches: taking the lock and asking what is due costs as much as counting.
        self._uncounted: deque[Event] = deque()
        self._due = 0.0  # when the next event has the batch counted, however small it is
        # A scheduled retry follows a failure, which has already asked what is due.
        others = [kind for kind in COUNTED_EVENTS if kind is not RetryScheduled]
        self._subscriptions = (
            bus.subscribe(others, self.on_event, essential=True),
            bus.subscribe(RetryScheduled, self._uncounted.append, essential=True),
        )

    def __repr__(self) -> str:
        operations, alerts = len(self._counters.operations), len(self._alerts.raised)
        return f"<Monitor: {'; '.join((f'{operations} operations, {alerts} alerts', *map(str, self._incidents())))}>"

    def on_event(self, event: Event) -> list[Event] | None:
        """Note *event*; when a batch is due, count it, and return the alerts that it raises or clears."""
        self._uncounted.append(event)
        if len(self._uncounted) < BATCH and event.at < self._due:
            return None
        if not self._lock.acquire(blocking=False):
            return None  # publishing never waits: the thread that holds the lock counts it, or the next event does
        now, alerts = event.at, self._alerts
        try:
            self._count_batch()
            self._due = now + EVALUATE_AFTER_SECONDS
            changes = alerts.memory(self._memory(), now)
            for key, with_lag in alerts.take_due(now):
                self._successes.read(key, now)
                window = self._counters.operations[key].history.window("5m", now, with_distributions=with_lag)
                changes += alerts.window(key, window, now, with_lag=with_lag)
        finally:
            self._lock.release()
        return changes

    def _count_batch(self) -> None:
        uncounted, counters = self._uncounted, self._counters
        while uncounted:
            event = uncounted.popleft()
            count(counters, event)
            if type(event) is Parked and (asked := as_counted(event)) is not None and asked is not event:
                event = asked  # it waits, and it gave up
                count(counters, event)
            if type(event) in EVALUATED_EVENTS:
                key = (event.operation, event.key)
                if key in counters.operations and key != OVERFLOW:
                    self._alerts.note(key, event)

    def snapshot(self) -> Snapshot:
        """Everything known now. Alerts that this raises or clears are published before it returns.

        Takes up to 1.5 ms for each operation key that recovers all the time, and a few for calibration the first time.
        """
        now, counters = self._bus.clock(), self._counters
        with self._lock:
            self._count_batch()
            self._successes.read_all(now)
            windows = {key: one.history.windows(now) for key, one in counters.operations.items()}
            total = combined_windows(windows.values())
            recent = {key: of["5m"] for key, of in windows.items()}
            costs, cost, changes = self._evaluate(recent, total["5m"], now, with_lag=True)
            circuits, journal = self._circuits(), self._journal()
            shown = Snapshot(
                at=now,
                began=counters.began,
                windows=counts_of(total),
                operations=tuple(
                    OperationSnapshot(
                        operation=key[0],
                        key=key[1],
                        windows=counts_of(of),
                        circuit=counters.operations[key].circuit_at(now, circuits.get(key)),
                        overhead=costs[key],
                    )
                    for key, of in sorted(windows.items())
                ),
                overhead=cost,
                waiting=self._waiting(),
                memory=self._memory(),
                journal=None if journal is None else journal_snapshot(counters, journal, now),
                subscribers=dict(counters.subscribers),
                ignored_verdicts=self._bus.ignored_verdicts,
                dropped_events=self._bus.dropped_events,
                alerts=self._alerts.raised,
                incidents=tuple(self._incidents()),
            )
            self._sampler.offer(self._successes.take_new_calls())
        for event in changes:
            self._bus.publish(event)
        return shown

    def minutes(self) -> tuple[Minute, ...]:
        """What happened in each of the last sixty minutes, all operations together; the current minute is the last.

        Takes some microseconds for each operation key and minute.
        """
        now, counters = self._bus.clock(), self._counters
        with self._lock:
            self._count_batch()
            self._successes.read_all(now)
            for one in counters.operations.values():
                one.history.settle(now)
            costs = [(one.history, self._overhead(key, NO_CALLS)) for key, one in counters.operations.items()]
            return minutes_of(counters.minutes.until(now), costs)

    def totals(self) -> Totals:
        """What was counted since the monitor began, for an exporter of metrics; far cheaper than ``snapshot``.

        Takes about 0.1 ms for each operation key. Alerts that this raises or clears are published before it returns;
        that of ``lag`` is left as it is.
        """
        now, counters = self._bus.clock(), self._counters
        with self._lock:
            self._count_batch()
            self._successes.read_all(now)
            histories = {key: one.history for key, one in counters.operations.items()}
            recent = {key: one.window("5m", now, with_distributions=False) for key, one in histories.items()}
            total = combined_windows({"5m": window} for window in recent.values())["5m"]
            costs, _, changes = self._evaluate(recent, total, now, with_lag=False)
            circuits, journal = self._circuits(), self._journal()
            counted = Totals(
                operations={
                    key: OperationTotals(
                        window=history.window("all", now),
                        circuit=counters.operations[key].circuit_at(now, circuits.get(key)),
                        overhead=costs[key],
                    )
                    for key, history in histories.items()
                },
                waiting=self._waiting(),
                memory=self._memory(),
                journal=None if journal is None else journal_snapshot(counters, journal, now),
                subscribers=dict(counters.subscribers),
                dropped_events=self._bus.dropped_events,
                alerts=self._alerts.raised,
                incidents=len(self._incidents()),
            )
            self._sampler.offer(self._successes.take_new_calls())
        for event in changes:
            self._bus.publish(event)
        return counted

    def _evaluate(
        self, recent: Mapping[OperationKey, Window], total: Window, now: float, *, with_lag: bool
    ) -> tuple[dict[OperationKey, Overhead | None], Overhead | None, list[Event]]:
        """The overhead of each operation key and of all; the alerts raised or cleared by the *recent* five minutes."""
        alerts = self._alerts
        costs = {key: self._overhead(key, window) for key, window in recent.items()}
        cost = combined_overhead([(one, recent[key].calls) for key, one in costs.items() if one is not None])
        changes = alerts.memory(self._memory(), now)
        latest = {key: (window, costs[key]) for key, window in recent.items() if key != OVERFLOW}
        for key, (window, one) in (latest | {ALL_OPERATIONS: (total, cost)}).items():
            changes += alerts.window(key, window, now, with_lag=with_lag)
            changes += alerts.overhead(key, one, now)
        return costs, cost, changes

    def close(self) -> None:
        """Stop counting. Idempotent; ``snapshot`` goes on showing what was counted."""
        for subscription in self._subscriptions:
            subscription.close()
        self._sampler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _overhead(self, key: OperationKey, window: Window) -> Overhead | None:
        own = self._sampler.estimate(key)
        if own is None:
            return None
        config = self._config_of(key[0]) or UNDEFINED_CONFIG
        calibration = self._calibrations.of(config)
        decision_seconds = window.tally.decision_seconds / window.calls if window.calls else 0.0
        return overhead(own, calibration.timing, calibration.wrapper, decision_seconds)

    def _memory(self) -> int:
        journal = self._journal()
        return self._waiting() * WAITING_CALL_BYTES + (0 if journal is None else journal.backlog.bytes)
