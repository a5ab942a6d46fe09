"""A store for the state machine: its disk can be full, and be copied between two batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from adapters.sqlite.retention import Retention
from adapters.sqlite.store import SQLiteStore
from events.event import CallEvent, Event
from events.operation_events import CheckpointSaved
from recovery.journal.errors import JournalError
from recovery.journal.history import Run
from recovery.journal.store import Row

PROGRESS = CheckpointSaved.__name__


class DiskStore(SQLiteStore):
    """A SQLite store whose disk can be full and can be copied. *lag* is how many batches it acknowledges too early."""

    def __init__(self, path: Path, wall: Callable[[], float], lag: int) -> None:
        super().__init__(path, wall=wall, retention=Retention(calls=3), busy_timeout=0.0)
        self.between = threading.Lock()
        self.is_full = False
        self._unwritten: list[Sequence[Row]] = []
        self._lag = lag

    def forked(self) -> Self:
        raise JournalError("the state machine never forks")

    async def append(self, rows: Sequence[Row]) -> None:
        with self.between:
            if self.is_full:
                raise JournalError("database or disk is full")
            self._unwritten.append(rows)
            if len(self._unwritten) > self._lag:
                await super().append(self._unwritten.pop(0))

    async def open(self, run: Run) -> Sequence[str]:
        with self.between:
            return await super().open(run)

    async def close(self) -> None:
        with self.between:
            await super().close()

    async def prune(self) -> bool:
        with self.between:
            return await super().prune()


def name_of(event: Event) -> str:
    """A name that is unique among the events of its call."""
    about = f" {bytes(event.data).decode()}" if isinstance(event, CheckpointSaved) else ""
    return f"{type(event).__name__} {getattr(event, 'attempt', 0)}{about}"


def is_prefix(kept: list[str], expected: list[str], *, whole: bool = False) -> bool:
    """Whether *kept* is a prefix of *expected* (with *whole*, all of it); progress may miss all but its latest."""
    left = list(kept)
    for name in expected:
        if left and left[0] == name:
            left.pop(0)
        elif not name.startswith(PROGRESS):
            return not left and not whole
    return not left


def kept_of(events: list[tuple[str, CallEvent]], names: list[str]) -> list[tuple[str, CallEvent]]:
    """The *events*, with their runs, that have these *names*."""
    left, kept = list(names), []
    for run, event in events:
        if left and left[0] == name_of(event):
            left.pop(0)
            kept.append((run, event))
    return kept
