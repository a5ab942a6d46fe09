"""The identity of a journal's open files: whether they are still the files at their names, unchanged by others.

SQLite does not ask. It writes on into a file that was removed or cut, and reads the log of one file into another. So
each batch is preceded and followed by a look at the database, its log, the log's index and the lock.
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
from adapters.sqlite.connection import code_of, error_for, number_of, transaction
from adapters.sqlite.contents import Contents, read
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
"""Of an open file: at its name, with a name that is free or another file's, or cut or overwritten by others."""

SETTLED_AFTER = 0.3
"""Seconds since the latest change after which a file that was overwritten is taken to be complete."""
UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ)
"""Errors after which the contents of a removed file will never be copied. Others may pass: the disk may be full."""


class _OpenFile:
    """One open file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = os.open(path, os.O_RDONLY | PLAIN_FILE)

    @property
    def is_here(self) -> bool:
        return is_same_file(self.path, os.fstat(self.file))

    @property
    def is_settled(self) -> bool:
        return time.time() - os.fstat(self.file).st_mtime >= SETTLED_AFTER

    @property
    def is_database(self) -> bool:
        return read(self.file, len(MAGIC)) == MAGIC

    def copy_to(self, path: Path) -> None:
        os.lseek(self.file, 0, os.SEEK_SET)
        with open(self.file, "rb", closefd=False) as file, path.open("wb") as copy:  # a descriptor
            shutil.copyfileobj(file, copy)

    def close(self) -> None:
        os.close(self.file)


class OpenFiles:
    """The files behind *connection*, which has just written to *path* under *lock*."""

    def __init__(self, path: Path, lock: Lock, connection: aiosqlite.Connection, version: int) -> None:
        self._path = path
        self._lock = lock
        self._connection = connection
        self._version = version
        self._database, self._log, self._index = map(_OpenFile, (path, log_of(path), index_of(path)))
        self._contents = Contents(self._database.file, self._log.file, self._index.file)
        self._found: frozenset[str] = frozenset()  # what others have changed, as of the latest look

    @classmethod
    async def of(cls, path: Path, lock: Lock, connection: aiosqlite.Connection) -> OpenFiles:
        """The open files of *path* as they are now. Raises OSError if one is missing."""
        return cls(path, lock, connection, await number_of(connection, "data_version"))

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
        self._found = await self._changed()
        for file in (self._database, self._log):
            if self._state(file) == "changed":
                raise JournalError(f"{file.path} was cut or overwritten while it was being written")

    async def _changed(self) -> frozenset[str]:
        """As ``Contents.changed``, and right also while another program writes."""
        if not self._contents.changed():
            return frozenset()
        async with transaction(self._connection, is_kept=False):  # no other program is half-way
            if (version := await number_of(self._connection, "data_version")) != self._version:
                self._version = version
                self._contents.accept()
            return self._contents.changed()

    def _state(self, file: _OpenFile) -> State:
        what = "database" if file is self._database else "log"
        return "gone" if not file.is_here else "changed" if what in self._found else "here"

    async def keep(self, *, is_last: bool = False) -> str | None:
        """Keep what is no longer the journal, and return a description that tells where.

        Raises JournalError if that must be tried again: the disk is full, or a file is being overwritten. If this
        *is_last*, the best is made of it.
        """
        try:
            self._found = await self._changed()
        except sqlite3.Error as error:
            if code_of(error) == sqlite3.SQLITE_BUSY and not is_last:
                raise
            self._found = self._contents.changed()
        database, log = self._state(self._database), self._state(self._log)
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
        if self._lock.is_held and self._state(self._database) == "changed":
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
        if self._state(self._log) == "here" and self._lock.is_held:
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
        kept = kept_name(self._path, "removed")
        for file, name in zip((self._log, self._index), companions_of(kept), strict=False):
            if not file.is_here:
                with suppress(FileNotFoundError):
                    file.path.rename(name)
