from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recovery.journal.awaited import PositionWaiters


class Ear:
    def wake(self) -> None:
        """Nobody sleeps here."""

    def close(self) -> None:
        """Nothing to give back."""


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans())), st.lists(st.integers(0, 60)))
def test_who_waits_is_taken_once_when_his_position_is_reached_and_not_before(
    waits: list[tuple[int, bool]], reached: list[int]
) -> None:
    awaited, recorded_events = PositionWaiters(), [Ear() for _ in waits]
    for ear, (position, _) in zip(recorded_events, waits, strict=True):
        awaited.add(position, ear)
    staying = {}
    for ear, (position, leaves) in zip(recorded_events, waits, strict=True):
        if leaves:
            awaited.forget(ear)
        else:
            staying[ear] = position
    for up_to in reached:
        taken = awaited.take(up_to.__ge__)
        assert [staying[ear] for ear in taken] == sorted(at for at in staying.values() if at <= up_to)
        for ear in taken:
            del staying[ear]
        assert len(awaited) == len(staying)


def test_a_position_that_nobody_waits_for_any_more_is_not_asked_about() -> None:
    awaited, asked = PositionWaiters(), list[int]()
    gone, waits = Ear(), Ear()
    awaited.add(1, gone)
    awaited.add(2, waits)
    awaited.forget(gone)

    def is_settled(position: int) -> bool:
        asked.append(position)
        return False

    assert awaited.take(is_settled) == []
    assert asked == [2]


def test_of_very_many_that_wait_each_step_looks_at_those_it_lets_go_and_one_more() -> None:
    awaited, asked = PositionWaiters(), list[int]()
    for position in range(1000):
        awaited.add(position, Ear())

    def is_settled(position: int) -> bool:
        asked.append(position)
        return position < 3

    assert len(awaited.take(is_settled)) == 3
    assert asked == [0, 1, 2, 3]
