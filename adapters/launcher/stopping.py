"""End a launch at SIGTERM, SIGHUP or Ctrl-C in such a way that the next run goes on with it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, name))
"""The signals that stop a launch; one that is ignored stays so, as ``nohup`` wants it of SIGHUP."""

LOOPS = ("_signal", "asyncio.runners", "trio._core._ki")
"""The modules of the handlers of Ctrl-C that are no program's own."""


class StoppedBySignal(SystemExit):
    """The launch was stopped by a signal, and the next run goes on with it. The exit code is 128 and the signal's.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)

    def __reduce__(self) -> tuple[type[StoppedBySignal], tuple[int]]:
        return StoppedBySignal, (int(self.signal),)

    def __str__(self) -> str:
        return f"ended by {self.signal.name}; run it again, and it goes on from here"


def handled() -> list[signal.Signals]:
    """The signals that a launch handles in this thread, but for those that are ignored or that the program handles.

    None outside the main thread, where they cannot be received.
    """
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        return []
    return [one for one in SIGNALS if _is_default(signal.getsignal(one))]


def _is_default(handler: object) -> bool:
    function = getattr(handler, "func", handler)  # asyncio's is a partial
    return handler == signal.SIG_DFL or getattr(function, "__module__", None) in LOOPS


@asynccontextmanager
async def stopping(stop: Callable[[], object], kill: Callable[[], object]) -> AsyncIterator[None]:
    """At the first signal call *stop* and cancel the block; at a second Ctrl-C call *kill*.

    Args:
        stop: Leaves what runs to the next run. What is cancelled afterwards has no end in the journal.
        kill: Ends at once what does not end by itself.

    Raises:
        StoppedBySignal: (by the end of the block) A signal came. For Ctrl-C it is KeyboardInterrupt.
    """
    before, caught = {one: signal.getsignal(one) for one in handled()}, list[signal.Signals]()

    async def watch() -> None:
        with anyio.open_signal_receiver(*before) as signals:
            async for number in signals:
                if caught:  # a second SIGTERM is not more than the first
                    if number == signal.SIGINT:
                        kill()
                    continue
                caught.append(number)
                stop()
                body.cancel()

    error: BaseException | None = None
    async with anyio.create_task_group() as group:
        if before:
            group.start_soon(watch)
        with anyio.CancelScope() as body:
            try:
                yield
            except (Exception, KeyboardInterrupt, SystemExit) as raised:
                error = raised  # it leaves the block as it is, and not in a group
        group.cancel_scope.cancel()
    for number, handler in before.items():  # asyncio's receiver leaves the default ones
        signal.signal(number, handler)
    if caught:
        raise (KeyboardInterrupt() if caught[0] == signal.SIGINT else StoppedBySignal(caught[0])) from error
    if error is not None:
        raise error
