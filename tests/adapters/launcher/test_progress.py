"""How fast bytes arrive, over a window, and how that is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.launcher.progress import (
    PAUSE,
    WINDOW,
    Samples,
    Transfer,
    amount,
    progress_words,
    rate,
    saved_transfer,
    with_sample,
)


def samples(*moments: tuple[float, int]) -> Samples:
    found: Samples = ()
    for at, offset in moments:
        found = with_sample(found, at, offset)
    return found


def test_a_rate_is_that_of_the_latest_window() -> None:
    slow_then_fast = samples(*((at, at * 10) for at in range(60)), *((60 + at, 600 + at * 1000) for at in range(11)))
    assert rate(slow_then_fast, 70.0) == 1000.0
    assert len(slow_then_fast) <= WINDOW + 2


def test_one_sample_is_no_rate() -> None:
    assert rate(samples((1.0, 10)), 5.0) is None


def test_a_short_silence_changes_no_rate_and_a_long_one_lowers_it_to_nothing() -> None:
    steady = samples(*((at, at * 100) for at in range(21)))
    assert rate(steady, 20.0 + PAUSE) == 100.0
    assert rate(steady, 26.0) == 40.0  # 400 bytes since 16
    assert rate(steady, 30.0) == 0.0


def test_a_file_that_is_started_over_has_the_rate_of_the_new_bytes() -> None:
    assert rate(samples((0.0, 10_000), (1.0, 20_000), (2.0, 0), (3.0, 50)), 3.0) == 50.0


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(0, 10**9)), min_size=2, max_size=40), st.floats(0.0, 60.0))
def test_a_rate_is_never_below_nothing_nor_above_that_of_the_fastest_moment(
    steps: list[tuple[float, int]], after: float
) -> None:
    at, offset, moments, fastest = 0.0, 0, list[tuple[float, int]](), 0.0
    for seconds, number in steps:
        at, offset = at + seconds + 0.001, offset + number
        moments.append((at, offset))
        fastest = max(fastest, number / (seconds + 0.001))
    found = rate(samples(*moments), at + after)
    assert found is not None
    assert 0.0 <= found <= fastest * (1 + 1e-6)


@pytest.mark.parametrize(
    ("offset", "size", "start", "speed", "words"),
    [
        (1_200_000_000, 4_000_000_000, 1_100_000_000, 48e6, "1.2 of 4.0 GB, 30 %, 48 MB/s, 58 s left, 1.1 GB resumed"),
        (1_200_000_000, None, 0, 4.84e6, "1.2 GB, 4.8 MB/s"),
        (3_999_999_999, 4_000_000_000, 0, None, "4.0 of 4.0 GB, 99 %"),
        (4_000_000_000, 4_000_000_000, 0, 1e6, "4.0 of 4.0 GB, 100 %, 1.0 MB/s"),
        (100, 999, 0, 0.0, "100 of 999 B, 10 %, stalled"),
        (0, 1000, 0, None, "0.0 of 1.0 kB, 0 %"),
        (0, None, 0, None, ""),
        (0, 0, 0, None, ""),
    ],
)
def test_progress_is_said_in_one_unit_with_what_is_known(
    offset: int, size: int | None, start: int, speed: float | None, words: str
) -> None:
    assert progress_words(offset, size, start, speed) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1.25e9, "1.2 GB"), (6.5e12, "6.5 TB"), (1e16, "10000.0 TB")],
)
def test_an_amount_has_a_unit(number: float, words: str) -> None:
    assert amount(number) == words


@pytest.mark.parametrize("saved", [None, b"", b"1", b"[]", b'{"size":1}', b"\xff", b'{"offset":"a"}', b"[" * 100_000])
def test_a_checkpoint_that_is_no_transfer_is_none(saved: bytes | None) -> None:
    assert saved_transfer(saved) is None


def test_a_checkpoint_says_how_far_a_transfer_is() -> None:
    assert saved_transfer(b'{"offset":1,"size":null}') == Transfer(1)
    assert saved_transfer(b'{"offset":3,"size":9,"start":2,"more":1}') == Transfer(3, 9, 2)
