"""Journals as a killed process leaves them, for tests: real files, made by the store itself."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sqlite3
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import aiosqlite
import msgspec

from adapters.sqlite.opening import open_file
from adapters.sqlite.store import SQLiteStore
from events.circuit_events import CircuitOpened
from events.codec import encode
from events.event import Event
from events.operation_events import GaveUp, OperationStarted, OperationSucceeded
from recovery.journal.history import Run
from recovery.journal.store import Row

DEAD = Run(id="dead", boot="boot", monotonic=1.5, wall=2.5, pid=2)


def started(call: str, operation: str = "render") -> OperationStarted:
    arguments = msgspec.Raw(msgspec.json.encode([[call], {}]))
    return OperationStarted(at=1.0, operation=operation, call=call, arguments=arguments)


def succeeded(call: str) -> OperationSucceeded:
    return OperationSucceeded(at=2.0, operation="render", call=call)


def gave_up(call: str) -> GaveUp:
    return GaveUp(at=2.0, operation="render", call=call, reason="no")


def circuit_opened(operation: str) -> CircuitOpened:
    return CircuitOpened(at=1.0, operation=operation, after=30.0)


def rows_of(events: Sequence[Event], first: int = 1, run: str = DEAD.id) -> list[Row]:
    return [
        Row(run, getattr(event, "call", ""), type(event).__name__, encode(event), number)
        for number, event in enumerate(events, first)
    ]


def write(path: Path, *batches: Sequence[Row], run: Run = DEAD) -> None:
    """Write *batches*, each in a transaction of its own, and close the file."""

    async def main() -> None:
        store = SQLiteStore(path)
        await store.open(run)
        for batch in batches:
            await store.append(batch)
        await store.close()

    asyncio.run(main())


def write_and_die(path: Path, *batches: Sequence[Row], run: Run = DEAD) -> None:
    """The same, but leave the files as a process does that is killed: the log is not written back."""

    async def main() -> None:
        store = SQLiteStore(path.parent / "alive" / path.name)
        if path.exists():
            store.path.parent.mkdir()
            shutil.copy(path, store.path)
        await store.open(run)
        for batch in batches:
            await store.append(batch)
        for name in store.path.parent.glob(f"{path.name}*"):
            if not name.name.endswith("-lock"):
                shutil.copy(name, path.parent)
        await store.close()

    path.parent.mkdir(parents=True, exist_ok=True)
    asyncio.run(main())
    shutil.rmtree(path.parent / "alive")


def contents(folder: Path) -> dict[str, str]:
    """The regular files, pipes and links below *folder* by name, but for locks and the log's index."""
    found = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if not path.name.endswith(("-shm", "-lock")):
            is_file = stat.S_ISREG(mode)
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest() if is_file else f"{stat.S_IFMT(mode):o}"
    return found


async def adopted(store: SQLiteStore) -> bool:
    """Whether *store* has adopted anything, look after look."""
    found = False
    while await store.adopt():
        found = True
    return found


@contextmanager
def plain(path: Path) -> Iterator[sqlite3.Connection]:
    """The file through plain sqlite3, in autocommit mode, without a lock of ours."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """The file, opened for writing as the store does, without its lock."""
    connection = await open_file(path)
    try:
        yield connection
    finally:
        await connection.close()
