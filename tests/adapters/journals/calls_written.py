"""Journals with a call that stands in a certain way, and what is read of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.sqlite.store import SQLiteStore
from events.event import Event
from recovery.journal.history import Run
from tests.adapters.sqlite.journals import rows_of

WALL = 1_700_000_000.0
RUN = Run(id="r1", boot="boot", monotonic=0.0, wall=WALL, pid=os.getpid())


@contextmanager
def journal_of(folder: Path, *events: Event, is_alive: bool = False) -> Iterator[Path]:
    """A journal with *events*, at second 0 of which it is *WALL*; its writer is alive or dead."""
    path = folder / "calls.db"
    loop = asyncio.new_event_loop()
    store = SQLiteStore(path)
    try:
        loop.run_until_complete(store.open(RUN))
        loop.run_until_complete(store.append(rows_of(events, run="r1")))
        if not is_alive:
            loop.run_until_complete(store.close())
        yield path
    finally:
        loop.run_until_complete(store.close())
        loop.close()
