"""A torn log: cut at the end of each frame, a byte before it and a byte after it (D4)."""

from __future__ import annotations

import asyncio
import shutil
import struct
import tempfile
from pathlib import Path

from adapters.sqlite.store import SQLiteStore
from recovery.journal.history import Run
from recovery.journal.store import Row
from tests.torture.figures import MEMORY_FOLDER, Figure
from tests.torture.fork_server import ForkServer

BATCHES = 40
WAL_HEADER = 32
FRAME_HEADER = 24


def run(number: int) -> Run:
    return Run(id=f"r{number}", boot="", monotonic=0.0, wall=0.0, pid=number)


def batch(number: int) -> list[Row]:
    """Three rows; those of some batches are longer than a page."""
    body = b'{"event":"GaveUp","at":0.0,"operation":"o","call":"c%d","reason":"%s"}' % (
        number,
        b"x" * (number * 397 % 9000),
    )
    return [Row("r1", f"c{number}", "RetryScheduled", body, 3 * number + place) for place in range(1, 4)]


async def write(folder: Path) -> Path:
    """A journal's files as a killed process leaves them, with everything still in the log."""
    store = SQLiteStore(folder / "calls.db")
    await store.open(run(1))
    for number in range(BATCHES):
        await store.append(batch(number))
    left = folder / "left"
    left.mkdir()
    for name in ("calls.db", "calls.db-wal"):
        shutil.copy(folder / name, left / name)
    await store.close()
    return left


async def found_in(path: Path, number: int) -> list[int]:
    """The numbers of the rows that the next process finds."""
    store = SQLiteStore(path)
    quarantined = await store.open(run(number))
    try:
        assert not quarantined, quarantined
        return [row.number for row in (await store.unfinished())[1]]
    finally:
        await store.close()


async def tear(*, every: int = 1) -> tuple[int, list[str]]:
    """How many times the log was cut, and the problems found."""
    problems, torn = [], 0
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as name:
        left = await write(Path(name))
        log = (left / "calls.db-wal").read_bytes()
        (page,) = struct.unpack(">I", log[8:12])
        ends = range(WAL_HEADER, len(log) + 1, FRAME_HEADER + page)
        latest = 0
        for end in ends[::every]:
            for cut in (end - 1, end, end + 1):
                torn += 1
                folder = Path(name) / str(torn)
                folder.mkdir()
                shutil.copy(left / "calls.db", folder / "calls.db")
                (folder / "calls.db-wal").write_bytes(log[:cut])
                found = await found_in(folder / "calls.db", torn + 1)
                if found != list(range(1, len(found) + 1)) or len(found) % 3 or (cut == end and len(found) < latest):
                    problems.append(f"the log cut at {cut} holds {found}")
                latest = len(found)
        if every == 1 and latest != 3 * BATCHES:
            problems.append(f"the whole log holds {latest} rows")
    return torn, problems


def torn_log(_: ForkServer, share: float) -> list[Figure]:
    """The figure of torn logs."""
    torn, problems = asyncio.run(tear(every=max(round(1 / share), 1)))
    return [Figure("D4: a torn log, not whole batches in order", f"{torn} cuts", f"{len(problems)}", "0", not problems)]
