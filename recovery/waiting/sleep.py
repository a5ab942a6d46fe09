"""The sleep of an asyncio call that waits for its delay only: one object, in one heap for each loop.

It saves the memory of a ``Wait``, an ``Attempt``, a future and a timer for each call. A ``Wait`` and an ``Attempt`` are
made only when the call is listed or steered.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from events.attempt import Attempt
from events.runner_api import retry_of
from recovery.waiting.alarms import Alarms
from recovery.waiting.calls import WaitingCalls
from recovery.waiting.wait import Wait
from recovery.waiting.waiters import asyncio_loop

PENDING: Any = object()
"""The outcome of a sleep that has not ended."""


def may_sleep() -> bool:
    """Whether a call may ``Sleep`` here: in an asyncio task."""
    return asyncio_loop() is not None


class Sleep(float, Generator[Any, None, Wait | None]):
    """Suspends its asyncio task for *after* seconds; awaited, at once and by one task, it answers how it ended.

    The answer is None after the whole time. It is a ``Wait`` if the call was steered meanwhile: the call then enters
    that wait, in which the command is carried out. While it sleeps, the call is one of the waiting calls.

    Args:
        waiting: Where the call is listed and steered.
        call: The id of the call.
        after: Seconds to sleep, by the clock of the loop. The task is suspended even if they are zero or less.
        attempt_of: Makes the ended attempt of *record*, whose verdict is the Retry that the call waits for.
        record: What *attempt_of* needs.
    """

    # One object plays three parts, since each as an object of its own takes memory. As a float it is the loop's time
    # at which it is due, so the heap compares sleeps in C. For its task it is a future, for ``await`` a generator of
    # one step.
    __slots__ = (
        "_asyncio_future_blocking",
        "_attempt_of",
        "_call",
        "_callback",
        "_context",
        "_due",
        "_heap",
        "_outcome",
        "_record",
        "_waiting",
    )
    _asyncio_future_blocking: bool | None  # None: it has not begun
    _attempt_of: Callable[[Any], Attempt]
    _call: str
    _callback: Callable[..., object] | None
    _context: Any
    _due: float  # on the clock of the service
    _heap: Alarms
    _outcome: Any  # PENDING, None, a Wait, or the arguments of its CancelledError
    _record: Any
    _waiting: WaitingCalls

    def __new__(
        cls, waiting: WaitingCalls, call: str, after: float, attempt_of: Callable[[Any], Attempt], record: Any
    ) -> Self:
        """Begin to sleep when it is awaited, until *after* seconds from now."""
        loop = sys.modules["asyncio"].get_running_loop()
        self = float.__new__(cls, loop.time() + after)
        try:
            self._heap = loop._recovery_alarms
        except AttributeError:
            self._heap = Alarms(loop)
        self._due = waiting.conditions.clock() + after
        self._waiting = waiting
        self._call = call
        self._attempt_of = attempt_of
        self._record = record
        self._asyncio_future_blocking = None
        self._outcome = PENDING
        self._callback = None
        return self

    def __repr__(self) -> str:
        return f"<Sleep of call {self._call}: {'ended' if self.done() else 'pending'}>"

    # What ``await`` needs.

    def __await__(self) -> Self:
        return self

    def __next__(self) -> Self:
        if self._asyncio_future_blocking is not None:
            raise StopIteration(self.result())
        self._asyncio_future_blocking = True
        self._heap.push(self)
        self._waiting.enter_sleep(self._call, self)
        return self

    def send(self, value: None) -> Self:
        """Take the next step."""
        return self.__next__()

    def throw(self, typ: Any, val: Any = None, tb: TracebackType | None = None) -> Any:
        """End the sleep with an error: its task is cancelled, or its coroutine closed."""
        self._callback = None
        self._waiting.leave_sleep(self._call, self)
        if isinstance(self._outcome, Wait):  # steered, and cancelled before its task went on
            self._waiting.leave(self._outcome)
        self._outcome = ()
        raise typ if val is None else val

    # What an asyncio task needs of a future. All of it runs in the thread of the loop.

    def get_loop(self) -> Any:
        """The loop of its task."""
        return self._heap.loop

    def add_done_callback(self, callback: Callable[..., object], *, context: Any = None) -> None:
        """Have *callback* called once it has ended: one callback, that of its task."""
        self._callback, self._context = callback, context
        if self.done():
            self._resume()

    def remove_done_callback(self, callback: Callable[..., object]) -> int:
        """Do not call *callback*; returns 1 if it was to be called, else 0."""
        is_ours = self._callback is not None and self._callback == callback
        if is_ours:
            self._callback = None
        return int(is_ours)

    def done(self) -> bool:
        """Whether it has ended."""
        return self._outcome is not PENDING

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return isinstance(self._outcome, tuple)

    def cancel(self, msg: object = None) -> bool:
        """End it with a CancelledError; returns False if it has ended."""
        self._waiting.leave_sleep(self._call, self)
        if self.done():
            return False
        self._outcome = () if msg is None else (msg,)
        self._heap.count_ended()
        self._resume()
        return True

    def result(self) -> Wait | None:
        """How it ended."""
        if self.cancelled():
            raise sys.modules["asyncio"].CancelledError(*self._outcome)
        if not self.done():
            raise sys.modules["asyncio"].InvalidStateError("the sleep has not ended")
        wait: Wait | None = self._outcome
        return wait

    def exception(self) -> None:
        """None: a sleep does not fail."""
        self.result()

    def end(self) -> None:
        """End it: its time has passed."""
        self._waiting.conditions.jumps.look(self._due)  # it may become a wait
        self._waiting.leave_sleep(self._call, self)
        if not self.done():
            self._outcome = None
        self._resume()

    def _resume(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            self._heap.loop.call_soon(callback, self, context=self._context)

    # What the register of waiting calls needs. Any thread calls it, and holds their lock for the first two.

    @property
    def due(self) -> float:
        """When it ends, on the clock of the service."""
        return self._due

    def as_wait(self) -> Wait:
        """The wait that it stands for."""
        attempt = self._attempt_of(self._record)
        wait = Wait(self._waiting.conditions, attempt, attempt.number + 1, retry_of(attempt))
        wait.deadline += self._due - wait.due
        wait.due = self._due
        return wait

    def steered(self, wait: Wait) -> None:
        """End it: the call goes on in *wait*."""
        self._outcome = wait

    def wake(self) -> None:
        """Resume its task, after ``steered``; does nothing when the loop has ended."""
        with suppress(RuntimeError):
            self._heap.loop.call_soon_threadsafe(self._woken)

    def _woken(self) -> None:
        self._heap.count_ended()
        self._resume()
