"""Looks at the clocks of a service for jumps: the machine slept, or the process stood still.

There is no thread for it: a look is taken when a wait ends, and when a failure that may be retried after a delay is
handled. The compiled failure path looks by way of ``WatchedDelays``.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable

from events.bus import Bus
from events.clock_events import ClockJumped
from events.fork_locks import fork_safe
from events.operation_events import OperationFailed
from recovery.policies.jumps import (
    AFFECTED,
    APART,
    LEAST_JUMP,
    LIVED_THROUGH,
    Jump,
    Reading,
    first_look,
    look,
    may_excuse,
)
from recovery.waiting.waiters import Clock

MOST_STOPS = 63
"""Stops of the process that are remembered, beside the latest: for the time that a call has taken."""


class Jumps:
    """The jumps of one clock, of which the latest is remembered: which failures it excuses. Safe from any thread.

    A clock for tests that has no ``boottime`` and ``process_time`` is never looked at: it cannot tell a jump from a
    busy program.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Clock) -> None:
        is_real = clock is time.monotonic
        self.clock = clock
        self._real: Callable[[], float] | None = getattr(clock, "boottime", _boottime if is_real else None)
        self._busy: Callable[[], float] = getattr(clock, "process_time", time.process_time)
        self.is_watching = self._real is not None and (is_real or hasattr(clock, "process_time"))
        self.least = least_jump(clock)
        """Seconds that a jump takes at least."""
        self.next_due: Callable[[], float] = lambda: math.inf
        """When the next waiting call is to wake."""
        self.latest: Jump | None = None
        """The latest jump."""
        self._bus: Bus | None = None
        self._movers: tuple[Callable[[Jump], object], ...] = ()
        self._lock = fork_safe(threading.RLock())
        self.begin()
        self._excused: dict[str, int] = {}
        self._excused_before: dict[str, int] = {}  # of the jump before

    def begin(self) -> None:
        """Look for the first time: now, and in a forked child, for which the processors have worked no second yet."""
        self._looks = first_look(self._read())

    def connect(self, bus: Bus, *movers: Callable[[Jump], object]) -> None:
        """Publish jumps on *bus*; before, *movers* move what waits, and no other thread looks."""
        self._bus, self._movers = bus, movers

    def look(self, due: float | None = None) -> Jump | None:
        """Look at the clocks. *due* is when the wait was to wake that has just woken by itself, if there is one.

        Returns the jump that it sees, if it is the first to see it.
        """
        if self._real is None or not self.is_watching:
            return None
        looks, least, now = self._looks, self.least, self.clock()
        # Most looks have nothing to note. Without the lock and the slow clock they take a tenth of the time.
        is_soon = now - looks.latest.now < APART and (due is None or now - due <= least)
        if is_soon and self._real() - now - looks.ahead <= least:
            return None
        with self._lock:
            reading = self._read()
            if due is None:  # a failure may be handled before the first wait wakes
                is_long_ago = reading.now - self._looks.latest.now > self.least
                due = self.next_due() if is_long_ago else math.inf
            self._looks, jump = look(self._looks, reading, due, self.least)
            if jump is not None:
                self.latest = jump
                self._excused_before, self._excused = self._excused, {}
                self._move(jump)
        if jump is not None and self._bus is not None:
            self._bus.publish(ClockJumped(at=jump.at, slept=jump.slept, kind=jump.kind))
        return jump

    def _move(self, jump: Jump) -> None:
        if self._bus is not None and jump.kind == "stopped":
            self._bus.stops = (*self._bus.stops[-MOST_STOPS:], (jump.at, jump.slept))
        for move in self._movers:
            move(jump)

    def excuses(self, failed: OperationFailed) -> tuple[bool, float]:
        """Whether *failed* uses no retry, and the seconds for which the process was stopped that its *elapsed* counts.

        One failure of a call is excused for each jump, that of an attempt which the jump met.

        If the process stands still again and again, no two failures in a row are excused: a function that blocks its
        event loop and then raises would be tried for ever.
        """
        seen = self.look()
        stopped, jump = seen.slept if seen is not None and seen.kind == "stopped" else 0.0, self.latest
        if jump is None or not may_excuse(jump, failed.began, failed.at):
            return False, stopped
        with self._lock:
            if jump.kind == "stopped" and self._excused_before.get(failed.call) == failed.attempt - 1:
                return False, stopped
            # A failure that is published once more is excused once more.
            return self._excused.setdefault(failed.call, failed.attempt) == failed.attempt, stopped

    def concerns(self, retry: int) -> bool:
        """After a look: whether the general path must decide about a failure that retry *retry* would follow.

        When a first attempt began is not known, so it must fail soon after the jump (``may_excuse``).
        """
        self.look()
        jump = self.latest
        return jump is not None and self.clock() <= jump.at + (LIVED_THROUGH if retry > 1 else AFFECTED)

    def _read(self) -> Reading:
        clock, real = self.clock, self._real
        if real is None:
            return Reading(clock(), 0.0, 0.0)
        while True:
            now = clock()
            ahead, busy = real() - now, self._busy()
            if clock() - now < 1.0:  # else the process stood still between the two
                return Reading(now, ahead, busy)


class ClockHasJumped(Exception):  # noqa: N818  # no error: it ends the look-up
    """The general path must decide."""


class WatchedDelays(tuple[tuple[float, float], ...]):
    """The delays of a route of the compiled path, by retry. To look one up that is not zero looks at the clocks first.

    So a failure that is retried at once takes no further instruction for it.
    """

    jumps: Jumps

    def __getitem__(self, retry: int) -> tuple[float, float]:  # type: ignore[override]  # no slice is asked for
        pair = super().__getitem__(retry)
        if any(pair) and self.jumps.concerns(retry):
            raise ClockHasJumped
        return pair


def watched(delays: tuple[tuple[float, float], ...], jumps: Jumps) -> tuple[tuple[float, float], ...]:
    """*delays*, watched for *jumps*, unless all are zero."""
    if not jumps.is_watching or not any(map(any, delays)):
        return delays
    made = WatchedDelays(delays)
    made.jumps = jumps
    return made


def least_jump(clock: object) -> float:
    """Seconds that a jump of *clock* takes at least: its attribute of that name, for tests; else ten."""
    return float(getattr(clock, "least_jump", LEAST_JUMP))


def _clock_that_never_stops() -> Callable[[], float]:
    """A clock that runs while the machine sleeps: without one, the wall clock, which looks like it when set forward."""
    try:
        time.clock_gettime(time.CLOCK_BOOTTIME)
    except (AttributeError, OSError):  # no Linux, or an emulated one
        return time.time
    return functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)


_boottime = _clock_that_never_stops()
