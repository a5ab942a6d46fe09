"""Sleeps that any thread can end early, in threads, asyncio and trio.

Every wait of the package uses them: for a delay, a condition, a receipt. ``publish()`` never waits.
"""

from __future__ import annotations

import math
import sys
import threading
import time
import types
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, Self, TypeAlias, TypeVar

from recovery.waiting.alarms import Alarms

Clock: TypeAlias = Callable[[], float]
"""Monotonic seconds, such as ``time.monotonic``.

A clock for tests may also have ``wait``, for threads; and ``boottime``, ``process_time`` and ``least_jump``, for jumps.
"""


class Waiter(Protocol):
    """One sleep that ends early when it is woken."""

    def wake(self) -> None:
        """End the sleep, before it begins too. Callable from any thread; never blocks, harmless afterwards."""

    def close(self) -> None:
        """Release what the sleep used."""


AnyWaiter = TypeVar("AnyWaiter", bound=Waiter)


class ThreadWaiter:
    """A sleep that blocks its thread."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._event = threading.Event()
        self._wait: Callable[[threading.Event, float], bool] = getattr(clock, "wait", threading.Event.wait)

    def wake(self) -> None:
        """End the sleep."""
        self._event.set()

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def wait(self, seconds: float) -> bool:
        """Block for up to *seconds*; returns whether it was woken."""
        return seconds > 0 and self._wait(self._event, min(seconds, threading.TIMEOUT_MAX))


class TaskWaiter:
    """A sleep that suspends its asyncio or trio task. Create it in that task, and close it afterwards."""

    # On asyncio a future and an alarm, awaited as they are: many calls may wait at once, and anyio's event and cancel
    # scope take five times the memory. A coroutine around the future would double it.
    __slots__ = ("_end", "_loop", "_soon", "_timer")

    def __init__(self) -> None:
        self._timer: Any = None
        self._loop = asyncio_loop()
        if self._loop is None:
            import anyio  # here, for trio: it takes milliseconds

            self._end: Any = anyio.Event()
            self._soon = soon_in_this_loop()
        else:
            self._end = self._loop.create_future()

    def wake(self) -> None:
        """End the sleep; does nothing when the loop has ended."""
        with suppress(RuntimeError):  # trio.RunFinishedError is a subclass
            if self._loop is None:
                self._soon(self._end.set)
            else:
                self._loop.call_soon_threadsafe(_end_wait, self, True)

    def wait(self, seconds: float) -> Awaitable[bool]:
        """Suspend for up to *seconds*, and at least once; the result is whether it was woken."""
        if self._loop is None:
            return self._wait(seconds)
        if seconds == math.inf:
            pass
        elif seconds > 0:
            self._timer = _Timeout(self, seconds)
        else:  # a timer would take one more turn of the loop
            self._timer = self._loop.call_soon(_end_wait, self, False)
        future: Awaitable[bool] = self._end
        return future

    async def _wait(self, seconds: float) -> bool:
        import anyio.lowlevel

        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return False
        with anyio.move_on_after(seconds):
            await self._end.wait()
        return bool(self._end.is_set())

    def close(self) -> None:
        """Cancel the alarm: the loop would keep it until its time comes."""
        if self._timer is not None:
            self._timer.cancel()


class _Timeout(float):
    """The alarm of *waiter*, *seconds* from now."""

    __slots__ = ("_alarms", "_waiter")
    _alarms: Alarms
    _waiter: TaskWaiter | None

    def __new__(cls, waiter: TaskWaiter, seconds: float) -> Self:
        loop = waiter._loop
        self = float.__new__(cls, loop.time() + seconds)
        try:
            self._alarms = loop._recovery_alarms
        except AttributeError:
            self._alarms = Alarms(loop)
        self._waiter = waiter
        self._alarms.push(self)
        return self

    def done(self) -> bool:
        return self._waiter is None

    def end(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            _end_wait(waiter, False)

    def cancel(self) -> None:
        if self._waiter is not None:
            self._waiter = None
            self._alarms.count_ended()


def _end_wait(waiter: TaskWaiter, is_woken: bool) -> None:  # a bound method would cost memory for each sleep
    if not waiter._end.done():
        waiter._end.set_result(is_woken)
    waiter.close()


def wake_all(waiters: Iterable[Waiter], *, from_task: bool = False) -> None:
    """Wake each of *waiters*. Tasks of one loop are woken at once: each message to a loop takes a system call.

    With *from_task* the caller is a task, not a signal handler: its own loop is awake and needs no message.
    """
    by_loop: dict[Any, list[TaskWaiter]] = {}
    for waiter in waiters:
        if isinstance(waiter, TaskWaiter) and waiter._loop is not None:
            by_loop.setdefault(waiter._loop, []).append(waiter)
        else:
            waiter.wake()
    here: Any = asyncio_loop() if by_loop and from_task else None
    for loop, together in by_loop.items():
        with suppress(RuntimeError):  # the loop has ended
            (loop.call_soon if loop is here else loop.call_soon_threadsafe)(_end_waits, together)


def _end_waits(waiters: Iterable[TaskWaiter]) -> None:
    for waiter in waiters:
        _end_wait(waiter, True)


def yield_once() -> Awaitable[None]:
    """Let other tasks run once; a pending cancellation is raised here."""
    # As anyio does on asyncio, without its detection of the loop: that takes longer than the yield.
    if "trio" in sys.modules and asyncio_loop() is None:
        from anyio.lowlevel import checkpoint  # here, for trio: it takes milliseconds

        return checkpoint()
    return yield_to_asyncio()


@types.coroutine
def yield_to_asyncio() -> Generator[None, None, None]:
    """As ``yield_once``, in an asyncio task."""
    yield


def asyncio_loop() -> Any:  # a foreign type
    """The asyncio loop of the current task; ``None`` for a trio task."""
    asyncio = sys.modules.get("asyncio")  # never imported for this
    loop = None if asyncio is None else asyncio._get_running_loop()
    # A loop without a current task hosts a trio loop in guest mode.
    return None if loop is None or asyncio is None or asyncio.current_task(loop) is None else loop


def soon_in_this_loop() -> Callable[..., object]:
    """A function that schedules a plain function in the running loop. Callable from any thread; never blocks."""
    from anyio.lowlevel import current_token  # here, for what other threads wake: it takes milliseconds

    token: Any = current_token().native_token  # an asyncio loop or a trio token: foreign types
    # Not anyio.from_thread.run_sync: it blocks its caller while the loop is busy.
    soon: Callable[..., object] = getattr(token, "run_sync_soon", None) or token.call_soon_threadsafe
    return soon


class Flag:
    """A ``threading.Event`` that a signal handler may set while it interrupts ``set`` on the same thread."""

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.RLock())  # the lock of an Event would deadlock
        self.is_set = False
        """Whether it is set. An attribute, because every published event reads it."""

    def set(self) -> None:
        """Set the flag and wake every thread that waits for it."""
        with self._condition:
            self.is_set = True
            self._condition.notify_all()

    def clear(self) -> None:
        """Reset the flag: later waits block."""
        self.is_set = False

    def wait(self, timeout: float) -> bool:
        """Block until it is set, up to *timeout* seconds; returns whether it is."""
        with self._condition:
            return self.is_set or self._condition.wait(timeout) or self.is_set


class Latch:
    """Opened once, and waited for by threads and tasks. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may interrupt its holder
        self._waiters: set[Waiter] = set()
        self.is_open = False

    def open(self) -> None:
        """End every wait, present and future."""
        with self._lock:
            self.is_open = True
            waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            waiter.wake()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the latch is open, up to *timeout* seconds (``None``: without end); returns whether it is."""
        if not self.is_open:
            with self._waking(ThreadWaiter()) as waiter:
                waiter.wait(threading.TIMEOUT_MAX if timeout is None else timeout)
        return self.is_open

    async def opened(self) -> None:
        """Suspend the task until the latch is open."""
        if not self.is_open:
            with self._waking(TaskWaiter()) as waiter:
                await waiter.wait(math.inf)

    @contextmanager
    def _waking(self, waiter: AnyWaiter) -> Iterator[AnyWaiter]:
        """Have *waiter* woken when the latch opens, or now if it is open."""
        with self._lock:
            self._waiters.add(waiter)
            if self.is_open:
                waiter.wake()
        try:
            yield waiter
        finally:
            waiter.close()
            with self._lock:
                self._waiters.discard(waiter)
