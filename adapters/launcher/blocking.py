"""A launcher for plain code: its methods block, and run in one thread of its own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, nullcontext
from types import FrameType, TracebackType
from typing import Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from adapters.downloads.http import Downloaded
from adapters.launcher.bricks import Bricks
from adapters.launcher.done_checks import Done
from adapters.launcher.stopping import StoppedBySignal, handled
from recovery.resume.handles import Resumption
from recovery.serialization.secret import Secret

T = TypeVar("T")

OUTSIDE = "a blocking launcher works inside `with Launcher.blocking(...) as launcher:`"


class BlockingLauncher:
    """What ``Launcher.blocking`` returns: ``download``, ``run`` and ``register`` of a launcher, for plain code.

        with Launcher.blocking(presets.launcher(store=SQLiteStore("journal.db")), "models") as launcher:
            launcher.download("https://example.org/model.gguf", to="model.gguf")

    In the main thread SIGTERM, SIGHUP and Ctrl-C stop what runs, as under ``async with``. Safe to use from any thread.
    """

    def __init__(self, bricks: Bricks, lifetime: AbstractAsyncContextManager[object]) -> None:
        self._launcher = bricks
        self._lifetime = lifetime
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self.register = bricks.register

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(_raising())
            self._portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(self._portal.wrap_async_context_manager(self._lifetime))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        is_stopped = isinstance(error, KeyboardInterrupt | StoppedBySignal)
        if is_stopped:
            self._launcher.stop()
        with _killing(self._launcher.kill) if is_stopped else nullcontext():
            try:
                return self._stack.__exit__(kind, error, traceback)
            finally:
                self._portal = None

    def download(
        self,
        source: str | Sequence[str],
        to: str | os.PathLike[str],
        sha256: str | None = None,
        size: int | None = None,
        *,
        name: str | None = None,
    ) -> Downloaded:
        """As ``Launcher.download``."""
        return self._call(lambda: self._launcher.download(source, to, sha256, size, name=name))

    def run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str | Secret] | None = None,
        silence: float | None = None,
        done: Done | None = None,
        *,
        name: str | None = None,
    ) -> None:
        """As ``Launcher.run``."""
        self._call(lambda: self._launcher.run(argv, cwd, env, silence, done, name=name))

    def resume(self) -> Resumption:
        """As ``Launcher.resume``; ``service.resume`` would be called outside the thread that resumes calls."""
        if self._portal is None:
            raise RuntimeError(OUTSIDE)
        return self._portal.call(self._launcher.resume)

    def _call(self, brick: Callable[[], Awaitable[T]]) -> T:
        if self._portal is None:
            raise RuntimeError(OUTSIDE)
        is_over = threading.Event()

        async def run() -> T:
            try:
                return await brick()
            finally:
                is_over.set()

        future: Future[T] = self._portal.start_task_soon(run)
        try:
            return future.result()
        except (KeyboardInterrupt, StoppedBySignal):
            self._launcher.stop()  # before the call is cancelled: it has no end in the journal
            with _killing(self._launcher.kill):
                future.cancel()
                is_over.wait()
            raise


@contextmanager
def _raising() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise StoppedBySignal in the main thread; Ctrl-C raises KeyboardInterrupt already."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise StoppedBySignal(number)

    numbers = [one for one in handled() if signal.getsignal(one) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _killing(kill: Callable[[], object]) -> Iterator[None]:
    """Have a further Ctrl-C *kill* what does not end by itself."""
    before = signal.signal(signal.SIGINT, lambda _number, _frame: kill())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
