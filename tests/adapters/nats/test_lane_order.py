"""The order in which a worker looks into its lanes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.nats.lane_order import WEIGHTS, LaneOrder
from adapters.nats.names import PRIORITIES, Lane

NAMES = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=4, unique=True)


def lanes_of(names: list[str]) -> set[Lane]:
    return {Lane(name, priority, node) for name in names for priority in PRIORITIES for node in ("a", "")}


@given(NAMES, st.integers(1, 100))
def test_each_look_goes_into_all_lanes_once(names: list[str], looks: int) -> None:
    turns = LaneOrder(names, "a")
    for _ in range(looks):
        lanes = turns.next()
        assert set(lanes) == lanes_of(names)
        assert len(lanes) == len(set(lanes))


@given(NAMES, st.integers(0, 40))
def test_each_lane_comes_first_in_its_turn(names: list[str], before: int) -> None:
    turns = LaneOrder(names, "a")
    for _ in range(before):
        turns.next()
    first = [turns.next()[0] for _ in range(12 * 2 * len(names))]
    for lane in lanes_of(names):
        assert first.count(lane) == WEIGHTS[lane.priority], "a full lane starves it, or it has too large a share"


@given(st.integers(0, 40), st.sampled_from(PRIORITIES))
def test_of_twelve_looks_in_a_row_each_priority_has_its_share(before: int, priority: str) -> None:
    turns = LaneOrder(["render"], "a")
    for _ in range(before):
        turns.next()
    assert [turns.next()[0].priority for _ in range(12)].count(priority) == WEIGHTS[priority]


@pytest.mark.parametrize("rank", [1, 2])
def test_what_comes_after_the_first_is_in_order_of_priority(rank: int) -> None:
    lanes = LaneOrder(["render"], "a").next()
    assert [lane.priority for lane in lanes[::2]] == list(PRIORITIES)
    assert lanes[rank * 2].priority == PRIORITIES[rank]
