"""Laws of jumps: what a series of looks at the clocks tells, whatever passes between them."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import msgspec
from hypothesis import assume, example, given
from hypothesis import strategies as st

from events.evidence import Category
from recovery import RetryPolicy, Strategy
from recovery.policies.jumps import Jump, Looks, Reading, first_look, look, may_excuse, may_wait
from recovery.policies.retry import HOPELESS, delays
from recovery.testing.strategies import category_strategies, policies

LEAST = 10.0
JUMPS = st.floats(LEAST + 0.1, 1e5)
SHORT = st.floats(0.0, LEAST - 0.1)
Kind: TypeAlias = Literal["wait", "sleep", "stop", "work", "wall clock back"]


class Machine:
    """A machine with a program in which one call after another waits."""

    def __init__(self) -> None:
        self.reading = Reading(1000.0, 50.0, 7.0)
        self.looks: Looks = first_look(self.reading)

    def look(self, due: float) -> Jump | None:
        self.looks, jump = look(self.looks, self.reading, due, LEAST)
        return jump

    def wait(self, seconds: float, kind: Kind = "wait", extra: float = 0.0) -> Jump | None:
        """A call waits; before it is due, *extra* seconds pass as *kind* says. What the look at its end sees."""
        now, ahead, busy = self.reading
        due = now + seconds
        match kind:
            case "wait":
                self.reading = Reading(due, ahead, busy)
            case "sleep":
                self.reading = Reading(due, ahead + extra, busy)
            case "stop":
                self.reading = Reading(due + extra, ahead, busy)
            case "work":
                self.reading = Reading(due + extra, ahead, busy + extra)
            case "wall clock back":
                self.reading = Reading(due, ahead - extra, busy)
        return self.look(due)


@given(waits=st.lists(st.tuples(st.floats(0.0, 1e4), st.sampled_from(["wait", "sleep", "stop", "work"]), SHORT)))
def test_nothing_short_is_a_jump(waits: list[tuple[float, Kind, float]]) -> None:
    machine = Machine()
    assert [machine.wait(*one) for one in waits] == [None] * len(waits)


@given(
    before=st.lists(st.floats(0.0, 1e4)), seconds=st.floats(0.0, 1e4), slept=JUMPS, after=st.lists(st.floats(0.0, 99.0))
)
def test_a_sleep_is_seen_once(before: list[float], seconds: float, slept: float, after: list[float]) -> None:
    machine = Machine()
    assert not any(machine.wait(one) for one in before)
    jump = machine.wait(seconds, "sleep", slept)
    assert jump is not None
    assert (jump.at, jump.kind, round(jump.slept, 3)) == (machine.reading.now, "sleep", round(slept, 3))
    assert not any(machine.wait(one) for one in after)


@given(
    before=st.lists(st.floats(0.0, 1e4)), seconds=st.floats(0.0, 1e4), slept=JUMPS, others=st.lists(st.floats(0.0, 1e4))
)
def test_a_stop_is_seen_once_by_the_first_of_all_calls_that_wake_late(
    before: list[float], seconds: float, slept: float, others: list[float]
) -> None:
    machine = Machine()
    assert not any(machine.wait(one) for one in before)
    due = machine.reading.now + seconds
    jump = machine.wait(seconds, "stop", slept)
    assert jump is not None
    assert (jump.at, jump.kind, round(jump.slept, 3)) == (machine.reading.now, "stopped", round(slept, 3))
    assert not any(machine.look(due + min(one, slept)) for one in others)


@given(seconds=st.floats(1.0, 1e4), slept=JUMPS)
def test_a_call_that_wakes_in_time_does_not_hide_a_stop(seconds: float, slept: float) -> None:
    machine = Machine()
    machine.wait(5.0)
    machine.reading = machine.reading._replace(now=machine.reading.now + seconds + slept)
    assert machine.look(machine.reading.now) is None  # due at this very moment
    jump = machine.look(machine.reading.now - slept)
    assert jump is not None
    assert jump.kind == "stopped"


@given(late=st.floats(LEAST + 0.1, 99.0), gap=st.floats(1.1, LEAST - 1.0))
def test_a_late_call_was_not_stopped_while_others_woke(late: float, gap: float) -> None:
    """A thread that blocks its own loop: other threads of the process wake meanwhile."""
    machine = Machine()
    due = machine.reading.now + 1.0
    while machine.reading.now < due + late:
        assert machine.wait(gap) is None
    assert machine.look(due) is None


@given(seconds=st.floats(0.0, 1e4), worked=JUMPS)
def test_a_busy_program_was_not_stopped(seconds: float, worked: float) -> None:
    assert Machine().wait(seconds, "work", worked) is None


@given(back=st.floats(0.0, 1e6), seconds=st.floats(0.0, 1e4))
def test_a_clock_that_is_set_back_is_no_jump(back: float, seconds: float) -> None:
    machine = Machine()
    assert machine.wait(seconds, "wall clock back", back) is None
    assert machine.wait(seconds) is None


@given(slept=JUMPS)
def test_a_failure_alone_sees_no_stop(slept: float) -> None:
    machine = Machine()
    machine.reading = machine.reading._replace(now=machine.reading.now + slept)
    assert machine.look(math.inf) is None


@given(began=st.none() | st.floats(0.0, 2e4), took=st.floats(0.0, 1e4), kind=st.sampled_from(["sleep", "stopped"]))
@example(began=1000.0, took=4000.0, kind="sleep")
def test_a_jump_excuses_attempts_that_it_met(
    began: float | None, took: float, kind: Literal["sleep", "stopped"]
) -> None:
    jump = Jump(1000.0, 100.0, kind)
    at = (began or 1000.0) + took
    assume(at >= jump.at)
    met = (at if began is None else began) <= 1060.0
    assert may_excuse(jump, began, at) is (met and at <= 1000.0 + 3600.0)


@given(policy=policies(), own=category_strategies(), category=st.sampled_from(Category), retry=st.integers(1, 9))
def test_a_failure_may_wait_where_the_compiled_path_has_a_delay(
    policy: RetryPolicy, own: dict[Category, Strategy], category: Category, retry: int
) -> None:
    policy = msgspec.structs.replace(policy, per_category=own)
    listed = delays(policy, category)
    if listed is not None and retry <= len(listed) and any(listed[retry - 1]):
        assert may_wait(policy, category, retry, None)
    if category in HOPELESS and category not in policy.per_category:
        assert not may_wait(policy, category, retry, 3.0)
