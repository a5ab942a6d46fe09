"""What holds of every monitor, whatever happens."""

from __future__ import annotations

import statistics
from itertools import accumulate, pairwise
from typing import Any

import pytest
from ddsketch import DDSketch
from hypothesis import assume, given
from hypothesis import strategies as st

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
from recovery.monitoring.counters import State, count
from recovery.monitoring.overhead import Figure, Samples, middle, overhead
from recovery.monitoring.snapshot import WINDOWS, counted, in_all, windows_of
from recovery.monitoring.windows import SPANS, WIDTHS, History, Tally
from recovery.testing.strategies import CALLS, categories

EVIDENCE = Evidence(type="builtins.OSError")
STEPS = st.one_of(st.sampled_from([0.0, 1.0, 10.0, 59.0, 60.0, 300.0, 3600.0]), st.floats(0.0, 700.0))
"""Seconds between one thing and the next: the widths and spans of windows, and anything else."""


def new_sketch() -> Any:
    return DDSketch(0.01)


def events() -> st.SearchStrategy[list[Event]]:
    """Events in the order of their times, about few calls of few operations, in no other order."""
    about = {"operation": st.sampled_from(["fetch", "clone"]), "call": st.sampled_from(CALLS)}
    some = {**about, "attempt": st.integers(1, 3)}
    category = {"category": categories()}
    one = st.one_of(
        st.fixed_dictionaries({**some, **category, "kind": st.just(FailureClassified), "evidence": st.just(EVIDENCE)}),
        st.fixed_dictionaries(
            {**some, **category, "kind": st.just(RetryScheduled), "retry": st.just(1), "after": STEPS}
        ),
        st.fixed_dictionaries({**some, "kind": st.just(Parked), "why": st.sampled_from(["", "disk"]), "after": STEPS}),
        st.fixed_dictionaries({**some, "kind": st.just(OperationRecovered), "lag": st.floats(0.0, 1e3)}),
        st.fixed_dictionaries({**some, "kind": st.sampled_from([GaveUp, CallRejected, OperationCancelled])}),
        st.fixed_dictionaries({"operation": about["operation"], "kind": st.just(CircuitOpened), "after": STEPS}),
        st.fixed_dictionaries({"operation": about["operation"], "kind": st.just(CircuitClosed)}),
    )
    return st.lists(st.tuples(STEPS, one), max_size=25).map(in_time)


def in_time(steps: list[tuple[float, dict[str, Any]]]) -> list[Event]:
    times = accumulate((step for step, _ in steps), initial=0.0)
    next(times)
    return [
        fields["kind"](at=at, **{name: value for name, value in fields.items() if name != "kind"})
        for at, (_, fields) in zip(times, steps, strict=True)
    ]


def folded(given: list[Event], state: State | None = None) -> State:
    state = state or State(0.0, new_sketch)
    for event in given:
        count(state, event)
    return state


def end(given: list[Event]) -> float:
    return given[-1].at if given else 0.0


def shown(state: State, now: float) -> Any:
    return {
        part: {name: counted(window) for name, window in windows_of(one, now).items()}
        for part, one in sorted(state.parts.items())
    }


@given(events(), st.integers(0, 25), STEPS)
def test_events_may_be_folded_in_parts_and_looked_at_in_between(given: list[Event], cut: int, later: float) -> None:
    now = end(given) + later
    state = folded(given[:cut])
    shown(state, end(given[:cut]))
    assert shown(folded(given[cut:], state), now) == shown(folded(given), now)


@given(events(), st.integers(0, 25))
def test_two_tallies_added_are_one_tally_of_both(given: list[Event], cut: int) -> None:
    [whole, first, second] = [total(folded(some)) for some in (given, given[:cut], given[cut:])]
    first.add(second, new_sketch)
    names = ["retries", "parks", "gave_up", "rejected", "cancelled", "recovered", "opened"]
    assert [getattr(first, name) for name in names] == [getattr(whole, name) for name in names]
    assert {cause: number for cause, (number, _) in first.waits.items()} == {
        cause: number for cause, (number, _) in whole.waits.items()
    }
    if whole.lag is not None:
        shares = (0.0, 0.5, 0.95, 1.0)
        assert [first.lag.get_quantile_value(one) for one in shares] == [
            whole.lag.get_quantile_value(one) for one in shares
        ]


def total(state: State) -> Tally:
    return in_all([windows_of(part, 1e9) for part in state.parts.values()], state, 1e9)["all"].tally


@given(events(), STEPS)
def test_a_window_counts_nothing_older_than_its_span_and_everything_in_five_sixths_of_it(
    given: list[Event], later: float
) -> None:
    now = end(given) + later
    state = folded(given)
    windows = in_all([windows_of(part, now) for part in state.parts.values()], state, now)
    ended = [event.at for event in given if isinstance(event, GaveUp)]
    for name, span in SPANS.items():
        most = sum(at >= now - span for at in ended)
        least = sum(at >= now - span + WIDTHS[name] for at in ended)
        assert least <= windows[name].tally.gave_up <= most
    assert windows["all"].tally.gave_up == len(ended)


