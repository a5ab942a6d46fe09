from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measure import Goal, Spread, differences, interleave, judge, percentile, pool, ratios, spread

AT_MOST_TWO = Goal("most", 2.0)
AT_LEAST_TWO = Goal("least", 2.0)


def test_a_spread_is_the_median_between_the_quartiles():
    assert spread([5.0, 1.0, 4.0, 2.0, 3.0]) == Spread(2.0, 3.0, 4.0, 5)
    assert spread([7.0]) == Spread(7.0, 7.0, 7.0, 1)
    with pytest.raises(ValueError, match="no values"):
        spread([])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_the_median_lies_between_its_quartiles(values: list[float]):
    found = spread(values)
    assert min(values) <= found.low <= found.middle <= found.high <= max(values)


def test_pooled_spreads_are_the_quartiles_of_all_processes():
    lucky, usual, unlucky = Spread(1.0, 1.1, 1.2, 50), Spread(1.2, 1.3, 1.4, 50), Spread(1.4, 1.5, 1.6, 50)
    assert pool([unlucky, lucky, usual]) == Spread(1.2, 1.3, 1.4, 150)
    assert pool([usual]) == usual


def test_one_interrupted_round_does_not_change_the_median():
    calm = [1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 1.0]
    assert spread([*calm, 50.0]).middle == pytest.approx(1.0, abs=0.03)


def test_ratios_and_differences_are_taken_round_by_round():
    busy = [1.0, 10.0, 1.0]
    assert ratios([2.0, 20.0, 2.0], busy) == Spread(2.0, 2.0, 2.0, 3)
    assert differences([2.0, 11.0, 2.0], busy) == Spread(1.0, 1.0, 1.0, 3)
    with pytest.raises(ValueError, match="longer"):  # a round is missing
        ratios([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("measured", "goal", "verdict"),
    [
        (Spread(1.0, 1.5, 1.9, 25), AT_MOST_TWO, "pass"),
        (Spread(2.1, 2.5, 3.0, 25), AT_MOST_TWO, "fail"),
        (Spread(1.0, 1.5, 2.1, 25), AT_MOST_TWO, "within noise"),
        (Spread(1.9, 2.5, 3.0, 25), AT_MOST_TWO, "within noise"),
        (Spread(2.1, 2.5, 3.0, 25), AT_LEAST_TWO, "pass"),
        (Spread(1.0, 1.5, 1.9, 25), AT_LEAST_TWO, "fail"),
        (Spread(1.0, 2.5, 3.0, 25), AT_LEAST_TWO, "within noise"),
        (Spread(2.0, 2.0, 2.0, 1), AT_MOST_TWO, "pass"),
        (Spread(2.0, 2.0, 2.0, 1), AT_LEAST_TWO, "pass"),
        (None, AT_MOST_TWO, "not measured"),
        (Spread(1.0, 1.0, 1.0, 1), None, "-"),
    ],
)
def test_a_goal_inside_the_spread_is_within_noise(measured: Spread | None, goal: Goal | None, verdict: str):
    assert judge(measured, goal) == verdict


def test_percentiles_are_interpolated():
    assert percentile([0.0, 10.0], 0.5) == 5.0
    assert percentile([3.0, 1.0, 2.0], 1.0) == 3.0


def test_every_candidate_runs_in_each_round_forwards_and_backwards():
    order: list[str] = []

    def candidate(name: str, each: float):
        def timed(times: int) -> float:
            order.append(name)
            return each * times

        return timed

    taken = interleave({"one": candidate("one", 1.0), "two": candidate("two", 2.0)}, 4, times=10)
    assert taken == {"one": [1.0] * 4, "two": [2.0] * 4}
    assert order == ["one", "two", "two", "one", "two", "one", "one", "two"]


def test_candidates_are_called_often_enough_to_be_timed_and_settled_in_between():
    settled: list[str] = []
    taken = interleave({"slow": lambda times: 1e-4 * times}, 3, settle=lambda: settled.append("yes"))
    assert taken["slow"] == pytest.approx([1e-4] * 3)
    assert len(settled) == 4
