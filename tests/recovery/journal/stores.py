"""Stores that stall or fail, and journals without a service, for the tests of this folder."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from adapters.memory import MemoryStore
from events.bus import Bus
from events.operation_events import GaveUp
from recovery.journal.config import JournalConfig
from recovery.journal.core import JournalCore
from recovery.journal.store import Row, Store


class Gated(MemoryStore):
    """Writes while its gate is open, or one batch for each permit; *asked* is set by the first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.asked = threading.Event(), threading.Event()
        self.permits = threading.Semaphore(0)
        self.batches = 0

    async def append(self, rows: Sequence[Row]) -> None:
        self.asked.set()
        while not self.gate.is_set() and not self.permits.acquire(timeout=0.001):
            pass
        self.batches += 1
        await super().append(rows)


class Flapping(MemoryStore):
    """Fails to write every other time."""

    batches = 0

    async def append(self, rows: Sequence[Row]) -> None:
        self.batches += 1
        if self.batches % 2:
            raise OSError("flap")
        await super().append(rows)


def core_of(store: Store, bus: Bus | None = None, **config: Any) -> JournalCore:
    """A journal that writes all events of *bus*, with the limits *config*; ``closing()`` closes it."""
    return JournalCore(store, bus or Bus(), lambda _: None, config=JournalConfig(**config))


def gave_up(number: int = 0) -> GaveUp:
    return GaveUp(at=0.0, operation="fetch", call=f"call-{number}")


def kinds(store: MemoryStore) -> list[str]:
    return [row.kind for row in store.rows]
