"""The journal in SQLite through aiosqlite: WAL mode, and one writer for each file, for ever.

The process that opens the journal first writes the file itself; every further one a file of its own beside it. What
files there are is in ``adapters.files``, what is in them in ``adapters.schema``.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Self

import aiosqlite
import msgspec

from adapters import files, schema
from adapters.files import Lock
from adapters.inbox import take_orders
from events.errors import DamagedJournalError, JournalBusyError, JournalError
from recovery import checks
from recovery.ledger import Run
from recovery.orders import Order
from recovery.store import Row, Store

BUSY_TIMEOUT = 5.0
"""Seconds that a transaction waits for somebody who has locked the file."""
SLICE = 500
"""Rows that are deleted at a time."""
NO_CALL_KEPT = 10_000
"""Rows that concern no call (circuits, the journal itself) of which the latest so many are kept."""
WAL_LIMIT = 16 * 1024 * 1024
SETTINGS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA trusted_schema = OFF",
    f"PRAGMA journal_size_limit = {WAL_LIMIT}",
)

log = logging.getLogger("recovery.journal")

_of_parents: list[object] = []
"""Connections that a forked child has inherited: never closed, not even by the collector, for they are not ours."""


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How long calls that are over are kept: *seconds* since their end, at most *calls* of them, and *bytes* in all.

    Calls that succeeded, were cancelled or turned away are deleted, the oldest first; those that gave up and those that
    are not over never are. Raises TypeError or ValueError for what is no number or negative.
    """

    seconds: float = 7 * 86400.0
    calls: int = 50_000
    bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        checks.number("seconds", self.seconds, least=0.0)
        checks.whole("calls", self.calls, least=0)
        checks.whole("bytes", self.bytes, least=0)


