"""From the start of a service to its close: the journal's thread, and the calls that it resumes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from events.fork_locks import fork_safe
from recovery.journal.config import JournalConfig
from recovery.waiting.daemon_threads import start_daemon
from recovery.waiting.waiters import Latch

if TYPE_CHECKING:
    import anyio.abc

    from events.bus import Bus
    from recovery.execution.joinable import JoinableCalls
    from recovery.journal.circuit_history import Restore
    from recovery.journal.core import JournalCore
    from recovery.journal.journal import Journal
    from recovery.journal.store import CommandSink, Store
    from recovery.registry import Registry
    from recovery.resume.again import Repeater, Tasks
    from recovery.resume.handles import Resumption
    from recovery.resume.repetition import Repetition, Selection
    from recovery.resume.resumer import RunnerOf
    from recovery.settings import ConfigOf
    from recovery.waiting.calls import WaitingCalls


class Lifetime:
    """What a service starts and closes: ``journal`` once it has a store, ``resumption`` once it resumes calls.

    ``face`` is the journal as users see it.
    """

    def __init__(self, journal_config: JournalConfig, joinable: JoinableCalls, bus: Bus) -> None:
        if not isinstance(journal_config, JournalConfig):
            raise TypeError(f"journal_config must be a JournalConfig, not {journal_config!r}")
        self._journal_config = journal_config
        self._joinable = joinable
        self._bus = bus
        self.journal: JournalCore | None = None
        self.face: Journal | None = None
        self.resumption: Resumption | None = None
        self._group: anyio.abc.TaskGroup | None = None
        self._tasks: Tasks | None = None
        self._repeater: Repeater | None = None
        self._is_closed = False
        self._entered = 0
        self._thread = 0
        self._within_tasks = 0
        self._resuming = fork_safe(threading.Lock())

    def add_store(self, store: Store, bus: Bus, config_of: ConfigOf, restore: Restore, commands: CommandSink) -> None:
        """Make the journal, which writes to *store*; the arguments are those of ``JournalCore``."""
        _check(store)
        if self.journal is not None:
            raise ValueError("this service already has a store; make another service for another store")
        # Here, with all that the journal needs until its end: a service without a store is imported without it.
        from recovery.journal.core import JournalCore
        from recovery.journal.journal import Journal
        from recovery.resume.resumer import Resumer

        self._resumer = Resumer
        self.journal = JournalCore(store, bus, config_of, restore, commands, self._journal_config)
        self.journal.at_exit = self._joinable.register.close
        self.face = Journal(self.journal)

    def resume(self, runner_of: RunnerOf, jitter: Callable[[int], float]) -> Resumption:
        """Begin to resume calls: as tasks under ``async with``, in threads otherwise. Once in each process."""
        if self.journal is None:
            raise ValueError("there is nothing to resume without a store: Recovery(store=...)")
        if self._group is not None and threading.get_ident() != self._thread:
            raise RuntimeError(
                "resume() was called outside the thread of the service's `async with`, whose tasks resume calls; call "
                "it there, or launcher.resume() of a blocking launcher"
            )
        with self._resuming:  # two threads that call resume() at once would run every call twice
            if self.resumption is None or not self.resumption.is_ours:
                made = self._resumer(self._joinable, runner_of, self.journal, jitter)
                self.resumption = made.in_threads() if self._group is None else made.in_tasks(self._group)
            else:
                self.resumption.pick_up()
            return self.resumption

    def again(
        self,
        selection: Selection,
        runner_of: RunnerOf,
        registry: Registry,
        waiting: WaitingCalls,
        *,
        keep_checkpoint: bool,
    ) -> Repetition:
        """Run calls of the journal again: as tasks under ``async with``, plain ones in threads."""
        from recovery.resume.again import Repeater  # here, for what is run again

        if self.journal is None:
            raise ValueError("there is nothing to run again without a store: Recovery(store=...)")
        with self._resuming:
            if self._repeater is None:
                conditions = waiting.conditions
                self._repeater = Repeater(
                    registry, self._joinable, runner_of, self.journal, conditions.clock, conditions.jitter
                )
        return self._repeater.start(selection, keep_checkpoint=keep_checkpoint, tasks=self._tasks)

    def written(self) -> None:
        """Block until all that was published is in the journal. Raises NotDurable if it cannot be written."""
        assert self.journal is not None
        self.journal.tracker.receipt().wait()

    def pick_up(self, operation: str) -> None:
        """*operation* is defined: if its calls were left, a resumption that has begun resumes them now."""
        if self.resumption is not None and self._joinable.pending.has_left(operation):
            self.resumption.pick_up()

    def enter(self) -> None:
        """``with`` begins, perhaps inside another one. Raises RuntimeError as ``start``."""
        self.start()
        self._entered += 1

    def leave(self) -> None:
        """``with`` ends: the outermost one closes."""
        self._entered -= 1
        if not self._entered:
            self.close()

    def start(self) -> None:
        """Start the journal's thread. Raises RuntimeError after ``close``: a journal is not opened again."""
        if self.journal is not None:
            if self._is_closed:
                raise RuntimeError(
                    "this service was closed, and its journal with it: nothing would be written; "
                    "make a new service for each `with`, as in `with Recovery(store=...) as service`"
                )
            self.journal.start()

    def close(self) -> None:
        """Leave the calls that run pending, write what the journal has accepted, and close it; then drain the bus."""
        self._is_closed = True
        if self._repeater is not None:
            self._repeater.has_ended = True
        self._joinable.register.close()
        if self.journal is not None:
            self.journal.close()
        queued = sys.modules.get("events.queued")  # imported with the first subscriber that has a queue
        if queued is not None:
            queued.drain(self._bus)

    def stop(self) -> None:
        """Leave the calls that run pending; what becomes of them from now on is not written."""
        self._joinable.register.close()
        if self.journal is not None:
            self.journal.queue.close()

    async def begin(self) -> None:
        """Start, with a task group for the calls to resume; inside another ``async with`` nothing more happens."""
        import anyio.lowlevel  # here, for ``async with``, with what ``end`` needs: it takes milliseconds

        self.enter()
        if self._group is not None:
            self._within_tasks += 1
            return
        self._group, self._thread = anyio.create_task_group(), threading.get_ident()
        await self._group.__aenter__()
        if self.journal is not None:
            from recovery.resume.again import Tasks

            self._tasks = Tasks(self._group)

    async def end(self, *, has_failed: bool) -> None:
        """Wait for the resumed calls, or cancel them if the body *has_failed*; then close."""
        import anyio.lowlevel

        if self._within_tasks:
            self._within_tasks -= 1
            self._entered -= 1
            return
        group, self._group = self._group, None
        assert group is not None
        if self.resumption is not None:
            self.resumption.close()
        if self._tasks is not None:
            self._tasks.close()
            self._tasks = None
        try:
            # The body's own exception passes as it is, not in a group: what the group runs raises nothing.
            if has_failed:
                self.stop()  # calls that are cancelled with the launcher are resumed next time
                group.cancel_scope.cancel()
            await group.__aexit__(None, None, None)
        finally:
            closed = Latch()
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()  # raises if the loop is gone: a thread started then would never run
                # A daemon: Ctrl+C while one of anyio's worker threads starts leaves that thread without an end.
                start_daemon("recovery-close", self._close_and_open, closed)
                await closed.opened()

    def _close_and_open(self, closed: Latch) -> None:
        try:
            self.leave()
        finally:
            closed.open()


def _check(store: object) -> None:
    from recovery.journal.store import Store  # here, for a journal alone

    if not all(hasattr(store, name) for name in vars(Store) if not name.startswith("_")):
        raise TypeError(f"store must be a Store, as SQLiteStore({store!r}) is, not {store!r}")
