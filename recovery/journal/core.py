"""The journal's machinery: it puts queue, writer, receipts, lookup and back-pressure together, and ends them.

The service, the runner and the resumer use it; users see ``recovery.journal.journal.Journal``.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import TypeVar

from events.bus import Bus
from events.event import Event
from events.journal_events import JournalDegraded, JournalRestored
from events.kinds import kinds_of
from events.operation_events import CallLeftPending, OperationFailed, OperationStarted, OperationSucceeded
from events.own_log import own_log
from recovery.journal.back_pressure import BackPressure
from recovery.journal.boot import boot_id
from recovery.journal.circuit_history import Restore
from recovery.journal.config import JOURNAL_DEFAULTS, JournalConfig
from recovery.journal.connection import StoreConnection
from recovery.journal.history import Run
from recovery.journal.housekeeping import Housekeeping
from recovery.journal.lane import IS_ORDINARY, Lane
from recovery.journal.lookup import Lookup, RecentCallCache
from recovery.journal.pending import Pending
from recovery.journal.queue import WriteQueue
from recovery.journal.receipts import CommitTracker
from recovery.journal.store import CommandSink, Query, Store, Wants
from recovery.journal.writer import Writer
from recovery.settings import ConfigOf
from recovery.waiting.daemon_threads import is_process_ending, start, wait_for_last_thread
from recovery.waiting.waiters import Latch

T = TypeVar("T")

log = own_log("recovery.journal")

_journals: weakref.WeakSet[JournalCore] = weakref.WeakSet()
_watchers: list[threading.Thread] = []


class JournalCore:
    """Writes the events of *bus* to *store* in batches, from a thread that starts with the first event.

    Args:
        store: Where the events are written.
        bus: Its events are written, and the journal publishes its own there (``JournalDegraded``, ...).
        config_of: The config of an operation. Operations with durability "off" are not written.
        restore: Receives the circuits that earlier runs left open, and the questions and answers of all processes.
        commands: Receives the commands that reach this process through the store.
        config: The limits.
    """

    def __init__(
        self,
        store: Store,
        bus: Bus,
        config_of: ConfigOf,
        restore: Restore = Restore(),  # noqa: B008  # it is immutable
        commands: CommandSink | None = None,
        config: JournalConfig = JOURNAL_DEFAULTS,
    ) -> None:
        self.store = store
        self._bus = bus
        self._config_of = config_of
        self._restore = restore
        self._commands = commands
        self._config = config
        self._followed: set[str] = set()
        self.at_exit: Callable[[], object] = lambda: None
        """Called as the process ends in good order, if the journal is not closed before."""
        self.lane = Lane()
        """Takes ordinary events, and the records of the compiled failure path."""
        self.back_pressure = BackPressure(self._is_unwritable, config.stall_timeout)
        self._begin()
        _journals.add(self)
        kinds = (kind for kind in kinds_of(Event) if kind is not OperationFailed)
        self.subscription = bus.subscribe(kinds, self.record, essential=True)
        """To all that is written, but for the starts and successes of ``follow``."""

    def _begin(self) -> None:
        """Make everything that belongs to this process: at first, and again in a forked child."""
        bus, config = self._bus, self._config
        self._lock = threading.RLock()
        self._is_started = self._is_closing = self._is_stuck = False
        self._logged: set[str] = set()
        self.loaded = Latch()
        """Opens when ``pending()`` is known."""
        self.run = Run(id=bus.run, boot=boot_id(), monotonic=bus.clock(), wall=time.time(), pid=os.getpid())
        """This process, and what its clocks mean."""
        self.queue = queue = WriteQueue(config.capacity, config.max_bytes, self.lane)
        self.back_pressure.begin(queue)
        recent_calls = RecentCallCache(self.run.id, config.recent_bytes)
        self._connection = connection = StoreConnection(self.store, self.run, bus, config, self._settled)
        self._housekeeping = Housekeeping(connection, recent_calls, self._restore, self._commands, self.loaded)
        self.writer = Writer(connection, queue, recent_calls, self._housekeeping)
        self.tracker = CommitTracker(queue, self.writer, self.start)
        self.lookup = Lookup(recent_calls, queue, self.ask)

    def _is_unwritable(self) -> bool:
        return self.writer.reason is not None or self.writer.is_over or self.queue.is_closed

    # events

    def follow(self, operation: str) -> None:
        """Write the starts and successes of this operation too. Harmless if that is done already."""
        if operation not in self._followed:
            self._followed.add(operation)
            kinds = (OperationStarted, OperationSucceeded)
            self._bus.subscribe(kinds, self.record, operation=operation, essential=True)

    def record(self, event: Event) -> None:
        """Accept *event*, if it is to be written. Never waits for the store, and raises no error of the store.

        A refused event is dropped and counted. The reason is logged once.
        """
        config = self._config_of(event.operation)
        if config is not None and config.durability == "off":
            return
        if type(event) is OperationSucceeded and event.recovered:
            return  # OperationRecovered has been recorded
        lane, is_ordinary = self.lane, IS_ORDINARY.get(type(event), False)
        if len(lane.records) < lane.limit and (is_ordinary is None or (is_ordinary and is_ordinary(event))):
            lane.append(event)
            return
        if type(event) is CallLeftPending or (
            self._is_closing and isinstance(event, JournalDegraded | JournalRestored)
        ):
            return  # said again by each process that finds the call; or an event of the journal's own end
        if self.queue.put(event):
            if not self._is_started:
                self.start()
        else:
            self._log_refusal()

    def _log_refusal(self) -> None:
        if self.queue.is_interrupted():
            text = "an event is dropped: a signal handler published it; a handler must set a flag or raise instead"
        elif self._is_closing:
            text = "the journal is closed: later events are not written"
        elif self.writer.reason is None and not self.queue.is_closed:
            text = "events are dropped: they come faster than the journal can be written; `journal.counts` counts them"
        else:
            return
        if text not in self._logged:
            self._logged.add(text)
            log.warning(text)

    # calls that earlier processes left

    def look(self, *, now: bool = False) -> None:
        """Find the calls that earlier processes left; ``loaded`` opens when they are known, or never will be.

        While the journal cannot be read, ``loaded`` stays closed; with *now* it opens at once, and nothing was left.
        """
        self.start()
        if self._is_started:
            self.writer.ask_for_pending(now=now)
        if not self._is_started or self.writer.is_over:
            self.loaded.open()

    def pending(self, timeout: float | None = None) -> Pending:
        """The calls that earlier processes left. Blocks until they are known; after *timeout* seconds, none are."""
        if not self.loaded.is_open:
            self.look()
            self.loaded.wait(timeout)
        return self._housekeeping.pending if self.loaded.is_open else Pending()

    def keep_adopting(self, adopted: Callable[[], object] | None, wants: Wants | None = None) -> None:
        """Adopt the files of processes that die: renew ``pending()``, and call *adopted* on the journal's thread.

        Calls that this process goes on with may be in ``pending()`` then. ``None`` ends it. *wants*: see ``Store``.
        """
        self._housekeeping.wants, self._housekeeping.adopted = wants, None if self._is_closing else adopted

    def ask_for_pending(self) -> Query[bool]:
        """As ``look``; the query ends when ``loaded`` is open, or as soon as the journal cannot be read."""

        async def read(_: Store) -> bool:
            return True

        self.look()
        return self.ask(Query(read))

    def ask(self, query: Query[T]) -> Query[T]:
        """Have *query* answered on the journal's thread; it ends without an answer while the journal cannot be read."""
        self.start()
        if self._is_started and self.writer.reason is None and not self.writer.is_current_thread:
            self.writer.submit(query)
        else:
            query.end()  # there is no answer, or none soon
        return query

    # from the start to the end

    def start(self) -> None:
        """Start the writer, which opens the store. Harmless if it runs already.

        If no thread can be started, the journal is degraded, and the next event tries again. If the process is about to
        end, the journal is closed instead: no thread would be waited for.
        """
        with self._lock:
            if self._is_started or self._is_closing:
                return
            is_too_late = is_process_ending()
            self._is_started = not is_too_late
        if is_too_late:
            self.finish()
            self._log_refusal()
            return
        try:
            start(self.writer.thread)
            _watch_process(self._config.close_timeout)
        except RuntimeError as error:
            if self.writer.thread.ident is None:
                self._is_started = False
                self._connection.fail(error)

    def close(self) -> None:
        """Accept no more events, write the accepted ones, close the store; see ``Journal.close``."""
        self.finish()
        self.wait_for_end(self._config.close_timeout)

    def finish(self) -> None:
        """Begin to close, without waiting."""
        with self._lock:
            self._is_closing = True
            is_started = self._is_started
        self.keep_adopting(None)
        self.queue.close()
        (self.writer.finish if is_started else self.writer.end)()

    def wait_for_end(self, timeout: float) -> None:
        """Block until all is written and closed, for up to *timeout* seconds; if that is too short, log it once."""
        if not self._is_started or self.writer.is_current_thread:
            return
        parts = (self.queue, self.tracker, self.back_pressure)
        if self._lock._is_owned() or any(part.is_interrupted() for part in parts):  # type: ignore[attr-defined]  # as ``Condition``
            return  # a signal handler: the writer needs a lock that this very thread holds
        thread = self.writer.thread
        thread.join(0.0 if self._is_stuck else timeout)
        if thread.is_alive() and not self._is_stuck:
            self._is_stuck = True
            log.warning(
                "the journal did not end in %g s, the store hangs; events may be lost", self._config.close_timeout
            )

    def after_fork(self) -> None:
        """Get a queue, thread and file of the forked child's own; or close, as the parent or without a file."""
        problem = None
        if self._is_started:
            try:
                self.store = self.store.forked()
            except Exception as error:  # other journals must learn of the fork, too
                problem = error
        was_closing = self._is_closing
        self._bus.begin_run()
        self._begin()
        if self._commands is not None:
            self._commands.after_fork()
        if problem is not None:
            log.warning("nothing is journalled in this forked child: %s: %s", type(problem).__name__, problem)
        if was_closing or problem is not None:
            self.close()

    # reports of the writer, on its thread

    def _settled(self) -> None:
        """The writer has made a step: end the waits that it settles."""
        if self.writer.is_over:
            self.loaded.open()
        self.back_pressure.move(self.writer.committed)
        self.tracker.wake_settled()


# the process: forks, its end, its boot


def _watch_process(timeout: float) -> None:
    """Start one thread that ends all journals after the last thread that the interpreter waits for.

    This thread is not a daemon, so the interpreter waits for it, too: all journals together have *timeout* seconds.
    """
    if not _watchers:
        thread = threading.Thread(None, _end_with_process, "recovery-journal-watcher", (timeout,), daemon=False)
        start(thread)
        _watchers.append(thread)


def _end_with_process(timeout: float) -> None:
    wait_for_last_thread()
    journals, end = list(_journals), time.monotonic() + timeout
    for journal in journals:
        if not journal._is_closing:
            journal.at_exit()
        journal.finish()
    for journal in journals:
        journal.wait_for_end(max(end - time.monotonic(), 0.0))


def _after_fork() -> None:
    _watchers.clear()
    for journal in list(_journals):
        journal.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
