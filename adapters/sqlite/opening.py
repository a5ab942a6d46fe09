"""A journal's file made ready to be written: what is in its place is checked first, and used or refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import aiosqlite

from adapters.sqlite import files, formats, schema, wal
from recovery.journal.errors import DamagedJournalError, JournalError

BUSY_TIMEOUT = 5.0
"""Seconds that a transaction waits for somebody who has locked the file."""
WAL_LIMIT = 16 * 1024 * 1024
MAGIC = b"SQLite format 3\0"


async def open_file(path: Path) -> aiosqlite.Connection:
    """A connection to the file at *path*, which is made if need be.

    Raises DamagedJournalError for a file that must be set aside, another JournalError for what must not be written,
    OSError for what cannot be made. Nothing else in this process may have the file open for writing.
    """
    if files.is_torn_apart(path):
        raise DamagedJournalError(f"{path} is gone or empty, but not its log")
    if files.prepare(path):
        await _check(path)
    try:
        connection = await schema.connecting(path, timeout=BUSY_TIMEOUT)
        try:
            await _use_log(connection, path)
            if await formats.number_of(connection, "application_id") == 0:
                await formats.create_tables(connection)
        except BaseException:
            await connection.close()
            raise
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise schema.error_for(error, path, "opened") from error
    return connection


async def _check(path: Path) -> None:
    async with schema.reading(path) as reader:  # also raises for what is not ours to touch, without touching it
        await reader.check(path)
    with path.open("rb") as file:
        header = file.read(20)
    # A file of one byte is an empty one for SQLite, and one of a later file format can be read, but never written.
    if not header.startswith(MAGIC) or max(header[18:]) > 2:
        raise DamagedJournalError(f"{path} does not have the header of a database that can be written")
    if wal.hides_commits(path.with_name(path.name + "-wal")):
        raise DamagedJournalError(f"the log of {path} is damaged, and there are commits behind the damage")


async def _use_log(connection: aiosqlite.Connection, path: Path) -> None:
    [(mode,)] = await connection.execute_fetchall("PRAGMA journal_mode = WAL")
    if mode != "wal":
        raise JournalError(f"{path} cannot be opened: there can be no write-ahead log here")
    await connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
