"""The alerts that a monitor raises and clears, as events arrive and at snapshots."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest

from adapters.memory import MemoryStore
from events.alert_events import AlertCleared, AlertRaised
from events.bus import Bus
from events.event import Event
from events.operation_events import OperationRecovered
from recovery.monitoring.monitor import BATCH, WAITING_CALL_BYTES, Monitor
from recovery.service import Recovery
from recovery.testing import VirtualClock
from tests.recorded_events import events_of, names
from tests.recovery.monitoring.monitored import failing, failure, give_up, repeat, service_on


@pytest.fixture
def alerts(service: Recovery, monitor: Monitor) -> list[Event]:
    """The alerts that the monitor of ``service`` raises and clears."""
    return events_of(service, AlertRaised, AlertCleared)


@pytest.fixture
def bus_alerts(bus: Bus) -> list[Any]:
    """The alerts on the bare bus."""
    alerts: list[Any] = []
    bus.subscribe((AlertRaised, AlertCleared), alerts.append)
    return alerts


def recover(bus: Bus, times: int, lag: float) -> None:
    for _ in range(times):
        bus.publish(OperationRecovered(at=bus.clock(), operation="fetch", call="c", attempt=2, lag=lag))


def test_a_single_failed_call_raises_no_alert(service: Recovery, monitor: Monitor, alerts: list[Event]):
    give_up(service, 1)
    assert monitor.snapshot().alerts == ()
    assert alerts == []


def test_the_success_alert_lasts_until_enough_calls_succeed(
    service: Recovery, monitor: Monitor, alerts: list[Event], clock: VirtualClock
):
    give_up(service, 20)
    clock.advance(1.0)
    give_up(service, 1)
    assert names(alerts) == ["AlertRaised"]
    raised: Any = alerts[0]
    assert (raised.alert, raised.operation, raised.value, raised.count) == ("success", "fetch", 0.0, 20)
    everywhere: Any = monitor.snapshot().alerts
    assert [alert.operation for alert in everywhere] == ["fetch", ""]
    assert {alert.failure.category for alert in (raised, *everywhere)} == {raised.cause}  # an example of the cause
    good = service.recoverable("fetch", max_retries=0)(failing(0))
    repeat(good, 21 * 9 + 1)  # 90 %: no more than that, and it is not enough
    monitor.snapshot()
    assert names(alerts) == ["AlertRaised", "AlertRaised"]
    repeat(good, 100)
    assert monitor.snapshot().alerts == ()
    assert names(alerts) == ["AlertRaised"] * 2 + ["AlertCleared"] * 2


@pytest.mark.parametrize("successes", [0, 10 * BATCH])
def test_a_full_batch_is_evaluated_with_the_successes_though_no_time_passes(
    service: Recovery, alerts: list[Event], successes: int
):
    repeat(service.recoverable("fetch", max_retries=0)(failing(0)), successes)
    give_up(service, BATCH)
    assert names(alerts) == ([] if successes else ["AlertRaised"])


def test_late_retries_raise_an_alert(bus: Bus, bus_monitor: Monitor, bus_alerts: list[Any], clock: VirtualClock):
    recover(bus, 20, lag=0.4)
    bus_monitor.snapshot()
    assert bus_alerts == []
    recover(bus, 20, lag=0.8)
    [event, _] = bus_monitor.snapshot().alerts
    assert (event.alert, event.count) == ("lag", 40)
    assert event.value == pytest.approx(0.8, rel=0.01)
    clock.advance(600.0)
    bus_monitor.snapshot()
    assert names(bus_alerts) == ["AlertRaised"] * 2 + ["AlertCleared"] * 2
    assert bus_alerts[-1].lasted == 600.0


def test_late_retries_raise_an_alert_without_a_snapshot(bus: Bus, bus_monitor: Monitor, bus_alerts: list[Any]):
    recover(bus, 2 * BATCH, lag=0.8)
    assert [event.alert for event in bus_alerts] == ["lag"]


def test_too_many_waiting_calls_raise_the_memory_alert(bus: Bus, bus_alerts: list[Any], clock: VirtualClock):
    waiting = [10]
    monitor = Monitor(bus, waiting=lambda: waiting[0])
    assert monitor.snapshot().memory == 10 * WAITING_CALL_BYTES
    waiting[0] = round(7.4e6 / WAITING_CALL_BYTES)
    for number in range(BATCH):
        bus.publish(failure(f"c{number}", clock()))
    assert [(event.alert, event.value) for event in bus_alerts] == [("memory", float(waiting[0] * WAITING_CALL_BYTES))]
    waiting[0] = round(4.8e6 / WAITING_CALL_BYTES)  # below where it is raised, above where it is cleared
    assert len(monitor.snapshot().alerts) == 1
    waiting[0] = round(3.7e6 / WAITING_CALL_BYTES)
    monitor.snapshot()
    assert names(bus_alerts) == ["AlertRaised", "AlertCleared"]


def test_the_waiting_calls_of_a_service_are_counted():
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


def test_an_alert_is_journalled_and_logged_like_any_event(caplog: pytest.LogCaptureFixture, clock: VirtualClock):
    caplog.set_level(logging.INFO, "recovery")
    store = MemoryStore()
    with service_on(clock, store=store, enable_logging=True, run="run") as service:
        monitor = service.monitor()
        give_up(service, 20)
        monitor.snapshot()
        clock.advance(600.0)
        monitor.snapshot()
    assert service.journal.counts.stored == 20 * 2 + 4
    assert [b"failure" in row.body for row in store.rows if row.kind == "AlertRaised"] == [False, False]  # it has a row
    assert [line for line in caplog.messages if "gave up" not in line] == [
        *(
            f"{name}: success rate 0 % is below 90 % (of 20 calls); most failures are transient, "
            "as that of call run-20: the connection failed: ConnectionError: reset"
            for name in ("fetch", "all operations")
        ),
        "fetch: success rate has nothing to measure any more; the alert was on for 10 min",
        "all operations: success rate has nothing to measure any more; the alert was on for 10 min",
    ]
