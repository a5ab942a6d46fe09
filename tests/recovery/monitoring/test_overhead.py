"""What sampling costs the operations, and the overhead that it finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from events.alert_events import AlertRaised
from events.bus import Bus
from events.operation import Operation
from events.operation_events import FailureClassified
from recovery.monitoring.calibration import calibrate
from recovery.monitoring.monitor import UNDEFINED_CONFIG, Monitor
from recovery.monitoring.sampling import MAX_DUE, SAMPLE_ONE_IN
from recovery.service import Recovery
from recovery.settings_check import Defaults, make_config
from recovery.testing import VirtualClock
from tests.recorded_events import events_of
from tests.recovery.monitoring.monitored import failing, operation_of, repeat


@pytest.fixture
def fetch(service: Recovery, monitor: Monitor, clock: VirtualClock) -> Callable[[], str]:
    """A healthy function that takes 10 ms."""
    return service.recoverable("fetch")(failing(0, clock, takes=0.01))


def is_observed(service: Recovery) -> bool:
    return service.operation("fetch").is_observed


def test_an_operation_is_observed_only_while_a_sample_is_due(
    service: Recovery, monitor: Monitor, fetch: Callable[[], str]
):
    repeat(fetch, 2 * SAMPLE_ONE_IN)
    monitor.snapshot()
    seen = [is_observed(service)]
    for _ in range(3):
        fetch()
        seen.append(is_observed(service))
    assert seen == [True, True, False, False]
    monitor.snapshot()  # after too few new calls
    assert not is_observed(service)


def test_an_operation_with_few_calls_is_not_sampled(service: Recovery, monitor: Monitor, fetch: Callable[[], str]):
    repeat(fetch, SAMPLE_ONE_IN - 1)
    monitor.snapshot()
    assert not is_observed(service)


def test_a_call_that_failed_first_is_not_sampled(service: Recovery, monitor: Monitor, fetch: Callable[[], str]):
    repeat(fetch, 2 * SAMPLE_ONE_IN)
    monitor.snapshot()
    attempt = service.operation("fetch").start()
    attempt.fail(ConnectionError())
    attempt.next().succeed()
    fetch()
    assert is_observed(service)
    fetch()
    assert not is_observed(service)


def test_a_key_is_sampled_by_its_own_calls(bus: Bus, bus_monitor: Monitor):
    whole, part = Operation("fetch", bus), Operation("fetch", bus, key="host")
    repeat(lambda: whole.start().succeed(), 2 * SAMPLE_ONE_IN)
    bus_monitor.snapshot()
    repeat(lambda: part.start().succeed(), 2)
    assert whole.is_observed
    repeat(lambda: whole.start().succeed(), 2)
    assert not whole.is_observed


def test_closing_the_monitor_ends_sampling(service: Recovery, monitor: Monitor, fetch: Callable[[], str]):
    repeat(fetch, 100 * SAMPLE_ONE_IN)
    monitor.snapshot()
    monitor.close()
    assert not is_observed(service)


def test_overhead_is_a_share_of_the_operation_s_own_time(monitor: Monitor, fetch: Callable[[], str]):
    repeat(fetch, MAX_DUE * SAMPLE_ONE_IN)
    monitor.snapshot()
    repeat(fetch, MAX_DUE)
    shown = monitor.snapshot()
    cost = operation_of(shown, "fetch").overhead
    assert cost.samples == MAX_DUE
    assert cost.own == pytest.approx(0.01, rel=0.01)
    assert 0.0 < cost.share < 0.01  # a wrapper takes a tenth of a microsecond, or a few
    assert 0.0 <= cost.error < 0.01
    assert shown.overhead.share == pytest.approx(cost.share)


def test_the_time_to_decide_after_failures_is_overhead(service: Recovery, monitor: Monitor, clock: VirtualClock):
    alerts = events_of(service, AlertRaised)
    service.bus.subscribe(FailureClassified, lambda _: clock.advance(0.01))  # a plug-in that takes its time
    for _ in range(2):
        repeat(lambda: service.operation("render").start().succeed(), MAX_DUE * SAMPLE_ONE_IN)
        monitor.snapshot()
    assert alerts == []
    fetch = service.recoverable("fetch", initial_delay=0.0, max_retries=None)(failing(600, clock, takes=0.01))
    repeat(fetch, MAX_DUE * SAMPLE_ONE_IN)
    monitor.snapshot()
    repeat(fetch, MAX_DUE * SAMPLE_ONE_IN)
    cost = operation_of(monitor.snapshot(), "fetch").overhead
    assert cost.share == pytest.approx(600 * 0.01 / (2 * MAX_DUE * SAMPLE_ONE_IN) / 0.01, rel=0.05)
    assert {event.alert for event in alerts} == {"overhead"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("settings", [{}, {"max_elapsed": 60.0}, {"key": lambda: "host"}, {"durability": "journal"}])
def test_every_kind_of_wrapper_is_calibrated(settings: dict[str, Any]):
    found = calibrate(make_config(settings, defaults=Defaults(), has_store=True))  # type: ignore[arg-type]
    assert 0.0 < found.wrapper.value < 1e-3
    assert 0.0 < found.timing.value < 1e-3
    assert found.wrapper.error < 1e-3


def test_a_journalled_wrapper_costs_more_than_a_plain_one():
    journalled = msgspec.structs.replace(UNDEFINED_CONFIG, durability="journal")
    assert calibrate(journalled).wrapper.value > 3.0 * calibrate(UNDEFINED_CONFIG).wrapper.value
