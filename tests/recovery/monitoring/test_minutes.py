"""The last hour by the minute."""

from __future__ import annotations

import pytest

from events.bus import Bus
from events.operation_events import GaveUp
from recovery.monitoring.minutes import NO_CALLS, minutes_of
from recovery.monitoring.monitor import Monitor
from recovery.monitoring.overhead import Overhead
from recovery.monitoring.windows import History, Minutes, Tally
from recovery.service import Recovery
from recovery.testing import VirtualClock
from tests.recovery.monitoring.monitored import failing, repeat


def gave_up(at: float, operation: str = "fetch") -> GaveUp:
    return GaveUp(at=at, operation=operation, call=f"{at}", attempt=1)


def test_each_event_is_counted_in_its_own_minute(bus: Bus, bus_monitor: Monitor, clock: VirtualClock):
    for seconds, operation in ((0, "fetch"), (30, "clone"), (60, "fetch"), (500, "fetch")):
        clock.advance(1000.0 + seconds - clock())
        bus.publish(gave_up(clock(), operation))
    minutes = bus_monitor.minutes()
    assert len(minutes) == 60
    assert {minute.began: minute.calls for minute in minutes if minute.calls} == {960.0: 1, 1020.0: 2, 1500.0: 1}
    assert minutes[-1].began == 1500.0


def test_what_is_older_than_an_hour_is_forgotten(bus: Bus, bus_monitor: Monitor, clock: VirtualClock):
    bus.publish(gave_up(clock()))
    clock.advance(3540.0)
    assert sum(minute.calls for minute in bus_monitor.minutes()) == 1
    clock.advance(60.0)
    assert sum(minute.calls for minute in bus_monitor.minutes()) == 0


def test_reading_the_minutes_changes_no_count(bus: Bus, bus_monitor: Monitor, clock: VirtualClock):
    for _ in range(4):
        bus.publish(gave_up(clock()))
        bus_monitor.minutes()
        clock.advance(3.0)
    assert sum(minute.calls for minute in bus_monitor.minutes()) == 4
    assert bus_monitor.snapshot().windows["1m"].gave_up == bus_monitor.snapshot().windows["all"].gave_up == 4


def test_an_operation_that_was_idle_adds_to_the_minute_in_which_it_was_busy():
    minutes = Minutes()
    busy, idle = History(0.0, minutes), History(0.0, minutes)
    for history in (busy, idle):
        history.tally_at(5.0).gave_up += 1
    busy.tally_at(1000.0).gave_up += 1
    for history in (idle, busy):
        history.settle(1000.0)
    assert [(began, tally.gave_up) for began, tally in minutes.until(1000.0) if tally.gave_up] == [(0.0, 2), (960.0, 1)]


def test_the_minutes_keep_sixty_tallies():
    minutes = Minutes()
    for minute in range(200):
        minutes.add(minute * 60.0, Tally(gave_up=1))
        minutes.add(0.0, Tally(gave_up=1))  # it comes too late to be kept
    shown = minutes.until(199 * 60.0)
    assert (len(shown), sum(tally.gave_up for _, tally in shown)) == (60, 60)


def test_successes_and_recoveries_are_shown(service: Recovery, monitor: Monitor):
    repeat(service.recoverable("quick")(lambda: None), 3)
    service.recoverable("fetch")(failing(1))()
    last = monitor.minutes()[-1]
    assert (last.calls, last.successes, last.success_rate) == (4, 4, 1.0)
    assert last.recovery is not None
    assert last.recovery.p50 == pytest.approx(2.0, rel=0.01)


def test_a_minute_without_calls_has_no_rate(monitor: Monitor, service: Recovery, clock: VirtualClock):
    with pytest.raises(ConnectionError):
        service.recoverable("fetch", max_retries=0)(failing(1))()
    clock.advance(60.0)
    *_, before, last = monitor.minutes()
    assert (before.success_rate, last.success_rate, last.overhead) == (0.0, None, None)


def test_the_overhead_of_a_minute_weighs_operations_by_their_calls():
    slow, quick = History(0.0), History(0.0)
    for history, successes in ((slow, 1), (quick, 9)):
        history.add_successes(0.0, 0)
        history.add_successes(30.0, successes)
    costs = [
        (slow, Overhead(share=0.001, error=None, added=0.001, own=1.0, samples=9)),
        (quick, Overhead(share=0.01, error=None, added=0.001, own=0.1, samples=9)),
    ]
    [minute] = minutes_of([(0.0, Tally(decision_seconds=0.009))], costs)
    assert minute.overhead == pytest.approx((10 * 0.001 + 0.009) / (1.0 + 0.9))
    assert NO_CALLS.calls == 0
