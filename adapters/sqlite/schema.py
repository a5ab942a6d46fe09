"""How a journal's file is read: what is found in it is believed only as far as it can be.

A file needs the tables and indexes of ``adapters.sqlite.store.formats`` and nothing else: a trigger or a view could
make what is written vanish. A row needs its checksum, and a value longer than any we write is not read into memory.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import aiosqlite

from adapters.sqlite import files
from adapters.sqlite.fork_guard import fork_guard
from adapters.sqlite.formats import APPLICATION_ID, SCHEMA_VERSION, checksum, expected_schema, number_of, plain
from recovery.journal.errors import DamagedJournalError, ForeignJournalError, JournalError, NewerJournalError
from recovery.journal.history import CIRCUIT, TERMINAL, Run
from recovery.journal.store import Row

_TERMINAL = ", ".join(f"'{event.__name__}'" for event in TERMINAL)
_CIRCUIT = ", ".join(f"'{event.__name__}'" for event in CIRCUIT)
LONGEST_BODY = 32 * 1024 * 1024
"""Bytes of a body that may be read back: twice what the journal's queue takes in."""
LONGEST_VALUE = 48 * 1024 * 1024
WHOLE_CHECK = 128 * 1024 * 1024
"""Bytes up to which a file's indexes are compared with its rows when it is opened: half a second for 64 MiB."""

_WRITTEN = "run, call, kind, body, number, written, sum, result_key"
COLUMNS = f"run, call, kind, iif(length(body) <= {LONGEST_BODY}, body, NULL), number, written, sum, result_key"
MANY = (64, 32, 16, 8, 4, 2, 1)
"""Rows of one statement: the more, the less often the interpreter is let go for so short that nobody else gets it."""


def _insert(rows: int) -> str:
    values = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * rows)
    return f"INSERT INTO events ({_WRITTEN}) VALUES {values} ON CONFLICT (run, number) DO NOTHING"


INSERT = _insert(1)
_INSERTS = {rows: _insert(rows) for rows in MANY}
INSERT_RUN = "INSERT INTO runs (id, boot, monotonic, wall, pid) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
COPIED = f"SELECT {_WRITTEN} FROM events ORDER BY id"
# One walk over the index; the rows of calls that are over are not touched.
UNFINISHED = f"""
SELECT {COLUMNS} FROM events WHERE call <> '' AND call IN (
    SELECT call FROM events INDEXED BY events_by_call WHERE call <> '' GROUP BY call HAVING max(kind IN
    ({_TERMINAL})) = 0
) ORDER BY id
"""
OF_CALL = f"SELECT {COLUMNS} FROM events WHERE call = ? AND call <> '' ORDER BY id"
RESULT = f"SELECT {COLUMNS} FROM events WHERE result_key = ? ORDER BY id DESC LIMIT ?"
RESULTS = f"""
SELECT {COLUMNS} FROM events INDEXED BY events_by_result WHERE result_key IS NOT NULL ORDER BY id DESC LIMIT ?
"""
CIRCUITS = f"""
SELECT {COLUMNS} FROM events WHERE id IN (
    SELECT id FROM events INDEXED BY events_of_no_call WHERE call = '' AND kind IN ({_CIRCUIT})
    ORDER BY id DESC LIMIT 4096
) ORDER BY id
"""


def values_of(row: Row, written: int) -> tuple[object, ...]:
    """*row* for ``INSERT``."""
    total = checksum(row.run, row.number, row.call, row.kind, row.body, row.result_key)
    return row.run, row.call, row.kind, row.body, row.number or None, written, total, row.result_key or None


def values_of_run(run: Run) -> tuple[object, ...]:
    """*run* for ``INSERT_RUN``."""
    return run.id, run.boot, run.monotonic, run.wall, run.pid


def inserts(rows: Sequence[Row], written: int) -> Iterator[tuple[str, Iterator[tuple[object, ...]]]]:
    """The statements that insert *rows* in this order, each with its values.

    The values are made while they are inserted, so that nobody waits for the interpreter lock until all are there.
    """
    first = 0
    for many in MANY:
        until = len(rows) - (len(rows) - first) % many
        if first < until:
            yield _INSERTS[many], _values_of_many(rows[first:until], many, written)
        first = until


def _values_of_many(rows: Sequence[Row], many: int, written: int) -> Iterator[tuple[object, ...]]:
    for first in range(0, len(rows), many):
        yield tuple(chain(*(values_of(row, written) for row in rows[first : first + many])))


async def _check_owner(connection: aiosqlite.Connection, path: Path) -> None:
    """Raise for what we must not write or cannot believe.

    ForeignJournalError or NewerJournalError for what belongs to others, DamagedJournalError if the file has an earlier
    format, or other tables than ours.
    """
    owner = await number_of(connection, "application_id")  # first: this much is read of a damaged file, too
    if owner not in (0, APPLICATION_ID):
        raise ForeignJournalError(path)
    try:
        query = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%'"
        found = {(kind, name, plain(sql)) for kind, name, sql in await connection.execute_fetchall(query)}
    except sqlite3.Error as error:
        if owner == 0 and _code(error) == sqlite3.SQLITE_CORRUPT:  # ours has its number since it has tables
            raise ForeignJournalError(path) from error
        raise
    if owner == 0:
        if found:
            raise ForeignJournalError(path)
        return
    version = await number_of(connection, "user_version")
    if version > SCHEMA_VERSION:
        raise NewerJournalError(path, version)
    if version < SCHEMA_VERSION:
        raise DamagedJournalError(f"{path} has file format {version}, and this release reads format {SCHEMA_VERSION}")
    if found != expected_schema():
        raise DamagedJournalError(f"{path} does not have the tables of a journal, or more than them")


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