@given(st.lists(st.tuples(STEPS, st.integers(0, 1000)), max_size=25), STEPS)
def test_successes_are_counted_in_the_window_of_their_time_as_well_as_it_is_known(
    readings: list[tuple[float, int]], later: float
) -> None:
    history, now, noted = History(0.0, new_sketch), 0.0, [(0.0, 0)]
    for step, number in readings:
        now += step
        history.succeeded(now, number)
        noted.append((now, number))
    now += later
    for name, span in SPANS.items():
        # All of a reading may be of its last moment, or of the moment after the reading before it.
        most = sum(number for at, number in noted if at >= now - span)
        whole = now - span + WIDTHS[name]
        least = sum(number for (before, _), (_, number) in pairwise(noted) if before >= whole)
        assert least <= history.over(name, now).successes <= most
    assert history.over(None, now).successes == sum(number for _, number in noted)


@given(events(), st.lists(st.integers(0, 100), max_size=3), STEPS)
def test_rates_are_shares_and_a_longer_window_holds_what_a_shorter_holds(
    given: list[Event], successes: list[int], later: float
) -> None:
    state, now = folded(given), end(given)
    for number in successes:
        now += later
        for part in state.parts.values():
            part.history.succeeded(now, number)
    for part in shown(state, now).values():
        assert all(one.success_rate is None or 0.0 <= one.success_rate <= 1.0 for one in part.values())
        assert all(one.recovered <= one.successes <= one.calls for one in part.values())
        for field in ("calls", "failures", "retries", "recovered", "seconds"):
            values = [getattr(part[name], field) for name in WINDOWS]
            assert values == sorted(values)


@given(events())
def test_time_a_circuit_was_open_is_within_the_time_there_was(given: list[Event]) -> None:
    for part in folded(given).parts.values():
        assert 0.0 <= part.open_for <= end(given)
        assert (part.circuit == "open") is (part.opened_at is not None)


@given(events(), st.sampled_from([GaveUp, OperationRecovered, OperationCancelled]))
def test_calls_that_ended_are_remembered_no_more(given: list[Event], kind: Any) -> None:
    ended = [kind(at=end(given), operation="fetch", call=call) for call in CALLS]
    assert not folded([*given, *ended]).has_failed


# Alerts

VALUES = st.one_of(st.sampled_from([0.0, 0.8, 0.9, 1.0]), st.floats(0.0, 2.0))
THRESHOLDS = (
    st.tuples(VALUES, VALUES, st.integers(1, 5))
    .filter(lambda given: given[0] != given[1])
    .map(lambda given: Threshold(raised=given[0], cleared=given[1], least=given[2]))
)
READINGS = st.builds(Reading, st.none() | VALUES, st.integers(0, 6), st.floats(0.0, 0.2))


@given(THRESHOLDS, READINGS, st.booleans())
def test_an_alert_never_flaps_on_a_constant_input(threshold: Threshold, reading: Reading, before: bool) -> None:
    after = threshold.is_passed(reading, was_raised=before)
    assert threshold.is_passed(reading, was_raised=after) is after


@given(THRESHOLDS, st.floats(0.0, 1.0), st.booleans())
def test_between_its_two_thresholds_an_alert_stays_as_it_is(threshold: Threshold, where: float, before: bool) -> None:
    value = threshold.cleared + where * (threshold.raised - threshold.cleared)
    low, high = sorted([threshold.raised, threshold.cleared])
    assume(low < value < high)
    assert threshold.is_passed(Reading(value, 5), was_raised=before) is before


@given(THRESHOLDS, READINGS)
def test_an_alert_that_would_be_raised_would_also_stay(threshold: Threshold, reading: Reading) -> None:
    if threshold.is_passed(reading, was_raised=False):
        assert threshold.is_passed(reading, was_raised=True)


# Overhead


@given(st.lists(st.floats(0.0, 10.0), min_size=2, max_size=500))
def test_the_mean_and_its_error_are_those_of_the_books(values: list[float]) -> None:
    samples = Samples()
    for value in values:
        samples.add(value)
    error = statistics.stdev(values) / len(values) ** 0.5
    assert samples.figure.value == pytest.approx(statistics.fmean(values), abs=1e-9)
    assert samples.figure.error == pytest.approx(error, abs=1e-7)


@given(st.floats(0.0, 10.0), st.floats(20.0, 30.0))
def test_samples_follow_an_operation_that_becomes_slower(before: float, after: float) -> None:
    samples = Samples()
    for value in [before] * 5000 + [after] * 5000:
        samples.add(value)
    assert samples.figure.value == pytest.approx(after, rel=0.01)


@given(st.lists(st.floats(1.0, 2.0), min_size=9, max_size=50), st.integers(0, 8))
def test_a_median_is_not_moved_by_one_round_that_was_disturbed(values: list[float], which: int) -> None:
    disturbed = [1e6 if number == which else value for number, value in enumerate(values)]
    assert 1.0 <= middle(disturbed).value <= 2.0


@given(st.floats(1e-7, 1e3), st.floats(0.0, 1e-6), st.floats(0.0, 1e-6), st.floats(0.0, 1.0))
def test_the_timing_is_no_part_of_what_is_timed(own: float, timing: float, wrapper: float, deciding: float) -> None:
    figures = (Figure(own + timing, 0.0, 9), Figure(timing, 0.0, 9), Figure(wrapper, 0.0, 9))
    found = overhead(*figures, deciding)
    assert found.share is not None
    assert found.share == pytest.approx((wrapper + deciding) / own, rel=1e-3)
    assert found.error == pytest.approx(0.0)
