"""Reading a journal's file without changing it, also while a process writes it.

A file must have the tables and indexes of ``adapters.sqlite.schema`` and nothing else: a trigger or a view could make
written rows vanish. A row must have its checksum. A longer value than any we write is not read into memory.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiosqlite

from adapters.sqlite.connection import code_of, connecting, error_for, number_of, rows_in, runs_in
from adapters.sqlite.files import companions_of, log_of
from adapters.sqlite.schema import ALL, APPLICATION_ID, SCHEMA_VERSION, expected_schema, plain
from recovery.journal.errors import DamagedJournalError, ForeignJournalError, JournalError, NewerJournalError
from recovery.journal.history import Run
from recovery.journal.store import Row

WHOLE_CHECK = 128 * 1024 * 1024
"""Bytes up to which a file's indexes are compared with its rows before it is written: half a second for 64 MiB."""


class Reader:
    """Reads a journal's file."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def runs(self) -> Sequence[Run]:
        """Every process that wrote; none while another process is about to make the tables."""
        return await runs_in(self._connection) if await self._has_tables() else []

    async def rows(self, query: str = ALL, *values: object) -> Sequence[Row]:
        """The rows that *query* of ``schema`` finds: every row, in the order written."""
        return await rows_in(self._connection, query, *values) if await self._has_tables() else []

    async def calls(self, query: str, *values: object) -> list[str]:
        """The ids of calls that *query* of ``schema`` finds."""
        if not await self._has_tables():
            return []
        return [call for (call,) in await self._connection.execute_fetchall(query, values)]

    async def raw(self, query: str, *values: object) -> AsyncGenerator[tuple[object, ...], None]:
        """The columns of each row that *query* of ``schema`` finds, unchecked, to be copied."""
        async with self._connection.execute(query, values) as cursor:
            async for found in cursor:
                yield tuple(found)

    async def _has_tables(self) -> bool:
        return await number_of(self._connection, "user_version") != 0

    async def check(self, path: Path) -> None:
        """Read the whole file.

        Raises DamagedJournalError if it is damaged or an index does not match its rows, JournalError if the disk fails.
        """
        pragma = "quick_check" if path.stat().st_size > WHOLE_CHECK else "integrity_check"
        [(answer,)] = await self._connection.execute_fetchall(f"PRAGMA {pragma}(1)")
        if answer != "ok":
            raise error_for(plain(answer), path, "read")


@asynccontextmanager
async def reading(path: str | os.PathLike[str]) -> AsyncIterator[Reader]:
    """A ``Reader`` of the journal's file *path*. Needs asyncio.

    Raises FileNotFoundError, ForeignJournalError, NewerJournalError, DamagedJournalError, or JournalError for anything
    else that keeps SQLite from reading the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no journal at {path}")
    for name in companions_of(path):
        with suppress(FileNotFoundError):  # it may go at any moment
            if not stat.S_ISREG(name.stat().st_mode):
                raise JournalError(f"{name} is no file")  # opening a pipe would block for ever
    # Without a log no process writes the file, and SQLite need not make files beside it.
    mode = "mode=ro" if log_of(path).exists() else "mode=ro&immutable=1"
    try:
        async with connecting(f"{path.absolute().as_uri()}?{mode}", uri=True) as connection:
            await connection.execute("BEGIN")  # one snapshot: the tables may be made meanwhile
            await _check_owner(connection, path)
            await connection.execute("COMMIT")
            yield Reader(connection)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise error_for(error, path, "read") from error


async def _check_owner(connection: aiosqlite.Connection, path: Path) -> None:
    """Raise for a file that is not ours to write, or that must not be believed.

    ForeignJournalError and NewerJournalError mean another owner, DamagedJournalError an earlier format or other tables.
    """
    owner = await number_of(connection, "application_id")  # first: it can be read from a damaged file, too
    if owner not in (0, APPLICATION_ID):
        raise ForeignJournalError(path)
    try:
        query = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%'"
        found = {(kind, name, plain(sql)) for kind, name, sql in await connection.execute_fetchall(query)}
    except sqlite3.Error as error:
        if owner == 0 and code_of(error) == sqlite3.SQLITE_CORRUPT:  # our tables and our number are made together
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
