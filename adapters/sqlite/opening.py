"""Opening a journal's file for writing: what is there is checked first, then used or refused."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

import aiosqlite

from adapters.sqlite import files, wal
from adapters.sqlite.connection import code_of, connecting, error_for, number_of
from adapters.sqlite.reading import reading
from adapters.sqlite.schema import CREATE
from recovery.journal.errors import DamagedJournalError, JournalError

READ_BYTES = 1024 * 1024
WAL_LIMIT = 16 * 1024 * 1024


async def open_file(path: Path, *, busy_timeout: float = 5.0) -> aiosqlite.Connection:
    """A connection to the file at *path*, which is made if it is missing.

    A transaction waits up to *busy_timeout* seconds for another program that has locked the file. Nothing else in this
    process may have the file open for writing. Raises DamagedJournalError for a file that must be quarantined, another
    JournalError for one that must not be written, OSError for one that cannot be made.
    """
    if files.has_lost_its_file(path):
        raise DamagedJournalError(f"{path} is gone or empty, but not its log")
    if files.prepare(path):
        await check_file(path)
    try:
        connection = await connecting(path, timeout=busy_timeout)
        try:
            await _use_log(connection, path)
            if await number_of(connection, "application_id") == 0:
                await connection.executescript(CREATE)
        except BaseException:
            await connection.close()
            raise
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise await judged(error, path, "opened") from error
    return connection


async def check_file(path: Path) -> None:
    """Read the file at *path* and the header of its log, without changing them.

    Damage is what two readings find in files whose every byte the disk gives. SQLite cannot tell: it also calls a file
    malformed when the disk did not give it a page (EIO).

    Raises as ``open_file`` does.
    """
    try:
        await _check_once(path)
    except DamagedJournalError:
        for name in (path, files.log_of(path)):
            with suppress(FileNotFoundError), name.open("rb") as file:
                while file.read(READ_BYTES):
                    pass
        await _check_once(path)


async def judged(error: sqlite3.Error | UnicodeDecodeError, path: Path, what: str) -> JournalError:
    """Our error for *error*, as ``error_for``; no damage if the file, which is not open now, can be read whole."""
    ours = error_for(error, path, what)
    if code_of(error) not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return ours
    try:
        await check_file(path)
    except DamagedJournalError as damage:
        return damage
    except (JournalError, OSError) as trouble:
        return JournalError(f"{ours}; {trouble}")
    return JournalError(f"{ours}; but the file is whole: the disk failed for a moment")


async def _check_once(path: Path) -> None:
    async with reading(path) as reader:  # also raises for a file of another owner, without touching it
        await reader.check(path)
    with path.open("rb") as file:
        header = file.read(20)
    # SQLite takes a file of one byte for an empty one, and can read a later file format but never write it.
    if not header.startswith(files.MAGIC) or max(header[18:]) > 2:
        raise DamagedJournalError(f"{path} does not have the header of a database that can be written")
    if wal.hides_commits(files.log_of(path)):
        raise DamagedJournalError(f"the log of {path} is damaged, and there are commits behind the damage")


async def _use_log(connection: aiosqlite.Connection, path: Path) -> None:
    [(mode,)] = await connection.execute_fetchall("PRAGMA journal_mode = WAL")
    if mode != "wal":
        raise JournalError(f"{path} cannot be opened: there can be no write-ahead log here")
    await connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
