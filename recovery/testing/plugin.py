"""A pytest plugin, switched on by name: ``pytest_plugins = ["recovery.testing.plugin"]`` in a ``conftest.py``.

It is not loaded by itself: nobody's tests change because this distribution is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest

from events.verdicts import GiveUp
from recovery.testing.clock import VirtualClock
from recovery.testing.script import seeded
from recovery.wait import Wait


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A fresh ``VirtualClock``, for ``Recovery(clock=...)``."""
    return VirtualClock()


@pytest.fixture
def seeded_chance() -> Callable[[], float]:
    """Draws that are the same in every run, for ``Recovery(chance=...)``."""
    return seeded(0)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No recoverable call waits, of whatever service: every delay is over at once.

    The list fills with the seconds that would have been waited, to the millisecond. Conditions are asked as always, one
    time after another: one that is never met is asked for ever. Clocks stand still; where time must pass, use
    ``virtual_clock``.
    """
    waited: list[float] = []
    steps = Wait.steps

    def at_once(wait: Wait) -> Generator[float, bool, GiveUp | None]:
        taken = steps(wait)
        seconds = next(taken)
        try:
            while True:
                waited.append(round(seconds, 3))
                yield 0.0  # a task lets others run
                seconds = taken.send(False)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # what the generator returns

    monkeypatch.setattr(Wait, "steps", at_once)
    return waited
