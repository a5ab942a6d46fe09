"""A launcher for plain code: its methods block, and run in one thread of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from types import FrameType, TracebackType
from typing import Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from adapters.downloads.http import Downloaded
from adapters.launcher.bricks import Bricks, Done
from adapters.launcher.stopping import StoppedBySignal, handled
from recovery.serialization.secret import Secret

T = TypeVar("T")


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
        if isinstance(error, KeyboardInterrupt | StoppedBySignal):
            self._stop()
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

    def _call(self, brick: Callable[[], Awaitable[T]]) -> T:
        if self._portal is None:
            raise RuntimeError("a blocking launcher works inside `with Launcher.blocking(...) as launcher:`")
        future: Future[T] = self._portal.start_task_soon(brick)
        try:
            return future.result()
        except (KeyboardInterrupt, StoppedBySignal):
            self._stop()  # before the call is cancelled: it has no end in the journal
            future.cancel()
            raise

    def _stop(self) -> None:
        """Leave what runs to the next run. A second Ctrl-C meanwhile kills it."""
        assert self._portal is not None
        try:
            self._portal.call(self._launcher.stop)
        except KeyboardInterrupt:
            self._launcher.kill()


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
