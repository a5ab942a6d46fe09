"""One wait, step by step, on a clock that stands still: a sleep that has passed counts, whatever the clock says."""

from __future__ import annotations

import pytest

from events.bus import Bus
from events.conditions import Condition
from events.operation import Operation
from events.verdicts import OUT_OF_TIME, GiveUp, Park, Retry
from recovery.waiting.calls import WaitingCalls
from recovery.waiting.wait import Wait
from recovery.waiting.waiters import ThreadWaiter

NEVER = Condition("never", lambda: False, every=2.0)


def sleeps(verdict: Retry | Park, *, paused: bool = False) -> tuple[list[float], GiveUp | None]:
    """The sleeps of a wait that nothing wakes, and how it ended."""
    waiting = WaitingCalls(lambda: 100.0, lambda: 0.0)
    wait = Wait(waiting.conditions, Operation("fetch", Bus()).start(), 2, verdict)
    waiting.enter(wait)
    if paused:
        assert waiting.steer(wait.attempt.call.id, "pause")
    seconds: list[float] = []
    while len(seconds) < 3 and (sleep := wait.next_sleep(ThreadWaiter())) is not None:
        seconds.append(sleep)
        wait.slept()
    return seconds, wait.ended


@pytest.mark.parametrize(
    ("verdict", "paused", "seconds", "ended"),
    [
        (Retry(5.0), False, [5.0], None),
        (Retry(5.0, within=5.0), False, [5.0], None),
        (Retry(5.0, within=4.0), False, [], GiveUp(OUT_OF_TIME)),
        (Retry(5.0, within=60.0), True, [60.0], GiveUp(OUT_OF_TIME)),
        (Park(5.0, ("a name alone",)), False, [5.0], None),
        (Park(0.0, (NEVER,)), False, [2.0, 2.0, 2.0], None),
        (Park(0.0, (NEVER,), within=1.0), False, [1.0], GiveUp(OUT_OF_TIME)),
        (Park(0.5, (NEVER,), within=1.0), False, [0.5, 1.0], GiveUp(OUT_OF_TIME)),
    ],
)
def test_the_sleeps_of_a_wait(verdict: Retry | Park, paused: bool, seconds: list[float], ended: GiveUp | None) -> None:
    assert sleeps(verdict, paused=paused) == (seconds, ended)


def test_a_wait_without_conditions_is_never_unhelpful() -> None:
    waiting = WaitingCalls(lambda: 0.0, lambda: 0.0)
    wait = Wait(waiting.conditions, Operation("fetch", Bus()).start(), 2, Park(0.0, ("a name alone",)))
    assert wait.next_sleep(ThreadWaiter()) is None
    assert not wait.was_unhelpful
