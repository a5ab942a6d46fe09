"""Laws of sleeps: for every order in which calls fall asleep, are steered and cancelled while time passes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from events.verdicts import Retry
from recovery.testing import VirtualClock
from recovery.waiting.wait import Wait, WaitCommand
from recovery.waiting.waiters import ThreadWaiter
from tests.recovery.waiting.sleepers import Sleepers, python_task, turns

SECONDS = st.integers(-1, 12).map(float)
COMMANDS: st.SearchStrategy[WaitCommand] = st.sampled_from(["retry now", "give up", "pause", "unpause"])
WHICH = st.integers(0, 20)
STEPS = st.one_of(
    st.tuples(st.just("sleep"), SECONDS),
    st.tuples(st.just("pass"), st.integers(0, 6).map(float)),
    st.tuples(st.just("cancel"), WHICH),
    st.tuples(COMMANDS, WHICH),
    st.tuples(st.just("steer and cancel"), WHICH),
)
LATE = st.tuples(st.just("be late"), SECONDS.map(abs))
"""Time passes while the loop stands still."""


class Night:
    """Calls that sleep on a virtual clock, how each of them is to end, and how it did."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.sleepers = Sleepers(self.clock)
        self.tasks: list[asyncio.Task[None]] = []
        self.due: list[float] = []
        self.expected: list[str] = []
        self.ends: list[tuple[int, str, float]] = []

    async def _sleep(self, number: int, after: float) -> None:
        end = "interrupted"
        try:
            end = "slept" if await self.sleepers.sleep(after) is None else "steered"
        except asyncio.CancelledError:
            end = "cancelled"
        finally:
            self.ends.append((number, end, self.clock()))

    def begin(self, after: float) -> None:
        self.due.append(max(self.clock() + after, self.clock()))
        self.expected.append("slept")
        self.tasks.append(asyncio.get_running_loop().create_task(self._sleep(len(self.tasks), after)))

    def act(self, what: Any, number: int) -> None:
        """Cancel or steer one of the calls, and note what that must lead to, and when."""
        is_done = self.tasks[number].cancel() if what == "cancel" else self._steer(number, what)
        if is_done:
            is_cancelled = what == "cancel" or self.expected[number] == "cancelled"
            self.expected[number] = "cancelled" if is_cancelled else "steered"
            self.due[number] = self.clock()

    def _steer(self, number: int, command: WaitCommand) -> bool:
        return self.sleepers.waiting.steer(self.sleepers.ids[number], command)

    async def pass_by(self, steps: list[tuple[str, Any]]) -> None:
        for what, value in steps:
            match what:
                case "sleep":
                    self.begin(value)
                    await turns(1)
                case "pass":
                    await asyncio.sleep(value)
                case "be late":
                    self.clock.advance(value)
                case "steer and cancel" if self.tasks:
                    self.act("pause", value % len(self.tasks))
                    self.act("cancel", value % len(self.tasks))
                case _ if self.tasks:
                    self.act(what, value % len(self.tasks))
        for task in self.tasks:
            await task


@example([("sleep", 9.0), ("sleep", 1.0), ("pass", 3.0)], None)
@example([("sleep", 1.0), ("sleep", 2.0), ("pass", 6.0)], None)
@given(st.lists(STEPS, max_size=60) | st.lists(STEPS | LATE, max_size=60), st.sampled_from([None, python_task]))
def test_each_sleep_ends_once_and_in_time(steps: list[tuple[str, Any]], tasks: Callable[..., Any] | None) -> None:
    night = Night()

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(tasks)
        async with asyncio.timeout(1e5):
            await night.pass_by(steps)

    night.clock.run(main)
    assert sorted(number for number, _, _ in night.ends) == list(range(len(night.tasks)))
    assert {number: end for number, end, _ in night.ends} == dict(enumerate(night.expected))
    assert all(at >= night.due[number] for number, _, at in night.ends)
    if all(what != "be late" for what, _ in steps):
        assert all(at == night.due[number] for number, _, at in night.ends)
    slept = [night.due[number] for number, end, _ in night.ends if end == "slept"]
    assert slept == sorted(slept)
    assert len(night.sleepers.waiting) == 0


@given(
    after=st.integers(1, 10**5).map(float),
    within=st.sampled_from([1e5, 2e5, math.inf]),
    steps=st.lists(st.one_of(COMMANDS, st.integers(0, 10**4).map(float)), max_size=9),
)
def test_a_sleep_is_shown_and_steered_as_the_wait_of_such_a_call(
    after: float, within: float, steps: list[WaitCommand | float]
) -> None:
    clock = VirtualClock()
    asleep, awake = Sleepers(clock), Sleepers(clock)

    async def main() -> None:
        task = asleep.task(after, within)
        await turns(1)
        attempt = awake.failed(after, within)
        wait = Wait(awake.waiting.conditions, attempt, 2, Retry(after, within))
        awake.waiting.enter(wait)
        was_steered = False
        for step in steps:
            if isinstance(step, float):
                clock.advance(step)  # without a turn of the loop
            else:
                is_done = asleep.waiting.steer(asleep.ids[0], step)
                assert is_done == awake.waiting.steer(attempt.call.id, step)
                was_steered |= is_done
            [one], [other] = asleep.waiting.describe_all(), awake.waiting.describe_all()
            assert one == msgspec.structs.replace(other, call=one.call)
        clock.advance(1e6)
        made = await task
        assert (made is not None) == was_steered
        if made is not None:
            assert made.next_sleep(ThreadWaiter()) == wait.next_sleep(ThreadWaiter())
            assert (made.ended, made.deadline) == (wait.ended, wait.deadline)

    clock.run(main)
