"""A transfer that trickles is ended; a pause, a suspended process and the last bytes of a file are no trickle."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.downloads import Trickle, TrickleError
from adapters.downloads.watchdog import TRICKLE, Watchdog
from events.evidence import Category
from recovery.subscribers.classification import classify
from tests.adapters.downloads.targets import CONTENT, SHA256, Target

LEAST, WINDOW = 1000, 100.0
GAPS = st.lists(st.floats(0.001, 25.0), min_size=1, max_size=200)


def ended_after(chunks: Iterable[tuple[float, int]], **options: Any) -> float | None:
    """Seconds until the watchdog ends a transfer with these *chunks* (seconds before each, bytes); None if never."""
    now = 0.0
    watchdog = Watchdog("model", Trickle(LEAST, WINDOW), clock=lambda: now, **options)
    for gap, count in chunks:
        now += gap
        watchdog.feed(count)
        if watchdog.ended is not None:
            return now
    return None


def test_a_trickle_is_ended_when_its_window_is_over() -> None:
    assert ended_after(repeat((1.0, 9))) == WINDOW


def test_a_transfer_that_becomes_a_trickle_is_ended_a_window_later() -> None:
    fast, slow = [(1.0, LEAST)] * 50, [(1.0, 9)] * 1000
    assert ended_after(fast + slow) == 50.0 + WINDOW


def test_the_message_says_how_much_came_in_how_many_seconds() -> None:
    watchdog = Watchdog("model.bin", TRICKLE, clock=iter([0, 0, 30, 60, 90, 120]).__next__)
    for count in (500, 0, 0, 0, 10):
        assert watchdog.ended is None
        watchdog.feed(count)
    assert "model.bin: only 510 bytes came in 120 s, and at least 1048576 are expected" in str(watchdog.ended)
    assert watchdog.ended is not None
    assert classify(watchdog.ended).category is Category.TRANSIENT


@pytest.mark.parametrize("pauses", [1, 3])
def test_a_pause_of_the_server_or_of_the_process_is_no_trickle(pauses: int) -> None:
    chunks = [(1.0, 100)] * 5 + [(3600.0, 100)] * pauses + [(0.01, 100)] * 50
    assert ended_after(chunks) is None


def test_single_bytes_between_pauses_are_a_trickle() -> None:
    assert ended_after(repeat((60.0, 1))) == 4 * 60.0


@pytest.mark.parametrize(("rest", "is_ended"), [(None, True), (3000, True), (LEAST - 1, False)])
def test_the_last_bytes_of_a_file_may_come_slowly(rest: int | None, is_ended: bool) -> None:
    assert (ended_after([(1.0, 1)] * 900, rest=rest) is not None) is is_ended


def test_the_last_bytes_of_a_file_do_not_take_for_ever() -> None:
    assert ended_after([(2.0, 1)] * 900, rest=LEAST - 1) == WINDOW
    assert ended_after([(1.0, 1)] * 150 + [(2.0, 1)] * 900, rest=LEAST - 1) == 2 * WINDOW
    assert ended_after([(25.0, 1)] * 3 + [(25.0, 7)], rest=10) is None


def test_a_watchdog_can_be_turned_off() -> None:
    watchdog = Watchdog("model", Trickle(least=0), clock=iter(range(0, 10**6, 100)).__next__)
    for _ in range(1000):
        watchdog.feed(1)
    assert watchdog.ended is None


@given(gaps=GAPS)
def test_a_transfer_above_the_least_pace_is_never_ended(gaps: list[float]) -> None:
    assert ended_after((gap, int(2 * LEAST / WINDOW * gap) + 1) for gap in gaps) is None


@given(gaps=GAPS)
def test_a_transfer_below_the_least_pace_is_ended_within_a_window_and_a_gap(gaps: list[float]) -> None:
    ended = ended_after((gap, int(LEAST / WINDOW * gap / 2)) for gap in gaps)
    assert (sum(gaps) < WINDOW + 1e-6) if ended is None else (WINDOW - 1e-6 <= ended <= WINDOW + 25.0)


@pytest.mark.anyio
async def test_a_trickle_ends_the_attempt_and_the_next_one_goes_on(tmp_path: Path) -> None:
    with Target(tmp_path, rate=2e6) as target:
        with pytest.raises(TrickleError):
            await target.attempt(sha256=SHA256, trickle=Trickle(least=480_000, window=0.1))
        kept = target.partial.stat().st_size
        target.hosted.rate = None
        arrived = await target.attempt(sha256=SHA256, trickle=Trickle(least=480_000, window=0.1))
    assert 0 < kept < 480_000
    assert (arrived.start, arrived.size) == (kept, len(CONTENT))
