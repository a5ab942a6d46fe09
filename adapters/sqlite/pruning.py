"""Delete old calls from a journal's file: by its process between two batches, by a command, or without a process."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiosqlite
import msgspec

from adapters.sqlite.connection import transaction
from adapters.sqlite.dating import Dating
from adapters.sqlite.lock import Lock
from adapters.sqlite.opening import open_file
from adapters.sqlite.retention import FIRST, Pruned, Retention, prune
from recovery.journal.errors import JournalError
from recovery.journal.store import Answer, Command

COMMAND_SECONDS = 0.05
"""How long a command to delete takes at most, about: commits wait for it. Its sender sends it again."""


class Pruning:
    """Deletes what *keep* does not allow from the open file of a process.

    Args:
        keep: What is kept.
        dating: The clock of the file.
        writing: Enters a transaction of the file; its argument is what cannot be done if that fails.
    """

    def __init__(
        self,
        keep: Retention,
        dating: Dating,
        writing: Callable[[str], AbstractAsyncContextManager[aiosqlite.Connection]],
    ) -> None:
        self._keep = keep
        self._dating = dating
        self._writing = writing

    async def slice(self, run: str) -> bool:
        """Delete a slice between two batches of *run*; whether there may be more.

        After a jump of the wall clock everything seems old. So of what is too old when a boot's first process opens the
        file, one slice is deleted.
        """
        deleted = await self._delete(self._keep, run, self._dating.aged_since - self._keep.seconds)
        self._dating.pruned()
        return deleted.is_more

    async def all(self, keep: Retention, run: str, *, seconds: float | None = None) -> Pruned:
        """Delete all that *keep* does not allow, or what *seconds* suffice for, also after a jump of the clock."""
        end = None if seconds is None else time.monotonic() + seconds
        deleted = await self._delete(keep, run, FIRST)
        while deleted.is_more and (end is None or time.monotonic() < end):
            deleted += await self._delete(keep, run, FIRST)
        return deleted

    async def carry_out(self, command: Command, run: str) -> Answer:
        """Delete for a moment what *command* says, and answer how much that was; "more" is 1 if there may be more."""
        try:
            keep = msgspec.convert(command.changes, Retention)
            deleted = await self.all(keep, run, seconds=COMMAND_SECONDS)
        except (msgspec.ValidationError, JournalError, OSError) as error:
            return Answer(is_done=False, said=str(error))
        counts = {"calls": deleted.calls, "rows": deleted.rows, "more": int(deleted.is_more)}
        return Answer(is_done=True, said="deleted", counts=counts)

    async def _delete(self, keep: Retention, run: str, since: float) -> Pruned:
        # One transaction: see ``Contents.changed``.
        async with self._writing("pruned") as opened, transaction(opened):
            return await prune(opened, keep, self._dating.now(), run, since=since)


async def compact(path: Path) -> int:
    """Give the free space of the file *path*, which no process has open, back to the disk; the bytes given back.

    0 if another process has opened the file meanwhile, or if the disk has no room for a copy of what is left.
    """
    lock, before = Lock(path), os.stat(path).st_size
    if not lock.take():
        return 0
    try:
        opened = await open_file(path)
        try:
            await opened.execute("VACUUM")
        except sqlite3.Error:
            pass
        finally:
            await opened.close()
    finally:
        lock.release()
    return max(before - os.stat(path).st_size, 0)
