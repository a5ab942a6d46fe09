"""The identity of a journal's open files: whether they are still the files at their names, unchanged by others.

SQLite does not ask. It writes on into a file that was removed, and reads the log of one file into another. So each
batch is preceded and followed by a look at the database, its log, the log's index and the lock.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

import aiosqlite

from adapters.disk import PLAIN_FILE, is_same_file
from adapters.sqlite.connection import code_of, error_for, number_of
from adapters.sqlite.files import (
    MAGIC,
    companions_of,
    index_of,
    kept_name,
    log_of,
    open_private,
    quarantine,
)
from adapters.sqlite.lock import Lock
from recovery.journal.errors import JournalError

State: TypeAlias = Literal["here", "gone", "changed"]

HEAD = 100
"""Bytes at the beginning of a file that are compared: SQLite's header, with the size and the number of changes."""
SETTLED_AFTER = 0.3
"""Seconds since the latest change after which a file that was overwritten is taken to be complete."""
UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ)
"""Errors after which the contents of a removed file will never be copied. Others may pass: the disk may be full."""


class _OpenFile:
    """One open file, as this process left it.

    *state*: "here", "gone" (its name is free, or names another file), or "changed" (others cut or overwrote it).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDONLY | PLAIN_FILE)
        self.note()

    def note(self) -> None:
        self._size, self._head = self._now()

    def _now(self) -> tuple[int, bytes]:
        os.lseek(self._file, 0, os.SEEK_SET)
        return os.fstat(self._file).st_size, os.read(self._file, HEAD)

    @property
    def is_here(self) -> bool:
        return is_same_file(self.path, os.fstat(self._file))

    @property
    def state(self) -> State:
        size, head = self._now()
        return "gone" if not self.is_here else "changed" if size < self._size or head != self._head else "here"

    @property
    def is_settled(self) -> bool:
        return time.time() - os.fstat(self._file).st_mtime >= SETTLED_AFTER

    @property
    def is_database(self) -> bool:
        return self._now()[1].startswith(MAGIC)

    def copy_to(self, path: Path) -> None:
        os.lseek(self._file, 0, os.SEEK_SET)
        with open(self._file, "rb", closefd=False) as file, path.open("wb") as copy:  # a descriptor
            shutil.copyfileobj(file, copy)

    def close(self) -> None:
        os.close(self._file)


class OpenFiles:
    """The files behind *connection*, which has just written to *path* under *lock*."""

    def __init__(self, path: Path, lock: Lock, connection: aiosqlite.Connection, version: int) -> None:
        self._path = path
        self._lock = lock
        self._connection = connection
        self._version = version
        self._database, self._log, self._index = map(_OpenFile, (path, log_of(path), index_of(path)))

    @classmethod
    async def of(cls, path: Path, lock: Lock, connection: aiosqlite.Connection) -> OpenFiles:
        """The open files of *path* as they are now. Raises OSError if one is missing."""
        return cls(path, lock, connection, await number_of(connection, "data_version"))

    def note(self) -> None:
        """This process has written: what is there now is its own work."""
        self._database.note()
        self._log.note()

    def check_names(self) -> None:
        """Raise JournalError if a file is not the one at its name any longer."""
        for file in (self._database, self._log, self._index):
            if not file.is_here:
                raise JournalError(f"{file.path} was moved or removed while it was being written")
        if not self._lock.is_held:
            raise JournalError(f"{self._lock.path} was removed or replaced: another process may write {self._path}")

    async def check(self) -> None:
        """Raise JournalError if a file is not the one at its name any longer, or if others have changed it."""
        self.check_names()
        await self._note_others()
        for file in (self._database, self._log):
            if file.state == "changed":
                raise JournalError(f"{file.path} was cut or overwritten while it was being written")

    async def _note_others(self) -> None:
        """If another program wrote by SQLite's rules, what it changed is no damage."""
        if "changed" in (self._database.state, self._log.state):
            version = await number_of(self._connection, "data_version")
            if version != self._version:
                self._version = version
                self.note()

    async def keep(self, *, is_last: bool = False) -> str | None:
        """Keep what is no longer the journal, and return a description that tells where.

        Raises JournalError if that must be tried again: the disk is full, or a file is being overwritten. If this
        *is_last*, the best is made of it.
        """
        await self._note_others()
        database, log = self._database.state, self._log.state
        if database == "gone" or (log == "gone" and not self._lock.is_held):
            return await self._keep_contents(is_whole=log != "changed", is_last=is_last)
        if not self._lock.is_held:
            return None  # the files are another process's now
        if database == "changed" and not self._database.is_settled and not is_last:
            raise JournalError(f"{self._path} is being overwritten")
        if log == "changed" or (database == "changed" and not self._database.is_database):
            # SQLite closes a renamed file without writing its log back, which is not its log any longer.
            return f"{self._path} was cut or overwritten; it is kept as {quarantine(self._path)}"
        if database == "changed":
            return f"{self._path} was overwritten; what was not written back is kept as {self._keep_log()}"
        if log == "gone" or not self._index.is_here:
            await self._write_back()
        return None

    async def close(self) -> None:
        """Close the connection. Then SQLite writes its log back, unless the file was replaced."""
        hidden = None
        if self._lock.is_held and self._database.state == "changed":
            hidden = kept_name(self._path, "restored")
            self._path.rename(hidden)  # SQLite does not touch a file that has another name
        try:
            await self._connection.close()
        finally:
            if hidden is not None:
                hidden.rename(self._path)
            for file in (self._database, self._log, self._index):  # after SQLite: this gives up its locks
                file.close()

    async def _keep_contents(self, *, is_whole: bool, is_last: bool) -> str:
        """Copy what the connection sees, and rename the log, which is in the copy."""
        what = f"{self._path} was moved or removed"
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = kept_name(self._path, "removed")
        try:
            os.close(open_private(kept, os.O_RDWR | os.O_EXCL))
            if is_whole:
                await self._connection.execute("VACUUM INTO ?", (str(kept),))
            else:
                self._database.copy_to(kept)
            what += f"; what it held is kept as {kept}"
        except (sqlite3.Error, OSError) as error:
            kept.unlink(missing_ok=True)
            what += f"; what it held cannot be kept: {error}"
            codes = code_of(error), getattr(error, "sqlite_errorcode", 0)
            if not is_last and not {*codes} & {*UNREADABLE}:
                raise JournalError(what) from error
        if self._log.state == "here" and self._lock.is_held:
            self._keep_log()
        return what

    def _keep_log(self) -> Path:
        """Rename the log and remove its index: the file at their name is another one."""
        kept = log_of(kept_name(self._path, "removed"))
        if self._log.is_here:
            self._log.path.rename(kept)
        if self._index.is_here:
            self._index.path.unlink()
        return kept

    async def _write_back(self) -> None:
        """Write the log, whose name is gone, back into the file, and keep what others put in its place."""
        try:
            [(is_busy, *_)] = await self._connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise error_for(error, self._path, "written back") from error
        if is_busy:
            raise JournalError(f"the log of {self._path} was removed, and a reader keeps it from being written back")
        self.note()
        kept = kept_name(self._path, "removed")
        for file, name in zip((self._log, self._index), companions_of(kept), strict=False):
            if not file.is_here:
                with suppress(FileNotFoundError):
                    file.path.rename(name)
