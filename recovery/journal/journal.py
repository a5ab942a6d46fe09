"""The journal: events are accepted into memory by whoever publishes, and written in batches by a thread of its own.

An event is *accepted* when ``record`` returns (microseconds, no I/O), *committed* when the store has it (it survives
``kill -9``), and *synced* when the disk has it (it survives a loss of power, as far as the disk is honest). The queue
is ``recovery.journal.queue``, the thread ``recovery.journal.writer``; here is what the rest of the service sees of
them.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable

from events.bus import Bus
from events.event import Event
from events.journal_events import JournalDegraded, JournalRestored
from events.kinds import kinds_of
from events.operation_events import OperationFailed, OperationStarted, OperationSucceeded
from recovery.journal import lifecycle
from recovery.journal.admission import Admission, Slot
from recovery.journal.awaited import PositionWaiters
from recovery.journal.health import JournalHealth
from recovery.journal.history import Run
from recovery.journal.lookup import Lookup
from recovery.journal.queue import Backlog, Counts, WriteQueue
from recovery.journal.receipts import Receipt
from recovery.journal.recent_calls import RecentCallCache
from recovery.journal.store import CommandSink, Pending, Query, Store
from recovery.journal.writer import Writer
from recovery.policies.circuit_breaker import Open
from recovery.settings import ConfigOf
from recovery.waiting.waiters import Latch, Waiter

CLOSE_TIMEOUT = 4.0
"""Seconds that a journal is waited for when it is closed: with the interpreter's own end, five."""

log = logging.getLogger("recovery.journal")


