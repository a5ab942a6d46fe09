"""The key of the least rank, as a walk over all keys would find it."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from recovery.subscribers.ranking import SLACK, Ranking

KEYS = st.integers(0, 6)
CHANGES = st.lists(st.tuples(KEYS, st.none() | st.integers(0, 4)), max_size=300)


@given(changes=CHANGES)
def test_the_least_is_the_first_that_came_to_the_least_rank(changes: list[tuple[int, int | None]]) -> None:
    ranking: Ranking[int, int] = Ranking()
    known: dict[int, int] = {}  # in the order in which they came to their ranks
    for key, rank in changes:
        if rank is None:
            ranking.remove(key)
            known.pop(key, None)
        else:
            ranking.put(key, rank)
            if known.get(key) != rank:
                known.pop(key, None)
                known[key] = rank
        assert ranking.get(key, -1) == known.get(key, -1)
        if known:
            assert ranking.least() == min(known, key=known.__getitem__)


def test_memory_is_bounded_for_any_number_of_changes() -> None:
    ranking: Ranking[int, float] = Ranking()
    tracemalloc.start()
    for number in range(100 * SLACK):
        ranking.put(number % 7, float(number))
        if number % 3 == 0:
            ranking.remove(number % 7)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 100_000
