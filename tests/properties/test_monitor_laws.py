"""Laws of monitoring: counts, windows, alerts, overhead."""

from __future__ import annotations

import statistics
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from events.circuit_events import CircuitClosed, CircuitOpened
from events.event import Event
from events.evidence import Evidence
from events.operation_events import (
    CallRejected,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationRecovered,
    Parked,
    RetryScheduled,
)
from recovery.monitoring.alerts import Reading, Threshold
from recovery.monitoring.counters import Counters, count
from recovery.monitoring.overhead import Estimate, Samples, median, overhead
from recovery.monitoring.snapshot import combined_windows, counts_of
from recovery.monitoring.windows import SPANS, SUMS, WIDTHS, WINDOWS, History, Tally, Window
from recovery.testing.strategies import CALLS, categories

EVIDENCE = Evidence(type="builtins.OSError")
STEPS = st.one_of(st.sampled_from([0.0, 1.0, 10.0, 59.0, 60.0, 300.0, 3600.0]), st.floats(0.0, 700.0))
"""Seconds between two events: the widths and spans of windows, and others."""


def events() -> st.SearchStrategy[list[Event]]:
    """Events of a few calls of a few operations, ordered by time only."""
    about = {"at": st.just(0.0), "operation": st.sampled_from(["fetch", "clone"])}
    call = {**about, "call": st.sampled_from(CALLS), "attempt": st.integers(1, 3)}
    one = st.one_of(
        st.builds(FailureClassified, **call, category=categories(), evidence=st.just(EVIDENCE)),
        st.builds(RetryScheduled, **call, category=categories(), retry=st.just(1), after=STEPS),
        st.builds(Parked, **call, why=st.sampled_from(["", "disk"]), after=STEPS),
        st.builds(OperationRecovered, **call, lag=st.floats(0.0, 1e3)),
        *(st.builds(kind, **call) for kind in (GaveUp, CallRejected, OperationCancelled)),
        st.builds(CircuitOpened, **about, after=STEPS),
        st.builds(CircuitClosed, **about),
    )
    return st.lists(st.tuples(STEPS, one), max_size=25).map(in_time)


def in_time(steps: list[tuple[float, Event]]) -> list[Event]:
    times = accumulate(step for step, _ in steps)
    return [replace(event, at=at) for at, (_, event) in zip(times, steps, strict=True)]


def counted(given: list[Event], counters: Counters | None = None) -> Counters:
    counters = counters or Counters(0.0)
    for event in given:
        count(counters, event)
    return counters


def end(given: list[Event]) -> float:
    return given[-1].at if given else 0.0


def shown(counters: Counters, now: float) -> Any:
    return {key: counts_of(one.history.windows(now)) for key, one in sorted(counters.operations.items())}


@given(events(), st.integers(0, 25), STEPS)
def test_a_snapshot_in_between_changes_no_count(given: list[Event], cut: int, later: float):
    now = end(given) + later
    counters = counted(given[:cut])
    shown(counters, end(given[:cut]))
    assert shown(counted(given[cut:], counters), now) == shown(counted(given), now)


@given(events(), st.integers(0, 25))
def test_two_tallies_added_are_one_tally_of_both(given: list[Event], cut: int):
    [whole, first, second] = [total(counted(some)) for some in (given, given[:cut], given[cut:])]
    first.add(second)
    names = [name for name in SUMS if name not in ("failures", "decision_seconds")]  # calls are cut in two
    assert [getattr(first, name) for name in names] == [getattr(whole, name) for name in names]
    assert {cause: number for cause, (number, _) in first.waits.items()} == {
        cause: number for cause, (number, _) in whole.waits.items()
    }
    assert quantiles(first.lag) == quantiles(whole.lag)


def quantiles(sketch: Any) -> list[float] | None:
    return sketch and [sketch.get_quantile_value(share) for share in (0.0, 0.5, 0.95, 1.0)]


def total(counters: Counters) -> Tally:
    return all_windows(counters, 1e9)["all"].tally


def all_windows(counters: Counters, now: float) -> dict[str, Window]:
    return combined_windows(operation.history.windows(now) for operation in counters.operations.values())


@given(events(), STEPS)
def test_a_window_holds_five_sixths_of_its_span_and_nothing_older(given: list[Event], later: float):
    now = end(given) + later
    counters = counted(given)
    windows = all_windows(counters, now)
    ended = [event.at for event in given if isinstance(event, GaveUp)]
    for name, span in SPANS.items():
        most = sum(at >= now - span for at in ended)
        least = sum(at >= now - span + WIDTHS[name] for at in ended)
        assert least <= windows[name].tally.gave_up <= most
    assert windows["all"].tally.gave_up == len(ended)


