"""How long to wait before retry number n."""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec import UNSET

from recovery.policies.backoff import JITTERS, LARGEST, Backoff, Constant, Exponential, Linear, base_delay, delay

STEADY = Constant(8.0)


def wait(backoff: Backoff = STEADY, jitter: Any = "none", cap: Any = 60.0, **given: Any) -> float:
    return delay(backoff, jitter, cap, **{"retry": 1, "previous": 0.0, "draw": 0.5, **given})


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (Constant(2.0), [2.0, 2.0, 2.0, 2.0]),
        (Linear(1.0, 0.5), [1.0, 1.5, 2.0, 2.5]),
        (Exponential(), [0.1, 0.2, 0.4, 0.8]),
        (Exponential(1.0, 3.0), [1.0, 3.0, 9.0, 27.0]),
        (Exponential(0.0, 5.0), [0.0, 0.0, 0.0, 0.0]),
        ((5.0, 1.0, 3.0), [5.0, 1.0, 3.0, 3.0]),
        (lambda retry: retry * 10, [10.0, 20.0, 30.0, 40.0]),
    ],
)
def test_a_shape_is_the_delays_it_promises(backoff: Backoff, delays: list[float]) -> None:
    assert [base_delay(backoff, retry) for retry in (1, 2, 3, 4)] == pytest.approx(delays)


@pytest.mark.parametrize("retry", [1025, 10**6])
def test_what_grows_stops_at_the_largest_delay_instead_of_overflowing(retry: int) -> None:
    steep = (Exponential(0.1, 2.0), Exponential(1e-3, 1e308), Exponential(1e308, 1e308), Linear(0.0, 1e308))
    ints = (Linear(10**308, 10**308), Exponential(40000, 2))
    assert {base_delay(backoff, retry) for backoff in (*steep, *ints)} == {LARGEST}
    assert 0.0 < base_delay(Exponential(1e-300, 2.0), 1025) <= LARGEST  # does not overflow on its way up


@pytest.mark.parametrize(
    ("answers", "taken"), [([-1.0, -math.inf], 0.0), ([math.inf, math.nan, 2**1100], LARGEST), ([7], 7.0)]
)
def test_what_a_function_answers_is_taken_into_range(answers: list[float], taken: float) -> None:
    assert [base_delay(lambda _, answer=answer: answer, 1) for answer in answers] == [taken] * len(answers)


def test_what_a_function_raises_passes() -> None:
    with pytest.raises(ZeroDivisionError):
        base_delay(lambda retry: 1 / (retry - 1), 1)


@pytest.mark.parametrize(
    ("jitter", "draw", "seconds"),
    [
        ("none", 0.9, 8.0),
        ("full", 0.0, 0.0),
        ("full", 0.5, 4.0),
        ("equal", 0.0, 4.0),
        ("equal", 0.5, 6.0),
        ("decorrelated", 0.0, 8.0),
        ("decorrelated", 0.5, 16.0),
    ],
)
def test_a_jitter_spreads_the_delay_as_brooker_describes(jitter: str, draw: float, seconds: float) -> None:
    assert wait(jitter=jitter, draw=draw) == pytest.approx(seconds)


@pytest.mark.parametrize(("draw", "seconds"), [(0.0, 1.0), (0.5, 6.5), (0.9, 10.9)])
def test_the_decorrelated_jitter_draws_between_the_first_delay_and_three_times_the_previous(
    draw: float, seconds: float
) -> None:
    assert wait(Constant(1.0), "decorrelated", previous=4.0, draw=draw) == pytest.approx(seconds)


@pytest.mark.parametrize("backoff", [Exponential(1.0), Linear(1.0, 5.0), Constant(1.0), (1.0, 9.0)])
def test_the_first_retries_of_a_herd_are_spread_by_the_decorrelated_jitter(backoff: Backoff) -> None:
    draws = [0.0, 0.25, 0.5, math.nextafter(1.0, 0.0)]
    assert [wait(backoff, "decorrelated", draw=draw) for draw in draws] == pytest.approx([1.0, 1.5, 2.0, 3.0])
    assert wait(backoff, "decorrelated", previous=0.1, draw=0.5) == 2.0  # of a category with shorter delays


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        ((5.0, 15.0, 960.0), [5.0, 15.0, 960.0, 960.0]),
        (Constant(300.0), [300.0] * 4),
        (lambda retry: 100.0 * retry, [100.0, 200.0, 300.0, 400.0]),
        (Exponential(120.0), [120.0] * 4),
        (Exponential(20.0), [20.0, 40.0, 60.0, 60.0]),
        (Linear(120.0, 1.0), [120.0] * 4),
        (Linear(50.0, 9.0), [50.0, 59.0, 60.0, 60.0]),
    ],
)
def test_a_cap_that_is_not_set_limits_growth_and_keeps_what_is_named(backoff: Backoff, delays: list[float]) -> None:
    assert [wait(backoff, cap=UNSET, retry=retry) for retry in (1, 2, 3, 4)] == delays
    assert wait(backoff, "decorrelated", UNSET, previous=1e6, draw=0.999) <= max(60.0, *delays)


@pytest.mark.parametrize("jitter", JITTERS)
def test_no_jitter_exceeds_the_cap(jitter: str) -> None:
    assert wait(Constant(100.0), jitter, 10.0, previous=100.0, draw=math.nextafter(1.0, 0.0)) <= 10.0


@pytest.mark.parametrize("jitter", ["full", "equal", "decorrelated"])
def test_a_capped_herd_does_not_march_in_step(jitter: str) -> None:
    waits = {wait(Exponential(0.1), jitter, 60.0, retry=50, previous=60.0, draw=c / 10) for c in range(10)}
    assert len(waits) == 10


def test_a_cap_of_zero_means_no_wait() -> None:
    assert [wait(jitter=jitter, cap=0.0, previous=9.0) for jitter in JITTERS] == [0.0] * 4


@pytest.mark.parametrize(
    ("kind", "given", "field"),
    [
        (Constant, (-1.0,), "delay"),
        (Linear, (-1.0, 1.0), "initial"),
        (Linear, (1.0, math.inf), "step"),
        (Exponential, (-0.1,), "initial_delay"),
        (Exponential, (0.1, 0.9), "backoff_factor"),
    ],
)
def test_a_shape_out_of_range_is_refused_by_the_name_of_its_field(kind: Any, given: Any, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} must be "):
        kind(*given)
