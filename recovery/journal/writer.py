"""The journal's thread: it opens the store, writes batch after batch, and goes on trying when the store fails.

The store is used from this thread and one asyncio loop of its own: nobody else ever awaits it, so a cancelled task
cannot leave a transaction open, and trio and plain threads need no bridge.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from events.codec import decode
from events.errors import CodecError
from recovery.journal.encoding import missing, rows_of
from recovery.journal.errors import ForeignJournalError, NewerJournalError
from recovery.journal.health import JournalHealth
from recovery.journal.history import CallRecord, OpenCircuit, Run, replay, replay_circuits
from recovery.journal.queue import QueuedEvent, WriteQueue
from recovery.journal.recent_calls import RecentCallCache
from recovery.journal.store import Pending, Query, Store
from recovery.redact import redact
from recovery.waiting.waiters import Flag

if TYPE_CHECKING:
    import asyncio

FLUSH_INTERVAL = 0.02
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds before a store that failed is tried again: the first time, and at the most, doubling in between."""
COMMANDS_EVERY = 0.5
"""Seconds after which it is looked whether somebody has told the process something."""
POLL_AFTER_BATCH = 0.5
"""Seconds after a batch in which it is looked for the next one every flush interval, without anybody's waking it."""
CHUNK = 32
GIL_YIELD = 0.0001
"""Seconds: enough for a thread that waits for the interpreter lock to wake up and take it."""
PRUNE_EVERY = 4096
"""Events written before what need not be kept is looked for again."""

log = logging.getLogger("recovery.journal")


class Listener(Protocol):
    """Who looks for what others wait for; told on the writer's thread."""

    def settled(self) -> None:
        """A batch was written, synced, or given up: whoever waits may look again."""

    def found(self, pending: Pending) -> None:
        """This is what dead processes left."""


