"""Laws of delays: for every backoff, jitter, cap, retry and draw."""

from __future__ import annotations

import math

from hypothesis import example, given
from hypothesis import strategies as st

from recovery.policies.backoff import (
    JITTERS,
    LARGEST,
    Backoff,
    Constant,
    Exponential,
    Jitter,
    Linear,
    base_delay,
    delay,
)
from recovery.testing.strategies import backoffs, draws, seconds

RETRIES = st.one_of(st.integers(1, 10), st.integers(1, 10**6))
JITTER = st.sampled_from(JITTERS)
ANY = st.floats(0.0, allow_nan=False, allow_infinity=False)
EXTREME: st.SearchStrategy[Backoff] = st.one_of(
    st.builds(Constant, ANY), st.builds(Linear, ANY, ANY), st.builds(Exponential, ANY, st.floats(1.0, 1e308))
)
EXPONENTIALS = st.one_of(
    st.builds(Exponential, seconds(), st.floats(1.0, 10.0)), st.builds(Exponential, ANY, st.floats(1.0, 1e308))
)
FUNCTIONS = st.floats().map(lambda answer: lambda _: answer)
TINY = Exponential(1e-300, 2.0)
"""Its factor overflows a float before the delay grows large."""


@given(st.one_of(backoffs(), EXTREME, FUNCTIONS), JITTER, seconds(1e6), RETRIES, seconds(1e6), draws())
@example(lambda _: math.nan, "none", 60.0, 1, 0.0, 0.5)
@example(lambda _: -math.inf, "none", 60.0, 1, 0.0, 0.5)
@example(TINY, "none", 60.0, 1025, 0.0, 0.5)
@example(Exponential(), "decorrelated", 60.0, 1, math.inf, 0.0)
@example(Exponential(60.0), "full", 60.0, 1, 0.0, 0.999)
@example(Exponential(60.0), "equal", 60.0, 1, 0.0, 0.999)
@example(Exponential(60.0), "decorrelated", 60.0, 2, 60.0, 0.999)
def test_a_delay_is_finite_and_between_zero_and_the_cap(
    backoff: Backoff, jitter: Jitter, cap: float, retry: int, previous: float, draw: float
):
    assert 0.0 <= delay(backoff, jitter, cap, retry=retry, previous=previous, draw=draw) <= cap


@given(st.one_of(backoffs(), EXTREME), RETRIES)
@example(TINY, 1025)
def test_a_base_delay_is_between_zero_and_the_largest(backoff: Backoff, retry: int):
    assert 0.0 <= base_delay(backoff, retry) <= LARGEST


@given(EXPONENTIALS | st.builds(Linear, seconds(), seconds()), RETRIES, RETRIES)
@example(TINY, 1024, 1025)
@example(Exponential(0.1, 2.0), 34, 35)
def test_a_growing_delay_never_shrinks(shape: Exponential | Linear, one: int, other: int):
    earlier, later = (base_delay(shape, retry) for retry in sorted((one, other)))
    assert earlier <= later * (1 + 1e-12)


@given(backoffs(), seconds(), RETRIES, seconds(), draws())
def test_without_jitter_draws_and_history_do_not_matter(
    backoff: Backoff, cap: float, retry: int, previous: float, draw: float
):
    found = delay(backoff, "none", cap, retry=retry, previous=previous, draw=draw)
    assert found == min(base_delay(backoff, retry), cap)


@given(backoffs(), JITTER, seconds(), RETRIES, seconds(), draws(), draws())
def test_a_larger_draw_is_never_a_shorter_delay(
    backoff: Backoff, jitter: Jitter, cap: float, retry: int, previous: float, one: float, other: float
):
    short, long = (
        delay(backoff, jitter, cap, retry=retry, previous=previous, draw=draw) for draw in sorted((one, other))
    )
    assert short <= long * (1 + 1e-12)


@given(backoffs(), seconds(), RETRIES, draws())
def test_equal_jitter_keeps_half_of_the_delay(backoff: Backoff, cap: float, retry: int, draw: float):
    found = delay(backoff, "equal", cap, retry=retry, previous=0.0, draw=draw)
    assert found >= min(base_delay(backoff, retry), cap) / 2


@given(backoffs(), JITTER, st.floats(1e-3, 1e3), RETRIES, seconds(), draws(), draws())
@example(Exponential(), "decorrelated", 60.0, 50, 60.0, 0.6, 0.9)
def test_capped_delays_spread(
    backoff: Backoff, jitter: Jitter, cap: float, retry: int, previous: float, one: float, other: float
):
    waits = [delay(backoff, jitter, cap, retry=retry, previous=previous, draw=draw) for draw in (one, other)]
    stands = delay(backoff, jitter, cap, retry=retry, previous=previous, draw=0.0) == cap
    assert jitter == "none" or stands or abs(one - other) < 1e-9 or waits != [cap, cap]