@given(st.lists(st.tuples(STEPS, st.integers(0, 1000)), max_size=25), STEPS)
def test_successes_are_counted_in_the_window_of_their_reading(readings: list[tuple[float, int]], later: float):
    history, now, noted = History(0.0), 0.0, [(0.0, 0)]
    for step, number in readings:
        now += step
        history.add_successes(now, number)
        noted.append((now, number))
    now += later
    for name, span in SPANS.items():
        # The successes of a reading may be as new as that reading, or as old as the one before it.
        most = sum(number for at, number in noted if at >= now - span)
        whole = now - span + WIDTHS[name]
        least = sum(number for (before, _), (_, number) in pairwise(noted) if before >= whole)
        assert least <= history.window(name, now).successes <= most
    assert history.window("all", now).successes == sum(number for _, number in noted)


@given(events(), st.lists(st.integers(0, 100), max_size=3), STEPS)
def test_a_longer_window_holds_what_a_shorter_one_holds(given: list[Event], successes: list[int], later: float):
    counters, now = counted(given), end(given)
    for number in successes:
        now += later
        for operation in counters.operations.values():
            operation.history.add_successes(now, number)
    for windows in shown(counters, now).values():
        assert all(one.success_rate is None or 0.0 <= one.success_rate <= 1.0 for one in windows.values())
        assert all(one.recovered <= one.successes <= one.calls for one in windows.values())
        for field in ("calls", "failures", "retries", "recovered", "seconds"):
            values = [getattr(windows[name], field) for name in WINDOWS]
            assert values == sorted(values)


@given(events())
def test_a_circuit_is_open_no_longer_than_the_time_that_passed(given: list[Event]):
    for operation in counted(given).operations.values():
        assert 0.0 <= operation.circuit.open_for <= operation.circuit_at(end(given)).open_for <= end(given)
        assert (operation.circuit.state == "open") is (operation.opened_at is not None)


@given(events(), st.sampled_from([GaveUp, OperationRecovered, OperationCancelled]))
def test_calls_that_ended_are_not_remembered(given: list[Event], kind: Any):
    ended = [kind(at=end(given), operation="fetch", call=call) for call in CALLS]
    assert not counted([*given, *ended]).failing_calls


# Alerts

VALUES = st.one_of(st.sampled_from([0.0, 0.8, 0.9, 1.0]), st.floats(0.0, 2.0))
THRESHOLDS = (
    st.tuples(VALUES, VALUES, st.integers(1, 5))
    .filter(lambda given: given[0] != given[1])
    .map(lambda given: Threshold(raised=given[0], cleared=given[1], least=given[2]))
)
READINGS = st.builds(Reading, st.none() | VALUES, st.integers(0, 6), st.floats(0.0, 0.2))


@given(THRESHOLDS, READINGS, st.booleans())
def test_an_alert_never_flaps_on_a_constant_input(threshold: Threshold, reading: Reading, before: bool):
    after = threshold.is_passed(reading, was_raised=before)
    assert threshold.is_passed(reading, was_raised=after) is after


@given(THRESHOLDS, st.floats(0.0, 1.0), st.booleans())
def test_between_its_two_thresholds_an_alert_stays_as_it_is(threshold: Threshold, where: float, before: bool):
    value = threshold.cleared + where * (threshold.raised - threshold.cleared)
    low, high = sorted([threshold.raised, threshold.cleared])
    assume(low < value < high)
    assert threshold.is_passed(Reading(value, 5), was_raised=before) is before


@given(THRESHOLDS, READINGS)
def test_an_alert_that_would_be_raised_would_also_stay(threshold: Threshold, reading: Reading):
    if threshold.is_passed(reading, was_raised=False):
        assert threshold.is_passed(reading, was_raised=True)


# Overhead


@given(st.lists(st.floats(0.0, 10.0), min_size=2, max_size=500))
def test_the_mean_and_its_error_agree_with_the_textbook(values: list[float]):
    samples = Samples()
    for value in values:
        samples.add(value)
    error = statistics.stdev(values) / len(values) ** 0.5
    assert samples.estimate.value == pytest.approx(statistics.fmean(values), abs=1e-9)
    assert samples.estimate.error == pytest.approx(error, abs=1e-7)


@given(st.floats(0.0, 10.0), st.floats(20.0, 30.0))
def test_samples_follow_an_operation_that_becomes_slower(before: float, after: float):
    samples = Samples()
    for value in [before] * 5000 + [after] * 5000:
        samples.add(value)
    assert samples.estimate.value == pytest.approx(after, rel=0.01)


@given(st.lists(st.floats(1.0, 2.0), min_size=9, max_size=50), st.integers(0, 8))
def test_one_disturbed_round_does_not_move_the_median(values: list[float], which: int):
    disturbed = [1e6 if number == which else value for number, value in enumerate(values)]
    assert 1.0 <= median(disturbed).value <= 2.0


@given(st.floats(1e-7, 1e3), st.floats(0.0, 1e-6), st.floats(0.0, 1e-6), st.floats(0.0, 1.0))
def test_the_cost_of_timing_is_subtracted(own: float, timing: float, wrapper: float, decision: float):
    figures = (Estimate(own + timing, 0.0, 9), Estimate(timing, 0.0, 9), Estimate(wrapper, 0.0, 9))
    found = overhead(*figures, decision)
    assert found.share == pytest.approx((wrapper + decision) / own, rel=1e-3)
    assert found.error == pytest.approx(0.0)
