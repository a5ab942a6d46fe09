"""The writer's hold on the store: open it, open it again after a failure, close it once, and say what happened."""

from __future__ import annotations

import asyncio  # not on the journal's thread: a child that is forked during an import can never import that module
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec

from events.bus import Bus
from events.journal_events import JournalDegraded, JournalQuarantined, JournalRestored
from events.own_log import own_log
from recovery.journal.config import JournalConfig
from recovery.journal.errors import ForeignJournalError, NewerJournalError
from recovery.journal.history import Run
from recovery.journal.store import Store
from recovery.redact import brief

T = TypeVar("T")

log = own_log("recovery.journal")


class StoreConnection:
    """Uses *store* from one thread and one asyncio loop of its own; after a failure the store is opened again.

    No user task awaits the store, so a cancelled task leaves no transaction open, and trio and plain threads need no
    bridge. Changes are logged, and published on *bus*. ``reason`` may be read from any thread. *settled* is called
    when waits may have ended: after a failure, and by the writer.
    """

    def __init__(self, store: Store, run: Run, bus: Bus, config: JournalConfig, settled: Callable[[], object]) -> None:
        self.store = store
        self.this_run = run
        self.bus = bus
        self.config = config
        self.settled = settled
        self._runner: asyncio.Runner | None = None
        self._pause = config.first_pause
        self.is_open = False
        self.is_refused = False
        """Whether the latest failure cannot pass: the file is foreign, or of a newer release."""
        self.retry_at = 0.0
        """When to open the store again, in monotonic seconds."""
        self.reason: str | None = None
        """Why nothing can be written at the moment, or ``None``."""

    def run(self, operation: Coroutine[Any, Any, T]) -> T:
        """Run one operation of the store to its end; on the writer's thread only."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(operation)

    def now(self) -> Run:
        """This run, with its clocks read at this moment."""
        return msgspec.structs.replace(self.this_run, monotonic=self.bus.clock(), wall=time.time())

    def open(self) -> None:
        """Open the store; raises what the store raises."""
        for description in self.run(self.store.open(self.this_run)):
            log.warning("the journal goes on in another file: %s", description)
            self.bus.publish(JournalQuarantined(at=self.bus.clock(), reason=description))
        self.is_open = True

    def restored(self, waiting: int, dropped: int) -> None:
        """The first batch after a failure is written; *waiting* events are written now, *dropped* events are lost."""
        self.reason = None
        self._pause = self.config.first_pause
        log.warning("the journal is written again: %d events wait to be written, %d were dropped", waiting, dropped)
        self.bus.publish(JournalRestored(at=self.bus.clock(), waiting=waiting, dropped=dropped))

    def fail(self, error: Exception) -> None:
        """The store failed with *error*: it is opened again after a pause."""
        self.is_open = False
        self.is_refused = isinstance(error, ForeignJournalError | NewerJournalError)
        self.retry_at = time.monotonic() + self._pause
        self._pause = min(self._pause * 2.0, self.config.longest_pause)
        reason = brief(f"{type(error).__name__}: {error}")
        is_new, self.reason = reason != self.reason, reason
        if is_new:
            log.warning("the journal cannot be written and will try again; operations go on in memory: %s", reason)
            self.bus.publish(JournalDegraded(at=self.bus.clock(), reason=reason))
        self.settled()

    def close(self) -> None:
        """Close the store, and the loop."""
        try:
            self.run(self.store.close())
        except Exception as error:
            log.warning("the journal ends, but its store could not be closed: %s", brief(str(error)))
        if self._runner is not None:
            self._runner.close()
