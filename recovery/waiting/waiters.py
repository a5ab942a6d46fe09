"""The only way to wait: for a delay, a parked cause or a receipt, in threads, asyncio and trio.

``publish()`` never waits; only the drivers do, with a waiter that anybody may wake early from any thread. What they
wait for, and who may end it, is in ``recovery.waiting.calls``.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol

import anyio
import anyio.lowlevel


class Clock(Protocol):
    """Monotonic seconds. ``time.monotonic`` is one; a clock of tests may also bring ``wait`` for threads."""

    def __call__(self) -> float:
        """Seconds that only ever grow."""


class Waiter(Protocol):
    """A wait that ends early when it is woken; waking never blocks, and is harmless when nobody waits."""

    def wake(self) -> None:
        """End the wait; callable from any thread."""

    def close(self) -> None:
        """Nobody waits any more."""


class ThreadWaiter:
    """A waiter that blocks its thread."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._event = threading.Event()
        self._wait: Callable[[threading.Event, float], bool] = getattr(clock, "wait", threading.Event.wait)

    def wake(self) -> None:
        """End the wait."""
        self._event.set()

    def close(self) -> None:
        """There is nothing to give back."""

    def wait(self, seconds: float) -> bool:
        """Block for *seconds* at the most; whether it was woken before."""
        return seconds > 0 and self._wait(self._event, min(seconds, threading.TIMEOUT_MAX))


class TaskWaiter:
    """A waiter that suspends its asyncio or trio task. Make it in the task that will wait, and close it afterwards."""

    # A future and a timer where the loop is asyncio's: very many calls may wait at once, and anyio's event and cancel
    # scope take five times the memory. Awaited as it is: a coroutine around it would take as much again.
    __slots__ = ("_end", "_loop", "_soon", "_timer")

    def __init__(self) -> None:
        self._timer: Any = None
        self._loop = _asyncio_loop()
        if self._loop is None:
            self._end: Any = anyio.Event()
            self._soon = soon_in_this_loop()
        else:
            self._end = self._loop.create_future()

    def wake(self) -> None:
        """End the wait; does nothing when the loop has ended."""
        with suppress(RuntimeError):  # trio.RunFinishedError is one too
            if self._loop is None:
                self._soon(self._end.set)
            else:
                self._loop.call_soon_threadsafe(_end_wait, self, True)

    def wait(self, seconds: float) -> Awaitable[bool]:
        """What suspends for *seconds* at the most; whether it was woken before. Even no seconds yield once."""
        if self._loop is None:
            return self._wait(seconds)
        if seconds > 0:
            self._timer = self._loop.call_later(seconds, _end_wait, self, False)
        else:  # a timer would take the loop a turn more
            self._timer = self._loop.call_soon(_end_wait, self, False)
        future: Awaitable[bool] = self._end
        return future

    async def _wait(self, seconds: float) -> bool:
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return False
        with anyio.move_on_after(seconds):
            await self._end.wait()
        return bool(self._end.is_set())

    def close(self) -> None:
        """Give the timer back: without this, one that is waited for no more would be kept until its time comes."""
        if self._timer is not None:
            self._timer.cancel()


def _end_wait(waiter: TaskWaiter, is_woken: bool) -> None:  # a method would be bound, and kept, for each that waits
    if not waiter._end.done():
        waiter._end.set_result(is_woken)
    waiter.close()


def yield_once() -> Awaitable[None]:
    """What lets other tasks run when it is awaited, and be cancelled if that is wanted."""
    # What anyio would do on asyncio, without its finding out each time where it runs: that takes longer than the yield.
    if _asyncio_loop() is None:
        return anyio.lowlevel.checkpoint()
    nothing: Awaitable[None] = sys.modules["asyncio"].sleep(0)
    return nothing


def _asyncio_loop() -> Any:  # a foreign type
    """The asyncio loop of the task that runs now, ``None`` if that is trio's."""
    asyncio = sys.modules.get("asyncio")  # not imported for this
    loop = None if asyncio is None else asyncio._get_running_loop()
    # Without a task it is the host of a trio loop that is its guest.
    return None if loop is None or asyncio is None or asyncio.current_task(loop) is None else loop


def soon_in_this_loop() -> Callable[..., object]:
    """What has a plain function called soon in the loop that runs now; from any thread, and it never blocks."""
    token: Any = anyio.lowlevel.current_token().native_token  # an asyncio loop or a trio token: foreign types
    # Never anyio.from_thread.run_sync: it blocks the waker behind a busy loop.
    soon: Callable[..., object] = getattr(token, "run_sync_soon", None) or token.call_soon_threadsafe
    return soon


class Flag:
    """As ``threading.Event``, but a signal handler that interrupts ``set`` on its own thread may set it too."""

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.RLock())  # the lock of an Event would deadlock
        self.is_set = False
        """Whether it is set. An attribute: every event that is published looks at it."""

    def set(self) -> None:
        """Let those go on who wait."""
        with self._condition:
            self.is_set = True
            self._condition.notify_all()

    def clear(self) -> None:
        """Have those wait who come from now on."""
        self.is_set = False

    def wait(self, timeout: float) -> bool:
        """Block until it is set, *timeout* seconds at the most; whether it is."""
        with self._condition:
            return self.is_set or self._condition.wait(timeout) or self.is_set


class Latch:
    """Opened once, and waited for in any colour. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may come in between
        self._waiters: list[Waiter] = []
        self.is_open = False

    def open(self) -> None:
        """Let everybody through, now and later."""
        with self._lock:
            self.is_open = True
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.wake()

    def tell(self, waiter: Waiter) -> None:
        """Wake *waiter* when the gate is open, at once if it is."""
        with self._lock:
            if not self.is_open:
                self._waiters.append(waiter)
                return
        waiter.wake()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the gate is open, *timeout* seconds at the most; whether it is."""
        waiter = ThreadWaiter()
        self.tell(waiter)
        try:
            waiter.wait(threading.TIMEOUT_MAX if timeout is None else timeout)
        finally:
            self._forget(waiter)
        return self.is_open

    async def opened(self) -> None:
        """Suspend the task until the gate is open."""
        while not self.is_open:
            waiter = TaskWaiter()
            self.tell(waiter)
            try:
                await waiter.wait(math.inf)
            finally:
                waiter.close()
                self._forget(waiter)

    def _forget(self, waiter: Waiter) -> None:
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
