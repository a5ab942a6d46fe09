"""Handles of the calls that dead processes left: wait for them, look at them, retry them by hand."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

from recovery.joining.shared_call import Outcome
from recovery.journal.history import CallRecord
from recovery.waiting.waiters import Latch


class ResumedCall:
    """A call that is resumed. Wait for it with ``wait()`` or ``await``; then *result* or *error* is set.

    Args:
        record: What the journal knows about the call.
    """

    def __init__(self, record: CallRecord) -> None:
        self.record = record
        """What the journal knows about the call."""
        self.result: Any = None
        """What the call returned; ``None`` until it has ended, and if it raised."""
        self.error: BaseException | None = None
        """What the call raised; ``None`` until it has ended, and if it returned."""
        self._over = Latch()

    @property
    def is_over(self) -> bool:
        """Whether the call has ended, well or not."""
        return self._over.is_open

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the call has ended, for at most *timeout* seconds; whether it has."""
        return self._over.wait(timeout)

    def __await__(self) -> Generator[Any, None, ResumedCall]:
        """Suspend until the call has ended."""
        yield from self._over.opened().__await__()
        return self

    def take(self, outcome: Outcome) -> None:
        """Note how the call ended."""
        self.end(outcome.result, outcome.error)

    def end(self, result: Any = None, error: BaseException | None = None) -> None:
        """Note how the call ended, unless that is noted already."""
        if not self._over.is_open:
            self.result, self.error = result, error
            self._over.open()


class Ends(Protocol):
    """What can be waited for, in a thread or in a task."""

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it has ended; whether it has."""
        ...

    def __await__(self) -> Generator[Any, None, Any]:
        """Suspend until it has ended."""
        ...


class Resumption:
    """What ``resume()`` found: complete once ``loaded`` is open. ``wait()`` and ``await`` wait for that, too.

    The calls of processes that die later are added to ``calls`` while the service lives. A call is ``left`` if its
    operation is not defined here, or has another version, or another signature, or kept no arguments, or is async where
    no loop runs. Only ``retry`` resumes a call that is ``quarantined``.

    Args:
        start: Resumes a call; False if the next equal call goes on with it instead.
        close: Ends ``retry``; the service calls it, in its loop.
        pick_up: Resumes what was left until now and can be resumed meanwhile.
        drop: Makes sure that the call of that id is not run any more; False if it runs already.
    """

    def __init__(
        self,
        start: Callable[[ResumedCall], bool],
        close: Callable[[], object] = lambda: None,
        pick_up: Callable[[Resumption], object] = lambda _: None,
        drop: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.loaded = Latch()
        """Open once the journal has been read: ``loaded.is_open``, ``loaded.wait(timeout)``."""
        self.calls: list[ResumedCall] = []
        """The calls that are resumed here, or by a caller that asked for an equal call first."""
        self.left: list[CallRecord] = []
        """Pending calls that stay in the journal."""
        self.quarantined: list[CallRecord] = []
        """Calls whose last allowed attempt died with its process."""
        self.unreadable: tuple[str, ...] = ()
        """The ids of calls with damaged rows."""
        self.ordered: list[Ends] = []
        """The ended calls that a person has ordered to be run again while no process ran."""
        self.close = close
        """End ``retry``; for the service, in its loop."""
        self._start = start
        self._pick_up = pick_up
        self._drop = drop
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __repr__(self) -> str:
        over = sum(call.is_over for call in self.calls)
        found = f"{len(self.calls)} calls, {over} over; {len(self.left)} left, {len(self.quarantined)} quarantined"
        return f"<Resumption: {found if self.loaded.is_open else 'the journal is being read'}>"

    @property
    def is_ours(self) -> bool:
        """Whether this process resumes the calls, and not one that it was forked from."""
        return self._process == os.getpid()

    def pick_up(self) -> None:
        """Resume calls that were left because no operation fitted them, and that one fits by now. From any thread."""
        if self.loaded.is_open and self.is_ours:
            self._pick_up(self)

    def retry(self, call: str) -> ResumedCall:
        """Resume a quarantined call after all, with all its retries; from any thread.

        A call whose arguments were not stored (it has an idempotency key and is not resumable) leaves the quarantine,
        and the next call with its key goes on with it. ``wait()`` of the resumption does not wait for it.

        Raises:
            LookupError: No call with that id is quarantined.
            RecoveryError: The call is async and the service runs under plain ``with``, without a loop. The call stays
                quarantined.
        """
        with self._lock:
            record = next((record for record in self.quarantined if record.call == call), None)
            if record is None:
                raise LookupError(f"no call {call!r} is quarantined here")
            again = ResumedCall(record)
            if self._start(again):
                self.calls.append(again)
            self.quarantined.remove(record)
        return again

    def drop(self, call: str) -> CallRecord | None:
        """Take a call off ``left`` and ``quarantined``, and return it; ``None`` if it is in neither, or runs."""
        with self._lock:
            for records in (self.left, self.quarantined):
                for record in records:
                    if record.call == call and self._drop(call):
                        records.remove(record)
                        return record
        return None

    def wait(self, timeout: float | None = None) -> bool:
        """Block until every call has ended, for at most *timeout* seconds; whether they have."""
        end = None if timeout is None else time.monotonic() + timeout
        return self.loaded.wait(timeout) and all(
            one.wait(None if end is None else max(0.0, end - time.monotonic())) for one in self._all()
        )

    def _all(self) -> Iterator[Ends]:
        yield from self.calls
        yield from self.ordered

    def __await__(self) -> Generator[Any, None, Resumption]:
        """Suspend until every call has ended."""
        yield from self.loaded.opened().__await__()
        for one in self._all():
            yield from one.__await__()
        return self
