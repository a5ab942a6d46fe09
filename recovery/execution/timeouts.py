"""How long an attempt may take: seconds in all, and seconds without progress.

No generator of ``contextlib`` is around user code: it assigns ``__traceback__`` to the exceptions that pass, and one
that refuses attributes (a frozen dataclass) would become another error.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

from events.attempt import Attempt
from recovery.policies.retry import RetryPolicy
from recovery.waiting.jumps import least_jump
from recovery.waiting.waiters import asyncio_loop, soon_in_this_loop

R = TypeVar("R")

EARLY = 0.002
"""Seconds by which a look at a deadline comes before it: loops count in milliseconds."""

LOOP_PAUSE = 0.5
"""Seconds after which a trio loop that goes on may have met a deadline too late."""


class Timer:
    """The deadline of *scope*, *seconds* from now. One that is met late by a jump of the clock begins again, once.

    A loop that goes on after a jump cancels what is over before any task runs. So on asyncio a callback comes before
    that of the scope, and on trio an instrument looks before the deadlines do.

    Args:
        scope: What is cancelled.
        seconds: How long it has.
        least: By how many seconds the deadline is late after a jump.
    """

    def __init__(self, scope: anyio.CancelScope, seconds: float, least: float) -> None:
        self._scope, self._seconds, self._least = scope, seconds, least
        self._has_begun_again = False
        self._loop: Any = asyncio_loop()
        self._now: Callable[[], float] = anyio.current_time if self._loop is None else self._loop.time
        self.begin()
        if self._loop is None:
            Instrument.of_this_run().add(self)
        else:
            self._handle = self._loop.call_at(scope.deadline - EARLY, self._ring)

    def begin(self) -> None:
        """Move the deadline: all seconds are left."""
        self._scope.deadline = self._now() + self._seconds

    def look(self, now: float) -> None:
        """Begin again if the deadline is met too late."""
        if now - self._scope.deadline > self._least and not self._has_begun_again:
            self._has_begun_again = True
            self.begin()

    def _ring(self) -> None:
        now = self._now()
        self.look(now)
        if now < self._scope.deadline - EARLY:
            self._handle = self._loop.call_at(self._scope.deadline - EARLY, self._ring)

    def close(self) -> None:
        """Forget it; the scope is left."""
        if self._loop is None:
            Instrument.of_this_run().remove(self)
        else:
            self._handle.cancel()


class Instrument:
    """Looks at the timers of a trio loop when it goes on, before it cancels what is over."""

    _runs = threading.local()

    def __init__(self) -> None:
        self._trio = sys.modules["trio"]
        self._timers: set[Timer] = set()

    @classmethod
    def of_this_run(cls) -> Instrument:
        """That of the loop of this thread."""
        if getattr(cls._runs, "instrument", None) is None:
            cls._runs.instrument = cls()
        instrument: Instrument = cls._runs.instrument
        return instrument

    def add(self, timer: Timer) -> None:
        """Look at *timer* from now on."""
        if not self._timers:
            self._latest = timer._now()
            self._trio.lowlevel.add_instrument(self)
        self._timers.add(timer)

    def remove(self, timer: Timer) -> None:
        """Look at *timer* no more."""
        self._timers.discard(timer)
        if not self._timers:
            self._trio.lowlevel.remove_instrument(self)
            self._runs.instrument = None

    def after_io_wait(self, _: float) -> None:
        """Trio calls it."""
        now, before = self._trio.current_time(), self._latest
        self._latest = now
        for timer in self._timers if now - before > LOOP_PAUSE else ():
            timer.look(now)


async def in_time(attempt: Attempt, policy: RetryPolicy, body: Callable[[], Awaitable[R]]) -> R:
    """What *body* returns.

    Raises:
        TimeoutError: *attempt* took, or made no progress for, longer than *policy* allows.
    """
    timeout, stall = policy.attempt_timeout, policy.stall_timeout
    if stall is not None:
        body = functools.partial(_while_it_moves, attempt, stall, body)
    if timeout is None:
        return await body()
    with anyio.CancelScope() as scope:
        timer = Timer(scope, timeout, least_jump(attempt.call.operation.bus.clock))
        try:
            return await body()
        finally:
            timer.close()
    raise TimeoutError


async def _while_it_moves(attempt: Attempt, stall: float, body: Callable[[], Awaitable[R]]) -> R:
    soon = soon_in_this_loop()
    home = threading.get_ident()
    with anyio.CancelScope() as scope:
        timer = Timer(scope, stall, least_jump(attempt.call.operation.bus.clock))

        def on_progress() -> None:  # from the task, or from a thread that works for it
            if threading.get_ident() == home:
                timer.begin()
            else:
                soon(timer.begin)

        progress = attempt.call.own_progress()
        progress.on_progress = on_progress
        try:
            return await body()
        finally:
            timer.close()
            progress.on_progress = None
    raise TimeoutError(f"no progress for {stall:g} s")
