"""A pytest plugin, switched on by name: ``pytest_plugins = ["recovery.testing.plugin"]`` in a ``conftest.py``.

It is not loaded by itself: nobody's tests change because this distribution is installed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from recovery.testing.clock import VirtualClock
from recovery.testing.script import seeded
from recovery.waiting.wait import Wait
from recovery.waiting.waiters import Waiter

MOST_WAITS = 1000


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A fresh ``VirtualClock``, for ``Recovery(clock=...)``."""
    return VirtualClock()


@pytest.fixture
def seeded_rng() -> Callable[[], float]:
    """Draws that are the same in every run, for ``Recovery(draw=...)``."""
    return seeded(0)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No recoverable call waits, of whatever service: every delay is over at once.

    A call that would wait for ever raises RuntimeError: one step of it cannot be waited for more than 1 000 times. The
    list fills with the seconds that would have been waited, to the millisecond. Conditions are asked as always, one
    time after another. Clocks stand still; where time must pass, use ``virtual_clock``.
    """
    waited: list[float] = []
    times: Counter[tuple[str, int]] = Counter()
    next_sleep = Wait.next_sleep

    def at_once(wait: Wait, waiter: Waiter) -> float | None:
        seconds = next_sleep(wait, waiter)
        if seconds is None:
            return None
        waited.append(round(seconds, 3))
        step = (wait.attempt.call.id, wait.number)
        times[step] += 1
        if times[step] > MOST_WAITS:
            held_by = ", ".join(wait.describe().until) or "something that no time ends"
            raise RuntimeError(f"{wait.part[0]} would wait for ever, for: {held_by}; use a VirtualClock")
        return 0.0  # a task lets others run

    monkeypatch.setattr(Wait, "next_sleep", at_once)
    return waited
