"""Pauses of a thread that works long, for the other threads of its process: the loops of the program come first."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

WORK = 0.0005
REST = 0.0001
"""Seconds between two pauses, and of each: without them a thread that wants the interpreter lock waits up to 5 ms."""

Pause: TypeAlias = Callable[[], None]


def pauses(clock: Callable[[], float] = time.perf_counter, sleep: Callable[[float], object] = time.sleep) -> Pause:
    """What a thread calls often: it sleeps for a moment when the latest pause is long ago."""
    due = 0.0

    def pause() -> None:
        nonlocal due
        if clock() >= due:
            sleep(REST)  # 0 would not do: this thread would have the lock again before another one wakes up
            due = clock() + WORK

    return pause


def no_pause() -> None:
    """Go on: no other thread waits."""
