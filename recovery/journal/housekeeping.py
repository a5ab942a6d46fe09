"""What the writer does between two batches: find pending calls, answer queries, pass commands on, prune."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from events.lease_events import CallHandedBack
from events.own_log import own_log
from events.question_events import QuestionAnswered
from recovery.journal.circuit_history import OpenCircuit, Restore, reopened
from recovery.journal.connection import StoreConnection
from recovery.journal.encoding import readable, unfinished
from recovery.journal.lane import QueuedEvent
from recovery.journal.lookup import RecentCallCache
from recovery.journal.pending import Pending
from recovery.journal.store import CommandSink, Query, Store, Wants
from recovery.waiting.waiters import Latch

PRUNE_EVENTS = 4096
"""Events written before the store is asked again whether it has something to prune."""
ANSWER_SECONDS = 0.02
"""How long commits wait for answers to queries: each of ten thousand calls that are resumed asks one."""
DIED = "its process died"
"""Why a leg of a cluster's call is over that a dead process left."""
PRUNE_STEPS = 2
"""Slices pruned after each batch: a little more than the batch may have brought."""

log = own_log("recovery.journal")


class Housekeeping:
    """The work between two batches, on the writer's thread; ``queries`` and ``want_pending`` are for any thread.

    Args:
        connection: The store.
        recent_calls: Forgets its results when calls of another process are adopted.
        restore: Receives the circuits that earlier runs left open, and the questions and answers of all processes.
        commands: Receives the commands to this process.
        loaded: Opened when ``pending`` is known: the calls that earlier processes left.
    """

    def __init__(
        self,
        connection: StoreConnection,
        recent_calls: RecentCallCache,
        restore: Restore,
        commands: CommandSink | None,
        loaded: Latch,
    ) -> None:
        self._connection = connection
        self._recent_calls = recent_calls
        self._restore = restore
        self._commands = commands
        self._loaded = loaded
        self._has_read = False
        self.queries: deque[Query[Any]] = deque()
        """Queries to answer."""
        self._ended: set[str] = set()
        self.pending = Pending()
        self.has_commands = False
        """Whether more commands wait: they are looked for after the next batch."""
        self.is_pending_wanted = False
        self.adopted: Callable[[], object] | None = None
        """Called when ``pending`` is renewed: processes have died since. While it is ``None``, none are looked for."""
        self.wants: Wants | None = None
        """Which calls of processes that die meanwhile this one can resume."""
        self._is_adopting = False
        self._adopt_at = 0.0
        self._is_urgent = False
        self._was_read = self._must_read = False
        self._look_at = self._check_at = 0.0
        self._pruned_at = 0
        self._has_expired = True

    # the calls that earlier processes left

    def want_pending(self, *, now: bool) -> None:
        """Search soon. With *now*, report at once if the journal cannot be read, instead of waiting until it can."""
        self._is_urgent = self._is_urgent or now
        self.is_pending_wanted = True

    def read_once(self) -> None:
        """Read what the file holds when it opens for the first time, and restore its open circuits."""
        if not self._was_read:
            circuits = self._read()
            self._was_read = True
            if circuits:
                now = self._connection.now()
                self._restore.circuits(
                    {key: reopened(circuit, self.pending.runs, now) for key, circuit in circuits.items()}
                )

    @property
    def is_searching(self) -> bool:
        """Whether the next turn of the writer should come at once: a search is wanted, or half done."""
        return self.is_pending_wanted or (self._is_adopting and self.adopted is not None)

    def search(self) -> None:
        """If it is wanted or time: adopt the files of dead processes, batch by batch, read their calls, and report."""
        adopt_every, now = self._connection.config.adopt_every, time.monotonic()
        is_due = self.adopted is not None and adopt_every is not None and now >= self._adopt_at
        if not (is_due or self.is_searching):
            return
        self._adopt_at = now + (adopt_every or 0.0)  # now: after an adoption that fails, too
        self._is_adopting = self._connection.run(self._adopt_some(self._connection.store))
        if self._is_adopting:
            return
        has_found, adopted = self._must_read, self.adopted
        if has_found:
            self._recent_calls.forget_results()
            self._read()
            self._must_read = False
        if self.is_pending_wanted:
            self._look_at = 0.0
            self.take_commands()  # orders for the process that resumes calls, before it does
            self._report()
        if has_found and adopted is not None:
            adopted()

    async def _adopt_some(self, store: Store) -> bool:
        """Adopt for a moment; whether there may be more. Notes that there are calls to read."""
        # An adoption that fails half-way may have brought some calls, too.
        must_read, self._must_read = self._must_read, True
        found = await store.adopt(None if self.is_pending_wanted else self.wants)
        self._must_read = must_read or found
        return found

    def _read(self) -> dict[tuple[str, str], OpenCircuit]:
        runs, rows = self._connection.run(self._connection.store.unfinished())
        circuits, self.pending = unfinished(runs, rows, self._connection.this_run.id)
        for record in self.pending.leased:
            if record.call not in self._ended:  # what ends it may not be written yet
                self._ended.add(record.call)
                self._connection.bus.publish(
                    CallHandedBack(
                        at=self._connection.now().monotonic,
                        operation=record.operation,
                        key=record.key,
                        call=record.call,
                        attempt=record.attempt,
                        reason=DIED,
                    )
                )
        return circuits

    def _report(self) -> None:
        self.is_pending_wanted = False
        self._loaded.open()

    # queries

    def answer(self, *, all_of_them: bool = False) -> None:
        """Answer queries for ``ANSWER_SECONDS``, or *all_of_them*; the others are answered after the next batch.

        None is answered while a search that is wanted goes on.
        """
        latest = math.inf if all_of_them else time.monotonic() + ANSWER_SECONDS
        while self.queries and not self.is_pending_wanted:
            query = self.queries[0]
            query.answer = self._connection.run(query.run(self._connection.store))
            query.end()
            self.queries.popleft()
            if time.monotonic() >= latest:
                break

    def settle(self, *, is_over: bool = False) -> None:
        """End, without an answer, what waits for a store that cannot be read now, or that is closed: *is_over*."""
        if is_over or not self._connection.is_open:
            while self.queries:
                self.queries.popleft().end()
            if self.is_pending_wanted and (is_over or self._is_urgent or self._connection.is_refused):
                self._report()

    # the files, commands, pruning

    def check(self) -> None:
        """Check now and then that the store still writes where it was opened: while idle it would not notice."""
        now = time.monotonic()
        if now >= self._check_at:
            self._check_at = now + self._connection.config.command_interval
            self._connection.run(self._connection.store.check())

    def take_commands(self) -> None:
        """Pass on the commands to this process, and what is asked and answered, if it is time to look for them."""
        commands, now = self._commands, time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + self._connection.config.command_interval
        try:
            if commands is not None:
                self.has_commands = self._connection.run(self._connection.store.commands(commands))
                self._look_at = now if self.has_commands else self._look_at
        except Exception:
            self.has_commands = False
            log.exception("commands to this process could not be carried out; the next ones are")
        try:
            if self._connection.is_open:
                self._pass_answers()
        except Exception:
            log.exception("the answers of the journal could not be read; they are read again")

    def withhold(self, batch: Sequence[QueuedEvent]) -> None:
        """Take the answers to secret questions out of *batch*; another process may have called a question secret."""
        if not self._restore.has_answers():
            return
        answers = [(entry, entry.event) for entry in batch if isinstance(entry.event, QuestionAnswered)]
        if answers:
            try:
                self._pass_answers()
                is_read = True
            except Exception:
                log.exception("the questions of other processes could not be read")
                is_read = False
            for entry, event in answers:
                entry.event = self._restore.answer(event, is_read)
        if changed := self._restore.to_remember():
            try:
                self._connection.run(self._connection.store.remember(changed))
            except Exception as error:
                for one in changed:
                    log.warning("the store cannot keep or drop the answer to the question %r (%s)", one.name, error)

    def _pass_answers(self) -> None:
        rows = self._connection.run(self._connection.store.questions())
        if rows or not self._has_read:
            remembered = self._connection.run(self._connection.store.remembered())
            self._restore.questions([event for _, event in readable(rows)], remembered)
            self._has_read = True

    def prune(self, stored: int) -> None:
        """Delete a few expired calls, if there may be some after *stored* events."""
        if stored >= self._pruned_at + PRUNE_EVENTS:
            self._pruned_at = stored
            self._has_expired = True
        for _ in range(PRUNE_STEPS):
            self._has_expired = self._has_expired and self._connection.run(self._connection.store.prune())
