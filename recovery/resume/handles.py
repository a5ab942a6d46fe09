"""What became of the calls that dead processes left: to wait for, to look at, and to try again by hand."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

from events.attempt import Attempt
from events.runner_api import interrupt
from recovery.journal.history import CallRecord
from recovery.waiting.waiters import Latch


class ResumedCall:
    """One call that is resumed. Wait for it with ``wait()`` or ``await``; then *result* or *error* is set."""

    def __init__(self, record: CallRecord) -> None:
        self.record = record
        self.result: Any = None
        self.error: BaseException | None = None
        self.attempt: Attempt | None = None
        """What it is resumed with, since that has been told."""
        self._over = Latch()

    @property
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
        return self._over.is_open

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it has ended, *timeout* seconds at the most; whether it has."""
        return self._over.wait(timeout)

    def __await__(self) -> Generator[Any, None, ResumedCall]:
        """Suspend until it has ended."""
        yield from self._over.opened().__await__()
        return self

    def end(self, result: Any = None, error: BaseException | None = None) -> None:
        """Note how it ended."""
        self.result = result
        self.error = error
        self._over.open()

    def interrupt(self) -> None:
        """Tell that the service ends, if the call is under way: it must not be taken for what killed the process."""
        attempt, self.attempt = self.attempt, None
        if attempt is not None and not self.is_over:
            interrupt(attempt)


class Resumption:
    """What ``resume()`` found. Complete once ``loaded`` is open, which both waits include.

    *calls* are resumed here. *left* are pending calls that are not: their operation is not defined here, has another
    version, kept no arguments, or is async where no loop runs; they stay in the journal. *quarantined* are calls in
    which the process died each time: they are resumed only by hand (``retry``). *unreadable* are the ids of calls
    whose rows are damaged.
    """

    def __init__(self, start: Callable[[ResumedCall], object], close: Callable[[], object] = lambda: None) -> None:
        self.loaded = Latch()
        self.calls: list[ResumedCall] = []
        self.left: list[CallRecord] = []
        self.quarantined: list[CallRecord] = []
        self.unreadable: tuple[str, ...] = ()
        self._start = start
        self.close = close
        """Have nothing more resumed by hand; for the service, in its loop."""
        self._lock = threading.Lock()
        self._process = os.getpid()

    @property
    def is_ours(self) -> bool:
        """Whether it is this process that resumes, and not one that it was forked from."""
        return self._process == os.getpid()

    def retry(self, call: str) -> ResumedCall:
        """Resume a quarantined call after all; from any thread.

        Raises LookupError if *call* is none of them. Raises RecoveryError for an async call under plain ``with``, where
        no loop runs; it stays quarantined.
        """
        with self._lock:
            record = next((record for record in self.quarantined if record.call == call), None)
            if record is None:
                raise LookupError(f"no call {call!r} is quarantined here")
            again = ResumedCall(record)
            self._start(again)
            self.quarantined.remove(record)
            self.calls.append(again)
        return again

    def interrupt(self) -> None:
        """Tell of every call that is under way that the service ends in good order."""
        for call in list(self.calls) if self.is_ours else ():
            call.interrupt()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until every call has ended, *timeout* seconds at the most; whether they have."""
        end = None if timeout is None else time.monotonic() + timeout
        return all(latch.wait(None if end is None else max(0.0, end - time.monotonic())) for latch in self._latches())

    def _latches(self) -> Generator[Latch | ResumedCall, None, None]:
        yield self.loaded
        yield from self.calls

    def __await__(self) -> Generator[Any, None, Resumption]:
        """Suspend until every call has ended."""
        yield from self.loaded.opened().__await__()
        for call in self.calls:
            yield from call.__await__()
        return self
