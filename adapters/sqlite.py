"""The journal's file: SQLite through aiosqlite, in WAL mode, written by one process at a time.

The file holds two tables, ``runs`` (one row per process that wrote) and ``facts`` (append-only, one row per fact, its
JSON in ``body``). A lock beside it (``<file>-lock``, flock) belongs to the writer; readers need none.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
import anyio

from events.errors import ForeignJournalError, JournalBusyError, JournalError, NewerJournalError
from recovery.ledger import CIRCUIT, TERMINAL, Run
from recovery.store import Row

try:
    import fcntl
except ImportError:  # Windows has no flock; there two processes on one file are not told apart
    fcntl = None  # type: ignore[assignment]

APPLICATION_ID = 0x4C52_4A31  # "LRJ1"
SCHEMA_VERSION = 1
BUSY_TIMEOUT = 5.0

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, boot TEXT NOT NULL, monotonic REAL NOT NULL, wall REAL NOT NULL, pid INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS facts (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, call TEXT NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS facts_by_call ON facts (call, kind) WHERE call <> '';
CREATE INDEX IF NOT EXISTS facts_of_no_call ON facts (kind) WHERE call = '';
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""
UNFINISHED = f"""
SELECT run, call, kind, body FROM facts WHERE call <> '' AND call NOT IN (
    SELECT call FROM facts WHERE call <> '' AND kind IN ({", ".join(f"'{fact.__name__}'" for fact in TERMINAL)})
) ORDER BY id
"""
CIRCUITS = f"""
SELECT run, call, kind, body FROM (
    SELECT * FROM facts WHERE call = '' AND kind IN ({", ".join(f"'{fact.__name__}'" for fact in CIRCUIT)})
    ORDER BY id DESC LIMIT 4096
) ORDER BY id
"""


class SQLiteStore:
    """Writes to the SQLite file *path*, made with its directory where they do not exist (0600 in 0700).

    Opening raises JournalBusyError if another process writes it, ForeignJournalError or NewerJournalError if it is not
    ours to touch, OSError or JournalError if it cannot be made; each names the path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._connection: aiosqlite.Connection | None = None
        self._lock: int | None = None

    async def open(self, run: Run) -> None:
        """Take the lock, open the file, and note the run."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.is_file() and self.path.stat().st_size > 0:
                async with reading(self.path):
                    pass  # raises for what is not ours to touch, without touching it
            await self._take_lock()
            os.close(_open_private(self.path))
            connection = aiosqlite.connect(self.path, isolation_level=None, timeout=BUSY_TIMEOUT)
            # Not a daemon by itself: a file system that hangs would keep the interpreter from ending.
            connection._thread.daemon = True
            self._connection = await connection
            await _check_owner(self._connection, self.path)
            await self._connection.execute("PRAGMA journal_mode = WAL")
            await self._connection.execute("PRAGMA synchronous = NORMAL")
            await self._connection.execute("PRAGMA trusted_schema = OFF")
            await self._connection.executescript(SCHEMA)
            values = (run.id, run.boot, run.monotonic, run.wall, run.pid)
            await self._connection.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?)", values)
        except sqlite3.Error as error:
            raise JournalError(f"{self.path} cannot be opened: {error}") from error

    async def _take_lock(self) -> None:
        path = self.path.with_name(self.path.name + "-lock")
        self._lock = _open_private(path)
        if fcntl is not None:
            for patience in (0.005, 0.015, 0.05, 0.15, 0.0):
                try:
                    fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    await anyio.sleep(patience)  # ``is_being_written`` holds it for a moment
                else:
                    return
            raise JournalBusyError(self.path)

    async def unfinished(self) -> tuple[Sequence[Run], Sequence[Row]]:
        """Every row of every call that has no terminal fact, the latest 4 096 about circuits, and the runs."""
        connection = self._opened()
        return await _runs(connection), [*await _rows(connection, UNFINISHED), *await _rows(connection, CIRCUITS)]

    async def append(self, rows: Sequence[Row]) -> None:
        """Write *rows* in one transaction."""
        connection = self._opened()
        values = [(row.run, row.call, row.kind, row.body) for row in rows]
        await connection.execute("BEGIN IMMEDIATE")
        try:
            await connection.executemany("INSERT INTO facts (run, call, kind, body) VALUES (?, ?, ?, ?)", values)
            await connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                await connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise JournalError(f"{self.path} cannot be written: {error}") from error
            raise

    async def close(self) -> None:
        """Close the file and release the lock."""
        try:
            if self._connection is not None:
                await self._connection.close()
        finally:
            self._connection = None
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def _opened(self) -> aiosqlite.Connection:
        if self._connection is None:
            raise JournalError(f"{self.path} is not open")
        return self._connection


def is_being_written(path: str | os.PathLike[str]) -> bool:
    """Whether a living process holds the journal at *path*. False where the system has no flock."""
    lock = Path(path).with_name(Path(path).name + "-lock")
    if fcntl is None or not lock.exists():
        return False
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class Reader:
    """Reads a journal file while another process may write it."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def runs(self) -> Sequence[Run]:
        """Every process that wrote."""
        return await _runs(self._connection)

    async def rows(self) -> Sequence[Row]:
        """Every row, in the order written."""
        return await _rows(self._connection, "SELECT run, call, kind, body FROM facts ORDER BY id")


@asynccontextmanager
async def reading(path: str | os.PathLike[str]) -> AsyncIterator[Reader]:
    """A ``Reader`` of the journal at *path*, which is never changed. Needs asyncio.

    Raises FileNotFoundError, ForeignJournalError, NewerJournalError, or JournalError for what SQLite cannot read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no journal at {path}")
    # Where nobody writes there is no log to take part in, and nothing needs to be made beside the file.
    mode = "mode=ro" if path.with_name(path.name + "-wal").exists() else "mode=ro&immutable=1"
    try:
        async with aiosqlite.connect(f"{path.absolute().as_uri()}?{mode}", uri=True) as connection:
            await _check_owner(connection, path)
            yield Reader(connection)
    except sqlite3.Error as error:
        raise JournalError(f"{path} cannot be read: {error}") from error


def _open_private(path: Path) -> int:
    """Open *path* for writing, made for us alone; raises OSError for a link, which might lead anywhere."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600)


async def _check_owner(connection: aiosqlite.Connection, path: Path) -> None:
    query = "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) FROM %s"
    [(owner, version, tables)] = await connection.execute_fetchall(query % "pragma_application_id, pragma_user_version")
    if owner != APPLICATION_ID and (tables or owner != 0):
        raise ForeignJournalError(path)
    if version > SCHEMA_VERSION:
        raise NewerJournalError(path, version)


async def _runs(connection: aiosqlite.Connection) -> list[Run]:
    async with connection.execute("SELECT id, boot, monotonic, wall, pid FROM runs ORDER BY rowid") as cursor:
        return [
            Run(id=run, boot=boot, monotonic=monotonic, wall=wall, pid=pid)
            async for run, boot, monotonic, wall, pid in cursor
        ]


async def _rows(connection: aiosqlite.Connection, query: str) -> list[Row]:
    async with connection.execute(query) as cursor:
        return [Row(*row) async for row in cursor]
