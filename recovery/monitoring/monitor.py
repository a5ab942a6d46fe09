"""The monitor at work on a bus: it hears facts, reads counters, and says when something passes a threshold.

It has no thread. What is counted is judged as facts come (after twenty troubled calls of a part have ended, or a second
after one has) and whenever somebody asks for a snapshot; overhead, and all operations together, only then.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Self
from weakref import WeakKeyDictionary, WeakSet

import msgspec

from events.bus import Bus
from events.event import Fact
from events.operation import Operation
from events.operation_events import CallRejected, GaveUp, OperationRecovered, RetryScheduled
from recovery.journal.journal import Journal
from recovery.monitoring.alerts import Alarms, Reading, Thresholds
from recovery.monitoring.counters import HEARD, State, fold
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
from recovery.operations import Part
from recovery.policies.circuit_breaker import Circuit, HalfOpen, Open
from recovery.settings import Defaults, PlanOf, make_plan

JUDGED = frozenset({GaveUp, CallRejected, OperationRecovered})
"""The facts after which a part may be worse than before."""

JUDGE_EVERY = 20
JUDGE_AFTER = 1.0
"""A part is judged after so many of them, or so many seconds after the first that it was not judged for."""

BATCH = 64
"""So many facts are counted together, those of a second at the most."""

WAITING_BYTES = 1850
"""About what a call takes in memory that waits for its next attempt, beyond its task; ``make report`` measures it."""

UNPLANNED = make_plan({}, defaults=Defaults(), has_store=False)
"""The plan of operations that no service has defined."""

EVERYTHING: Part = ("", "")
"""In alerts: all operations together. In counts: those too many to count apart."""


class _Unjudged:
    """What has come of a part since it was judged."""

    __slots__ = ("facts", "has_late", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.facts = 0
        self.has_late = False


class Monitor:
    """Counts what happens on *bus*, in all and by operation and key. ``snapshot`` shows it; ``close`` ends it.

    A healthy call costs nothing but a share of its sampling (see ``recovery.monitoring.sampling``): successes are
    read from the
    operations' counters, so those of an operation that nobody holds any more count only up to the last look. Alerts are
    published as ``AlertRaised`` and ``AlertCleared``, at *thresholds*.

    *plan_of* finds the plan of an operation, *journal* the journal, *waiting* how many calls wait, *circuits* those
    that are not closed: a service has them all (``Recovery.monitor``), a bare bus none. Raises ImportError without the
    extra ``monitor``.
    """

    def __init__(
        self,
        bus: Bus,
        thresholds: Thresholds | None = None,
        *,
        plan_of: PlanOf = lambda _name: None,
        journal: Callable[[], Journal | None] = lambda: None,
        waiting: Callable[[], int] = lambda: 0,
        circuits: Callable[[], Mapping[Part, Circuit]] = dict,
    ) -> None:
        if not isinstance(thresholds, Thresholds | None):
            raise TypeError(f"thresholds must be Thresholds, not {thresholds!r}")
        self._bus = bus
        self._plan_of = plan_of
        self._journal = journal
        self._waiting = waiting
        self._circuits = circuits
        self._lock = threading.RLock()
        self._state = State(bus.clock(), _sketches())
        self._alarms = Alarms(thresholds or Thresholds())
        self._unjudged: dict[Part, _Unjudged] = {}
        self._inbox: deque[Fact] = deque()
        self._due = 0.0  # when to look into it, however little is in it
        self._read: WeakKeyDictionary[Operation, int] = WeakKeyDictionary()
        self._sources: dict[Part, WeakSet[Operation]] = {}
        self._new_calls: dict[Part, int] = {}
        self._sampler = Sampler(bus)
        self._calibrations = Calibrations()
        for operation in bus.operations():
            self._read[operation] = operation.successes
            self._sources.setdefault((operation.name, operation.key), WeakSet()).add(operation)
        # Facts are noted, and counted together: taking the lock and asking what is due costs as much as counting one.
        # What follows a failure need not ask whether it is time: the failure has asked.
        rest = [kind for kind in HEARD if kind is not RetryScheduled]
        self._seats = (
            bus.subscribe(rest, self.hear, essential=True),
            bus.subscribe(RetryScheduled, self._inbox.append, essential=True),
        )

    @property
    def thresholds(self) -> Thresholds:
        """What alerts are raised at."""
        return self._alarms.thresholds

    def hear(self, fact: Fact) -> list[Fact] | None:
        """Note *fact*; when it is time, count what was noted and answer with the alerts that are raised or cleared."""
        self._inbox.append(fact)
        if len(self._inbox) < BATCH and fact.at < self._due:
            return None
        if not self._lock.acquire(blocking=False):
            return None  # whoever counts now counts it, too, or whoever is next: publishing never waits
        try:
            self._count_inbox()
            self._due = fact.at + JUDGE_AFTER
            told = self._judge_memory(fact.at)
            for part, unjudged in list(self._unjudged.items()):
                if unjudged.facts >= JUDGE_EVERY or fact.at - unjudged.since >= JUDGE_AFTER:
                    told += self._judge_soon(part, fact.at, has_late=unjudged.has_late)
                    del self._unjudged[part]
        finally:
            self._lock.release()
        return told

    def _count_inbox(self) -> None:
        inbox, state, late = self._inbox, self._state, self.thresholds.late
        while inbox:
            fact = inbox.popleft()
            fold(state, fact)
            if type(fact) not in JUDGED:
                continue
            part = self._known(fact.operation, fact.key)
            if part == EVERYTHING:
                continue
            unjudged = self._unjudged.get(part) or self._unjudged.setdefault(part, _Unjudged(fact.at))
            unjudged.facts += 1
            if isinstance(fact, OperationRecovered) and late is not None and fact.late > late.raised:
                unjudged.has_late = True

    def _judge_soon(self, part: Part, now: float, *, has_late: bool) -> list[Fact]:
        """Judge *part* without its percentiles, which take a while, unless something *has_late* been, or was before."""
        self._look_at(part, now)
        with_times = has_late or self._alarms.is_raised("late", *part)
        window = self._state.parts[part].history.over("5m", now, with_times=with_times)
        told = self._judge_success(part, window, now)
        return told + self._judge_late(part, window, now) if with_times else told

    def snapshot(self) -> Snapshot:
        """Everything that is known now; alerts that it raises or clears are published before it returns.

        Takes up to 1.5 ms for each part that recovers all the time, and some for calibration the first time.
        """
        now = self._bus.clock()
        told: list[Fact] = []
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
                dropped_facts=self._bus.dropped_facts,
                alerts=self._alarms.raised,
            )
            self._sampler.offer(self._new_calls)
            self._new_calls = {}
        for fact in told:
            self._bus.publish(fact)
        return shown

    def close(self) -> None:
        """Hear no more. Idempotent; ``snapshot`` goes on showing what was counted."""
        for seat in self._seats:
            seat.close()
        self._sampler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # reading the counters

    def _known(self, operation: str, key: str) -> Part:
        """Under which name that part is counted."""
        return (operation, key) if (operation, key) in self._state.parts else EVERYTHING

    def _look(self, now: float) -> None:
        """Read the counter of every operation."""
        self._sources = {}
        for operation in self._bus.operations():
            self._sources.setdefault((operation.name, operation.key), WeakSet()).add(operation)
            self._count(operation, now)

    def _look_at(self, part: Part, now: float) -> None:
        """Read the counters of one part; all, if there are none that are known."""
        sources = self._sources.get(part)
        if not sources:
            self._look(now)
            return
        for operation in list(sources):
            self._count(operation, now)

    def _count(self, operation: Operation, now: float) -> None:
        successes = operation.successes
        new = successes - self._read.get(operation, 0)
        part = (operation.name, operation.key)
        if new or part in self._state.parts:  # what was never called is not shown
            self._read[operation] = successes
            self._state.part(*part).history.succeeded(now, new)
            self._new_calls[part] = self._new_calls.get(part, 0) + new

    # judging

    def _judge_success(self, part: Part, window: Window, now: float) -> list[Fact]:
        return self._alarms.judge("success", *part, Reading(success_rate(window), window.calls), now)

    def _judge_late(self, part: Part, window: Window, now: float) -> list[Fact]:
        late = times(window.tally.late)
        return self._alarms.judge("late", *part, Reading() if late is None else Reading(late.p95, late.count), now)

    def _judge_all(self, part: Part, window: Window, cost: Overhead | None, now: float) -> list[Fact]:
        reading = Reading() if cost is None else Reading(cost.share, cost.samples, cost.error or 0.0)
        told = self._judge_success(part, window, now) + self._judge_late(part, window, now)
        return told + self._alarms.judge("overhead", *part, reading, now)

    def _judge_memory(self, now: float) -> list[Fact]:
        return self._alarms.judge("memory", *EVERYTHING, Reading(float(self._memory()), 1), now)

    # what is not counted, but asked

    def _overhead(self, part: Part, window: Window) -> Overhead | None:
        own = self._sampler.figure(part)
        if own is None:
            return None
        plan = self._plan_of(part[0]) or UNPLANNED
        calibration = self._calibrations.of(plan)
        deciding = window.tally.deciding / window.calls if window.calls else 0.0
        return overhead(own, calibration.timing, calibration.wrapper, deciding)

    def _memory(self) -> int:
        journal = self._journal()
        return self._waiting() * WAITING_BYTES + (0 if journal is None else journal.backlog.bytes)

    def _circuit(self, part: Part, now: float) -> CircuitSeen:
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
