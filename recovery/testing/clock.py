"""A clock that only moves when everybody waits: hours pass in milliseconds, and in the right order.

    clock = VirtualClock()
    service = Recovery(clock=clock)
    clock.run(main)                      # asyncio; backend="trio" for trio
    flaky()                              # plain functions, on one thread, need no loop

With pytest and anyio: ``@pytest.fixture def anyio_backend(clock): return clock.backend("trio")``.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

R = TypeVar("R")


class VirtualClock:
    """Seconds since it was made (or since *start*), for a service, its plain waits, and an asyncio or trio loop.

    In a loop, time jumps to the next timer when nothing else is to be done. A plain wait jumps at once, which is right
    for one thread; it is not meant for several.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._mock: Any = None  # trio's clock while a trio loop runs; it begins at 0

    def __call__(self) -> float:
        """The time now."""
        return self._now if self._mock is None else self._now + self._mock.current_time()

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass."""
        if self._mock is None:
            self._now += seconds
        else:
            self._mock.jump(seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """What a plain wait does: nothing but let the time pass, unless *event* is set already.

        Raises RuntimeError for a wait without an end: on one thread nobody would ever end it.
        """
        if not event.is_set():
            if seconds >= threading.TIMEOUT_MAX:
                raise RuntimeError("nobody would end this wait; use a loop (VirtualClock.run), or a clock that is real")
            self.advance(seconds)
        return event.is_set()

    def run(self, function: Callable[..., Awaitable[R]], *args: Any, backend: str = "asyncio") -> R:
        """``anyio.run`` on this clock."""
        name, options = self.backend(backend)
        try:
            return anyio.run(function, *args, backend=name, backend_options=options)
        finally:
            self.stop()

    def backend(self, name: str = "asyncio") -> tuple[str, dict[str, Any]]:
        """What pytest's ``anyio_backend`` fixture wants for a loop that runs on this clock."""
        return (name, {"clock": self._trio_clock()} if name == "trio" else {"loop_factory": self._asyncio_loop})

    def stop(self) -> None:
        """The loop has ended: go on from where it was."""
        self._now = self()
        self._mock = None

    def _asyncio_loop(self) -> Any:
        import asyncio  # here: whoever tests plain functions needs none

        clock = self

        class Loop(asyncio.SelectorEventLoop):
            def __init__(self) -> None:
                super().__init__()
                select = self._selector.select  # type: ignore[attr-defined]  # CPython's loop has one

                def jump(timeout: float | None = None) -> Any:
                    ready = select(0)
                    if ready or timeout == 0:
                        return ready
                    if timeout is None:
                        return select(None)  # no timer: something outside must happen
                    clock.advance(timeout)
                    return ready

                self._selector.select = jump  # type: ignore[attr-defined]

            def time(self) -> float:
                return clock._now  # two halves of one clock

        return Loop()

    def _trio_clock(self) -> Any:
        from trio.testing import MockClock

        self._mock = MockClock(autojump_threshold=0)
        return self._mock
