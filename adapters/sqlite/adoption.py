"""Adoption: the side files of dead processes are copied into ours, then removed."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import msgspec

from adapters.sqlite import schema
from adapters.sqlite.connection import error_for, runs_in
from adapters.sqlite.files import companions_of, folder_of, quarantine, side_files
from adapters.sqlite.lock import Lock
from adapters.sqlite.opening import open_file
from recovery.journal.errors import DamagedJournalError, JournalError

SLICE = 500
SLICE_BYTES = 1024 * 1024
"""Rows, and about how many bytes, that are copied in one transaction."""

Slice: TypeAlias = tuple[str, list[tuple[object, ...]]]
"""A statement of ``schema``, and the values to execute it with."""

NOT_ADOPTED = "the file of a dead process is not adopted: %s"

log = logging.getLogger("recovery.journal")


class Adoption:
    """Copies orphans beside the journal *path* with *write*, and removes each after *sync*.

    The lock of a file that was copied but not removed yet is kept: another process would run its calls, too.
    """

    def __init__(
        self, path: Path, write: Callable[[Slice], Awaitable[None]], sync: Callable[[], Awaitable[None]]
    ) -> None:
        self._path = path
        self._write = write
        self._sync = sync
        self._locks: dict[Path, Lock] = {}

    async def run(self, own: Path) -> bool:
        """Adopt every orphan but *own*, and return whether there was one.

        One process at a time adopts. To repeat an adoption that broke off adds nothing: rows have an identity.
        """
        lock = Lock(folder_of(self._path) / "adopting")
        if not lock.path.parent.is_dir() or not lock.take():
            return False
        try:
            found = False
            for path, orphan in chain(list(self._locks.items()), self._orphans(own)):
                self._locks[path] = orphan
                found = await self._adopt(path, orphan) or found
        finally:
            lock.release()
        return found

    def _orphans(self, own: Path) -> Iterator[tuple[Path, Lock]]:
        """The side files whose lock was free, each with that lock, which is ours now."""
        for path in side_files(self._path):
            lock = Lock(path)
            try:
                is_free = path != own and lock.take()
            except (JournalError, OSError) as error:
                log.warning(NOT_ADOPTED, error)
                continue
            if is_free:
                yield path, lock

    async def _adopt(self, path: Path, lock: Lock) -> bool:
        try:
            async with aclosing(slices_of(path)) as slices:
                async for one in slices:
                    await self._write(one)
        except Unusable as unusable:
            [error] = unusable.args
            if isinstance(error, DamagedJournalError):
                log.warning("%s; it is kept as %s", error, quarantine(path))
                lock.retire()
            else:
                log.warning(NOT_ADOPTED, error)
            self._locks.pop(path).release()
            return False
        await self._sync()
        # The log goes before its file: what a kill in between leaves is whole.
        for name in (*companions_of(path), path):
            name.unlink(missing_ok=True)
        lock.retire()
        del self._locks[path]
        return True

    def release(self) -> None:
        """Release every lock that is kept."""
        while self._locks:
            self._locks.popitem()[1].release()


class Unusable(Exception):  # noqa: N818  # named for what it says of a file; it never leaves the adapters
    """A side file that cannot be read; its argument is the error."""


async def slices_of(path: Path) -> AsyncGenerator[Slice, None]:
    """The contents of the file *path*, in slices. Raises Unusable."""
    try:
        orphan = await open_file(path)
        try:
            yield schema.INSERT_RUN, [msgspec.structs.astuple(run) for run in await runs_in(orphan)]
            values: list[tuple[object, ...]] = []
            size = 0
            async with orphan.execute(schema.RAW) as cursor:
                async for found in cursor:
                    values.append(tuple(found))
                    size += len(found[3] or b"")
                    if len(values) >= SLICE or size >= SLICE_BYTES:
                        yield schema.INSERT, values
                        values, size = [], 0
            yield schema.INSERT, values
        finally:
            await orphan.close()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise Unusable(error_for(error, path, "adopted")) from error
    except (JournalError, OSError) as error:
        raise Unusable(error) from error