class Writer:
    """Takes batches from *queue* to *store*, on its own thread, from ``start`` to ``finish``.

    What was written is noted in *recent_calls*.
    """

    def __init__(
        self,
        store: Store,
        queue: WriteQueue,
        recent_calls: RecentCallCache,
        run: Run,
        listener: Listener,
        health: JournalHealth,
    ) -> None:
        self._store = store
        self._queue = queue
        self._recent_calls = recent_calls
        self._run = run
        self._listener = listener
        self._health = health
        self._lock = threading.RLock()
        self._queries: deque[Query] = deque()
        self._closing = False
        self._is_open = False
        self._was_opened = False
        self._pause = FIRST_PAUSE
        self._again_at = 0.0
        self._look_at = 0.0
        self._rest_at = 0.0
        self._stir = Flag()
        self._wants_sync = False
        self._wants_pending = False
        self._wants_pending_now = False
        self._has_adopted = self._is_refused = False
        self._pending = Pending()
        self._pruned_at = 0
        self._has_expired = True
        self._last_tries = 1
        self.reason: str | None = None
        """Why nothing can be written at the moment."""
        self.committed = 0
        self.synced = 0
        self.is_over = False
        # A daemon, for a store that hangs must not keep the interpreter from ending; the journal's watcher sees to it
        # that one that works is closed.
        self.thread = threading.Thread(target=self._work, name="recovery-journal", daemon=True)

    def ask_for_sync(self) -> None:
        """Have everything synced that is written next; ``listener.settled`` says when."""
        self._wants_sync = True
        self.hurry()

    def ask_for_pending(self, *, now: bool = False) -> None:
        """Have orphans adopted, and ``listener.found`` called: when that has worked, or *now*, or when all is over."""
        with self._lock:
            if not self.is_over:
                self._wants_pending_now = self._wants_pending_now or now
                self._wants_pending = True
                self.hurry()
                return
        self._listener.found(self._pending)

    def submit(self, query: Query) -> None:
        """Have *query* answered, after what waits has been written; at once, and in vain, when all is over."""
        with self._lock:
            if not self.is_over:
                self._queries.append(query)
                self.hurry()
                return
        query.latch.open()

    def cannot_start(self, error: Exception) -> None:
        """There is no thread for it: as long as that is so, nothing is written."""
        self._fail(error)

    def finish(self) -> None:
        """Write what waits, close the store, and end the thread."""
        self._closing = True
        self.hurry()

    def hurry(self) -> None:
        """Write what waits without waiting for more. Harmless at any time, from any thread."""
        self._stir.set()
        self._queue.hurry.set()
        self._queue.filled.set()

    def _work(self) -> None:
        import asyncio  # here, so that importing recovery stays light

        with asyncio.Runner() as runner:
            self._try_to_open(runner)
            while True:
                self._wait()
                closing = self._closing  # read before the flush: what was accepted before closing is in it
                if not self._is_open and (closing or time.monotonic() >= self._again_at):
                    self._try_to_open(runner)
                if self._wants_pending:
                    self._find(runner)
                while self._is_open and self._flush(runner) and closing:
                    pass
                self._answer(runner)
                self._take_commands(runner)
                if closing and (self._is_open or not self._may_try_again()):
                    break
            self._close(runner)
        self.end()

    def end(self) -> None:
        """Be over: nothing is written any more, and nobody need wait for it. For others, if the thread never began."""
        self._queue.give_up()
        with self._lock:
            self.is_over = True
        if self._wants_pending:
            self._listener.found(self._pending)
        for query in self._queries:
            query.latch.open()
        self._listener.settled()

    def _may_try_again(self) -> bool:
        """Whether what could not be written at the end is tried once more: a trouble may be over as soon as it came."""
        self._last_tries -= 1
        return self._last_tries >= 0 and self._queue.counts.waiting > 0

    def _wait(self) -> None:
        self._stir.clear()
        rests = time.monotonic() >= self._rest_at and self._queue.rest()
        if self._closing or (self._wants_pending and self._is_open) or self._queries:
            return  # whoever set these stirs afterwards: not a moment is missed
        if not self._is_open:
            self._stir.wait(max(self._again_at - time.monotonic(), 0.0))
        elif not self._wants_sync:
            self._wait_for_events(rests)

    def _wait_for_events(self, rests: bool) -> None:
        """Wait until what came is worth writing, or for as long as that can take; if this *rests*, for the first first.

        Waking a thread that sleeps costs whoever does it more than the event that it is for. So this thread is only
        woken for the first event after a rest; while they keep coming it looks for itself.
        """
        queue = self._queue
        # Whoever hurried before the rest began has set ``filled`` in vain.
        if rests and not queue.hurry.is_set and not queue.filled.wait(COMMANDS_EVERY):
            return
        if not self._closing and not queue.has_batch:
            # Counted from when the earliest came: it may have waited for a commit already.
            now = time.monotonic()
            since = now if queue.is_empty else queue.since
            queue.hurry.wait(max(since + FLUSH_INTERVAL - now, 0.0))

    def _try_to_open(self, runner: asyncio.Runner) -> None:
        try:
            for what in runner.run(self._store.open(self._run)):
                self._health.quarantined(what)
            if not self._was_opened:
                circuits, self._pending = runner.run(self._read())
                self._was_opened = True
                self._health.opened(circuits, self._pending)
        except Exception as error:  # whatever a store raises, operations go on
            self._fail(error)
            return
        self._is_open = True
        self._pause = FIRST_PAUSE
        if self.reason is not None and self._flush(runner, is_first=True):
            self.reason = None
            self._health.restored(self._queue.counts.waiting, self._queue.dropped)

    async def _read(self) -> tuple[dict[tuple[str, str], OpenCircuit], Pending]:
        runs, rows = await self._store.unfinished()
        records: dict[str, CallRecord] = {}
        circuits: dict[tuple[str, str], OpenCircuit] = {}
        unreadable: dict[str, None] = {}
        for row in rows:
            try:
                if not row.is_readable:
                    raise CodecError("it is not as it was written")
                event = decode(row.body)
            except CodecError as error:
                log.warning("the journal holds a row of call %s that cannot be read: %s", row.call, error)
                unreadable[row.call] = None
            else:
                replay(records, row.run, (event,))
                replay_circuits(circuits, row.run, (event,))
        # What this very run has written is under way.
        left = [record for record in records.values() if not record.is_over and record.run != self._run.id]
        calls = tuple(record for record in left if record.call not in unreadable)
        return circuits, Pending(calls, {run.id: run for run in runs}, tuple(filter(None, unreadable)))

    def _answer(self, runner: asyncio.Runner) -> None:
        while self._queries:
            query = self._queries.popleft()
            try:
                if self._is_open:
                    query.answer = runner.run(query.run(self._store))
            except Exception as error:
                self._fail(error)
            query.latch.open()

    def _take_commands(self, runner: asyncio.Runner) -> None:
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + COMMANDS_EVERY
        try:
            for command in runner.run(self._store.commands(self._health.concerns)):
                self._health.commanded(command)
        except Exception:
            log.exception("what this process was told cannot be done")

    def _find(self, runner: asyncio.Runner) -> None:
        if self._is_open:
            try:
                # An adoption that breaks off may have brought some, too.
                must_read, self._has_adopted = self._has_adopted, True
                if runner.run(self._store.adopt()) or must_read:
                    self._recent_calls.forget_results()
                    _, self._pending = runner.run(self._read())
                self._has_adopted = False
            except Exception as error:
                self._fail(error)
        if self._is_open or self._wants_pending_now or self._is_refused:
            self._wants_pending = False
            self._listener.found(self._pending)

    def _flush(self, runner: asyncio.Runner, *, is_first: bool = False) -> bool:
        """Write one batch: group commit, it holds whatever came during the previous one. Whether there may be more."""
        wants_sync, self._wants_sync = self._wants_sync, False
        batch = self._queue.take()
        try:
            if batch:
                rows = rows_of(self._run.id, chain.from_iterable(self._in_chunks(batch)))
                runner.run(self._store.append(rows))
                for part in self._in_chunks(batch):
                    self._recent_calls.add((entry.number, entry.event) for entry in part if entry.event is not None)
                self._queue.done(missing(batch, rows))
                self._rest_at = time.monotonic() + POLL_AFTER_BATCH
            self.committed = self._queue.first - 1
            if wants_sync:
                runner.run(self._store.sync())
                self.synced = self.committed
        except Exception as error:
            self._wants_sync = wants_sync
            self._fail(error)
            return False
        self._listener.settled()
        return (bool(batch) and self._prune(runner)) or is_first

    def _in_chunks(self, batch: list[QueuedEvent]) -> Iterator[list[QueuedEvent]]:
        """*batch* in parts of less than a tenth of a millisecond, letting whoever publishes run in between.

        A thread that wants the interpreter lock back waits 5 ms for one that computes, and their loop's timers with it.
        Who waits for this very batch is served at once.
        """
        for first in range(0, len(batch), CHUNK):
            if first and not (self._queue.is_half_full or self._stir.is_set):
                time.sleep(GIL_YIELD)
            yield batch[first : first + CHUNK]

    def _prune(self, runner: asyncio.Runner) -> bool:
        """Delete a little more than a batch may have brought; whether the store is well."""
        if self._queue.stored >= self._pruned_at + PRUNE_EVERY:
            self._pruned_at = self._queue.stored
            self._has_expired = True
        try:
            for _ in range(2):
                self._has_expired = self._has_expired and runner.run(self._store.prune())
        except Exception as error:
            self._fail(error)
        return self._is_open

    def _fail(self, error: Exception) -> None:
        self._is_open = False
        self._is_refused = isinstance(error, ForeignJournalError | NewerJournalError)  # that will not pass
        self._again_at = time.monotonic() + self._pause
        self._pause = min(self._pause * 2.0, LONGEST_PAUSE)
        reason = redact(f"{type(error).__name__}: {error}")
        is_new_reason, self.reason = reason != self.reason, reason
        if is_new_reason:
            self._health.degraded(reason)
        self._listener.settled()

    def _close(self, runner: asyncio.Runner) -> None:
        try:
            runner.run(self._store.close())
        except Exception as error:
            log.warning("closing the journal failed: %s", redact(str(error)))
