"""The journal: facts are appended to memory by whoever publishes, and written in batches by a thread of its own.

A fact is *accepted* when ``record`` returns (microseconds, no I/O), and *committed* when the store says so. The store
is used from one thread and one asyncio loop, both the journal's: nobody else ever awaits it, so a cancelled task cannot
leave a transaction open, and trio and plain threads need no bridge.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from events.bus import Bus
from events.codec import decode, encode
from events.errors import CodecError
from events.facts import CallFact, Fact, JournalDegraded, OperationFailed, OperationStarted, OperationSucceeded
from recovery.breaker import Open
from recovery.ledger import CallRecord, OpenCircuit, Run, fold, fold_circuits, reopened
from recovery.redact import redacted
from recovery.store import Pending, Row, Store
from recovery.waiting import Gate, Waiter

if TYPE_CHECKING:
    import asyncio

FLUSH_INTERVAL = 0.02
BATCH = 512
CAPACITY = 10_000
CLOSE_TIMEOUT = 5.0

log = logging.getLogger("recovery.journal")


class Journal:
    """Writes the facts of a bus to a store, in batches, from its own thread, which starts with the first of them.

    *keeps* says which facts are wanted; *restore* is given the circuits that earlier runs left open. A batch is written
    every 20 ms, at 512 facts, or as soon as somebody waits for it. If the store fails, that is logged and published
    once as ``JournalDegraded``, and operations go on in memory. ``loaded`` opens when ``pending`` knows what earlier
    runs left. More than 10 000 facts that wait to be written are dropped, and counted in ``dropped``.
    """

    def __init__(
        self,
        store: Store,
        bus: Bus,
        keeps: Callable[[Fact], bool],
        restore: Callable[[dict[tuple[str, str], Open]], object] = id,
    ) -> None:
        self._store = store
        self._bus = bus
        self._keeps = keeps
        self._restore = restore
        self._lock = threading.Lock()
        self._queue: list[Fact] = []
        self._accepted = 0
        self._committed = 0
        self._receipts: list[tuple[int, Waiter]] = []
        self._filled = threading.Event()
        self._hurry = threading.Event()
        self.loaded = Gate()
        self._is_open = True
        self._closing = False
        self._said_closed = False
        self._is_stuck = False
        self._thread: threading.Thread | None = None
        self._pending = Pending()
        self._degraded: str | None = None
        self.dropped = 0
        self.run = Run(id=bus.run, boot=boot_id(), monotonic=bus.clock(), wall=time.time(), pid=os.getpid())
        self._followed: set[str] = set()
        bus.subscribe(Fact, self.record, essential=True)

    def follow(self, operation: str) -> None:
        """Write down the starts and successes of this operation too; asking twice is asking once."""
        if operation in self._followed:
            return
        self._followed.add(operation)
        self._bus.subscribe((OperationStarted, OperationSucceeded), self.record, operation=operation, essential=True)

    @property
    def degraded(self) -> str | None:
        """Why nothing is written any more, or ``None``."""
        return self._degraded

    def record(self, fact: Fact) -> None:
        """Accept *fact*, if it is wanted. Never waits for the store and raises nothing for its sake."""
        if isinstance(fact, OperationFailed) or not self._keeps(fact):
            return
        if isinstance(fact, OperationSucceeded) and fact.recovered:
            return  # OperationRecovered has said so
        with self._lock:
            if self._degraded is not None or not self._is_open or len(self._queue) >= CAPACITY:
                self.dropped += 1
                is_news, self._said_closed = self._closing and not self._said_closed, self._closing
                if is_news:
                    log.warning("the journal is closed; what happens from now on is not written")
                return
            self._queue.append(fact)
            self._accepted += 1
            length = len(self._queue)
        if length == 1:
            self._filled.set()
            if self._thread is None:
                self.start()
        elif length == BATCH:
            self._hurry.set()

    def position(self) -> int:
        """How many facts have been accepted: what was recorded before is committed when ``committed`` gets there."""
        return self._accepted

    @property
    def is_crowded(self) -> bool:
        """Whether so much waits to be written that those who can wait had better."""
        return len(self._queue) >= CAPACITY // 2

    def is_committed(self, position: int) -> bool:
        """Whether nothing up to *position* need be waited for: it is committed, or it never will be."""
        return self._committed >= position or self._degraded is not None

    def tell_when_committed(self, position: int, waiter: Waiter) -> None:
        """Wake *waiter* as soon as ``is_committed(position)``; the batch is written at once."""
        with self._lock:
            settled = self.is_committed(position)
            if not settled:
                self._receipts.append((position, waiter))
        if settled:
            waiter.wake()
        else:
            self._hurry.set()
            self._filled.set()

    def start(self) -> None:
        """Start the thread, which opens the store. Harmless when it runs already."""
        with self._lock:
            if self._thread is not None or self._closing:
                return
            # A daemon, for a store that hangs must not keep the interpreter from ending; the watcher sees to it that
            # one that works is closed.
            self._thread = threading.Thread(target=self._work, name="recovery-journal", daemon=True)
        self._thread.start()
        _watch(self)

    def pending(self, timeout: float | None = None) -> Pending:
        """What the store held when it was opened; blocks until it is known, or *timeout* seconds (then: nothing)."""
        self.start()
        self.loaded.wait(timeout)
        return self._pending

    def seal(self) -> None:
        """Accept no more: what is cancelled from now on, because everything ends, is carried on next time."""
        with self._lock:
            self._is_open = False

    def close(self) -> None:
        """Stop accepting, write what was accepted, close the store. Idempotent, from any thread, 5 s at the most."""
        with self._lock:
            self._is_open = False
            self._closing = True
            thread = self._thread
        if thread is None:
            self.loaded.open()
        self._hurry.set()
        self._filled.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(0.0 if self._is_stuck else CLOSE_TIMEOUT)
            if thread.is_alive() and not self._is_stuck:
                self._is_stuck = True
                log.warning("the journal did not finish within %g s; left to itself", CLOSE_TIMEOUT)

    def after_fork(self) -> None:
        """In a forked child: the thread and the file are the parent's, and stay so."""
        if self._thread is None:
            return
        self._lock = threading.Lock()
        self._degraded = "this process was forked from the one that writes the journal"
        self._queue, self._receipts = [], []
        self.loaded.open()
        log.warning("%s; operations go on in memory", self._degraded)

    def _work(self) -> None:
        import asyncio  # here, so that importing recovery stays light

        with asyncio.Runner() as runner:
            try:
                runner.run(self._open())
            except Exception as error:  # whatever a store raises, operations go on
                self._degrade(error)
            self.loaded.open()
            while self._degraded is None:
                self._filled.wait()
                if not self._closing:
                    self._hurry.wait(FLUSH_INTERVAL)
                closing = self._closing  # read before the flush: what was accepted before closing is in it
                self._flush(runner)
                if closing:
                    break
            try:
                runner.run(self._store.close())
            except Exception as error:
                log.warning("closing the journal failed: %s", error)

    async def _open(self) -> None:
        await self._store.open(self.run)
        runs, rows = await self._store.unfinished()
        records: dict[str, CallRecord] = {}
        circuits: dict[tuple[str, str], OpenCircuit] = {}
        for row in rows:
            try:
                fact = decode(row.body)
            except CodecError as error:
                log.warning("the journal holds a row of call %s that cannot be read: %s", row.call, error)
            else:
                fold(records, row.run, (fact,))
                fold_circuits(circuits, row.run, (fact,))
        unfinished = tuple(record for record in records.values() if not record.is_over)
        self._pending = Pending(unfinished, {run.id: run for run in runs})
        if not circuits:
            return
        now = msgspec.structs.replace(self.run, monotonic=self._bus.clock(), wall=time.time())
        self._restore({part: reopened(circuit, self._pending.runs, now) for part, circuit in circuits.items()})

    def _flush(self, runner: asyncio.Runner) -> None:
        with self._lock:
            batch, self._queue = self._queue, []  # group commit: whatever came during the previous one
            self._filled.clear()
            self._hurry.clear()
        if not batch:
            return
        try:
            runner.run(self._store.append(self._rows(batch)))
        except Exception as error:
            self.dropped += len(batch)
            self._degrade(error)
            return
        with self._lock:
            self._committed += len(batch)
            due = [waiter for position, waiter in self._receipts if position <= self._committed]
            self._receipts = [receipt for receipt in self._receipts if receipt[0] > self._committed]
            if self._receipts:
                self._hurry.set()
        for waiter in due:
            waiter.wake()

    def _rows(self, batch: list[Fact]) -> list[Row]:
        rows = []
        for fact in batch:
            call = fact.call if isinstance(fact, CallFact) else ""
            try:
                rows.append(Row(self.run.id, call, type(fact).__name__, encode(redacted(fact))))
            except CodecError as error:  # one fact that cannot be written must not take its neighbours along
                self.dropped += 1
                log.warning("a fact is not journalled: %s", error)
        return rows

    def _degrade(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        with self._lock:
            self._degraded = reason
            self.dropped += len(self._queue)
            self._queue.clear()
            receipts, self._receipts = self._receipts, []
        for _, waiter in receipts:
            waiter.wake()
        log.warning("the journal cannot be written, operations go on in memory: %s", reason)
        self._bus.publish(JournalDegraded(at=self._bus.clock(), reason=reason))


_started: weakref.WeakSet[Journal] = weakref.WeakSet()
_watchers: list[threading.Thread] = []


def _watch(journal: Journal) -> None:
    """Close *journal* when the main thread ends, if nobody has.

    Whoever joins the main thread returns before the interpreter waits for the threads that are no daemons: this one
    keeps it waiting until everything is written, 5 s at the most for each journal.
    """
    _started.add(journal)
    if not _watchers:
        _watchers.append(threading.Thread(target=_close_with_main_thread, name="recovery-journal-watcher"))
        _watchers[0].start()


def _close_with_main_thread() -> None:
    threading.main_thread().join()
    for journal in list(_started):
        journal.close()


def _after_fork() -> None:
    _watchers.clear()
    for journal in list(_started):
        journal.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def boot_id() -> str:
    """What identifies this boot of the machine; "" where the system does not tell (then wall clocks are compared)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
