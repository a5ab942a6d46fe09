"""A virtual clock: hours of waiting pass in milliseconds, and in the right order.

    clock = VirtualClock()
    service = Recovery(clock=clock)
    clock.run(main)                      # asyncio; backend="trio" for trio
    flaky()                              # plain functions, on one thread, need no loop

With pytest and anyio: ``@pytest.fixture def anyio_backend(clock): return clock.backend("trio")``.
"""

from __future__ import annotations

import selectors
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

R = TypeVar("R")


class VirtualClock:
    """A clock for a service, its plain waits, and an asyncio or trio loop.

        clock = VirtualClock()
        service = Recovery(clock=clock)
        clock.run(main)  # asyncio; backend="trio" for trio

    In a loop, time jumps to the next timer when there is nothing else to run. A plain wait jumps at once, which suits a
    single thread, not several.

    While ``advance`` lets time pass, the program works. To test jumps of the clock, ``suspend`` lets the machine sleep
    and ``freeze`` stops the process.

    Args:
        start: The seconds at which it begins.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._asleep = self._busy = 0.0
        self._trio: Any = None  # trio's clock while a trio loop runs; it begins at 0

    def __call__(self) -> float:
        """The current time in seconds."""
        return self._now if self._trio is None else self._now + self._trio.current_time()

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass, in which the program works."""
        self._busy += seconds
        self.freeze(seconds)

    def suspend(self, seconds: float) -> None:
        """Let the machine sleep: *seconds* pass that this clock does not count."""
        self._asleep += seconds

    def boottime(self) -> float:
        """The current time in seconds, those included for which the machine slept."""
        return self() + self._asleep

    def process_time(self) -> float:
        """Seconds in which the program has worked."""
        return self._busy

    def freeze(self, seconds: float) -> None:
        """Let *seconds* pass, in which the process does nothing: it waits, or it is stopped."""
        if self._trio is None:
            self._now += seconds
        else:
            self._trio.jump(seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait as a plain call does: unless *event* is set already, let *seconds* pass. Returns whether it is set.

        Raises:
            RuntimeError: A wait without an end, which nothing on a single thread could end.
        """
        if not event.is_set():
            if seconds >= threading.TIMEOUT_MAX:
                raise RuntimeError(
                    "nothing would end this wait: run it in a loop (VirtualClock.run), or use a real clock"
                )
            self.freeze(seconds)
        return event.is_set()

    def run(self, function: Callable[..., Awaitable[R]], *args: Any, backend: str = "asyncio") -> R:
        """``anyio.run`` on this clock.

        Args:
            function: An async function.
            args: Its arguments.
            backend: "asyncio" or "trio".
        """
        name, options = self.backend(backend)
        try:
            return anyio.run(function, *args, backend=name, backend_options=options)
        finally:
            self.stop()

    def backend(self, name: str = "asyncio") -> tuple[str, dict[str, Any]]:
        """The value of pytest's ``anyio_backend`` fixture for a loop that runs on this clock."""
        return (name, {"clock": self._trio_clock()} if name == "trio" else {"loop_factory": self._asyncio_loop})

    def stop(self) -> None:
        """Go on from the time at which the loop ended."""
        self._now = self()
        self._trio = None

    def _asyncio_loop(self) -> Any:
        import asyncio  # here: tests of plain functions need none

        clock = self

        class Selector(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> Any:
                # Without a timer something outside must happen.
                ready = super().select(None if timeout is None else 0)
                if timeout and not ready:
                    clock.freeze(timeout)
                return ready

        class Loop(asyncio.SelectorEventLoop):
            def time(self) -> float:
                return clock._now

        return Loop(Selector())

    def _trio_clock(self) -> Any:
        from trio.testing import MockClock

        self._trio = MockClock(autojump_threshold=0)
        return self._trio
