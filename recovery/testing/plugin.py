"""A pytest plugin with fixtures; enable it in ``conftest.py``: ``pytest_plugins = ["recovery.testing.plugin"]``.

It is not loaded by itself: installing this distribution changes no tests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from recovery.installation import extra
from recovery.testing import script
from recovery.testing.clock import VirtualClock
from recovery.waiting.wait import Wait
from recovery.waiting.waiters import Waiter

with extra("testing"):
    import pytest

MAX_WAITS = 1000


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

    The list grows with each wait, to the millisecond. Conditions are checked as always, one after another. Clocks stand
    still: where time must pass, use ``virtual_clock``. A wait that would never end (1 000 sleeps before one attempt)
    raises RuntimeError.
    """
    waited: list[float] = []
    sleeps: Counter[tuple[str, int]] = Counter()
    next_sleep = Wait.next_sleep

    def sleep_no_time(wait: Wait, waiter: Waiter) -> float | None:
        seconds = next_sleep(wait, waiter)
        if seconds is None:
            return None
        waited.append(round(seconds, 3))
        attempt = (wait.attempt.call.id, wait.number)
        sleeps[attempt] += 1
        if sleeps[attempt] > MAX_WAITS:
            waiting = wait.describe()
            causes = ", ".join(waiting.until) or "something that no time ends"
            raise RuntimeError(f"{waiting.operation} would wait for ever, for: {causes}; use a VirtualClock")
        return 0.0  # not None: a task lets others run

    monkeypatch.setattr(Wait, "next_sleep", sleep_no_time)
    return waited
