"""The journal's thread: it writes the queue to the store in batches, and tries again when the store fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import chain
from typing import Protocol

from recovery.journal.config import JournalConfig
from recovery.journal.connection import StoreConnection
from recovery.journal.encoding import missing, rows_of
from recovery.journal.health import JournalHealth
from recovery.journal.history import Run
from recovery.journal.housekeeping import Housekeeping, PendingSearch
from recovery.journal.queue import QueuedEvent, WriteQueue
from recovery.journal.recent_calls import RecentCallCache
from recovery.journal.store import CommandSink, Pending, Query, Store
from recovery.waiting.waiters import Flag

CHUNK_EVENTS = 32
"""Events that are encoded without a pause: less than a tenth of a millisecond."""
GIL_YIELD = 0.0001
"""Seconds of that pause: enough for a thread that waits for the interpreter lock to wake and take it."""


class WriterListener(Protocol):
    """What the writer reports to, on its thread."""

    def settled(self) -> None:
        """A batch was written, synced or given up: waits may have ended."""

    def found(self, pending: Pending) -> None:
        """These calls were left by earlier processes."""


class Writer:
    """Takes batches from *queue* to *store* on its own thread, from ``thread.start()`` until after ``finish()``.

    Written events are noted in *recent_calls*, changes of the store in *health*.
    """

    def __init__(
        self,
        store: Store,
        queue: WriteQueue,
        recent_calls: RecentCallCache,
        run: Run,
        listener: WriterListener,
        health: JournalHealth,
        commands: CommandSink | None,
        config: JournalConfig,
    ) -> None:
        self._queue = queue
        self._recent_calls = recent_calls
        self._run = run
        self._listener = listener
        self._config = config
        self._connection = StoreConnection(store, run, health, config, listener.settled)
        self._search = PendingSearch(self._connection, recent_calls, run, health, listener.found)
        self._housekeeping = Housekeeping(self._connection, commands, config.command_interval)
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
        # A daemon: a store that hangs must not keep the interpreter from ending. ``lifecycle`` ends one that works.
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

    def hurry(self) -> None:
        """Write the waiting events now, without waiting for more."""
        self._stir.set()
        self._queue.hurry.set()
        self._queue.filled.set()

    def ask_for_sync(self) -> None:
        """Sync with the next batch; ``listener.settled`` tells when that is done."""
        self._wants_sync = True
        self.hurry()

    def ask_for_pending(self, *, now: bool = False) -> None:
        """Adopt the files of dead processes and call ``listener.found``, as soon as that works.

        With *now*, or when the writer is over, ``found`` is called at once even if the journal cannot be read.
        """
        with self._lock:
            if not self.is_over:
                self._search.want(now=now)
                self.hurry()
                return
        self._listener.found(self._search.pending)

    def submit(self, query: Query) -> None:
        """Answer *query* after the waiting events are written; when the writer is over, end it without an answer."""
        with self._lock:
            if not self.is_over:
                self._housekeeping.queries.append(query)
                self.hurry()
                return
        query.latch.open()

    def cannot_start(self, error: Exception) -> None:
        """The thread cannot be started: until it can, nothing is written."""
        self._connection.fail(error)

    def finish(self) -> None:
        """Write the waiting events, close the store, and end the thread."""
        self._is_closing = True
        self.hurry()

    def end(self) -> None:
        """Be over: drop the waiting events and end all waits. Called from outside only if the thread never began."""
        self._queue.give_up()
        with self._lock:
            self.is_over = True
        if self._search.is_wanted:
            self._search.report()
        self._housekeeping.refuse_queries()
        self._listener.settled()

    # the thread

    def _work(self) -> None:
        self._open()
        while True:
            self._wait()
            is_closing = self._is_closing  # read before the flush, which then holds all that was accepted before
            connection = self._connection
            if not connection.is_open and (is_closing or time.monotonic() >= connection.retry_at):
                self._open()
            if self._search.is_wanted:
                self._search.search()
            while connection.is_open and self._flush() and is_closing:
                pass
            self._housekeeping.answer()
            self._housekeeping.take_commands()
            if is_closing and (connection.is_open or not self._may_try_again()):
                break
        self._connection.close()
        self.end()

    def _may_try_again(self) -> bool:
        """Whether to try once more to write what could not be written at the end: the failure may be over."""
        self._last_tries -= 1
        return self._last_tries >= 0 and self._queue.counts.waiting > 0

    def _wait(self) -> None:
        self._stir.clear()
        is_resting = time.monotonic() >= self._poll_until and self._queue.rest()
        connection = self._connection
        if self._is_closing or (self._search.is_wanted and connection.is_open) or self._housekeeping.queries:
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
        if not self._is_closing and not queue.has_batch:
            # The interval counts from the earliest event: it may have waited for a commit already.
            now = time.monotonic()
            since = now if queue.is_empty else queue.since
            queue.hurry.wait(max(since + self._config.flush_interval - now, 0.0))

    def _open(self) -> None:
        try:
            self._connection.open()
            self._search.read_once()
        except Exception as error:  # operations go on, however the store fails
            self._connection.fail(error)
            return
        self._connection.opened()
        if self.reason is not None and self._flush(is_first=True):
            self._connection.restored(self._queue.counts.waiting, self._queue.dropped)

    def _flush(self, *, is_first: bool = False) -> bool:
        """Write one batch: all that arrived during the previous one, up to the limits. Whether there may be more."""
        wants_sync, self._wants_sync = self._wants_sync, False
        connection, batch = self._connection, self._queue.take()
        try:
            if batch:
                rows = rows_of(self._run.id, chain.from_iterable(self._in_chunks(batch)))
                connection.run(connection.store.append(rows))
                for part in self._in_chunks(batch):
                    self._recent_calls.add((entry.number, entry.event) for entry in part if entry.event is not None)
                self._queue.done(missing(batch, rows))
                self._poll_until = time.monotonic() + self._config.poll_after_batch
            self.committed = self._queue.first - 1
            if wants_sync:
                connection.run(connection.store.sync())
                self.synced = self.committed
        except Exception as error:
            self._wants_sync = wants_sync
            connection.fail(error)
            return False
        self._listener.settled()
        return (bool(batch) and self._prune()) or is_first

    def _in_chunks(self, batch: list[QueuedEvent]) -> Iterator[list[QueuedEvent]]:
        """*batch* in chunks, with a pause in between that lets other threads run.

        Without it a thread that wants the interpreter lock waits 5 ms, and the timers of its loop with it. There is no
        pause while a wait depends on this batch.
        """
        for first in range(0, len(batch), CHUNK_EVENTS):
            if first and not (self._queue.is_half_full or self._stir.is_set):
                time.sleep(GIL_YIELD)
            yield batch[first : first + CHUNK_EVENTS]

    def _prune(self) -> bool:
        try:
            self._housekeeping.prune(self._queue.stored)
        except Exception as error:
            self._connection.fail(error)
        return self._connection.is_open
