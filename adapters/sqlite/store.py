"""The journal in SQLite through aiosqlite: WAL mode, and one writing process per file.

The first process that opens a journal writes the file itself; every further process writes a side file of its own.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Literal, Self

import aiosqlite

from adapters.disk import sync_file
from adapters.sqlite import connection, files, schema
from adapters.sqlite.adoption import Adoption
from adapters.sqlite.claims import Claims
from adapters.sqlite.command_inbox import CommandInbox, answer_command
from adapters.sqlite.dating import Dating
from adapters.sqlite.identity import OpenFiles
from adapters.sqlite.lock import Lock, lock_for
from adapters.sqlite.opening import judged, open_file
from adapters.sqlite.other_files import known_calls, question_rows, rows_of_operation
from adapters.sqlite.pruning import Pruning
from adapters.sqlite.remembered import KeepsSecrets
from adapters.sqlite.retention import Retention
from recovery import validation
from recovery.journal.errors import (
    DamagedJournalError,
    ForeignJournalError,
    JournalError,
    NewerJournalError,
)
from recovery.journal.history import QUESTIONS, Run
from recovery.journal.store import Claim, CommandSink, Row, Taken, Wants

QUESTION_KINDS = frozenset(event.__name__ for event in QUESTIONS)

log = logging.getLogger("recovery.journal")

_of_parents: list[object] = []
"""What a forked child inherited that has connections. It is kept from the garbage collector, which would close them."""


class SQLiteStore(KeepsSecrets):
    """Writes the journal to an SQLite file.

    If another process writes *path*, this one writes ``<path>.d/<run>.db``. A file that is damaged or has an earlier
    format is renamed, and a new one begun.

    Args:
        path: The journal's file. It is made (0600), with its folder (0700), where it does not exist.
        sync: With "normal", committed events survive the process, and power loss once they are synced (a receipt's
            ``synced``, or SQLite's next checkpoint). With "full", every commit is synced.
        retention: What is deleted, and when.
        busy_timeout: Seconds that a transaction waits for another program that has locked the file.
        wall: Returns Unix time; for tests.
        monotonic: Returns monotonic seconds; for tests.

    Raises:
        TypeError, ValueError: An argument is wrong; the message names it. A database in memory (":memory:"), a URI and
            the name of a folder ("calls/") are no path.
        ForeignJournalError, NewerJournalError: On opening, if the file belongs to another application or release.
        JournalError: On opening, if *path* is a link or no file.
        OSError: On opening, if the file cannot be made. Every message names the path.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sync: Literal["normal", "full"] = "normal",
        retention: Retention = Retention(),  # noqa: B008  # it is frozen
        busy_timeout: float = 5.0,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        validation.choice("sync", sync, ("normal", "full"))
        self.path = files.journal_path(path)
        self.own = self.path
        """The file that this process writes."""
        self._sync: Literal["normal", "full"] = sync
        self._retention = retention
        self._busy_timeout = validation.number("busy_timeout", busy_timeout)
        self._wall = wall
        self._monotonic = monotonic
        self._dating = Dating(wall, monotonic)
        self._parent: int | None = None
        self._lock = Lock(self.path)
        self._connection: aiosqlite.Connection | None = None
        self._run, self._answers_read = "", -1
        self._files: OpenFiles | None = None
        self._damages: list[DamagedJournalError] = []
        self._kept: list[str] = []
        self._adoption = Adoption(self.path, self._write, self.sync, self._dating)
        self._claims = Claims(self.path)
        self._inbox = CommandInbox(self.path, self._claims)
        self.pruning = Pruning(retention, self._dating, self._writing)

    async def open(self, run: Run) -> Sequence[str]:
        """Take a lock, open the file, and write down *run*. An open file is closed first; its lock is kept."""
        await self._disconnect()
        self._run = run.id
        self._take_lock(run)
        try:
            if len(self._damages) > 1:  # the file looked sound when it was opened again after the first
                raise self._damages[-1]
            await self._open_own(run)
        except DamagedJournalError as error:
            await self._disconnect()
            self._kept.append(f"{error}; it is kept as {files.quarantine(self.own)}")
            self._damages.clear()
            await self._open_own(run)
        except (ForeignJournalError, NewerJournalError):
            self._lock.retire()
            raise
        kept, self._kept = self._kept, []
        return kept

    def _take_lock(self, run: Run) -> None:
        if self._lock.is_held:
            return
        self._lock.release()
        # While its parent lives, a forked child leaves the journal to it: the parent may just be about to open it.
        self.own, self._lock = lock_for(self.path, run.id, may_be_main=os.getppid() != self._parent)

    async def _open_own(self, run: Run) -> None:
        self._connection = opened = await open_file(self.own, busy_timeout=self._busy_timeout)
        try:
            await opened.execute(f"PRAGMA synchronous = {self._sync}")
            known = await self._dating.introduce(run, opened)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            await self._disconnect()
            raise await judged(error, self.own, "opened") from error
        self._files = await OpenFiles.of(self.own, self._lock, opened)
        if known.pid != run.pid or known.wall != run.wall:
            raise JournalError(
                f"{self.own}: another run called {run.id!r} has written here; each run needs its own name"
            )

    async def unfinished(self) -> tuple[Sequence[Run], Sequence[Row]]:
        """Every row of every call without a terminal event, the latest 4 096 about circuits, and the runs.

        A call of an earlier process is left out if another living process has rows of it: it goes on there.
        """
        calls = await self._read(schema.UNFINISHED)
        earlier = {row.call for row in calls if row.run != self._run}
        others = await known_calls(lambda: self._adoption.elsewhere(self.own), earlier)
        rows = [*(row for row in calls if row.call not in others), *await self._read(schema.CIRCUITS)]
        with self._renaming_errors("read"):
            return await connection.runs_in(self._opened()), rows

    async def history(self, call: str) -> Sequence[Row]:
        """Every row of one call."""
        return await self._read(schema.OF_CALL, call)

    async def recorded(self, key: str | None = None, *, limit: int = 1) -> Sequence[Row]:
        """The latest rows with a result of that *key*, or of any."""
        return await (self._read(schema.RESULTS, limit) if key is None else self._read(schema.RESULT, key, limit))

    async def ended(self, kinds: Collection[str], *, since: float | None = None) -> Sequence[str]:
        """The calls that an event of one of *kinds* has ended, the latest first; of this file alone."""
        first = 0 if since is None else math.floor(self._dating.now() - since)
        with self._renaming_errors("read"):
            opened, values = self._opened(), (json.dumps(list(kinds)), first)
            return [call for (call,) in await opened.execute_fetchall(schema.ENDED, values)]

    async def _read(self, query: str, *values: object) -> list[Row]:
        with self._renaming_errors("read"):
            return await connection.rows_in(self._opened(), query, *values)

    async def append(self, rows: Sequence[Row]) -> None:
        """Write *rows* in one transaction."""
        await self._write(*schema.inserts(rows, int(self._dating.now())))
        self._damages.clear()
        if not QUESTION_KINDS.isdisjoint({row.kind for row in rows}):
            files.note_answer(self.path)

    async def _write(self, *statements: tuple[str, Iterable[Sequence[object]]]) -> None:
        async with self._writing("written") as opened:
            await connection.write(opened, *statements)

    @asynccontextmanager
    async def _writing(self, what: str) -> AsyncIterator[aiosqlite.Connection]:
        """The connection, for one transaction. Raises JournalError if it did not go into the files that are there."""
        opened = self._opened()
        await self._check_files()
        with self._renaming_errors(what):
            yield opened
        await self._check_files()

    async def _check_files(self) -> None:
        if self._files is not None:
            with self._renaming_errors("read"):
                await self._files.check()

    async def check(self) -> None:
        """Raise JournalError if a file that is open was moved, removed, replaced, cut or overwritten."""
        await self._check_files()
        self._claims.check()

    @contextmanager
    def _renaming_errors(self, what: str) -> Iterator[None]:
        """Raise SQLite's errors as ours, and count damage for the next ``open``."""
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            ours = connection.error_for(error, self.own, what)
            if isinstance(ours, DamagedJournalError):
                self._damages.append(ours)
            raise ours from error

    async def sync(self) -> None:
        """Sync the log, and the folder that names it."""
        # SQLite syncs the log only at checkpoints. The journal's file itself must not be opened here: closing it would
        # give up SQLite's locks on it, and the next program that closes it would remove our log. The log has no locks,
        # and what has left the log was synced by the checkpoint.
        await self._check_files()
        sync_file(files.log_of(self.own))
        sync_file(self.own.parent)

    async def close(self) -> None:
        """Close the file, which writes the log back into it, and release every lock."""
        try:
            await self._disconnect(is_last=True)
            for description in self._kept:
                log.warning("%s", description)
        finally:
            self._lock.release()  # before that of the journal's own file, if it was adopted: see ``Adoption.run``
            self._adoption.release()
            self._claims.close()
            self._inbox.close()

    async def adopt(self, wants: Wants | None = None) -> bool:
        """Copy the side files of dead processes into ours, and remove them; for 50 ms at a time.

        A process that writes a side file also copies what is not over in the journal's own file, if that one's process
        is dead, and keeps its lock until ``close``.
        """
        return await self._adoption.run(self.own, with_main=os.getppid() != self._parent, wants=wants)

    def claim(self, identity: bytes) -> Claim | Taken:
        """Claim the calls of *identity*, by a lock on bytes of a file: a few microseconds."""
        return self._claims.take(identity)

    async def calls_of(self, operation: str, since: float | None) -> tuple[Sequence[Run], Sequence[Row]]:
        """The rows of calls of *operation*: of each file, the latest 10 000."""
        left_out = self.own if since is None else None
        return await rows_of_operation(
            lambda: [path for path in files.journal_files(self.path) if path != left_out],
            operation,
            self._dating.boot,
            since,
        )

    async def take_over(self, calls: Collection[str]) -> None:
        """Copy the rows of *calls* from the journal's other files."""
        await self._adoption.take_over(self.own, calls)

    async def prune(self) -> bool:
        """Delete up to 500 rows of calls that are over and too old or too many; whether there may be more."""
        return await self.pruning.slice(self._run)

    async def questions(self) -> Sequence[Row]:
        """The rows about questions in every file, if one was written since the last call."""
        noted = files.answers_noted(self.path)
        if noted == self._answers_read:
            return ()
        own = await self._read(schema.QUESTION_ROWS)
        self._answers_read = noted
        return own + await question_rows(lambda: [one for one in files.journal_files(self.path) if one != self.own])

    async def commands(self, sink: CommandSink) -> bool:
        """Carry out the commands for this process that are in the inbox; whether there may be more."""
        for path, command in self._inbox.take(sink):
            answer_command(path, await self.pruning.carry_out(command, self._run))
        return self._inbox.has_more

    def forked(self) -> Self:
        """A store for a forked child, which writes a side file while its parent lives."""
        if self._connection is not None:
            _of_parents.extend((self._connection, self._adoption))
        self._lock.release()
        child = type(self)(
            self.path,
            sync=self._sync,
            retention=self._retention,
            busy_timeout=self._busy_timeout,
            wall=self._wall,
            monotonic=self._monotonic,
        )
        child._parent = os.getppid()
        return child

    async def _disconnect(self, *, is_last: bool = False) -> None:
        await self._adoption.break_off()
        if self._files is not None:
            with self._renaming_errors("closed"):
                kept = await self._files.keep(is_last=is_last)
            self._kept += [] if kept is None else [kept]
        opened, self._connection, self._files = self._files or self._connection, None, None
        if opened is not None:
            await opened.close()

    def _opened(self) -> aiosqlite.Connection:
        if self._connection is None:
            raise JournalError(f"{self.own} is not open")
        return self._connection
