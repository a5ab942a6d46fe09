"""The counts since the start, as an exporter of metrics reads them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from events.bus import Bus
from events.operation_events import OperationRecovered
from recovery.monitoring.monitor import Monitor
from recovery.monitoring.snapshot import window_counts
from recovery.monitoring.totals import bucket_counts
from recovery.monitoring.windows import new_sketch
from recovery.service import Recovery
from recovery.testing import VirtualClock
from tests.recovery.monitoring.monitored import failing, failure, give_up, repeat

BOUNDS = (0.1, 1.0, 10.0)


def test_totals_are_the_counts_of_a_snapshot(service: Recovery, monitor: Monitor, clock: VirtualClock):
    repeat(service.recoverable("clone")(failing(0)), 40)
    give_up(service, 25)
    clock.advance(7200.0)
    totals, shown = monitor.totals(), monitor.snapshot()
    found = {key: window_counts(of.window) for key, of in totals.operations.items()}
    assert found == {(one.operation, one.key): one.windows["all"] for one in shown.operations}
    assert (totals.waiting, totals.memory, totals.journal) == (shown.waiting, shown.memory, None)


def test_totals_evaluate_the_alerts(service: Recovery, monitor: Monitor):
    give_up(service, 25)
    assert {(one.alert, one.operation) for one in monitor.totals().alerts} == {("success", "fetch"), ("success", "")}


def test_what_is_counted_later_does_not_change_totals(bus: Bus, bus_monitor: Monitor, clock: VirtualClock):
    def recover(call: str) -> None:
        bus.publish(failure(call, at=clock() - 5.0))
        bus.publish(OperationRecovered(at=clock(), operation="fetch", call=call, attempt=2))

    recover("c1")
    tally = bus_monitor.totals().operations["fetch", ""].window.tally
    recover("c2")
    bus_monitor.totals()
    assert bucket_counts(tally.recovery, BOUNDS) == [0, 0, 1, 0]


@given(st.lists(st.floats(0.0, 1e6)))
def test_each_value_lies_in_the_bucket_of_its_bounds(values):
    values = [one for one in values if all(abs(one - bound) > 0.02 * bound for bound in BOUNDS)]
    sketch = new_sketch()
    for one in values:
        sketch.add(one)
    below = [sum(one <= bound for one in values) for bound in (*BOUNDS, float("inf"))]
    counts = bucket_counts(sketch, BOUNDS)
    assert [sum(counts[: index + 1]) for index in range(4)] == below


def test_no_sketch_has_empty_buckets():
    assert bucket_counts(None, BOUNDS) == [0, 0, 0, 0]
