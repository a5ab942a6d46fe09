"""How big a journal gets when it is written for long: straight through the store, with a clock that runs ahead."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec

from adapters.sqlite.retention import Retention
from adapters.sqlite.store import SQLiteStore
from recovery.journal.history import Run
from recovery.journal.store import Row
from tests.adapters.sqlite import journals

PER_BATCH = 250


class Steady(msgspec.Struct, frozen=True):
    """The largest the file and its log ever were, in bytes; seconds of the slowest slice; the rows left at the end."""

    file: int
    log: int
    slowest: float
    rows: int


def steady_state(path: Path, calls: int, keep: Retention = Retention()) -> Steady:  # noqa: B008  # it is frozen
    """Write *calls* that succeed (one in 10 000 gives up), a second apart, deleting as the journal's thread does."""
    now = [1_700_000_000.0]
    largest, log, slowest, rows = 0, 0, 0.0, 0

    async def main() -> None:
        nonlocal largest, log, slowest, rows
        store = SQLiteStore(path, retention=keep, wall=lambda: now[0], monotonic=lambda: now[0])
        await store.open(Run(id="long", boot="boot", monotonic=0.0, wall=0.0, pid=1))
        number = 0
        for first in range(0, calls, PER_BATCH):
            batch: list[Row] = []
            for index in range(first, min(first + PER_BATCH, calls)):
                call = f"long-{index}"
                end = journals.succeeded(call) if index % 10_000 else journals.gave_up(call)
                batch += journals.rows_of([journals.started(call), end], number + 1, "long")
                number += 2
            now[0] += PER_BATCH
            await store.append(batch)
            for _ in range(2):
                began = time.perf_counter()
                more = await store.prune()
                slowest = max(slowest, time.perf_counter() - began)
                if not more:
                    break
            largest = max(largest, path.stat().st_size)
            log = max(log, path.with_name(path.name + "-wal").stat().st_size)
        await store.close()
        with journals.plain(path) as connection:
            [(rows,)] = connection.execute("SELECT count(*) FROM events")

    asyncio.run(main())
    return Steady(largest, log, slowest, rows)