class SQLiteStore(Store):
    """Writes to the SQLite file *path*, made with its directory where they do not exist (0600 in 0700).

    With *sync* "normal" what is committed survives the process, and a loss of power once it is synced (a receipt's
    ``synced``, or SQLite's next checkpoint); with "full" every commit is synced. *retention* says what is deleted when;
    *wall* reads Unix time, for tests. If another process writes *path*, this one writes ``<path>.d/<run>.db``.

    Opening raises ForeignJournalError or NewerJournalError if the file is not ours to touch, JournalError for a link or
    what is no file, OSError if it cannot be made; each names the path. A damaged file is renamed, and a new one begun.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sync: Literal["normal", "full"] = "normal",
        retention: Retention = Retention(),  # noqa: B008  # it is frozen
        wall: Callable[[], float] = time.time,
    ) -> None:
        checks.choice("sync", sync, ("normal", "full"))
        self.path = Path(path)
        self.own = self.path
        """The file that this process writes."""
        self._sync: Literal["normal", "full"] = sync
        self._retention = retention
        self._wall = wall
        self._lock: Lock | None = None
        self._connection: aiosqlite.Connection | None = None

    async def open(self, run: Run) -> Sequence[str]:
        """Take a lock, open the file, and note the run."""
        await self._disconnect()
        self._take_lock(run)
        try:
            await self._open_own(run)
        except DamagedJournalError as error:
            await self._disconnect()
            aside = files.set_aside(self.own)
            await self._open_own(run)
            return [f"{error}; it is kept as {aside}"]
        return ()

    def _take_lock(self, run: Run) -> None:
        if self._lock is not None:
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if files.folder_of(self.path).is_symlink():
            raise JournalError(f"{files.folder_of(self.path)} is a symbolic link; choose another path for the journal")
        own, lock = self.path, Lock(self.path)
        if not lock.take(files.PATIENCE):
            own = files.folder_of(self.path) / f"{run.id}.db"
            own.parent.mkdir(mode=0o700, exist_ok=True)
            lock = Lock(own)
            if not lock.take():
                raise JournalBusyError(own)
        self.own, self._lock = own, lock

    async def _open_own(self, run: Run) -> None:
        path = self.own
        if files.prepare(path):
            async with schema.reading(path) as reader:
                await reader.check()  # also raises for what is not ours to touch, without touching it
        try:
            connection = self._connection = await _connect(path)
            await connection.execute(f"PRAGMA synchronous = {self._sync}")
            await schema.bring_up_to_date(connection)
            await connection.execute(schema.INSERT_RUN, (run.id, run.boot, run.monotonic, run.wall, run.pid))
            [known] = [known for known in await schema.runs_in(connection) if known.id == run.id]
        except sqlite3.Error as error:
            raise schema.error_for(error, path, "opened") from error
        if known.pid != run.pid or known.wall != run.wall:
            raise JournalError(f"{path}: another run called {run.id!r} has written here; each run needs its own name")

    async def unfinished(self) -> tuple[Sequence[Run], Sequence[Row]]:
        """Every row of every call that has no terminal fact, the latest 4 096 about circuits, and the runs."""
        connection = self._opened()
        try:
            calls = await schema.rows_in(connection, schema.UNFINISHED)
            return await schema.runs_in(connection), [*calls, *await schema.rows_in(connection, schema.CIRCUITS)]
        except sqlite3.Error as error:
            raise schema.error_for(error, self.own, "read") from error

    async def history(self, call: str) -> Sequence[Row]:
        """Every row of one call."""
        return await self._read(schema.OF_CALL, call)

    async def recorded(self, key: str | None = None, *, limit: int = 1) -> Sequence[Row]:
        """The latest rows with a result of that *key*, or of any."""
        return await (self._read(schema.RESULTS, limit) if key is None else self._read(schema.RESULT, key, limit))

    async def _read(self, query: str, *values: object) -> list[Row]:
        try:
            return await schema.rows_in(self._opened(), query, *values)
        except sqlite3.Error as error:
            raise schema.error_for(error, self.own, "read") from error

    async def append(self, rows: Sequence[Row]) -> None:
        """Write *rows* in one transaction."""
        written = int(self._wall())
        await self._write(schema.INSERT, [schema.values_of(row, written) for row in rows])

    async def _write(self, statement: str, values: Sequence[Sequence[object]]) -> None:
        connection = self._opened()
        try:
            await connection.execute("BEGIN IMMEDIATE")
            try:
                await connection.executemany(statement, values)
                await connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    await connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise schema.error_for(error, self.own, "written") from error

    async def sync(self) -> None:
        """Have the log synced, and the folder that names it."""
        # SQLite does so itself only at checkpoints. No lock is held on the log, so that closing it here loses none.
        files.sync_file(self.own.with_name(self.own.name + "-wal"))
        files.sync_file(self.own)
        files.sync_file(self.own.parent)

    async def close(self) -> None:
        """Close the file, which writes the log back into it, and release the lock."""
        try:
            await self._disconnect()
        finally:
            lock, self._lock = self._lock, None
            if lock is not None:
                lock.release()

    async def adopt(self) -> bool:
        """Copy what dead processes wrote into files of their own, and remove those files."""
        adopting = Lock(files.folder_of(self.path) / "adopting")
        if not files.folder_of(self.path).exists() or not adopting.take():
            return False  # there is nobody, or another process is at it
        found = False
        try:
            for part, lock in files.orphans(self.path, self.own):
                try:
                    await self._copy(part)
                    await self.sync()
                    files.remove(part, lock)
                    found = True
                except DamagedJournalError as error:
                    log.warning("%s; it is kept as %s", error, files.set_aside(part))
                except (JournalError, OSError) as error:
                    log.warning("what a dead process left is not adopted: %s", error)
                finally:
                    lock.release()
        finally:
            adopting.release()
        return found

    async def _copy(self, part: Path) -> None:
        if files.prepare(part):
            async with schema.reading(part) as reader:
                await reader.check()
        try:
            orphan = await _connect(part)
            try:
                await schema.bring_up_to_date(orphan)
                runs = [(run.id, run.boot, run.monotonic, run.wall, run.pid) for run in await schema.runs_in(orphan)]
                await self._write(schema.INSERT_RUN, runs)
                query, last = f"SELECT id, {schema.COLUMNS} FROM facts WHERE id > ? ORDER BY id LIMIT 2000", 0
                while rows := list(await orphan.execute_fetchall(query, (last,))):
                    await self._write(schema.INSERT, [row[1:] for row in rows])
                    last = rows[-1][0]
            finally:
                await orphan.close()
        except sqlite3.Error as error:
            raise schema.error_for(error, part, "adopted") from error

    async def tidy(self) -> bool:
        """Delete calls that are over and too old or too many, 500 rows at the most; whether there may be more."""
        connection = self._opened()
        keep = self._retention
        try:
            before = int(self._wall() - keep.seconds)
            deleted = await _delete(connection, _OLD_NO_CALL, (before, NO_CALL_KEPT, SLICE))
            [(done, oldest)] = await connection.execute_fetchall(_DONE_CALLS)
            [(size,)] = await connection.execute_fetchall(_SIZE)
            too_many = max(done - keep.calls, SLICE if size > keep.bytes else 0)
            if done and (too_many > 0 or oldest < before):
                deleted += await _delete(connection, _OLD_CALLS, (before, max(too_many, 0), SLICE, SLICE))
            return deleted >= SLICE or (deleted > 0 and size > keep.bytes)
        except sqlite3.Error as error:
            raise schema.error_for(error, self.own, "tidied") from error

    async def orders(self, is_ours: Callable[[str], bool]) -> Sequence[Order]:
        """Take what is in the inbox."""
        return take_orders(self.path, is_ours)

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


_DONE_CALLS = f"SELECT count(*), coalesce(min(written), 0) FROM facts WHERE kind IN ({schema.DONE})"
_SIZE = (
    "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)
_OLD_NO_CALL = """
SELECT id FROM facts WHERE call = '' AND (
    written < ? OR id < (SELECT id FROM facts WHERE call = '' ORDER BY id DESC LIMIT 1 OFFSET ?)
) LIMIT ?
"""
# Whole calls, the oldest first; the row that says that a call is over goes last, should it have more than a slice.
_OLD_CALLS = f"""
WITH done AS (
    SELECT call, written, row_number() OVER (ORDER BY written, id) AS place FROM facts WHERE kind IN ({schema.DONE})
    ORDER BY written, id LIMIT 500
), old AS (SELECT call, place FROM done WHERE written < ? OR place <= ?),
rows AS (
    SELECT facts.id, sum(1) OVER (ORDER BY old.place, facts.kind IN ({schema.DONE}), facts.id) AS total, old.place
    FROM old JOIN facts ON facts.call = old.call AND facts.call <> ''
), whole AS (SELECT place FROM rows GROUP BY place HAVING max(total) <= ? OR place = 1)
SELECT id FROM rows WHERE place IN (SELECT place FROM whole) ORDER BY total LIMIT ?
"""


async def _delete(connection: aiosqlite.Connection, query: str, values: Sequence[object]) -> int:
    async with connection.execute(f"DELETE FROM facts WHERE id IN ({query})", values) as cursor:
        return cursor.rowcount


async def _connect(path: Path) -> aiosqlite.Connection:
    connecting = aiosqlite.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT)
    # Not a daemon by itself: a file system that hangs would keep the interpreter from ending.
    connecting._thread.daemon = True
    connection = await connecting
    schema.make_careful(connection)
    for setting in SETTINGS:
        await connection.execute(setting)
    return connection
