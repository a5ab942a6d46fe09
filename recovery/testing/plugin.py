"""A pytest plugin with fixtures; enable it in ``conftest.py``: ``pytest_plugins = ["recovery.testing.plugin"]``.

It is not loaded by itself: installing this distribution changes no tests.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from events.bus import Bus
from recovery.execution import compiled
from recovery.installation import extra
from recovery.testing import script
from recovery.testing.clock import VirtualClock
from recovery.waiting.calls import WaitingCalls
from recovery.waiting.wait import Wait
from recovery.waiting.waiters import Waiter

with extra("testing"):
    import pytest

MAX_WAITS = 1000
"""Sleeps before one attempt."""
MAX_SLEEPS = 10_000
"""Sleeps of one call."""


class _Moved:
    """A service's *clock*, and the seconds that its calls would have waited."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._moved = 0.0

    def __call__(self) -> float:
        return self._clock() + self._moved

    def advance(self, seconds: float) -> None:
        self._moved += seconds


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A fresh ``VirtualClock``, for ``Recovery(clock=...)``."""
    return VirtualClock()


@pytest.fixture
def seeded_rng() -> Callable[[], float]:
    """Draws that are the same in every run, for ``Recovery(rng=...)``."""
    return script.seeded_rng(0)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Recoverable calls of every service wait no time; returns the list of the seconds that they would have waited.

    The list grows with each wait, to the millisecond. Conditions are checked as always, one after another. The clock of
    the service moves on by each wait instead, so that ``max_elapsed``, circuits and rate limits end as they would; it
    is not moved back after the test.

    Raises:
        RuntimeError: (by the call) A wait that would never end: 1 000 sleeps before one attempt, or 10 000 of one call.
    """
    waited: list[float] = []
    sleeps: Counter[tuple[str, int]] = Counter()
    began: dict[int, float] = {}  # when each wait was made, by its id: until it sleeps, a busy machine takes its time
    enter, next_sleep = WaitingCalls.enter, Wait.next_sleep

    def enter_at(waiting: WaitingCalls, wait: Wait) -> None:
        began[id(wait)] = wait.due - wait.verdict.after
        enter(waiting, wait)

    def sleep_no_time(wait: Wait, waiter: Waiter) -> float | None:
        monkeypatch.setattr(wait.conditions.jumps, "is_watching", False)  # to look, a long wait sleeps several times
        seconds = next_sleep(wait, waiter)
        since = began.pop(id(wait), math.nan)  # of a wait for ever, or that has slept before: not known
        if seconds is None:
            return None
        is_whole = wait.phase == "delay" and math.isfinite(since)
        waited.append(round(wait.wakes_at - since if is_whole else seconds, 3))
        call = wait.attempt.call
        for one, most in (((call.id, wait.number), MAX_WAITS), ((call.id, 0), MAX_SLEEPS)):
            sleeps[one] += 1
            if sleeps[one] <= most:
                continue
            waiting = wait.describe()
            causes = ", ".join(waiting.until) or "something that no time ends"
            raise RuntimeError(f"{waiting.operation} would wait for ever, for: {causes}; use a VirtualClock")
        if math.isfinite(seconds):
            _advance(call.operation.bus, wait, seconds)
        return 0.0  # not None: a task lets others run

    monkeypatch.setattr(WaitingCalls, "enter", enter_at)
    monkeypatch.setattr(Wait, "next_sleep", sleep_no_time)
    monkeypatch.setattr(compiled, "may_sleep", lambda: False)  # every wait is a Wait
    return waited


def _advance(bus: Bus, wait: Wait, seconds: float) -> None:
    """Move the clock of the service on. A clock never goes back: other tests may use the service, too."""
    advance = getattr(bus.clock, "advance", None)
    if advance is None:
        moved = bus.clock = wait.conditions.clock = _Moved(bus.clock)
        bus.invalidate()
        advance = moved.advance
    advance(seconds)
