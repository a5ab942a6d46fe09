"""What a monitor counts, what it costs the operations that it watches, and when it says that something is wrong."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from adapters.memory import MemoryStore
from events.alert_events import AlertCleared, AlertRaised
from events.bus import Bus
from events.circuit_events import CircuitHalfOpened, CircuitOpened
from events.errors import CallRejectedError
from events.event import Event
from events.evidence import Category, Evidence
from events.operation import Operation
from events.operation_events import (
    FailureClassified,
    GaveUp,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
    Parked,
    RetryScheduled,
)
from events.verdicts import GiveUp
from recovery.journal.store import Row
from recovery.monitoring.alerts import Threshold, Thresholds
from recovery.monitoring.counters import MAX_KEYS
from recovery.monitoring.monitor import BATCH, UNDEFINED, WAITING_BYTES, Monitor
from recovery.monitoring.sampling import MOST_DUE, ONE_IN, calibrate
from recovery.monitoring.snapshot import Counted, PartSeen, Snapshot
from recovery.monitoring.windows import MAX_CAUSES
from recovery.policies.backoff import Constant
from recovery.policies.circuit_breaker import BreakerPolicy, Open
from recovery.policies.retry import RetryPolicy
from recovery.service import Recovery
from recovery.settings import Defaults, make_config
from recovery.testing import VirtualClock
from tests.recorded_events import events_of, names

PLAIN = RetryPolicy(max_retries=3, backoff=Constant(2.0), jitter="none")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1000.0)


def service_on(clock: VirtualClock, **options: Any) -> Recovery:
    return Recovery(clock=clock, policy=PLAIN, breaker=None, **options)


def failing(times: int, clock: VirtualClock | None = None, takes: float = 0.0) -> Callable[..., str]:
    """A function that raises so many times, then returns; each call of it *takes* seconds."""
    left = [times]

    def run(*_: object) -> str:
        if clock is not None:
            clock.advance(takes)
        left[0] -= 1
        if left[0] >= 0:
            raise ConnectionError("reset")
        return "done"

    return run


def the_part(snapshot: Snapshot, operation: str, key: str = "") -> PartSeen:
    [part] = [part for part in snapshot.parts if (part.operation, part.key) == (operation, key)]
    return part


def counts(counted: Counted, *fields: str) -> list[Any]:
    return [getattr(counted, field) for field in fields]


# What is counted


def test_calls_are_counted_by_how_they_end(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    service.recoverable("fetch")(failing(0))()
    service.recoverable("fetch")(failing(2))()
    with pytest.raises(ConnectionError):
        service.recoverable("fetch")(failing(9))()
    seen = the_part(monitor.snapshot(), "fetch").counted["1m"]
    fields = ("calls", "successes", "recovered", "gave_up", "failures", "attempts", "retries")
    assert counts(seen, *fields) == [3, 2, 1, 1, 6, 8, 5]
    assert seen.success_rate == pytest.approx(2 / 3)
    assert seen.categories == {"transient": 6}


def test_a_healthy_operation_is_not_listened_to_and_counted_all_the_same(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    fetch = service.recoverable("fetch")(failing(0))
    for _ in range(10):
        fetch()
    assert not any(service.bus.has_subscribers(kind, "fetch") for kind in (OperationStarted, OperationSucceeded))
    assert not service.operation("fetch").is_observed
    assert monitor.snapshot().counted["all"].successes == 10


def test_what_happened_before_it_was_made_is_not_counted(clock: VirtualClock) -> None:
    service = service_on(clock)
    fetch = service.recoverable("fetch")(failing(1))
    fetch()
    monitor = service.monitor()
    fetch()
    assert counts(monitor.snapshot().counted["all"], "calls", "recovered", "failures") == [1, 0, 0]


def test_recovery_is_from_the_first_failure_to_the_success(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    service.recoverable("fetch", max_elapsed=1e6)(failing(2, clock, takes=50.0))()
    recovery = the_part(monitor.snapshot(), "fetch").counted["1m"].recovery
    assert recovery is not None
    assert recovery.count == 1
    assert recovery.mean == pytest.approx(104.0)  # two delays of 2 s and two attempts: not the one that failed first
    assert recovery.p99 == pytest.approx(104.0, rel=0.01)


def test_percentiles_are_within_one_percent(clock: VirtualClock) -> None:
    bus = Bus(clock=clock)
    monitor = Monitor(bus)
    for number in range(1, 1001):
        call = f"c{number}"
        recovery = number / 100.0
        bus.publish(failure(call, at=clock() - recovery))
        bus.publish(OperationRecovered(at=clock(), operation="fetch", call=call, attempt=2))
    seen = the_part(monitor.snapshot(), "fetch").counted["all"].recovery
    assert seen is not None
    assert [seen.p50, seen.p95, seen.p99] == [pytest.approx(one, rel=0.012) for one in (5.0, 9.5, 9.9)]


def failure(call: str, at: float, attempt: int = 1, operation: str = "fetch") -> FailureClassified:
    evidence = Evidence(type="builtins.OSError")
    return FailureClassified(
        at=at, operation=operation, call=call, attempt=attempt, category=Category.TRANSIENT, evidence=evidence
    )


def test_a_failure_that_is_judged_twice_counts_once(clock: VirtualClock) -> None:
    bus = Bus(clock=clock)
    monitor = Monitor(bus)
    for attempt in (1, 1, 2):
        bus.publish(failure("c", clock(), attempt))
    assert monitor.snapshot().counted["all"].failures == 2


def test_waits_are_counted_by_their_cause(clock: VirtualClock) -> None:
    bus = Bus(clock=clock)
    monitor = Monitor(bus)
    about = {"at": clock(), "operation": "fetch", "call": "c"}
    bus.publish(RetryScheduled(**about, after=1.5, retry=1, category=Category.TRANSIENT))
    bus.publish(RetryScheduled(**about, after=2.5, retry=2, category=Category.TRANSIENT))
    bus.publish(Parked(**about, after=30.0, why="a free port"))
    bus.publish(Parked(**about, after=1e9, why="https://user:secret@host is up"))
    waits = monitor.snapshot().counted["all"].waits
    assert msgspec.to_builtins(waits) == {
        "transient": {"count": 2, "seconds": 4.0},
        "a free port": {"count": 1, "seconds": 30.0},
        "https://***@host is up": {"count": 1, "seconds": 0.0},  # without an end; and no secret leaves the process
    }


def test_of_very_many_causes_the_rest_are_counted_together(clock: VirtualClock) -> None:
    bus = Bus(clock=clock)
    monitor = Monitor(bus)
    for number in range(MAX_CAUSES + 10):
        bus.publish(Parked(at=clock(), operation="fetch", call="c", after=1.0, why=f"cause {number}"))
    waits = monitor.snapshot().counted["all"].waits
    assert len(waits) == MAX_CAUSES + 1
    assert waits["other"].count == 10


def test_each_key_is_counted_apart_and_all_of_them_together(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    fetch = service.recoverable("fetch", key=lambda host: host)(failing(1))
    for host in ("one", "other", "other"):
        fetch(host)
    shown = monitor.snapshot()
    assert [the_part(shown, "fetch", key).counted["all"].calls for key in ("one", "other")] == [1, 2]
    assert counts(shown.counted["all"], "calls", "recovered") == [3, 1]


def test_of_very_many_keys_the_rest_are_counted_together(clock: VirtualClock) -> None:
    bus = Bus(clock=clock)
    monitor = Monitor(bus)
    for number in range(MAX_KEYS + 5):
        bus.publish(GaveUp(at=clock(), operation="fetch", key=f"host {number}", call="c"))
    shown = monitor.snapshot()
    assert len(shown.parts) == MAX_KEYS + 1
    assert the_part(shown, "", "").counted["all"].gave_up == 5
    assert shown.counted["all"].gave_up == MAX_KEYS + 5


def test_a_window_forgets_and_the_whole_does_not(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    service.recoverable("fetch")(failing(1))()
    monitor.snapshot()
    seen = []
    for seconds in (70.0, 300.0, 3600.0):
        clock.advance(seconds)
        shown = monitor.snapshot().counted
        seen.append([shown[name].calls for name in ("1m", "5m", "60m", "all")])
    assert seen == [[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]


def test_percentiles_are_of_the_window_that_they_are_shown_in(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    for takes in (100.0, 1.0):
        service.recoverable("fetch")(failing(1, clock, takes=takes))()
        clock.advance(70.0)
    shown = monitor.snapshot().counted
    seen = [shown[name].recovery for name in ("1m", "5m", "60m", "all")]
    assert [one and one.count for one in seen] == [None, 2, 2, 2]
    clock.advance(200.0)
    five = monitor.snapshot().counted["5m"].recovery
    assert five is not None
    assert (five.count, five.mean) == (1, pytest.approx(3.0))


def test_a_cancelled_call_is_neither_success_nor_failure(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    attempt = service.operation("render").start()
    attempt.fail(ConnectionError())
    attempt.cancel()
    seen = monitor.snapshot().counted["all"]
    assert counts(seen, "calls", "cancelled", "failures", "success_rate") == [0, 1, 1, None]


def test_threads_lose_no_count() -> None:
    service = Recovery(breaker=None)
    monitor = service.monitor()

    def work() -> None:
        for _ in range(200):
            service.recoverable("fetch", initial_delay=0.0)(failing(1))()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = monitor.snapshot().counted["all"]
    assert counts(seen, "recovered", "failures", "retries") == [800, 800, 800]


def test_publishing_never_waits_for_whoever_looks(clock: VirtualClock) -> None:
    bus, entered, leave = Bus(clock=clock), threading.Event(), threading.Event()

    def waiting() -> int:  # asked while the snapshot is taken
        entered.set()
        leave.wait(1.0)
        return 0

    monitor = Monitor(bus, waiting=waiting)
    thread = threading.Thread(target=monitor.snapshot)
    thread.start()
    entered.wait(10.0)
    for number in range(3 * BATCH):
        bus.publish(failure(f"c{number}", clock()))
    assert thread.is_alive()  # it has been waited for by nobody
    leave.set()
    thread.join()
    assert monitor.snapshot().counted["all"].failures == 3 * BATCH


def test_a_bare_bus_can_be_monitored(clock: VirtualClock) -> None:
    bus = Bus(clock=clock)
    render = Operation("render", bus)
    with Monitor(bus) as monitor:
        render.start().succeed()
        render.start().fail(ConnectionError())
    render.start().fail(ConnectionError())  # nobody counts any more
    shown = monitor.snapshot()
    assert counts(shown.counted["all"], "successes", "gave_up") == [1, 1]
    assert shown.journal is None


def test_a_retry_is_late_by_what_came_between_its_time_and_its_beginning(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    service.bus.subscribe(RetryScheduled, lambda _: clock.advance(0.7))  # whoever hears of it holds it up
    service.recoverable("fetch")(failing(1, clock, takes=50.0))()
    lag = monitor.snapshot().counted["all"].lag
    assert lag is not None
    assert lag.mean == pytest.approx(0.7)


# What else is shown


def test_circuits_are_shown_with_how_often_and_how_long_they_were_open(clock: VirtualClock) -> None:
    service = Recovery(clock=clock, policy=RetryPolicy(max_retries=0), breaker=BreakerPolicy(failure_threshold=1))
    monitor = service.monitor()
    fetch = service.recoverable("fetch")(failing(1))
    with pytest.raises(ConnectionError):
        fetch()
    with pytest.raises(CallRejectedError):
        fetch()
    clock.advance(20.0)
    shown = the_part(monitor.snapshot(), "fetch")
    assert counts(shown.counted["all"], "opened", "rejected", "calls") == [1, 1, 2]
    assert msgspec.to_builtins(shown.circuit) == {"state": "open", "opened": 1, "open_for": 20.0, "metrics_only": False}
    clock.advance(40.0)
    fetch()
    clock.advance(40.0)
    circuit = the_part(monitor.snapshot(), "fetch").circuit
    assert (circuit.state, circuit.open_for) == ("closed", 60.0)


def test_a_circuit_that_an_earlier_run_left_open_is_shown_as_open(clock: VirtualClock) -> None:
    service = Recovery(clock=clock)
    monitor = service.monitor()
    service.recoverable("fetch")(failing(0))()
    service.circuits.restore({("fetch", ""): Open(until=clock() + 60.0)})
    assert the_part(monitor.snapshot(), "fetch").circuit.state == "open"


def test_a_circuit_that_is_half_open_or_dry_says_so(clock: VirtualClock) -> None:
    bus = Bus(clock=clock)
    monitor = Monitor(bus)
    bus.publish(CircuitOpened(at=clock(), operation="fetch", after=1.0, metrics_only=True))
    bus.publish(CircuitHalfOpened(at=clock(), operation="fetch"))
    circuit = the_part(monitor.snapshot(), "fetch").circuit
    assert (circuit.state, circuit.metrics_only) == ("half_open", True)


class Stalled(MemoryStore):
    """A store that begins no batch until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    async def append(self, rows: list[Row]) -> None:
        self.go.wait(10.0)
        await super().append(rows)


