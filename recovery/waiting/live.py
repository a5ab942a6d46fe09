"""The calls that a runner runs now: where each is, and how it is cancelled."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from events.attempt import Attempt
from recovery.waiting.waiters import asyncio_loop, soon_in_this_loop

if TYPE_CHECKING:
    from recovery.settings import OperationConfig


class AttemptCancelledError(Exception):
    """An attempt was cancelled by the id of its call. Its caller gets CallCancelledError, with the id."""


class LiveCall(msgspec.Struct, eq=False):
    """A call that a runner runs.

    Args:
        attempt: Its latest attempt.
        config: How its function decides.
        function: What it runs; None for a block of code.
        task: Cancels it, if it is async.
    """

    attempt: Attempt
    config: OperationConfig
    function: Callable[..., Any] | None = None
    task: AsyncioCall | ScopedCall | None = None


class AsyncioCall(msgspec.Struct, eq=False):
    """Cancels the attempts of a call in an asyncio task, as ``asyncio.timeout`` does: the task goes on afterwards."""

    loop: Any
    task: Any
    others: int | None = None
    """How many cancellations the task had when the attempt that runs began; None while none runs."""
    is_sent: bool = False

    def cancel(self) -> None:
        """Cancel the attempt that runs, soon; from any thread."""
        with suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self.others is not None and not self.is_sent:  # the task is suspended now, in ``run``
            self.is_sent = True
            self.task.cancel()

    async def run(self, invoke: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """What *invoke* returns for *args*. Raises AttemptCancelledError if it is cancelled here."""
        others = self.others = self.task.cancelling()
        try:
            return await invoke(*args)
        except BaseException as error:
            if self.is_sent and isinstance(error, sys.modules["asyncio"].CancelledError):
                self.is_sent = False
                if self.task.uncancel() <= others:
                    raise AttemptCancelledError from None
            raise
        finally:
            self.others = None
            if self.is_sent:  # the function has caught it
                self.is_sent = False
                self.task.uncancel()


class ScopedCall(msgspec.Struct, eq=False):
    """Cancels the attempts of a call in a trio task, each in a scope of its own."""

    soon: Callable[..., object]
    scope: Any = None

    def cancel(self) -> None:
        """Cancel the call soon, from any thread."""
        with suppress(RuntimeError):  # the loop has ended
            self.soon(self._cancel)

    def _cancel(self) -> None:
        if self.scope is not None:
            self.scope.cancel()

    async def run(self, invoke: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """What *invoke* returns for *args*. Raises AttemptCancelledError if it is cancelled here."""
        import anyio  # here, for trio: it takes milliseconds

        with anyio.CancelScope() as self.scope:
            try:
                return await invoke(*args)
            finally:
                self.scope, _ = None, self.scope
        raise AttemptCancelledError


def task_of_call() -> AsyncioCall | ScopedCall:
    """What cancels the call that the current task makes."""
    loop = asyncio_loop()
    if loop is None:
        return ScopedCall(soon_in_this_loop())
    return AsyncioCall(loop, sys.modules["asyncio"].current_task(loop))
