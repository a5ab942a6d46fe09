"""What a snapshot shows besides counts: circuits, the journal, subscribers."""

from __future__ import annotations

import threading

import msgspec
import pytest

from adapters.memory import MemoryStore
from events.bus import Bus
from events.circuit_events import CircuitHalfOpened, CircuitOpened
from events.errors import CallRejectedError
from events.event import Event
from events.operation_events import RetryScheduled
from events.verdicts import GiveUp
from recovery.journal.store import Row
from recovery.monitoring.monitor import Monitor
from recovery.monitoring.sampling import SAMPLE_ONE_IN
from recovery.monitoring.snapshot import Snapshot
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.retry import RetryPolicy
from recovery.service import Recovery
from recovery.testing import VirtualClock
from tests.recovery.monitoring.monitored import counts, failing, operation_of, repeat, service_on


def test_a_circuit_shows_how_often_and_how_long_it_was_open(clock: VirtualClock):
    service = Recovery(clock=clock, policy=RetryPolicy(max_retries=0), breaker=BreakerPolicy(failure_threshold=1))
    monitor = service.monitor()
    fetch = service.recoverable("fetch")(failing(1))
    with pytest.raises(ConnectionError):
        fetch()
    with pytest.raises(CallRejectedError):
        fetch()
    clock.advance(20.0)
    shown = operation_of(monitor.snapshot(), "fetch")
    assert counts(shown.windows["all"], "opened", "rejected", "calls") == [1, 1, 2]
    assert msgspec.to_builtins(shown.circuit) == {"state": "open", "opened": 1, "open_for": 20.0, "metrics_only": False}
    clock.advance(40.0)
    fetch()
    clock.advance(40.0)
    circuit = operation_of(monitor.snapshot(), "fetch").circuit
    assert (circuit.state, circuit.open_for) == ("closed", 60.0)


def test_a_circuit_that_opened_before_the_monitor_is_shown_as_open(clock: VirtualClock):
    service = Recovery(clock=clock)
    operation = service.operation("fetch", circuit_breaker_threshold=1, max_retries=0)
    late = operation.start()
    operation.start().fail(ConnectionError())
    monitor = service.monitor()
    late.succeed()
    assert operation_of(monitor.snapshot(), "fetch").circuit.state == "open"


def test_a_circuit_that_is_half_open_or_metrics_only_says_so(bus: Bus, bus_monitor: Monitor, clock: VirtualClock):
    bus.publish(CircuitOpened(at=clock(), operation="fetch", after=1.0, metrics_only=True))
    bus.publish(CircuitHalfOpened(at=clock(), operation="fetch"))
    circuit = operation_of(bus_monitor.snapshot(), "fetch").circuit
    assert (circuit.state, circuit.metrics_only) == ("half_open", True)


class Stalled(MemoryStore):
    """A store that begins no batch until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    async def append(self, rows: list[Row]) -> None:
        self.go.wait(10.0)
        await super().append(rows)


@pytest.mark.slow
def test_the_lag_of_the_journal_is_shown(clock: VirtualClock):
    store = Stalled()
    with service_on(clock, store=store) as service:
        monitor = service.monitor()
        service.recoverable("fetch", initial_delay=0.0)(failing(1))()
        clock.advance(3.0)
        lag = monitor.snapshot().journal
        store.go.set()
        service.journal.receipt().wait()  # type: ignore[union-attr]
        after = monitor.snapshot().journal
    assert (lag.issued, lag.waiting, lag.stored, lag.age) == (3, 3, 0, 3.0)
    assert lag.bytes > 1000
    assert (after.issued, after.waiting, after.stored, after.bytes, after.age) == (3, 0, 3, 0, 0.0)


def test_events_that_the_journal_dropped_are_shown(clock: VirtualClock):
    with service_on(clock, store=MemoryStore()) as service:
        monitor = service.monitor()
        service.journal.seal()  # type: ignore[union-attr]
        service.recoverable("fetch", initial_delay=0.0)(failing(1))()
        journal = monitor.snapshot().journal
    assert (journal.dropped, journal.stored) == (3, 0)


def test_subscribers_that_failed_are_shown(service: Recovery, monitor: Monitor):

    def broken(_: Event) -> None:
        raise ValueError("a bug")

    service.bus.subscribe(RetryScheduled, broken)
    for _ in range(11):
        service.recoverable("fetch", initial_delay=0.0)(failing(1))()
    [(name, seen)] = monitor.snapshot().subscribers.items()
    assert name.endswith("broken")
    assert (seen.failures, seen.disabled) == (10, True)


def test_verdicts_that_were_ignored_are_shown(service: Recovery, monitor: Monitor):
    service.bus.subscribe(RetryScheduled, lambda _: GiveUp("too late to say so"))
    service.recoverable("fetch")(failing(1))()
    assert monitor.snapshot().ignored_verdicts == 1


def test_a_snapshot_is_frozen_and_survives_json(clock: VirtualClock):
    with service_on(clock, store=MemoryStore()) as service:
        monitor = service.monitor()
        fetch = service.recoverable("fetch", initial_delay=0.0)(failing(1, clock, takes=0.001))
        for _ in range(2):
            repeat(fetch, 2 * SAMPLE_ONE_IN)
            shown = monitor.snapshot()
    assert shown.overhead is not None
    assert msgspec.json.decode(msgspec.json.encode(shown), type=Snapshot) == shown
    with pytest.raises(AttributeError):
        shown.waiting = 1  # type: ignore[misc]
