"""What a journal's file holds: its tables, its formats from the first to today's, and how rows are read back.

``runs`` has a row for each process that wrote, ``facts`` (append-only) one for each fact: its JSON in ``body``, Unix
time in ``written``, and in ``sum`` a CRC-32 of the rest, for SQLite itself does not notice a flipped bit in a text.

A row's ``number`` is null where it was written without one; ``result_key`` is what a recorded result is found by, null
in all other rows. Format 1 had no ``number``, ``written``, ``sum`` and ``result_key``. A file of an older format is
brought up to date in one transaction when it is opened for writing; one of a newer format is never written.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite

from events.errors import DamagedJournalError, ForeignJournalError, JournalError, NewerJournalError
from events.facts import CallRejected, OperationCancelled, OperationRecovered, OperationSucceeded
from recovery.ledger import CIRCUIT, TERMINAL, Run
from recovery.store import Row

APPLICATION_ID = 0x4C52_4A31  # "LRJ1"
SCHEMA_VERSION = 2

_TERMINAL = ", ".join(f"'{fact.__name__}'" for fact in TERMINAL)
_CIRCUIT = ", ".join(f"'{fact.__name__}'" for fact in CIRCUIT)
DONE = ", ".join(
    f"'{fact.__name__}'" for fact in (OperationSucceeded, OperationRecovered, OperationCancelled, CallRejected)
)
"""The ends of calls that nobody needs to look at again; those that gave up are kept."""

TABLES = (
    """CREATE TABLE IF NOT EXISTS runs (
        id TEXT PRIMARY KEY, boot TEXT NOT NULL, monotonic REAL NOT NULL, wall REAL NOT NULL, pid INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS facts (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL, call TEXT NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL,
        number INTEGER, written INTEGER NOT NULL DEFAULT 0, sum INTEGER NOT NULL DEFAULT 0, result_key TEXT
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS facts_by_call ON facts (call, kind) WHERE call <> ''",
    "CREATE INDEX IF NOT EXISTS facts_of_no_call ON facts (kind) WHERE call = ''",
    "CREATE UNIQUE INDEX IF NOT EXISTS facts_by_number ON facts (run, number)",
    "CREATE INDEX IF NOT EXISTS facts_by_result ON facts (result_key) WHERE result_key IS NOT NULL",
    f"CREATE INDEX IF NOT EXISTS facts_done ON facts (written, call) WHERE kind IN ({DONE})",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
COLUMNS = "run, call, kind, body, number, written, sum, result_key"
INSERT = f"INSERT INTO facts ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run, number) DO NOTHING"
INSERT_RUN = "INSERT INTO runs (id, boot, monotonic, wall, pid) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
UNFINISHED = f"""
SELECT {COLUMNS} FROM facts WHERE call <> '' AND call NOT IN (
    SELECT call FROM facts WHERE call <> '' AND kind IN ({_TERMINAL})
) ORDER BY id
"""
OF_CALL = f"SELECT {COLUMNS} FROM facts WHERE call = ? AND call <> '' ORDER BY id"
RESULT = f"SELECT {COLUMNS} FROM facts WHERE result_key = ? ORDER BY id DESC LIMIT ?"
RESULTS = f"SELECT {COLUMNS} FROM facts WHERE result_key IS NOT NULL ORDER BY id DESC LIMIT ?"
CIRCUITS = f"""
SELECT {COLUMNS} FROM (
    SELECT * FROM facts WHERE call = '' AND kind IN ({_CIRCUIT})
    ORDER BY id DESC LIMIT 4096
) ORDER BY id
"""


def checksum(run: str, number: int, call: str, kind: str, body: bytes) -> int:
    """The CRC-32 of a fact's row."""
    return zlib.crc32(body, zlib.crc32(f"{run}\0{number}\0{call}\0{kind}".encode()))


def values_of(row: Row, written: int) -> tuple[object, ...]:
    """*row* for ``INSERT``."""
    total = checksum(row.run, row.number, row.call, row.kind, row.body)
    return row.run, row.call, row.kind, row.body, row.number or None, written, total, row.result_key or None


async def bring_up_to_date(connection: aiosqlite.Connection) -> None:
    """Make the tables, or those of an older format today's: all of it or, if anything fails, none."""
    [(version,)] = await connection.execute_fetchall("PRAGMA user_version")
    if version == SCHEMA_VERSION:
        return
    await connection.execute("BEGIN IMMEDIATE")
    try:
        if version == 1:
            await connection.execute("ALTER TABLE facts ADD COLUMN number INTEGER")
            for column in ("written", "sum"):
                await connection.execute(f"ALTER TABLE facts ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
            await connection.execute("ALTER TABLE facts ADD COLUMN result_key TEXT")
            rows = await connection.execute_fetchall("SELECT id, run, call, kind, body FROM facts")
            await connection.executemany(
                "UPDATE facts SET written = unixepoch(), sum = ? WHERE id = ?",
                [(checksum(run, 0, call, kind, body), key) for key, run, call, kind, body in rows],
            )
        for statement in TABLES:
            await connection.execute(statement)
        await connection.execute("COMMIT")
    except BaseException:
        await connection.execute("ROLLBACK")
        raise


async def check_owner(connection: aiosqlite.Connection, path: Path) -> None:
    """Raise ForeignJournalError or NewerJournalError for what we must not write."""
    query = "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) FROM %s"
    [(owner, version, tables)] = await connection.execute_fetchall(query % "pragma_application_id, pragma_user_version")
    if owner != APPLICATION_ID and (tables or owner != 0):
        raise ForeignJournalError(path)
    if version > SCHEMA_VERSION:
        raise NewerJournalError(path, version)


async def runs_in(connection: aiosqlite.Connection) -> list[Run]:
    """Every process that wrote."""
    query = "SELECT id, boot, monotonic, wall, pid FROM runs ORDER BY rowid"
    return [
        Run(id=run, boot=boot, monotonic=monotonic, wall=wall, pid=pid)
        for run, boot, monotonic, wall, pid in await connection.execute_fetchall(query)
    ]


async def rows_in(connection: aiosqlite.Connection, query: str, *values: object) -> list[Row]:
    """What *query*, for ``COLUMNS``, finds; rows that are not as they were written are marked."""
    return list(_as_rows(await connection.execute_fetchall(query, values)))


def _as_rows(found: Iterable[Sequence[object]]) -> Iterable[Row]:
    for run, call, kind, body, number, _, total, result_key in found:
        try:
            is_readable = checksum(run, number or 0, call, kind, body) == total  # type: ignore[arg-type]  # if they are
        except (TypeError, UnicodeError):
            is_readable = False
        yield Row(str(run), str(call), str(kind), bytes(body), number or 0, is_readable, str(result_key or ""))  # type: ignore[arg-type, call-overload]


class Reader:
    """Reads a journal's file while a process may write it."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def runs(self) -> Sequence[Run]:
        """Every process that wrote."""
        return await runs_in(self._connection)

    async def rows(self) -> Sequence[Row]:
        """Every row, in the order written."""
        [(version,)] = await self._connection.execute_fetchall("PRAGMA user_version")
        if version == 1:
            found = await self._connection.execute_fetchall("SELECT run, call, kind, body FROM facts ORDER BY id")
            return [Row(*row) for row in found]
        return await rows_in(self._connection, f"SELECT {COLUMNS} FROM facts ORDER BY id")

    async def check(self) -> None:
        """Raise sqlite3.DatabaseError if the file's structure is damaged. Reads all of it."""
        [(answer,)] = await self._connection.execute_fetchall("PRAGMA quick_check(1)")
        if answer != "ok":
            raise DamagedJournalError(answer)


@asynccontextmanager
async def reading(path: str | os.PathLike[str]) -> AsyncIterator[Reader]:
    """A ``Reader`` of the journal's file *path*, which is never changed. Needs asyncio.

    Raises FileNotFoundError, ForeignJournalError, NewerJournalError, DamagedJournalError, or JournalError for whatever
    else keeps SQLite from reading it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no journal at {path}")
    # Where nobody writes there is no log to take part in, and nothing needs to be made beside the file.
    mode = "mode=ro" if path.with_name(path.name + "-wal").exists() else "mode=ro&immutable=1"
    try:
        async with aiosqlite.connect(f"{path.absolute().as_uri()}?{mode}", uri=True) as connection:
            make_careful(connection)
            await check_owner(connection, path)
            yield Reader(connection)
    except sqlite3.Error as error:
        raise error_for(error, path, "read") from error


def make_careful(connection: aiosqlite.Connection) -> None:
    """Have text that is no UTF-8 read as something, so that its row alone is unreadable."""
    connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")


def error_for(error: sqlite3.Error, path: Path, what: str) -> JournalError:
    """What SQLite's *error* means for the file at *path*, which could not be read, opened or written (*what*)."""
    is_damaged = _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "no such" in str(error)
    kind = DamagedJournalError if is_damaged else JournalError
    return kind(f"{path} cannot be {what}: {error}")


def _code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
