"""What a monitor counts, and when."""

from __future__ import annotations

import subprocess
import sys
import threading

import msgspec
import pytest

from events.bus import Bus
from events.evidence import Category
from events.operation import Operation
from events.operation_events import GaveUp, OperationRecovered, Parked, RetryScheduled
from recovery.monitoring.alerts import Threshold, Thresholds
from recovery.monitoring.counters import MAX_KEYS
from recovery.monitoring.monitor import BATCH, Monitor
from recovery.monitoring.windows import MAX_CAUSES
from recovery.service import Recovery
from recovery.testing import VirtualClock
from tests.recovery.monitoring.monitored import counts, failing, failure, operation_of, repeat
from tests.steps import steps_of


def test_calls_are_counted_by_how_they_end(service: Recovery, monitor: Monitor):
    service.recoverable("fetch")(failing(0))()
    service.recoverable("fetch")(failing(2))()
    with pytest.raises(ConnectionError):
        service.recoverable("fetch")(failing(9))()
    seen = operation_of(monitor.snapshot(), "fetch").windows["1m"]
    fields = ("calls", "successes", "recovered", "gave_up", "failures", "attempts", "retries")
    assert counts(seen, *fields) == [3, 2, 1, 1, 6, 8, 5]
    assert seen.success_rate == pytest.approx(2 / 3)
    assert seen.categories == {"transient": 6}


def test_healthy_calls_are_counted_without_being_observed(service: Recovery, monitor: Monitor):
    repeat(service.recoverable("fetch")(failing(0)), 10)
    assert not service.operation("fetch").is_observed
    assert monitor.snapshot().windows["all"].successes == 10


def test_calls_from_before_the_monitor_are_not_counted(service: Recovery):
    fetch = service.recoverable("fetch")(failing(1))
    fetch()
    monitor = service.monitor()
    fetch()
    assert counts(monitor.snapshot().windows["all"], "calls", "recovered", "failures") == [1, 0, 0]


def test_recovery_time_runs_from_the_first_failure_to_the_success(
    service: Recovery, monitor: Monitor, clock: VirtualClock
):
    service.recoverable("fetch", max_elapsed=1e6)(failing(2, clock, takes=50.0))()
    recovery = operation_of(monitor.snapshot(), "fetch").windows["1m"].recovery
    assert recovery.count == 1
    assert recovery.mean == pytest.approx(104.0)  # two delays of 2 s and two attempts: not the one that failed first
    assert recovery.p99 == pytest.approx(104.0, rel=0.01)


def test_percentiles_are_within_one_percent(bus: Bus, bus_monitor: Monitor, clock: VirtualClock):
    for number in range(1, 1001):
        call = f"c{number}"
        recovery = number / 100.0
        bus.publish(failure(call, at=clock() - recovery))
        bus.publish(OperationRecovered(at=clock(), operation="fetch", call=call, attempt=2))
    seen = operation_of(bus_monitor.snapshot(), "fetch").windows["all"].recovery
    assert [seen.p50, seen.p95, seen.p99] == [pytest.approx(one, rel=0.012) for one in (5.0, 9.5, 9.9)]


def test_a_failure_that_is_classified_twice_counts_once(bus: Bus, bus_monitor: Monitor, clock: VirtualClock):
    for attempt in (1, 1, 2):
        bus.publish(failure("c", clock(), attempt))
    assert bus_monitor.snapshot().windows["all"].failures == 2


def test_a_wait_that_is_given_up_is_no_time_that_recovery_took_to_decide(
    bus: Bus, bus_monitor: Monitor, clock: VirtualClock
):
    about = {"operation": "fetch", "call": "c", "category": Category.TRANSIENT}
    bus.publish(failure("c", clock()))
    bus.publish(RetryScheduled(at=clock() + 0.5, after=60.0, retry=1, **about))
    clock.advance(30.0)
    bus.publish(GaveUp(at=clock(), reason="given up by hand", **about))
    assert bus_monitor.snapshot().windows["all"].decision_seconds == 0.5


def test_waits_are_counted_by_their_cause(bus: Bus, bus_monitor: Monitor, clock: VirtualClock):
    about = {"at": clock(), "operation": "fetch", "call": "c"}
    bus.publish(RetryScheduled(**about, after=1.5, retry=1, category=Category.TRANSIENT))
    bus.publish(RetryScheduled(**about, after=2.5, retry=2, category=Category.TRANSIENT))
    bus.publish(Parked(**about, after=30.0, why="a free port"))
    bus.publish(Parked(**about, after=1e9, why="https://user:secret@host is up"))
    waits = bus_monitor.snapshot().windows["all"].waits
    assert msgspec.to_builtins(waits) == {
        "transient": {"count": 2, "seconds": 4.0},
        "a free port": {"count": 1, "seconds": 30.0},
        "https://***@host is up": {"count": 1, "seconds": 0.0},  # without an end; and no secret leaves the process
    }


def test_causes_beyond_the_limit_are_counted_together(bus: Bus, bus_monitor: Monitor, clock: VirtualClock):
    for number in range(MAX_CAUSES + 10):
        bus.publish(Parked(at=clock(), operation="fetch", call="c", after=1.0, why=f"cause {number}"))
    waits = bus_monitor.snapshot().windows["all"].waits
    assert len(waits) == MAX_CAUSES + 1
    assert waits["other"].count == 10


def test_keys_are_counted_apart_and_together(service: Recovery, monitor: Monitor):
    fetch = service.recoverable("fetch", key=lambda host: host)(failing(1))
    for host in ("one", "other", "other"):
        fetch(host)
    shown = monitor.snapshot()
    assert [operation_of(shown, "fetch", key).windows["all"].calls for key in ("one", "other")] == [1, 2]
    assert counts(shown.windows["all"], "calls", "recovered") == [3, 1]


