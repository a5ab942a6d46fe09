"""What the writer does between two batches: find pending calls, answer queries, pass commands on, prune."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from recovery.journal.connection import StoreConnection
from recovery.journal.encoding import unfinished
from recovery.journal.health import JournalHealth
from recovery.journal.history import OpenCircuit, Run
from recovery.journal.recent_calls import RecentCallCache
from recovery.journal.store import CommandSink, Pending, Query

PRUNE_EVENTS = 4096
"""Events written before the store is asked again whether it has something to prune."""
PRUNE_STEPS = 2
"""Slices pruned after each batch: a little more than the batch may have brought."""

log = logging.getLogger("recovery.journal")


class PendingSearch:
    """Finds the calls that earlier processes left. *found* is called with them once for each ``want()``."""

    def __init__(
        self,
        connection: StoreConnection,
        recent_calls: RecentCallCache,
        run: Run,
        health: JournalHealth,
        found: Callable[[Pending], None],
    ) -> None:
        self._connection = connection
        self._recent_calls = recent_calls
        self._run = run
        self._health = health
        self._found = found
        self._was_read = False
        self._must_read = False
        self._is_urgent = False
        self.is_wanted = False
        self.pending = Pending()

    def want(self, *, now: bool) -> None:
        """Search soon. With *now*, report at once if the journal cannot be read, instead of waiting until it can."""
        self._is_urgent = self._is_urgent or now
        self.is_wanted = True

    def read_once(self) -> None:
        """Read what the file holds, when it opens for the first time; raises what the store raises."""
        if not self._was_read:
            circuits, self.pending = self._read()
            self._was_read = True
            self._health.opened(circuits, self.pending)

    def search(self) -> None:
        """Adopt the files of dead processes, read their calls, and report."""
        connection = self._connection
        if connection.is_open:
            try:
                # An adoption that failed half-way may have brought some calls, too.
                must_read, self._must_read = self._must_read, True
                if connection.run(connection.store.adopt()) or must_read:
                    self._recent_calls.forget_results()
                    _, self.pending = self._read()
                self._must_read = False
            except Exception as error:
                connection.fail(error)
        if connection.is_open or self._is_urgent or connection.is_refused:
            self.report()

    def report(self) -> None:
        """Call *found* with what is known, and be wanted no more."""
        self.is_wanted = False
        self._found(self.pending)

    def _read(self) -> tuple[dict[tuple[str, str], OpenCircuit], Pending]:
        runs, rows = self._connection.run(self._connection.store.unfinished())
        return unfinished(runs, rows, self._run.id)


class Housekeeping:
    """Answers queries, passes commands to *commands*, and prunes; on the writer's thread, apart from ``queries``."""

    def __init__(self, connection: StoreConnection, commands: CommandSink | None, command_interval: float) -> None:
        self._connection = connection
        self._commands = commands
        self._command_interval = command_interval
        self._look_at = 0.0
        self._pruned_at = 0
        self._has_expired = True
        self.queries: deque[Query] = deque()
        """Queries to answer; from any thread."""

    def answer(self) -> None:
        """Answer all queries; without an answer where the store cannot be read."""
        while self.queries:
            query = self.queries.popleft()
            try:
                if self._connection.is_open:
                    query.answer = self._connection.run(query.run(self._connection.store))
            except Exception as error:
                self._connection.fail(error)
            query.latch.open()

    def refuse_queries(self) -> None:
        """Let the queries that are left end without an answer."""
        for query in self.queries:
            query.latch.open()

    def take_commands(self) -> None:
        """Pass on the commands to this process, if it is time to look for them."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + self._command_interval
        try:
            for command in self._connection.run(self._connection.store.commands(self._concerns)):
                if self._commands is not None:
                    self._commands.carry_out(command)
        except Exception:
            log.exception("commands to this process could not be carried out; the next ones are")

    def _concerns(self, call: str) -> bool:
        return self._commands is not None and self._commands.concerns(call)

    def prune(self, stored: int) -> None:
        """Delete a few expired calls, if there may be some after *stored* events; raises what the store raises."""
        if stored >= self._pruned_at + PRUNE_EVENTS:
            self._pruned_at = stored
            self._has_expired = True
        for _ in range(PRUNE_STEPS):
            self._has_expired = self._has_expired and self._connection.run(self._connection.store.prune())
