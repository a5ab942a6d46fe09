"""The writer's hold on the store: open it, open it again after a failure, close it once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from recovery.journal.config import JournalConfig
from recovery.journal.errors import ForeignJournalError, NewerJournalError
from recovery.journal.health import JournalHealth
from recovery.journal.history import Run
from recovery.journal.store import Store
from recovery.redact import redact

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

log = logging.getLogger("recovery.journal")


class StoreConnection:
    """Uses *store* from one thread and one asyncio loop of its own; after a failure the store is opened again.

    No user task awaits the store, so a cancelled task leaves no transaction open, and trio and plain threads need no
    bridge. ``reason`` may be read from any thread.
    """

    def __init__(
        self, store: Store, run: Run, health: JournalHealth, config: JournalConfig, on_failure: Callable[[], object]
    ) -> None:
        self.store = store
        self._run = run
        self._health = health
        self._config = config
        self._on_failure = on_failure
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
            import asyncio  # here, so that importing recovery stays light

            self._runner = asyncio.Runner()
        return self._runner.run(operation)

    def open(self) -> None:
        """Open the store; raises what the store raises."""
        for description in self.run(self.store.open(self._run)):
            self._health.quarantined(description)

    def opened(self) -> None:
        """The store is open, and what had to be read was read."""
        self.is_open = True
        self._pause = self._config.first_pause

    def restored(self, waiting: int, dropped: int) -> None:
        """The first batch after a failure is written."""
        self.reason = None
        self._health.restored(waiting, dropped)

    def fail(self, error: Exception) -> None:
        """The store failed with *error*: it is opened again after a pause."""
        self.is_open = False
        self.is_refused = isinstance(error, ForeignJournalError | NewerJournalError)
        self.retry_at = time.monotonic() + self._pause
        self._pause = min(self._pause * 2.0, self._config.longest_pause)
        reason = redact(f"{type(error).__name__}: {error}")
        is_new, self.reason = reason != self.reason, reason
        if is_new:
            self._health.degraded(reason)
        self._on_failure()

    def close(self) -> None:
        """Close the store, and the loop."""
        try:
            self.run(self.store.close())
        except Exception as error:
            log.warning(
                "the journal's store could not be closed: %s; the journal ends all the same", redact(str(error))
            )
        if self._runner is not None:
            self._runner.close()
