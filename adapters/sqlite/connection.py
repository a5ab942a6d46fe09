"""Connections to SQLite that distrust what a file says about itself and keep out of the way of forks."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite

from adapters.sqlite.fork_guard import fork_guard
from adapters.sqlite.schema import RUNS, as_row, as_run
from recovery.journal.errors import DamagedJournalError, JournalError
from recovery.journal.history import Run
from recovery.journal.store import Row

LONGEST_VALUE = 48 * 1024 * 1024
"""Bytes of a value that SQLite takes from a file or from us."""


class _Careful(sqlite3.Connection):
    def __init__(self, *args: Any, **options: Any) -> None:  # Any: handed on by sqlite3.connect
        super().__init__(*args, **options)
        self.execute("PRAGMA trusted_schema = OFF")
        self.execute("PRAGMA cell_size_check = ON")
        self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        # Text that is no UTF-8 makes its own row unreadable, and not the whole answer.
        self.text_factory = lambda data: data.decode("utf-8", "backslashreplace")


class _Guarded(aiosqlite.Connection):
    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await super()._execute(fork_guard.call, fn, *args, **kwargs)  # type: ignore[no-untyped-call]


def connecting(database: str | Path, **options: Any) -> aiosqlite.Connection:
    """A connection to await or to enter; *options* are those of ``sqlite3.connect``.

    A ``Path`` is made absolute: SQLite may take a relative one for a URI.
    """
    name = str(database.absolute() if isinstance(database, Path) else database)

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(name, isolation_level=None, factory=_Careful, **options)

    connection = _Guarded(lambda: fork_guard.call(connect), iter_chunk_size=64)
    # Not a daemon by itself: a file system that hangs would keep the interpreter from ending.
    connection._thread.daemon = True
    return connection


async def number_of(connection: aiosqlite.Connection, pragma: str) -> int:
    """The number that SQLite answers to *pragma*."""
    [(number,)] = await connection.execute_fetchall(f"PRAGMA {pragma}")
    return int(number)


async def runs_in(connection: aiosqlite.Connection) -> list[Run]:
    """Every process that wrote the file, but those whose row is damaged: they are unknown, as is what they wrote."""
    return [run for run, _ in await epochs_in(connection)]


async def epochs_in(connection: aiosqlite.Connection) -> list[tuple[Run, float]]:
    """The same, each with its epoch."""
    found = [as_run(*values) for values in await connection.execute_fetchall(RUNS)]
    return [known for known in found if known is not None]


async def rows_in(connection: aiosqlite.Connection, query: str, *values: object) -> list[Row]:
    """The rows that *query* of ``schema`` finds. Damaged rows are marked as unreadable."""
    return [as_row(*found) for found in await connection.execute_fetchall(query, values)]


async def write(connection: aiosqlite.Connection, *statements: tuple[str, Iterable[Sequence[object]]]) -> None:
    """Execute each of *statements* with its values, all in one transaction.

    One job of the connection's thread does it all: at each change of threads it would compete with the callers of
    operations for the interpreter lock.
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


@asynccontextmanager
async def transaction(connection: aiosqlite.Connection, *, is_kept: bool = True) -> AsyncIterator[None]:
    """A transaction that keeps other programs from writing; what it changes is undone on errors or unless *is_kept*."""
    await connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        if is_kept:
            await connection.execute("COMMIT")
    finally:
        if connection.in_transaction:  # some errors end it by themselves
            await connection.execute("ROLLBACK")


def error_for(error: sqlite3.Error | UnicodeDecodeError | str, path: Path, what: str) -> JournalError:
    """Our error for SQLite's *error*, or for what its check answers: the one place that tells damage from trouble.

    *what* the file at *path* could not be: "read", "opened", "written", ... See also ``opening.check_file``.
    """
    code = code_of(error)
    is_damaged = (
        code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        or (code == sqlite3.SQLITE_TOOBIG and what != "written")  # no row of ours is so long
        or isinstance(error, UnicodeDecodeError)  # SQLite's message holds bytes of a damaged schema
        or (isinstance(error, str) and code == 0)
        or "no such" in str(error)
    )
    kind = DamagedJournalError if is_damaged else JournalError
    return kind(f"{path} cannot be {what}: {error}")


def code_of(error: Exception | str) -> int:
    """SQLite's primary result code, 0 if *error* has none. A check names the code of a page that it did not get."""
    if isinstance(error, str):
        found = re.search(r"error code[ =]+(\d+)", error)
        return int(found[1]) & 0xFF if found is not None else 0
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