def _as_rows(found: Iterable[Sequence[Any]]) -> Iterable[Row]:
    # Any: a damaged file may hold anything anywhere.
    for run, call, kind, body, number, _, total, result_key in found:
        try:
            is_readable = checksum(run, number or 0, call, kind, body, result_key or "") == total
        except (TypeError, UnicodeError):
            is_readable = False
        yield Row(
            str(run), str(call), str(kind), body if isinstance(body, bytes) else b"",
            number if isinstance(number, int) else 0, is_readable, str(result_key or ""),
        )  # fmt: skip


class Reader:
    """Reads a journal's file while a process may write it."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def runs(self) -> Sequence[Run]:
        """Every process that wrote."""
        if await number_of(self._connection, "user_version") == 0:
            return []  # it is being made at this moment
        return await runs_in(self._connection)

    async def rows(self) -> Sequence[Row]:
        """Every row, in the order written."""
        if await number_of(self._connection, "user_version") == 0:
            return []
        return await rows_in(self._connection, f"SELECT {COLUMNS} FROM events ORDER BY id")

    async def check(self, path: Path) -> None:
        """Read the whole file.

        Raises DamagedJournalError if it is damaged or an index does not match its rows, JournalError if the disk fails.
        """
        pragma = "quick_check" if path.stat().st_size > WHOLE_CHECK else "integrity_check"
        [(answer,)] = await self._connection.execute_fetchall(f"PRAGMA {pragma}(1)")
        if answer != "ok":
            failure = re.search(r"error code=(\d+)", answer)  # a page that cannot be read is no damage
            is_damaged = failure is None or int(failure[1]) & 0xFF == sqlite3.SQLITE_CORRUPT
            kind = DamagedJournalError if is_damaged else JournalError
            raise kind(f"{path} {'is damaged' if is_damaged else 'cannot be read'}: {plain(answer)}")


@asynccontextmanager
async def reading(path: str | os.PathLike[str]) -> AsyncIterator[Reader]:
    """A ``Reader`` of the journal's file *path*, which is never changed. Needs asyncio.

    Raises FileNotFoundError, ForeignJournalError, NewerJournalError, DamagedJournalError, or JournalError for whatever
    else keeps SQLite from reading it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no journal at {path}")
    for name in files.companions_of(path):
        if name.exists() and not name.is_file():
            raise JournalError(f"{name} is no file")  # a pipe would keep us waiting for ever
    # Where nobody writes there is no log to take part in, and nothing needs to be made beside the file.
    mode = "mode=ro" if path.with_name(path.name + "-wal").exists() else "mode=ro&immutable=1"
    try:
        async with connecting(f"{path.absolute().as_uri()}?{mode}", uri=True) as connection:
            await connection.execute("BEGIN")  # of one moment: it may be made meanwhile
            await _check_owner(connection, path)
            await connection.execute("COMMIT")
            yield Reader(connection)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise error_for(error, path, "read") from error


class _Careful(sqlite3.Connection):
    """Believes nothing that a file says about itself."""

    def __init__(self, *args: Any, **options: Any) -> None:  # whatever sqlite3.connect hands on
        super().__init__(*args, **options)
        self.execute("PRAGMA trusted_schema = OFF")
        self.execute("PRAGMA cell_size_check = ON")
        self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        # Text that is no UTF-8 is read as something, so that its row alone is unreadable.
        self.text_factory = lambda data: data.decode("utf-8", "backslashreplace")


class _Connection(aiosqlite.Connection):
    """Calls SQLite only while nobody forks."""

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await super()._execute(fork_guard.passing, fn, *args, **kwargs)  # type: ignore[no-untyped-call]


async def write(connection: aiosqlite.Connection, *statements: tuple[str, Iterable[Sequence[object]]]) -> None:
    """Execute each of *statements* with its values, all of them in one transaction, or none.

    In one go of the connection's thread: at each change of threads the caller of an operation would have to compete
    with another for the interpreter.
    """
    await connection._execute(_write, connection._conn, statements)  # type: ignore[no-untyped-call]


def _write(connection: sqlite3.Connection, statements: Iterable[tuple[str, Iterable[Sequence[object]]]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement, values in statements:
            connection.executemany(statement, values)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors end it by themselves
            connection.execute("ROLLBACK")
        raise


def connecting(database: str | Path, **options: Any) -> aiosqlite.Connection:
    """A connection to be awaited or entered; *options* are those of ``sqlite3.connect``."""

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(str(database), isolation_level=None, factory=_Careful, **options)

    connection = _Connection(lambda: fork_guard.passing(connect), iter_chunk_size=64)
    # Not a daemon by itself: a file system that hangs would keep the interpreter from ending.
    connection._thread.daemon = True
    return connection


def error_for(error: sqlite3.Error | UnicodeDecodeError, path: Path, what: str) -> JournalError:
    """What SQLite's *error* means for the file at *path*, which could not be read, opened or written (*what*)."""
    code = _code(error)
    is_damaged = (
        code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        or (code == sqlite3.SQLITE_TOOBIG and what != "written")  # we write no such thing
        or isinstance(error, UnicodeDecodeError)  # what SQLite wanted to say holds bytes of a damaged schema
        or "no such" in str(error)
    )
    kind = DamagedJournalError if is_damaged else JournalError
    return kind(f"{path} cannot be {what}: {error}")


def _code(error: Exception) -> int:
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
