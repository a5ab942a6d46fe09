"""The thread of a launcher for plain code: its calls block, and signals stop it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, nullcontext
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from adapters.launcher.all_bricks import AllBricks
from adapters.launcher.stopping import StoppedBySignal, handled

T = TypeVar("T")

OUTSIDE = "a blocking launcher works inside `with Launcher.blocking(...) as launcher:`"


class LauncherThread:
    """Runs the calls of a launcher in one thread of its own, for plain code in any thread.

    Args:
        bricks: The launcher.
        lifetime: What is entered and left with it.
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

    def _call(self, brick: Callable[[], Awaitable[T]]) -> T:
        with self._begun(brick) as future:
            return future.result()

    @contextmanager
    def _begun(self, brick: Callable[[], Awaitable[T]]) -> Iterator[Future[T]]:
        """*brick*, which runs in the thread of the launcher; it is cancelled if an exception ends the block."""
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
                yield future
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