class Journal:
    """Writes the events of a bus to a store, in batches, from its own thread, which starts with the first of them.

    Operations whose durability is "off" are left out. *restore* is given the circuits that earlier runs left open,
    *commands* what people tell this process through the store. A batch is written every 20 ms, at 512 events or 1
    MiB, or
    as soon as somebody waits for it. While the store fails, operations go on in memory: ``JournalDegraded`` is
    published once for each reason, 10 000 events and 16 MiB wait, and 100 000 cancellations (the rest is dropped, and
    counted), and when it passes they are written in order and ``JournalRestored`` is published. ``loaded`` opens when
    ``pending`` knows what earlier runs left; ``lookup`` finds single calls and results.
    """

    def __init__(
        self,
        store: Store,
        bus: Bus,
        config_of: ConfigOf,
        restore: Callable[[dict[tuple[str, str], Open]], object] = id,
        commands: CommandSink | None = None,
    ) -> None:
        self._store = store
        self._bus = bus
        self._config_of = config_of
        self._restore = restore
        self._commands = commands
        self._followed: set[str] = set()
        self._begin()
        lifecycle.look_after(self)
        bus.subscribe((kind for kind in kinds_of(Event) if kind is not OperationFailed), self.record, essential=True)

    def _begin(self) -> None:
        """Be new: in a process that starts, or that was forked from one that had begun."""
        self._lock = threading.RLock()
        self._committing, self._syncing = PositionWaiters(), PositionWaiters()
        self.loaded = Latch()
        self._pending = Pending()
        self._closing = False
        self._said: set[str] = set()
        self._is_stuck = False
        self._is_started = False
        bus = self._bus
        self.run = Run(id=bus.run, boot=lifecycle.boot_id(), monotonic=bus.clock(), wall=time.time(), pid=os.getpid())
        self._queue = WriteQueue()
        recent_calls = RecentCallCache(self.run.id)
        health = JournalHealth(bus, self.run, self._restore, self._commands)
        self._writer = Writer(self._store, self._queue, recent_calls, self.run, self, health)
        # A line each: tasks that are let in cannot go ahead while a plain call blocks the thread of their loop.
        self._threads, self._tasks = (Admission(self._queue, self._is_unwritable) for _ in range(2))
        self.lookup = Lookup(recent_calls, self._queue, self._ask)

    def follow(self, operation: str) -> None:
        """Write down the starts and successes of this operation too; asking twice is asking once."""
        if operation in self._followed:
            return
        self._followed.add(operation)
        self._bus.subscribe((OperationStarted, OperationSucceeded), self.record, operation=operation, essential=True)

    # what may be asked at any time

    @property
    def reason(self) -> str | None:
        """Why nothing is written at the moment, or ``None``."""
        return self._writer.reason

    @property
    def counts(self) -> Counts:
        """What became of every event that was to be written."""
        return self._queue.counts

    @property
    def backlog(self) -> Backlog:
        """What was accepted and is not committed yet."""
        return self._queue.backlog

    @property
    def dropped(self) -> int:
        """How many events will never be written."""
        return self._queue.dropped

    @property
    def is_half_full(self) -> bool:
        """Whether those who can wait had better, so much waits to be written."""
        return self._queue.is_half_full or bool(self._threads.line or self._tasks.line)

    def slot(self, most: float, *, blocks: bool) -> Slot | None:
        """A place in the line of those who wait for room, *most* seconds at the most; ``None``: no need to wait."""
        if self._is_own_thread:
            return None
        return Slot(self._threads if blocks else self._tasks, most)

    def _is_unwritable(self) -> bool:
        return self._writer.reason is not None or self._writer.is_over or self._queue.is_closed

    # for whoever publishes

    def record(self, event: Event) -> None:
        """Accept *event*, if it is to be written. Never waits for the store, and raises no error of the store.

        What a signal handler publishes while it interrupts this queue is dropped, counted, and logged once.
        """
        config = self._config_of(event.operation)
        if config is not None and config.durability == "off":
            return
        if type(event) is OperationSucceeded and event.recovered:
            return  # OperationRecovered has said so
        if self._closing and isinstance(event, JournalDegraded | JournalRestored):
            return  # about itself, at its end
        if self._queue.put(event):
            if not self._is_started:
                self.start()
        else:
            self._say_refused()

    def _say_refused(self) -> None:
        if self._queue.is_interrupted():
            text = "an event is dropped: a signal handler published it; a handler must set a flag or raise instead"
        elif self._closing:
            text = "the journal is closed; what happens from now on is not written"
        elif self.reason is None and not self._queue.is_closed:
            text = "events are dropped: they come faster than the journal can be written; `counts` has how many"
        else:
            return
        if text not in self._said:
            self._said.add(text)
            log.warning(text)

    # for whoever waits

    def receipt(self) -> Receipt:
        """A receipt for everything accepted until now: ``await receipt.committed()``, or block with ``wait``.

        It is for what is not committed yet, and for what was refused in this thread or task since it last asked for
        one. It does not tell of what was accepted and dropped before: a checkpoint that had to make room for other
        events, and an event that no store can take, which is logged; ``counts.dropped`` has them. Who must know asks
        for a
        receipt right after the event: then it fails.
        """
        since, lost = self._writer.committed, self._queue.own_drops.take()
        return Receipt(self, self._queue.issued, since if lost is None else min(since, lost - 1))

    def position(self) -> int:
        """The number of the latest event: what was recorded before is committed when ``is_committed`` of it."""
        return self._queue.issued

    def is_settled(self, position: int, *, synced: bool = False) -> bool:
        """Whether nothing up to *position* need be waited for: it is where it should be, or cannot be now."""
        writer = self._writer
        reached = writer.synced if synced else writer.committed
        if reached >= position or writer.reason is not None or writer.is_over:
            return True
        return self._queue.is_closed and self._queue.has_dropped(position - 1, position)

    def why_not(self, position: int, since: int, *, synced: bool = False) -> str | None:
        """Why not everything after *since* and up to *position* is committed (or synced); ``None``: it is."""
        writer = self._writer
        if self._queue.has_dropped(since, position):
            if self._queue.has_unwritable(since, position):
                return "an event cannot be written"
            return "the journal is closed" if self._closing else "events were dropped: too many were waiting"
        if (writer.synced if synced else writer.committed) >= position:
            return None
        return writer.reason or ("the journal is closed" if self._closing else "it took too long")

    def wake_when_settled(self, position: int, waiter: Waiter, *, synced: bool = False) -> None:
        """Wake *waiter* as soon as ``is_settled(position)``; the batch is written at once."""
        with self._lock:
            settled = self.is_settled(position, synced=synced) or self._is_own_thread
            if not settled:
                (self._syncing if synced else self._committing).add(position, waiter)
        if settled:
            waiter.wake()
            return
        self.start()
        if synced:
            self._writer.ask_for_sync()
        else:
            self._writer.hurry()

    @property
    def _is_own_thread(self) -> bool:
        return threading.current_thread() is self._writer.thread  # a subscriber's, who cannot wait for himself

    def forget(self, waiter: Waiter) -> None:
        """Do not wake *waiter* any more."""
        with self._lock:
            self._committing.forget(waiter)
            self._syncing.forget(waiter)

    def look(self, *, now: bool = False) -> None:
        """Find out what dead processes left; ``loaded`` opens when that is known, or never will be.

        While the journal cannot be read that takes as long as the trouble lasts; with *now*, nothing was left then.
        """
        self.start()
        if self._is_started:
            self._writer.ask_for_pending(now=now)
        if not self._is_started or self._writer.is_over:
            self.loaded.open()

    def pending(self, timeout: float | None = None) -> Pending:
        """What dead processes left; blocks until it is known, or *timeout* seconds (then: nothing)."""
        if not self.loaded.is_open:
            self.look()
            self.loaded.wait(timeout)
        return self._pending

    def _ask(self, query: Query) -> None:
        self.start()
        if self._is_started and self.reason is None and not self._is_own_thread:
            self._writer.submit(query)
        else:
            query.latch.open()  # nobody will answer, or not soon

    # from the first to the last

    def start(self) -> None:
        """Start the thread, which opens the store. Harmless when it runs already."""
        with self._lock:
            if self._is_started or self._closing:
                return
            self._is_started = True
        try:
            self._writer.thread.start()
            lifecycle.watch(CLOSE_TIMEOUT)
        except RuntimeError as error:  # there are no threads to be had: the next event tries again
            if self._writer.thread.ident is None:
                self._is_started = False
                self._writer.cannot_start(error)

    def seal(self) -> None:
        """Accept no more: what is cancelled from now on, because everything ends, is resumed next time."""
        self._queue.close()

    def close(self) -> None:
        """Stop accepting, write what was accepted, close the store. Idempotent, from any thread, 4 s at the most.

        Safe in a signal handler. A handler that interrupts its own thread inside the journal does not wait: what was
        accepted is written after the handler returns.
        """
        self.finish()
        self.wait_for_end(CLOSE_TIMEOUT)

    def finish(self) -> None:
        """Begin to end: as ``close``, without waiting."""
        with self._lock:
            self._closing = True
            is_started = self._is_started
        self._queue.close()
        if is_started:
            self._writer.finish()
        else:
            self._writer.end()

    def wait_for_end(self, timeout: float) -> None:
        """Block until all is written and closed, *timeout* seconds at the most; said once if that is not enough."""
        thread = self._writer.thread
        if not self._is_started or self._is_own_thread:
            return
        parts = (self._queue, self._threads, self._tasks)
        if self._lock._is_owned() or any(part.is_interrupted() for part in parts):  # type: ignore[attr-defined]
            return  # a signal handler: the writer needs what this thread holds
        thread.join(0.0 if self._is_stuck else timeout)
        if thread.is_alive() and not self._is_stuck:
            self._is_stuck = True
            log.warning("the journal did not finish within %g s; left to itself", CLOSE_TIMEOUT)

    def after_fork(self) -> None:
        """In a forked child: the queue, the thread and the file are the parent's; the child gets its own.

        If the store has none for it, or the parent's is closed, the child's journal is closed.
        """
        problem = None
        if self._is_started:
            try:
                self._store = self._store.forked()
            except Exception as error:  # the journals of others are told of the fork after this one
                problem = error
        was_closing = self._closing
        self._bus.begin_run()
        self._begin()
        if self._commands is not None:
            self._commands.after_fork()
        if problem is not None:
            log.warning("nothing is journalled in this forked child: %s: %s", type(problem).__name__, problem)
        if was_closing or problem is not None:
            self.close()

    # what the writer says, on its thread

    def found(self, pending: Pending) -> None:
        """Let those go on who wait for what dead processes left."""
        self._pending = pending
        self.loaded.open()

    def settled(self) -> None:
        """Wake who has nothing more to wait for."""
        if self._writer.is_over:
            self.loaded.open()
        for admission in (self._threads, self._tasks):
            admission.move(self._writer.committed)
        with self._lock:
            due = self._committing.take(self.is_settled)
            due += self._syncing.take(functools.partial(self.is_settled, synced=True))
        if self._syncing:
            self._writer.ask_for_sync()
        elif self._committing:
            self._writer.hurry()
        for waiter in due:
            waiter.wake()