def test_the_lag_of_the_journal_is_shown(clock: VirtualClock) -> None:
    store = Stalled()
    with service_on(clock, store=store) as service:
        monitor = service.monitor()
        service.recoverable("fetch", initial_delay=0.0)(failing(1))()
        clock.advance(3.0)
        lag = monitor.snapshot().journal
        store.go.set()
        service.journal.receipt().wait()  # type: ignore[union-attr]
        after = monitor.snapshot().journal
    assert lag is not None
    assert after is not None
    assert (lag.issued, lag.waiting, lag.stored, lag.age) == (3, 3, 0, 3.0)
    assert lag.bytes > 1000
    assert (after.issued, after.waiting, after.stored, after.bytes, after.age) == (3, 0, 3, 0, 0.0)


def test_events_that_the_journal_dropped_are_shown(clock: VirtualClock) -> None:
    with service_on(clock, store=MemoryStore()) as service:
        monitor = service.monitor()
        service.journal.seal()  # type: ignore[union-attr]
        service.recoverable("fetch", initial_delay=0.0)(failing(1))()
        journal = monitor.snapshot().journal
    assert journal is not None
    assert (journal.dropped, journal.stored) == (3, 0)


def test_subscribers_that_failed_are_shown(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()

    def broken(_: Event) -> None:
        raise ValueError("a bug")

    service.bus.subscribe(FailureClassified, broken)
    for _ in range(11):
        service.recoverable("fetch", initial_delay=0.0)(failing(1))()
    [(name, seen)] = monitor.snapshot().subscribers.items()
    assert name.endswith("broken")
    assert (seen.failures, seen.disabled) == (10, True)


def test_verdicts_that_were_ignored_are_shown(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    service.bus.subscribe(RetryScheduled, lambda _: GiveUp("too late to say so"))
    service.recoverable("fetch")(failing(1))()
    assert monitor.snapshot().ignored_verdicts == 1


def test_a_snapshot_is_frozen_and_comes_back_from_json_as_it_was(clock: VirtualClock) -> None:
    service = service_on(clock, store=MemoryStore())
    with service:
        monitor = service.monitor()
        fetch = service.recoverable("fetch", initial_delay=0.0)(failing(1, clock, takes=0.001))
        for _ in range(2):
            for _ in range(2 * ONE_IN):
                fetch()
            shown = monitor.snapshot()
    assert shown.overhead is not None
    assert msgspec.json.decode(msgspec.json.encode(shown), type=Snapshot) == shown
    with pytest.raises(AttributeError):
        shown.waiting = 1  # type: ignore[misc]


# What it costs


def sampled(service: Recovery, operation: str = "fetch") -> bool:
    return service.operation(operation).is_observed


def test_an_operation_is_listened_to_only_while_a_sample_is_due(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    fetch = service.recoverable("fetch")(failing(0, clock, takes=0.01))
    for _ in range(2 * ONE_IN):
        fetch()
    monitor.snapshot()
    seen = [sampled(service)]
    for _ in range(3):
        fetch()
        seen.append(sampled(service))
    assert seen == [True, True, False, False]


def test_of_a_seldom_called_operation_no_sample_is_due(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    fetch = service.recoverable("fetch")(failing(0))
    for _ in range(ONE_IN - 1):
        fetch()
    monitor.snapshot()
    assert not sampled(service)


def test_without_calls_since_the_last_look_no_sample_is_due(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    fetch = service.recoverable("fetch")(failing(0))
    for _ in range(2 * ONE_IN):
        fetch()
    monitor.snapshot()
    for _ in range(2):
        fetch()
    monitor.snapshot()
    assert not sampled(service)


def test_a_call_that_fails_first_is_no_sample(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    fetch = service.recoverable("fetch")(failing(0, clock, takes=0.01))
    for _ in range(2 * ONE_IN):
        fetch()
    monitor.snapshot()
    attempt = service.operation("fetch").start()
    attempt.fail(ConnectionError())
    attempt.next().succeed()
    fetch()
    assert sampled(service)
    fetch()
    assert not sampled(service)


def test_a_key_is_sampled_by_its_own_calls(clock: VirtualClock) -> None:
    bus = Bus(clock=clock)
    monitor = Monitor(bus)
    whole, part = Operation("fetch", bus), Operation("fetch", bus, key="host")
    for _ in range(2 * ONE_IN):
        whole.start().succeed()
    monitor.snapshot()
    for _ in range(2):
        part.start().succeed()
    assert whole.is_observed
    for _ in range(2):
        whole.start().succeed()
    assert not whole.is_observed
    monitor.close()


def test_closing_ends_the_sampling_too(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    fetch = service.recoverable("fetch")(failing(0))
    for _ in range(100 * ONE_IN):
        fetch()
    monitor.snapshot()
    monitor.close()
    assert not sampled(service)


def test_overhead_is_what_recovery_adds_to_what_the_operation_takes(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    fetch = service.recoverable("fetch")(failing(0, clock, takes=0.01))
    for _ in range(MOST_DUE * ONE_IN):
        fetch()
    monitor.snapshot()
    for _ in range(MOST_DUE):
        fetch()
    shown = monitor.snapshot()
    cost = the_part(shown, "fetch").overhead
    assert cost is not None
    assert cost.share is not None
    assert cost.error is not None
    assert cost.samples == MOST_DUE
    assert cost.own == pytest.approx(0.01, rel=0.01)
    assert 0.0 < cost.share < 0.01  # a wrapper takes a tenth of a microsecond, or a few
    assert 0.0 <= cost.error < 0.01
    assert shown.overhead is not None
    assert shown.overhead.share == pytest.approx(cost.share)


def test_what_it_takes_to_decide_after_failures_is_overhead(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    heard = events_of(service, AlertRaised)
    service.bus.subscribe(FailureClassified, lambda _: clock.advance(0.01))  # a plug-in that takes its time
    for _ in range(2):
        for _ in range(MOST_DUE * ONE_IN):
            service.operation("render").start().succeed()
        monitor.snapshot()
    assert heard == []
    fetch = service.recoverable("fetch", initial_delay=0.0, max_retries=None)(failing(600, clock, takes=0.01))
    for _ in range(2 * MOST_DUE * ONE_IN):
        fetch()
        if service.operation("fetch").successes == MOST_DUE * ONE_IN:
            monitor.snapshot()
    cost = the_part(monitor.snapshot(), "fetch").overhead
    assert cost is not None
    assert cost.share == pytest.approx(600 * 0.01 / (2 * MOST_DUE * ONE_IN) / 0.01, rel=0.05)
    assert {event.alert for event in heard} == {"overhead"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("settings", [{}, {"max_elapsed": 60.0}, {"key": lambda: "host"}, {"durability": "journal"}])
def test_every_kind_of_wrapper_is_calibrated(settings: dict[str, Any]) -> None:
    found = calibrate(make_config(settings, defaults=Defaults(), has_store=True))  # type: ignore[arg-type]
    assert 0.0 < found.wrapper.value < 1e-3
    assert 0.0 < found.timing.value < 1e-3
    assert found.wrapper.error < 1e-3


def test_the_wrapper_of_a_journalled_operation_costs_more_than_a_plain_one() -> None:
    journalled = msgspec.structs.replace(UNDEFINED, durability="journal")
    assert calibrate(journalled).wrapper.value > 3.0 * calibrate(UNDEFINED).wrapper.value


def test_importing_recovery_imports_neither_the_monitor_nor_its_sketches() -> None:
    code = "import recovery, sys; print({'ddsketch', 'recovery.watch', 'recovery.monitor'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_without_the_extra_it_says_which_one_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ddsketch", None)
    with pytest.raises(ImportError, match=r"launcher-recovery\[monitor\]"):
        Recovery().monitor()


def test_a_service_has_one_monitor_and_its_thresholds_are_those_of_the_first_time() -> None:
    service = Recovery()
    monitor = service.monitor(Thresholds(memory=None))
    assert service.monitor() is monitor
    assert monitor.thresholds.memory is None
    with pytest.raises(ValueError, match="monitored already"):
        service.monitor(Thresholds())
    with pytest.raises(TypeError, match="thresholds must be Thresholds"):
        Recovery().monitor(Threshold(raised=1.0, cleared=0.5))  # type: ignore[arg-type]


# Alerts


def test_one_failed_call_of_one_is_no_alert(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    heard = events_of(service, AlertRaised)
    with pytest.raises(ConnectionError):
        service.recoverable("fetch", max_retries=0)(failing(1))()
    assert monitor.snapshot().alerts == ()
    assert heard == []


def give_up(fetch: Callable[[], object], times: int) -> None:
    for _ in range(times):
        with pytest.raises(ConnectionError):
            fetch()


def test_too_many_calls_that_gave_up_are_an_alert_as_events_come_until_enough_succeed(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    heard = events_of(service, AlertRaised, AlertCleared)
    give_up(service.recoverable("fetch", max_retries=0)(failing(99)), 20)
    clock.advance(1.0)
    give_up(service.recoverable("fetch", max_retries=0)(failing(99)), 1)
    assert names(heard) == ["AlertRaised"]
    raised: Any = heard[0]
    assert (raised.alert, raised.operation, raised.value, raised.count) == ("success", "fetch", 0.0, 20)
    assert [alert.operation for alert in monitor.snapshot().alerts] == ["fetch", ""]
    good = service.recoverable("fetch", max_retries=0)(failing(0))
    for _ in range(21 * 9 + 1):
        good()  # 90 %: no more than that, and it is not enough
    monitor.snapshot()
    assert names(heard) == ["AlertRaised", "AlertRaised"]
    for _ in range(100):
        good()
    assert monitor.snapshot().alerts == ()
    assert names(heard) == ["AlertRaised"] * 2 + ["AlertCleared"] * 2


def test_a_burst_is_an_alert_when_a_batch_is_full_though_no_time_passes(clock: VirtualClock) -> None:
    service = service_on(clock)
    service.monitor()
    heard = events_of(service, AlertRaised)
    give_up(service.recoverable("fetch", max_retries=0)(failing(999)), BATCH)
    assert names(heard) == ["AlertRaised"]


def test_successes_are_read_before_anybody_is_judged(clock: VirtualClock) -> None:
    service = service_on(clock)
    service.monitor()
    heard = events_of(service, AlertRaised)
    good = service.recoverable("fetch", max_retries=0)(failing(0))
    bad = service.recoverable("fetch", max_retries=0)(failing(999))
    for _ in range(10 * BATCH):
        good()
    give_up(bad, BATCH)
    assert heard == []


def test_retries_that_begin_late_are_an_alert(clock: VirtualClock) -> None:
    bus = Bus(clock=clock)
    monitor = Monitor(bus)
    heard: list[Any] = []
    bus.subscribe((AlertRaised, AlertCleared), heard.append)

    def recover(lag: float) -> None:
        for _ in range(20):
            bus.publish(OperationRecovered(at=clock(), operation="fetch", call="c", attempt=2, lag=lag))

    recover(lag=0.4)
    monitor.snapshot()
    assert heard == []
    recover(lag=0.8)
    [event, _] = monitor.snapshot().alerts
    assert (event.alert, event.count) == ("lag", 40)
    assert event.value == pytest.approx(0.8, rel=0.01)
    clock.advance(600.0)
    monitor.snapshot()
    assert names(heard) == ["AlertRaised"] * 2 + ["AlertCleared"] * 2
    assert heard[-1].lasted == 600.0


def test_retries_that_begin_late_are_an_alert_without_a_snapshot_too(clock: VirtualClock) -> None:
    bus = Bus(clock=clock)
    monitor = Monitor(bus)
    heard: list[Any] = []
    bus.subscribe(AlertRaised, heard.append)
    for _ in range(2 * BATCH):
        bus.publish(OperationRecovered(at=clock(), operation="fetch", call="c", attempt=2, lag=0.8))
    assert [event.alert for event in heard] == ["lag"]
    monitor.close()


def test_calls_that_wait_take_memory_and_too_much_of_it_is_an_alert(clock: VirtualClock) -> None:
    bus = Bus(clock=clock)
    waiting = [10]
    monitor = Monitor(bus, waiting=lambda: waiting[0])
    heard: list[Any] = []
    bus.subscribe((AlertRaised, AlertCleared), heard.append)
    assert monitor.snapshot().memory == 10 * WAITING_BYTES
    waiting[0] = 4000
    for number in range(BATCH):
        bus.publish(failure(f"c{number}", clock()))
    assert [(event.alert, event.value) for event in heard] == [("memory", 4000.0 * WAITING_BYTES)]
    waiting[0] = 2600  # 4.8 MB: below where it is raised, above where it is cleared
    assert len(monitor.snapshot().alerts) == 1
    waiting[0] = 2000
    monitor.snapshot()
    assert names(heard) == ["AlertRaised", "AlertCleared"]


def test_calls_that_wait_are_counted_by_the_service() -> None:
    service = Recovery(breaker=None)
    monitor = service.monitor()
    thread = threading.Thread(target=service.recoverable("fetch", initial_delay=600.0, jitter="none")(failing(1)))
    thread.start()
    while not (waiting := service.calls.waiting()):
        time.sleep(0.001)
    seen = [monitor.snapshot().waiting]
    service.calls.retry_now(waiting[0].call)
    thread.join()
    assert [*seen, monitor.snapshot().waiting] == [1, 0]


def test_an_alert_is_journalled_and_logged_like_any_event(
    caplog: pytest.LogCaptureFixture, clock: VirtualClock
) -> None:
    caplog.set_level(logging.INFO, "recovery")
    with service_on(clock, store=MemoryStore(), enable_logging=True) as service:
        monitor = service.monitor()
        give_up(service.recoverable("fetch", max_retries=0)(failing(99)), 20)
        monitor.snapshot()
        clock.advance(600.0)
        monitor.snapshot()
    assert service.journal is not None
    assert service.journal.counts.stored == 20 * 2 + 4
    assert [line for line in caplog.messages if "gave up" not in line] == [
        "fetch: alert, success is 0, past 0.9 (of 20)",
        "all: alert, success is 0, past 0.9 (of 20)",
        "fetch: success is well again after 600.0 s",
        "all: success is well again after 600.0 s",
    ]
