"""A launcher for plain code: its methods block, and run in one thread of its own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, nullcontext
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from adapters.downloads.http import Downloaded
from adapters.git.existing import Repository
from adapters.launcher.all_bricks import AllBricks
from adapters.launcher.done_checks import Done
from adapters.launcher.stopping import StoppedBySignal, handled
from recovery.resume.handles import Resumption
from recovery.serialization.secret import Secret

T = TypeVar("T")

OUTSIDE = "a blocking launcher works inside `with Launcher.blocking(...) as launcher:`"


class BlockingLauncher:
    """What ``Launcher.blocking`` returns: ``download``, ``run``, ``clone``, ``register`` of a launcher, for plain code.

        with Launcher.blocking(presets.launcher(store=SQLiteStore("journal.db")), "models") as launcher:
            launcher.download("https://example.org/model.gguf", to="model.gguf")

    In the main thread SIGTERM, SIGHUP and Ctrl-C stop what runs, as under ``async with``. Safe to use from any thread.
    """

    def __init__(self, bricks: AllBricks, lifetime: AbstractAsyncContextManager[object]) -> None:
        self._launcher = bricks
        self._lifetime = lifetime
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._under_way: dict[threading.Event, Future[Any]] = {}
        self._is_ending = False
        self.register = bricks.register

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._raising())
            self._portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(self._portal.wrap_async_context_manager(self._lifetime))
            stack.push(self._end_calls)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        with nullcontext() if error is None else self._killing():
            return self._stack.__exit__(kind, error, traceback)

    def _end_calls(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Let the calls of other threads end before the launcher does; those of a body that has failed are left."""
        self._portal = None
        calls = tuple(self._under_way.items())
        if error is not None:
            self._launcher.stop()
            self._cancel(calls)
            return
        with self._cancelling(calls):
            for is_over, _ in calls:
                is_over.wait()

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

    def clone(
        self,
        url: str,
        to: str | os.PathLike[str],
        ref: str | None = None,
        mirrors: Sequence[str] = (),
        depth: int | None = None,
        *,
        name: str | None = None,
    ) -> Repository:
        """As ``Launcher.clone``."""
        return self._call(lambda: self._launcher.clone(url, to, ref, mirrors, depth, name=name))

    def resume(self) -> Resumption:
        """As ``Launcher.resume``; ``service.resume`` would be called outside the thread that resumes calls."""
        if self._portal is None:
            raise RuntimeError(OUTSIDE)
        (resumption,) = self._portal.call(lambda: (self._launcher.resume(),))  # the portal awaits what can be awaited
        return resumption

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
        self._under_way[is_over] = future
        try:
            with self._cancelling([(is_over, future)]):
                return future.result()
        finally:
            del self._under_way[is_over]

    # the end

    @contextmanager
    def _raising(self) -> Iterator[None]:
        """Have SIGTERM and SIGHUP raise StoppedBySignal in the main thread; Ctrl-C raises KeyboardInterrupt already."""

        def stop(number: int, _frame: FrameType | None) -> None:
            if not self._is_ending:  # a second SIGTERM is not more than the first
                raise StoppedBySignal(number)

        numbers = [one for one in handled() if one != signal.SIGINT]
        for number in numbers:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number in numbers:
                signal.signal(number, signal.SIG_DFL)

    @contextmanager
    def _cancelling(self, calls: Sequence[tuple[threading.Event, Future[Any]]]) -> Iterator[None]:
        """Cancel *calls* if an exception ends the block; a signal leaves them to the next run."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                self._launcher.stop()  # before they are cancelled: they have no end in the journal
            self._cancel(calls)
            raise

    def _cancel(self, calls: Sequence[tuple[threading.Event, Future[Any]]]) -> None:
        with self._killing():
            for _, future in calls:
                future.cancel()
            for is_over, _ in calls:
                is_over.wait()

    @contextmanager
    def _killing(self) -> Iterator[None]:
        """Have a further Ctrl-C kill what does not end by itself."""
        before, was_ending = signal.getsignal(signal.SIGINT), self._is_ending
        is_handled = signal.SIGINT in handled()
        if is_handled:
            signal.signal(signal.SIGINT, lambda _number, _frame: self._launcher.kill())
            self._is_ending = True
        try:
            yield
        finally:
            if is_handled:
                signal.signal(signal.SIGINT, before)
                self._is_ending = was_ending
