"""Publish the events of failing calls as fast as the journal accepts them; write the same rows by ``executemany``."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.measure import Clock
from events.event import Event
from events.evidence import Category, Evidence
from events.operation_events import FailureClassified, OperationRecovered, RetryScheduled
from recovery import Recovery
from recovery.journal.config import JOURNAL_DEFAULTS

BATCH = 1024
"""Rows in one transaction, as in a flood of the journal."""
BATCH_EVERY = 0.02
"""Seconds between two batches of a thread that writes steadily, as in the journal."""
EVIDENCE = Evidence(
    type="ConnectionResetError", kinds=("ConnectionError", "OSError"), message="[Errno 104] reset", errno=104
)
_CHECK_EVERY = 256
_HALF_FULL = JOURNAL_DEFAULTS.capacity // 2
_PAUSE = 0.0005


def events(first: int, count: int, clock: float) -> Iterator[Event]:
    """Yield the events of *count* / 3 calls that fail once: the classified failure, the retry, the recovery."""
    for number in range(first, first + count // 3):
        call = f"bench-{number}"
        failure = FailureClassified(
            at=clock, operation="flow", call=call, category=Category.TRANSIENT, rule="by type", evidence=EVIDENCE
        )
        yield failure
        yield RetryScheduled(
            at=clock,
            operation="flow",
            call=call,
            after=0.1,
            retry=1,
            category=Category.TRANSIENT,
            failure=failure,
        )
        yield OperationRecovered(at=clock, operation="flow", call=call, attempt=2, elapsed=0.1)


def publish(service: Recovery, first: int, count: int, clock: Clock = time.perf_counter) -> float:
    """Publish *count* events and wait until they are committed; return the seconds this took.

    The publisher waits while the write queue is half full, as the runner does.
    """
    journal, bus = service.journal, service.bus
    assert journal is not None
    since = bus.clock()
    began = clock()
    for number, event in enumerate(events(first, count, since)):
        bus.publish(event)
        if number % _CHECK_EVERY == 0:
            while journal.backlog.events > _HALF_FULL:
                time.sleep(_PAUSE)
    journal.receipt().wait(120.0)
    return clock() - began


class RawCopy:
    """A copy of a journal's tables, to time what plain ``executemany`` takes for the same rows."""

    def __init__(self, journal: Path, copy: Path) -> None:
        self._journal = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
        self._copy = sqlite3.connect(copy, isolation_level=None, check_same_thread=False)
        self._copy.execute("PRAGMA journal_mode = WAL")
        self._copy.execute("PRAGMA synchronous = normal")
        for (statement,) in self._journal.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"):
            if "sqlite_" not in statement:
                self._copy.execute(statement)
        columns = len(self._journal.execute("SELECT * FROM events LIMIT 0").description)
        self._insert = f"INSERT INTO events VALUES ({', '.join('?' * columns)})"
        self._seen = 0

    def write_new(self, clock: Clock = time.perf_counter) -> tuple[int, float]:
        """Write the journal's new rows since the last call; return their number and the seconds it took."""
        rows = self.new_rows()
        began = clock()
        for first in range(0, len(rows), BATCH):
            self._write(rows[first : first + BATCH])
        return len(rows), clock() - began

    def new_rows(self) -> list[Any]:
        """The journal's new rows since the last call."""
        rows = self._journal.execute("SELECT * FROM events WHERE id > ? ORDER BY id", (self._seen,)).fetchall()
        if rows:
            self._seen = rows[-1][0]
        return rows

    def write_steadily(self, rows: list[Any], seconds: float) -> None:
        """Write *rows* in equal batches, one each 20 ms, in that many *seconds*; for a thread of its own."""
        began = time.perf_counter()
        batches = max(round(seconds / BATCH_EVERY), 1)
        for number in range(batches):
            time.sleep(max(began + (number + 1) * BATCH_EVERY - time.perf_counter(), 0.0))
            self._write(rows[number * len(rows) // batches : (number + 1) * len(rows) // batches])

    def _write(self, rows: list[Any]) -> None:
        self._copy.execute("BEGIN IMMEDIATE")
        self._copy.executemany(self._insert, rows)
        self._copy.execute("COMMIT")

    def close(self) -> None:
        """Close both files."""
        self._journal.close()
        self._copy.close()
