"""Receipts: promises that accepted events are committed, or synced, or the reason why they are not."""

from __future__ import annotations

import functools
import heapq
import threading
from collections.abc import Callable

from recovery.journal.accounting import take_own_drop
from recovery.journal.config import COMMIT_TIMEOUT
from recovery.journal.errors import NotDurable
from recovery.journal.queue import WriteQueue
from recovery.journal.writer import Writer
from recovery.waiting.waiters import TaskWaiter, ThreadWaiter, Waiter


class PositionWaiters:
    """Waiters by the position they wait for. Each batch costs only the waiters that it wakes. Not thread-safe."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Waiter]] = []
        self._waiters: set[Waiter] = set()

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, position: int, waiter: Waiter) -> None:
        """Note that *waiter* waits for *position*."""
        self._waiters.add(waiter)
        heapq.heappush(self._heap, (position, id(waiter), waiter))

    def forget(self, waiter: Waiter) -> None:
        """Remove *waiter*; harmless if it is not here."""
        self._waiters.discard(waiter)
        if not self._waiters:
            self._heap.clear()

    def take(self, is_settled: Callable[[int], bool]) -> list[Waiter]:
        """Remove and return the waiters whose position *is_settled*, the earliest position first."""
        taken = []
        while self._heap and (self._heap[0][2] not in self._waiters or is_settled(self._heap[0][0])):
            _, _, waiter = heapq.heappop(self._heap)
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                taken.append(waiter)
        return taken


class CommitTracker:
    """How far the writer has come, and the waits for it. Thread-safe.

    A *position* is the number of an event of this run. *start* starts the writer if it does not run yet.
    """

    def __init__(self, queue: WriteQueue, writer: Writer, start: Callable[[], None]) -> None:
        self._queue = queue
        self._writer = writer
        self._start = start
        self._lock = threading.RLock()
        self.is_interrupted: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined]  # as ``Condition``
        """Whether the caller is a signal handler that interrupts its own thread inside this tracker."""
        self._committing, self._syncing = PositionWaiters(), PositionWaiters()
        self._patient = PositionWaiters()  # they hurry no batch

    @property
    def waiting(self) -> int:
        """How many threads and tasks wait for a commit or a sync."""
        return len(self._committing) + len(self._syncing)

    def receipt(self) -> Receipt:
        """A receipt for the events accepted until now.

        It covers the events that are not committed yet, and those that were refused in this thread or task since its
        last receipt.
        """
        since, lost = self._writer.committed, take_own_drop(self._queue.token)
        return Receipt(self, self._queue.issued, since if lost is None else min(since, lost - 1))

    def receipt_if_due(self) -> Receipt | None:
        """A receipt, unless nothing needs to be waited for."""
        return None if self._is_settled(self._queue.issued) else self.receipt()

    def why_not(self, position: int, since: int, *, synced: bool = False) -> str | None:
        """Why the events after *since* and up to *position* are not all committed (or synced); ``None``: they are."""
        queue, writer = self._queue, self._writer
        closed = "the journal is closed" if queue.is_closed else None
        if queue.has_dropped(since, position):
            return closed or "events were dropped, the log says why"
        if (writer.synced if synced else writer.committed) >= position:
            return None
        return writer.reason or closed or "it took too long"

    def wake_when_settled(self, position: int, waiter: Waiter, *, synced: bool = False) -> None:
        """Have the batch written now, and wake *waiter* when *position* is committed (or synced), or cannot be."""
        with self._lock:
            # A subscriber on the writer's thread would wait for itself.
            is_settled = self._is_settled(position, synced=synced) or self._writer.is_current_thread
            if not is_settled:
                (self._syncing if synced else self._committing).add(position, waiter)
        if is_settled:
            waiter.wake()
        else:
            self._start()
            self._writer.hurry(sync=synced)

    def wake_after_commit(self, waiter: Waiter) -> None:
        """Wake *waiter* once the events accepted until now are committed, or cannot be; no batch is written for it."""
        position = self._queue.issued
        with self._lock:
            is_settled = self._is_settled(position)
            if not is_settled:
                self._patient.add(position, waiter)
        if is_settled:
            waiter.wake()

    def forget(self, waiter: Waiter) -> None:
        """Wake *waiter* no more."""
        with self._lock:
            self._committing.forget(waiter)
            self._syncing.forget(waiter)

    def wake_settled(self) -> None:
        """Wake the waiters that need not wait any longer; called by the writer after each step."""
        with self._lock:
            due = self._committing.take(self._is_settled)
            due += self._syncing.take(functools.partial(self._is_settled, synced=True))
            due += self._patient.take(self._is_settled)
        if self.waiting:
            self._writer.hurry(sync=len(self._syncing) > 0)
        for waiter in due:
            waiter.wake()

    def _is_settled(self, position: int, *, synced: bool = False) -> bool:
        writer = self._writer
        reached = writer.synced if synced else writer.committed
        if reached >= position or writer.reason is not None or writer.is_over:
            return True
        return self._queue.is_closed and self._queue.has_dropped(position - 1, position)


class Receipt:
    """A promise about the events that the journal had accepted at one moment.

    A cancelled wait changes nothing: the events are written all the same, and can be waited for again.
    """

    def __init__(self, tracker: CommitTracker, position: int, since: int) -> None:
        self._tracker = tracker
        self._position = position
        self._since = since

    def __repr__(self) -> str:
        return f"<Receipt for events {self._since + 1} to {self._position}: {self.why_not() or 'committed'}>"

    def why_not(self, *, synced: bool = False) -> str | None:
        """Why the events are not committed (or *synced*) now; ``None``: they are. Never waits."""
        return self._tracker.why_not(self._position, self._since, synced=synced)

    async def committed(self, timeout: float = COMMIT_TIMEOUT) -> None:
        """Suspend the task until all events survive ``kill -9``; asyncio or trio.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            NotDurable: With the reason, as soon as the events cannot be promised: the journal cannot be written or is
                closed, has dropped an event, or took longer than *timeout*. They may still be written later.
        """
        await self._committed(timeout, synced=False)

    async def synced(self, timeout: float = COMMIT_TIMEOUT) -> None:
        """As ``committed``, until all events survive a loss of power."""
        await self._committed(timeout, synced=True)

    async def _committed(self, timeout: float, *, synced: bool) -> None:
        waiter = TaskWaiter()
        self._tracker.wake_when_settled(self._position, waiter, synced=synced)
        try:
            await waiter.wait(timeout)
        finally:
            waiter.close()
            self._tracker.forget(waiter)
        self._check(synced=synced)

    def wait(self, timeout: float = COMMIT_TIMEOUT, *, synced: bool = False) -> None:
        """As ``committed``, or ``synced``, blocking the thread."""
        waiter = ThreadWaiter()
        self._tracker.wake_when_settled(self._position, waiter, synced=synced)
        try:
            waiter.wait(timeout)
        finally:
            self._tracker.forget(waiter)
        self._check(synced=synced)

    def _check(self, *, synced: bool) -> None:
        reason = self.why_not(synced=synced)
        if reason is not None:
            raise NotDurable(reason)
