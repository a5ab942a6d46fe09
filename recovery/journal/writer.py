"""The journal's thread: it writes the queue to the store in batches, and tries again when the store fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from recovery.journal.connection import StoreConnection
from recovery.journal.encoding import rows_of
from recovery.journal.housekeeping import Housekeeping
from recovery.journal.lane import QueuedEvent, expanded
from recovery.journal.lookup import RecentCallCache
from recovery.journal.queue import BATCH_EVENTS, LARGEST_BATCH, WriteQueue
from recovery.journal.store import Query, Row
from recovery.waiting.waiters import Flag

CHUNK_EVENTS = 64
"""Events that are encoded without a pause: less than a tenth of a millisecond."""
GIL_YIELD = 0.0001
"""Seconds of that pause: enough for a thread that waits for the interpreter lock to wake and take it."""
MANY_EVENTS = LARGEST_BATCH + BATCH_EVENTS
"""Waiting events from which the writer makes no pauses: the next batch is full already."""


class Writer:
    """Takes batches from *queue* to the store on its own thread, from ``thread.start()`` until after ``finish()``.

    Written events are noted in *recent_calls*; *housekeeping* works between two batches.
    """

    def __init__(
        self, connection: StoreConnection, queue: WriteQueue, recent_calls: RecentCallCache, housekeeping: Housekeeping
    ) -> None:
        self._connection = connection
        self._config = connection.config
        self._queue = queue
        self._recent_calls = recent_calls
        self._housekeeping = housekeeping
        self._lock = threading.RLock()
        self._is_closing = False
        self._stir = Flag()
        self._wants_sync = False
        self._poll_until = 0.0
        self._last_tries = 1
        self.committed = 0
        """The position up to which all events are committed, or dropped; likewise ``synced``."""
        self.synced = 0
        self.is_over = False
        # A daemon: a store that hangs must not keep the interpreter from ending. The core ends one that works.
        self.thread = threading.Thread(target=self._work, name="recovery-journal", daemon=True)

    @property
    def reason(self) -> str | None:
        """Why nothing can be written at the moment, or ``None``."""
        return self._connection.reason

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller runs on the writer's thread, as subscribers to its events do: it must not wait for it."""
        return threading.current_thread() is self.thread

    # requests, from any thread

    def hurry(self, *, sync: bool = False) -> None:
        """Write the waiting events now, without waiting for more, and with *sync* make them survive a loss of power."""
        if sync:
            self._wants_sync = True
        self._stir.set()
        self._queue.hurry.set()
        self._queue.filled.set()

    def ask_for_pending(self, *, now: bool = False) -> None:
        """Have the calls found that earlier processes left, as soon as that works.

        With *now* they are reported at once even if the journal cannot be read.
        """
        with self._lock:
            self._housekeeping.want_pending(now=now)
            self._hurry_or_end()

    def submit(self, query: Query[Any]) -> None:
        """Answer *query* after the waiting events are written; when the writer is over, end it without an answer."""
        with self._lock:
            self._housekeeping.queries.append(query)
            self._hurry_or_end()

    def _hurry_or_end(self) -> None:
        if self.is_over:
            self._housekeeping.settle(is_over=True)
        else:
            self.hurry()

    def finish(self) -> None:
        """Write the waiting events, close the store, and end the thread."""
        self._is_closing = True
        self.hurry()

    def end(self) -> None:
        """Be over: drop the waiting events and end all waits. Called from outside only if the thread never began."""
        self._queue.give_up()
        with self._lock:
            self.is_over = True
            self._housekeeping.settle(is_over=True)
        self._connection.settled()

    # the thread

    def _work(self) -> None:
        connection, housekeeping = self._connection, self._housekeeping
        while True:
            self._wait()
            is_closing = self._is_closing  # read before the flush, which then holds all that was accepted before
            try:
                if not connection.is_open and (is_closing or time.monotonic() >= connection.retry_at):
                    self._open()
                    if not is_closing:
                        continue  # the first batch waits for a flush interval, too
                if connection.is_open:
                    housekeeping.check()
                    housekeeping.search()
                    while self._flush() and is_closing:
                        pass
                    housekeeping.answer(all_of_them=is_closing)
            except Exception as error:  # operations go on, however the store fails
                self._queue.shut_lane()
                connection.fail(error)
            housekeeping.settle()
            housekeeping.take_commands()
            if is_closing and (connection.is_open or not self._may_try_again()):
                break
        connection.close()
        self.end()

    def _may_try_again(self) -> bool:
        """Whether to try once more to write what could not be written at the end: the failure may be over."""
        self._last_tries -= 1
        return self._last_tries >= 0 and len(self._queue) > 0

    def _wait(self) -> None:
        self._stir.clear()
        is_resting = time.monotonic() >= self._poll_until and self._queue.rest()
        connection, housekeeping = self._connection, self._housekeeping
        is_busy = housekeeping.has_commands or (housekeeping.is_searching and connection.is_open)
        if self._is_closing or is_busy or housekeeping.queries:
            return  # each request sets ``_stir`` afterwards, so none is missed
        if not connection.is_open:
            self._stir.wait(max(connection.retry_at - time.monotonic(), 0.0))
        elif not self._wants_sync:
            self._wait_for_events(is_resting)

    def _wait_for_events(self, is_resting: bool) -> None:
        """Wait until there is a batch or the flush interval is over; if *is_resting*, for the first event first.

        To wake a sleeping thread costs its waker more than the event does. So only the first event after a rest wakes
        this one; while events keep coming, it polls.
        """
        queue = self._queue
        # A ``hurry()`` before the rest began has set ``filled`` in vain.
        if is_resting and not queue.hurry.is_set and not queue.filled.wait(self._config.command_interval):
            return
        if not self._is_closing and len(queue) < BATCH_EVENTS:
            # The interval counts from the earliest event: it may have waited for a commit already.
            now = time.monotonic()
            since = queue.since if len(queue) else now
            queue.hurry.wait(max(since + self._config.flush_interval - now, 0.0))

    def _open(self) -> None:
        """Open the store; after a failure, write a batch first: until that is done, nothing can be promised."""
        self._connection.open()
        self._housekeeping.read_once()
        if self.reason is not None:
            self._flush()
            self._connection.restored(len(self._queue), self._queue.dropped)

    def _flush(self) -> bool:
        """Write one batch: all that arrived during the previous one, up to the limits. Whether there may be more."""
        wants_sync, self._wants_sync = self._wants_sync, False
        connection, batch = self._connection, self._queue.take()
        if batch:
            self._housekeeping.withhold(batch)
            parts, rows, unwritable = [], list[Row](), list[int]()
            for part in self._in_chunks(batch):
                more, lost = rows_of(connection.this_run.id, part)
                parts.append(part)
                rows += more
                unwritable += lost
            connection.run(connection.store.append(rows))
            for part in parts:
                self._recent_calls.add(part)
                self._pause()
            self._queue.done(unwritable)
            self._poll_until = time.monotonic() + self._config.poll_after_batch
        self.committed = self._queue.first - 1
        if wants_sync:
            connection.run(connection.store.sync())
            self.synced = self.committed
        self._connection.settled()
        if batch:
            self._housekeeping.prune(self._queue.stored)
        return bool(batch)

    def _in_chunks(self, batch: list[QueuedEvent]) -> Iterator[list[QueuedEvent]]:
        """*batch*, its records made into events, in chunks, with a pause in between."""
        part: list[QueuedEvent] = []
        for entry in batch:
            if entry.record is None:
                part.append(entry)
            else:
                part += expanded(entry)
            if len(part) >= CHUNK_EVENTS:
                yield part
                part = []
                self._pause()
        if part:
            yield part

    def _pause(self) -> None:
        """Let other threads run, unless a wait depends on this batch, or the next one is full already.

        Without it a thread that wants the interpreter lock waits up to 5 ms, and the timers of its loop with it.
        """
        if not (self._stir.is_set or len(self._queue) >= MANY_EVENTS or self._queue.room.is_half_full):
            time.sleep(GIL_YIELD)
