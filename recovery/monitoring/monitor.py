"""The monitor at work on a bus: it hears events, reads counters, and says when something passes a threshold.

It has no thread. What is counted is judged as events come (after twenty troubled calls of a part have ended, or a
second
after one has) and whenever somebody asks for a snapshot; overhead, and all operations together, only then.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Self
from weakref import WeakKeyDictionary, WeakSet

import msgspec

from events.bus import Bus, BusOperation
from events.event import Event
from events.operation_events import CallRejected, GaveUp, OperationRecovered, RetryScheduled
from recovery.journal.journal import Journal
from recovery.monitoring.alerts import Alarms, Reading, Thresholds
from recovery.monitoring.counters import HEARD, State, count
from recovery.monitoring.overhead import Overhead, overhead, together
from recovery.monitoring.sampling import Calibrations, Sampler
from recovery.monitoring.snapshot import (
    CircuitSeen,
    JournalSeen,
    PartSeen,
    Snapshot,
    circuit,
    counted,
    in_all,
    journal_seen,
    subscribers,
    success_rate,
    times,
    windows_of,
)
from recovery.monitoring.windows import NewSketch, Window
from recovery.operations import OperationKey
from recovery.policies.circuit_breaker import Circuit, HalfOpen, Open
from recovery.settings import ConfigOf, Defaults, make_config

JUDGED = frozenset({GaveUp, CallRejected, OperationRecovered})
"""The events after which a part may be worse than before."""

JUDGE_EVERY = 20
JUDGE_AFTER = 1.0
"""A part is judged after so many of them, or so many seconds after the first that it was not judged for."""

BATCH = 64
"""So many events are counted together, those of a second at the most."""

WAITING_BYTES = 1850
"""About what a call takes in memory that waits for its next attempt, beyond its task; ``make report`` measures it."""

UNDEFINED = make_config({}, defaults=Defaults(), has_store=False)
"""The plan of operations that no service has defined."""

EVERYTHING: OperationKey = ("", "")
"""In alerts: all operations together. In counts: those too many to count apart."""


class _Unjudged:
    """What has come of a part since it was judged."""

    __slots__ = ("events", "has_lag", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.events = 0
        self.has_lag = False


class Monitor:
    """Counts what happens on *bus*, in all and by operation and key. ``snapshot`` shows it; ``close`` ends it.

    A healthy call costs nothing but a share of its sampling (see ``recovery.monitoring.sampling``): successes are
    read from the
    operations' counters, so those of an operation that nobody holds any more count only up to the last look. Alerts are
    published as ``AlertRaised`` and ``AlertCleared``, at *thresholds*.

    *config_of* finds the plan of an operation, *journal* the journal, *waiting* how many calls wait, *circuits* those
    that are not closed: a service has them all (``Recovery.monitor``), a bare bus none. Raises ImportError without the
    extra ``monitor``.
    """

    def __init__(
        self,
        bus: Bus,
        thresholds: Thresholds | None = None,
        *,
        config_of: ConfigOf = lambda _name: None,
        journal: Callable[[], Journal | None] = lambda: None,
        waiting: Callable[[], int] = lambda: 0,
        circuits: Callable[[], Mapping[OperationKey, Circuit]] = dict,
    ) -> None:
        if not isinstance(thresholds, Thresholds | None):
            raise TypeError(f"thresholds must be Thresholds, not {thresholds!r}")
        self._bus = bus
        self._config_of = config_of
        self._journal = journal
        self._waiting = waiting
        self._circuits = circuits
        self._lock = threading.RLock()
        self._state = State(bus.clock(), _sketches())
        self._alarms = Alarms(thresholds or Thresholds())
        self._unjudged: dict[OperationKey, _Unjudged] = {}
        self._inbox: deque[Event] = deque()
        self._due = 0.0  # when to look into it, however little is in it
        self._read: WeakKeyDictionary[BusOperation, int] = WeakKeyDictionary()
        self._sources: dict[OperationKey, WeakSet[BusOperation]] = {}
        self._new_calls: dict[OperationKey, int] = {}
        self._sampler = Sampler(bus)
        self._calibrations = Calibrations()
        for operation in bus.operations():
            self._read[operation] = operation.successes
            self._sources.setdefault((operation.name, operation.key), WeakSet()).add(operation)
        # Events are noted, and counted together: taking the lock and asking what is due costs as much as counting one.
        # What follows a failure need not ask whether it is time: the failure has asked.
        rest = [kind for kind in HEARD if kind is not RetryScheduled]
        self._subscriptions = (
            bus.subscribe(rest, self.on_event, essential=True),
            bus.subscribe(RetryScheduled, self._inbox.append, essential=True),
        )

    @property
    def thresholds(self) -> Thresholds:
        """What alerts are raised at."""
        return self._alarms.thresholds

    def on_event(self, event: Event) -> list[Event] | None:
        """Note *event*; when it is time, count what was noted and answer with the alerts that are raised or cleared."""
        self._inbox.append(event)
        if len(self._inbox) < BATCH and event.at < self._due:
            return None
        if not self._lock.acquire(blocking=False):
            return None  # whoever counts now counts it, too, or whoever is next: publishing never waits
        try:
            self._count_inbox()
            self._due = event.at + JUDGE_AFTER
            told = self._judge_memory(event.at)
            for part, unjudged in list(self._unjudged.items()):
                if unjudged.events >= JUDGE_EVERY or event.at - unjudged.since >= JUDGE_AFTER:
                    told += self._judge_soon(part, event.at, has_lag=unjudged.has_lag)
                    del self._unjudged[part]
        finally:
            self._lock.release()
        return told

    def _count_inbox(self) -> None:
        inbox, state, lag = self._inbox, self._state, self.thresholds.lag
        while inbox:
            event = inbox.popleft()
            count(state, event)
            if type(event) not in JUDGED:
                continue
            part = self._known(event.operation, event.key)
            if part == EVERYTHING:
                continue
            unjudged = self._unjudged.get(part) or self._unjudged.setdefault(part, _Unjudged(event.at))
            unjudged.events += 1
            if isinstance(event, OperationRecovered) and lag is not None and event.lag > lag.raised:
                unjudged.has_lag = True

    def _judge_soon(self, part: OperationKey, now: float, *, has_lag: bool) -> list[Event]:
        """Judge *part* without its percentiles, which take a while, unless something *has_lag* been, or was before."""
        self._look_at(part, now)
        with_times = has_lag or self._alarms.is_raised("lag", *part)
        window = self._state.parts[part].history.over("5m", now, with_times=with_times)
        told = self._judge_success(part, window, now)
        return told + self._judge_lag(part, window, now) if with_times else told

    def snapshot(self) -> Snapshot:
        """Everything that is known now; alerts that it raises or clears are published before it returns.

        Takes up to 1.5 ms for each part that recovers all the time, and some for calibration the first time.
        """
        now = self._bus.clock()
        told: list[Event] = []
        with self._lock:
            self._count_inbox()
            self._look(now)
            state = self._state
            windows = {part: windows_of(one, now) for part, one in state.parts.items()}
            costs = {part: self._overhead(part, of["5m"]) for part, of in windows.items()}
            for part, of in windows.items():
                if part == EVERYTHING:
                    continue  # too many to count apart: judged with everything
                told += self._judge_all(part, of["5m"], costs[part], now)
            total = in_all(windows.values(), state, now)
            calls = {part: of["5m"].calls for part, of in windows.items()}
            cost = together([(one, calls[part]) for part, one in costs.items() if one is not None])
            told += self._judge_all(EVERYTHING, total["5m"], cost, now)
            told += self._judge_memory(now)
            shown = Snapshot(
                at=now,
                began=state.began,
                counted={name: counted(window) for name, window in total.items()},
                parts=tuple(
                    PartSeen(
                        operation=part[0],
                        key=part[1],
                        counted={name: counted(window) for name, window in of.items()},
                        circuit=self._circuit(part, now),
                        overhead=costs[part],
                    )
                    for part, of in sorted(windows.items())
                ),
                overhead=cost,
                waiting=self._waiting(),
                memory=self._memory(),
                journal=self._journal_seen(now),
                subscribers=subscribers(state),
                ignored_verdicts=self._bus.ignored_verdicts,
                dropped_events=self._bus.dropped_events,
                alerts=self._alarms.raised,
            )
            self._sampler.offer(self._new_calls)
            self._new_calls = {}
        for event in told:
            self._bus.publish(event)
        return shown

    def close(self) -> None:
        """Hear no more. Idempotent; ``snapshot`` goes on showing what was counted."""
        for subscription in self._subscriptions:
            subscription.close()
        self._sampler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # reading the counters

    def _known(self, operation: str, key: str) -> OperationKey:
        """Under which name that part is counted."""
        return (operation, key) if (operation, key) in self._state.parts else EVERYTHING

    def _look(self, now: float) -> None:
        """Read the counter of every operation."""
        self._sources = {}
        for operation in self._bus.operations():
            self._sources.setdefault((operation.name, operation.key), WeakSet()).add(operation)
            self._count(operation, now)

    def _look_at(self, part: OperationKey, now: float) -> None:
        """Read the counters of one part; all, if there are none that are known."""
        sources = self._sources.get(part)
        if not sources:
            self._look(now)
            return
        for operation in list(sources):
            self._count(operation, now)

    def _count(self, operation: BusOperation, now: float) -> None:
        successes = operation.successes
        new = successes - self._read.get(operation, 0)
        part = (operation.name, operation.key)
        if new or part in self._state.parts:  # what was never called is not shown
            self._read[operation] = successes
            self._state.part(*part).history.succeeded(now, new)
            self._new_calls[part] = self._new_calls.get(part, 0) + new

    # judging

    def _judge_success(self, part: OperationKey, window: Window, now: float) -> list[Event]:
        return self._alarms.judge("success", *part, Reading(success_rate(window), window.calls), now)

    def _judge_lag(self, part: OperationKey, window: Window, now: float) -> list[Event]:
        lag = times(window.tally.lag)
        return self._alarms.judge("lag", *part, Reading() if lag is None else Reading(lag.p95, lag.count), now)

    def _judge_all(self, part: OperationKey, window: Window, cost: Overhead | None, now: float) -> list[Event]:
        reading = Reading() if cost is None else Reading(cost.share, cost.samples, cost.error or 0.0)
        told = self._judge_success(part, window, now) + self._judge_lag(part, window, now)
        return told + self._alarms.judge("overhead", *part, reading, now)

    def _judge_memory(self, now: float) -> list[Event]:
        return self._alarms.judge("memory", *EVERYTHING, Reading(float(self._memory()), 1), now)

    # what is not counted, but asked

    def _overhead(self, part: OperationKey, window: Window) -> Overhead | None:
        own = self._sampler.figure(part)
        if own is None:
            return None
        config = self._config_of(part[0]) or UNDEFINED
        calibration = self._calibrations.of(config)
        deciding = window.tally.deciding / window.calls if window.calls else 0.0
        return overhead(own, calibration.timing, calibration.wrapper, deciding)

    def _memory(self) -> int:
        journal = self._journal()
        return self._waiting() * WAITING_BYTES + (0 if journal is None else journal.backlog.bytes)

    def _circuit(self, part: OperationKey, now: float) -> CircuitSeen:
        seen = circuit(self._state.parts[part], now)
        known = self._circuits().get(part)
        if seen.state == "closed" and isinstance(known, Open | HalfOpen):  # an earlier run has opened it
            return msgspec.structs.replace(seen, state="open" if isinstance(known, Open) else "half_open")
        return seen

    def _journal_seen(self, now: float) -> JournalSeen | None:
        journal = self._journal()
        if journal is None:
            return None
        return journal_seen(self._state, journal.counts, journal.backlog, journal.reason, now)


def _sketches() -> NewSketch:
    try:
        from ddsketch import DDSketch  # here: importing recovery must stay light, and it is an extra
    except ImportError as error:
        raise ImportError("a monitor needs the extra: pip install 'launcher-recovery[monitor]'") from error
    return lambda: DDSketch(0.01)