@pytest.mark.slow
def test_keys_beyond_the_limit_are_counted_together(bus: Bus, bus_monitor: Monitor, clock: VirtualClock):
    for number in range(MAX_KEYS + 5):
        bus.publish(GaveUp(at=clock(), operation="fetch", key=f"host {number}", call="c"))
    shown = bus_monitor.snapshot()
    assert len(shown.operations) == MAX_KEYS + 1
    assert operation_of(shown, "", "").windows["all"].gave_up == 5
    assert shown.windows["all"].gave_up == MAX_KEYS + 5


def test_windows_forget_and_the_total_does_not(service: Recovery, monitor: Monitor, clock: VirtualClock):
    service.recoverable("fetch")(failing(1))()
    monitor.snapshot()
    seen = []
    for seconds in (70.0, 300.0, 3600.0):
        clock.advance(seconds)
        shown = monitor.snapshot().windows
        seen.append([shown[name].calls for name in ("1m", "5m", "60m", "all")])
    assert seen == [[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]


def test_percentiles_are_those_of_their_window(service: Recovery, monitor: Monitor, clock: VirtualClock):
    for takes in (100.0, 1.0):
        service.recoverable("fetch")(failing(1, clock, takes=takes))()
        clock.advance(70.0)
    shown = monitor.snapshot().windows
    seen = [shown[name].recovery for name in ("1m", "5m", "60m", "all")]
    assert [one and one.count for one in seen] == [None, 2, 2, 2]
    clock.advance(200.0)
    five = monitor.snapshot().windows["5m"].recovery
    assert (five.count, five.mean) == (1, pytest.approx(3.0))


def test_a_cancelled_call_is_neither_success_nor_failure(service: Recovery, monitor: Monitor):
    attempt = service.operation("render").start()
    attempt.fail(ConnectionError())
    attempt.cancel()
    seen = monitor.snapshot().windows["all"]
    assert counts(seen, "calls", "cancelled", "failures", "success_rate") == [0, 1, 1, None]


def test_threads_lose_no_count():
    service = Recovery(breaker=None)
    monitor = service.monitor()

    def work() -> None:
        service.recoverable("fetch", initial_delay=0.0)(failing(1))()

    threads = [threading.Thread(target=repeat, args=(work, 200)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = monitor.snapshot().windows["all"]
    assert counts(seen, "recovered", "failures", "retries") == [800, 800, 800]


def test_publishing_does_not_wait_for_a_snapshot(bus: Bus, clock: VirtualClock):
    entered, leave = threading.Event(), threading.Event()

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
    assert thread.is_alive()  # no publish waited for it
    leave.set()
    thread.join()
    assert monitor.snapshot().windows["all"].failures == 3 * BATCH


def test_a_bare_bus_can_be_monitored(bus: Bus):
    render = Operation("render", bus)
    with Monitor(bus) as monitor:
        render.start().succeed()
        render.start().fail(ConnectionError())
    render.start().fail(ConnectionError())  # no longer counted
    shown = monitor.snapshot()
    assert counts(shown.windows["all"], "successes", "gave_up") == [1, 1]
    assert shown.journal is None


def test_lag_is_how_much_later_than_scheduled_a_retry_begins(service: Recovery, monitor: Monitor, clock: VirtualClock):
    service.bus.subscribe(RetryScheduled, lambda _: clock.advance(0.7))  # a subscriber that takes its time
    service.recoverable("fetch")(failing(1, clock, takes=50.0))()
    lag = monitor.snapshot().windows["all"].lag
    assert lag.mean == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import recovery, sys; print({'ddsketch', 'recovery.monitoring'} & set(sys.modules))", "set()\n"),
        (
            "import recovery, sys; sys.modules['ddsketch'] = None; recovery.Recovery().monitor()",
            "ModuleNotFoundError: recovery needs the extra 'monitor': pip install 'launcher-recovery[monitor]'\n",
        ),
    ],
)
def test_the_extra_is_needed_for_a_monitor_only(code: str, said: str):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout + done.stderr).endswith(said)


def test_a_service_has_one_monitor_with_its_first_thresholds(service: Recovery):
    monitor = service.monitor(Thresholds(memory=None))
    assert service.monitor() is monitor
    assert monitor.thresholds.memory is None
    with pytest.raises(ValueError, match="monitored already"):
        service.monitor(Thresholds())
    with pytest.raises(TypeError, match="thresholds must be Thresholds"):
        Recovery().monitor(Threshold(raised=1.0, cleared=0.5))  # type: ignore[arg-type]


def test_a_monitor_shows_what_it_counts(service: Recovery, monitor: Monitor, clock: VirtualClock):
    service.recoverable("fetch")(failing(1, clock))()
    monitor.snapshot()
    assert repr(monitor) == "<Monitor: 1 operations, 0 alerts>"


def test_among_many_operations_an_operation_is_evaluated_as_among_four() -> None:
    steps = {}
    for number in (4, 400):
        bus = Bus()
        operations = [Operation(f"{one}", bus) for one in range(number)]
        with Monitor(bus):
            events = [GaveUp(at=at, operation="gone", call=f"{at}", reason="r") for at in (10.0, 20.0, 30.0, 40.0)]
            for event in events[:-1]:
                bus.publish(event)
            steps[number] = steps_of(bus.publish, events[-1])
        assert len(operations) == number
    assert steps[400] <= 1.2 * steps[4]
