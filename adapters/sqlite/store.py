"""The journal in SQLite through aiosqlite: WAL mode, and one writer for each file, for ever.

The process that opens the journal first writes the file itself; every further one a file of its own beside it. What
files there are is in ``adapters.sqlite.files``, what is in them in ``adapters.sqlite.schema``.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Literal, Self

import aiosqlite

from adapters.sqlite import files, retention, schema
from adapters.sqlite.adoption import Unusable, slices_of
from adapters.sqlite.command_inbox import take_commands
from adapters.sqlite.files import Lock
from adapters.sqlite.opening import open_file
from adapters.sqlite.retention import Retention
from recovery import validation
from recovery.journal.errors import (
    DamagedJournalError,
    ForeignJournalError,
    JournalBusyError,
    JournalError,
    NewerJournalError,
)
from recovery.journal.history import Run
from recovery.journal.store import Command, Row, Store

log = logging.getLogger("recovery.journal")

_of_parents: list[object] = []
"""Connections that a forked child has inherited: never closed, not even by the collector, for they are not ours."""


class SQLiteStore(Store):
    """Writes to the SQLite file *path*, made with its directory where they do not exist (0600 in 0700).

    With *sync* "normal" what is committed survives the process, and a loss of power once it is synced (a receipt's
    ``synced``, or SQLite's next checkpoint); with "full" every commit is synced. *retention* says what is deleted when;
    *wall* reads Unix time, for tests. If another process writes *path*, this one writes ``<path>.d/<run>.db``.

    Opening raises ForeignJournalError or NewerJournalError if the file is not ours to touch, JournalError for a link or
    what is no file, OSError if it cannot be made; each names the path. A file that is damaged or has an earlier format
    is renamed, and a new one begun.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sync: Literal["normal", "full"] = "normal",
        retention: Retention = Retention(),  # noqa: B008  # it is frozen
        wall: Callable[[], float] = time.time,
    ) -> None:
        validation.choice("sync", sync, ("normal", "full"))
        self.path = Path(path)
        self.own = self.path
        """The file that this process writes."""
        self._sync: Literal["normal", "full"] = sync
        self._retention = retention
        self._wall = wall
        self._lock: Lock | None = None
        self._connection: aiosqlite.Connection | None = None
        self._run = ""
        self._identity: os.stat_result | None = None
        self._damages: list[DamagedJournalError] = []
        self._kept: list[str] = []
        self._adopted: dict[Path, Lock] = {}

    async def open(self, run: Run) -> Sequence[str]:
        """Take a lock, open the file, and note the run. What was open is closed first; the lock is kept."""
        await self._disconnect()
        self._run = run.id
        self._take_lock(run)
        try:
            if len(self._damages) > 1:  # the file looked sound when it was opened again after the first
                raise self._damages[-1]
            await self._open_own(run)
        except DamagedJournalError as error:
            await self._disconnect()
            self._kept.append(f"{error}; it is kept as {files.set_aside(self.own)}")
            self._damages.clear()
            await self._open_own(run)
        except (ForeignJournalError, NewerJournalError):
            self._retire_lock()
            raise
        kept, self._kept = self._kept, []
        return kept

    def _take_lock(self, run: Run) -> None:
        if self._lock is not None and self._lock.is_held:
            return
        self._release_lock()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if files.folder_of(self.path).is_symlink():
            raise JournalError(f"{files.folder_of(self.path)} is a symbolic link; choose another path for the journal")
        own, lock = self.path, Lock(self.path)
        if not lock.take(files.FORK_TIMEOUT):
            own = files.folder_of(self.path) / f"{run.id}.db"
            own.parent.mkdir(mode=0o700, exist_ok=True)
            lock = Lock(own)
            if not lock.take():
                raise JournalBusyError(own)
        self.own, self._lock = own, lock

    async def _open_own(self, run: Run) -> None:
        path = self.own
        self._connection = connection = await open_file(path)
        try:
            await connection.execute(f"PRAGMA synchronous = {self._sync}")
            await connection.execute(schema.INSERT_RUN, schema.values_of_run(run))
            [known] = [known for known in await schema.runs_in(connection) if known.id == run.id]
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise schema.error_for(error, path, "opened") from error
        self._identity = path.stat()
        if known.pid != run.pid or known.wall != run.wall:
            raise JournalError(f"{path}: another run called {run.id!r} has written here; each run needs its own name")

    async def unfinished(self) -> tuple[Sequence[Run], Sequence[Row]]:
        """Every row of every call that has no terminal event, the latest 4 096 about circuits, and the runs."""
        connection = self._opened()
        with self._naming("read"):
            calls = await schema.rows_in(connection, schema.UNFINISHED)
            return await schema.runs_in(connection), [*calls, *await schema.rows_in(connection, schema.CIRCUITS)]

    async def history(self, call: str) -> Sequence[Row]:
        """Every row of one call."""
        return await self._read(schema.OF_CALL, call)

    async def recorded(self, key: str | None = None, *, limit: int = 1) -> Sequence[Row]:
        """The latest rows with a result of that *key*, or of any."""
        return await (self._read(schema.RESULTS, limit) if key is None else self._read(schema.RESULT, key, limit))

    async def _read(self, query: str, *values: object) -> list[Row]:
        with self._naming("read"):
            return await schema.rows_in(self._opened(), query, *values)

    async def append(self, rows: Sequence[Row]) -> None:
        """Write *rows* in one transaction."""
        await self._write(*schema.inserts(rows, int(self._wall())))

    async def _write(self, *statements: tuple[str, Iterable[Sequence[object]]]) -> None:
        connection = self._opened()
        self._check_place()
        with self._naming("written"):
            await schema.write(connection, *statements)

    def _check_place(self) -> None:
        if self._identity is None or not files.is_still(self.own, self._identity):
            raise JournalError(f"{self.own} was moved or removed while it was being written")

    @contextmanager
    def _naming(self, what: str) -> Iterator[None]:
        """Raise SQLite's errors as ours; what was damaged is looked at when it is opened again."""
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            ours = schema.error_for(error, self.own, what)
            if isinstance(ours, DamagedJournalError):
                self._damages.append(ours)
            raise ours from error

    async def sync(self) -> None:
        """Have the log synced, and the folder that names it."""
        # SQLite does so itself only at checkpoints. The journal's own file must not be opened here: closing it would
        # give up the locks that SQLite holds on it, and the next who closes it elsewhere would remove our log. There
        # is no lock on the log itself, and what is not in it any more was synced when it was taken from there.
        self._check_place()
        files.sync_file(self.own.with_name(self.own.name + "-wal"))
        files.sync_file(self.own.parent)

    async def close(self) -> None:
        """Close the file, which writes the log back into it, and release the lock."""
        try:
            await self._disconnect()
        finally:
            self._release_lock()
            while self._adopted:
                self._adopted.popitem()[1].release()

    async def adopt(self) -> bool:
        """Copy what dead processes wrote into files of their own, and remove those files."""
        folder = files.folder_of(self.path)
        adopting = Lock(folder / "adopting")
        if not folder.is_dir() or not adopting.take():
            return False  # there is nobody, or another process is at it
        found = False
        try:
            for part, lock in chain(list(self._adopted.items()), files.orphans(self.path, self.own)):
                self._adopted[part] = lock  # until it is removed: whoever took it then would run its calls, too
                try:
                    await self._copy(part)
                    await self.sync()
                    files.remove(part, lock)
                    del self._adopted[part]
                    found = True
                except Unusable as unusable:
                    error = unusable.error
                    if isinstance(error, DamagedJournalError):
                        log.warning("%s; it is kept as %s", error, files.set_aside(part))
                        lock.retire()
                    else:
                        log.warning("what a dead process left is not adopted: %s", error)
                    self._adopted.pop(part).release()
        finally:
            adopting.release()
        return found

    async def _copy(self, part: Path) -> None:
        """Write what *part* holds, a slice at a time; doing so again, after a crash, adds nothing."""
        async with aclosing(slices_of(part)) as slices:
            async for one in slices:
                await self._write(one)

    async def prune(self) -> bool:
        """Delete calls that are over and too old or too many, 500 rows at the most; whether there may be more."""
        with self._naming("tidied"):
            return await retention.prune(self._opened(), self._retention, self._wall(), self._run)

    async def commands(self, is_ours: Callable[[str], bool]) -> Sequence[Command]:
        """Take what is in the inbox."""
        return take_commands(self.path, is_ours)

    def _release_lock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def _retire_lock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.retire()

    def forked(self) -> Self:
        """A store for a forked child, which gets a file of its own; the parent's connection is left alone."""
        if self._connection is not None:
            _of_parents.append(self._connection)
        if self._lock is not None:
            self._lock.release()
        return type(self)(self.path, sync=self._sync, retention=self._retention, wall=self._wall)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _opened(self) -> aiosqlite.Connection:
        if self._connection is None:
            raise JournalError(f"{self.own} is not open")
        return self._connection
