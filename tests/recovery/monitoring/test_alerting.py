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
from events.operation_events import (
    OperationRecovered,
)
from recovery.monitoring.monitor import BATCH, WAITING_CALL_BYTES, Monitor
from recovery.service import Recovery
from recovery.testing import VirtualClock
from tests.recorded_events import events_of, names
from tests.recovery.monitoring.monitored import failing, failure, give_up, service_on


def test_a_single_failed_call_raises_no_alert(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    alerts = events_of(service, AlertRaised)
    with pytest.raises(ConnectionError):
        service.recoverable("fetch", max_retries=0)(failing(1))()
    assert monitor.snapshot().alerts == ()
    assert alerts == []


def test_the_success_alert_lasts_until_enough_calls_succeed(clock: VirtualClock) -> None:
    service = service_on(clock)
    monitor = service.monitor()
    alerts = events_of(service, AlertRaised, AlertCleared)
    give_up(service.recoverable("fetch", max_retries=0)(failing(99)), 20)
    clock.advance(1.0)
    give_up(service.recoverable("fetch", max_retries=0)(failing(99)), 1)
    assert names(alerts) == ["AlertRaised"]
    raised: Any = alerts[0]
    assert (raised.alert, raised.operation, raised.value, raised.count) == ("success", "fetch", 0.0, 20)
    assert [alert.operation for alert in monitor.snapshot().alerts] == ["fetch", ""]
    good = service.recoverable("fetch", max_retries=0)(failing(0))
    for _ in range(21 * 9 + 1):
        good()  # 90 %: no more than that, and it is not enough
    monitor.snapshot()
    assert names(alerts) == ["AlertRaised", "AlertRaised"]
    for _ in range(100):
        good()
    assert monitor.snapshot().alerts == ()
    assert names(alerts) == ["AlertRaised"] * 2 + ["AlertCleared"] * 2


def test_a_full_batch_is_evaluated_though_no_time_passes(clock: VirtualClock) -> None:
    service = service_on(clock)
    service.monitor()
    alerts = events_of(service, AlertRaised)
    give_up(service.recoverable("fetch", max_retries=0)(failing(999)), BATCH)
    assert names(alerts) == ["AlertRaised"]


def test_successes_are_read_before_alerts_are_evaluated(clock: VirtualClock) -> None:
    service = service_on(clock)
    service.monitor()
    alerts = events_of(service, AlertRaised)
    good = service.recoverable("fetch", max_retries=0)(failing(0))
    bad = service.recoverable("fetch", max_retries=0)(failing(999))
    for _ in range(10 * BATCH):
        good()
    give_up(bad, BATCH)
    assert alerts == []


def test_late_retries_raise_an_alert(clock: VirtualClock) -> None:
    bus = Bus(clock=clock)
    monitor = Monitor(bus)
    alerts: list[Any] = []
    bus.subscribe((AlertRaised, AlertCleared), alerts.append)

    def recover(lag: float) -> None:
        for _ in range(20):
            bus.publish(OperationRecovered(at=clock(), operation="fetch", call="c", attempt=2, lag=lag))

    recover(lag=0.4)
    monitor.snapshot()
    assert alerts == []
    recover(lag=0.8)
    [event, _] = monitor.snapshot().alerts
    assert (event.alert, event.count) == ("lag", 40)
    assert event.value == pytest.approx(0.8, rel=0.01)
    clock.advance(600.0)
    monitor.snapshot()
    assert names(alerts) == ["AlertRaised"] * 2 + ["AlertCleared"] * 2
    assert alerts[-1].lasted == 600.0


def test_late_retries_raise_an_alert_without_a_snapshot(clock: VirtualClock) -> None:
    bus = Bus(clock=clock)
    monitor = Monitor(bus)
    alerts: list[Any] = []
    bus.subscribe(AlertRaised, alerts.append)
    for _ in range(2 * BATCH):
        bus.publish(OperationRecovered(at=clock(), operation="fetch", call="c", attempt=2, lag=0.8))
    assert [event.alert for event in alerts] == ["lag"]
    monitor.close()


def test_too_many_waiting_calls_raise_the_memory_alert(clock: VirtualClock) -> None:
    bus = Bus(clock=clock)
    waiting = [10]
    monitor = Monitor(bus, waiting=lambda: waiting[0])
    alerts: list[Any] = []
    bus.subscribe((AlertRaised, AlertCleared), alerts.append)
    assert monitor.snapshot().memory == 10 * WAITING_CALL_BYTES
    waiting[0] = 4000
    for number in range(BATCH):
        bus.publish(failure(f"c{number}", clock()))
    assert [(event.alert, event.value) for event in alerts] == [("memory", 4000.0 * WAITING_CALL_BYTES)]
    waiting[0] = 2600  # 4.8 MB: below where it is raised, above where it is cleared
    assert len(monitor.snapshot().alerts) == 1
    waiting[0] = 2000
    monitor.snapshot()
    assert names(alerts) == ["AlertRaised", "AlertCleared"]


def test_the_waiting_calls_of_a_service_are_counted() -> None:
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
        "fetch: alert, success is 0, past the threshold 0.9 (of 20)",
        "all: alert, success is 0, past the threshold 0.9 (of 20)",
        "fetch: success is back within its threshold after 600.0 s",
        "all: success is back within its threshold after 600.0 s",
    ]
