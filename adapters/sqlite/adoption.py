"""Adoption: what dead processes left in other files is copied into ours.

Their side files are removed then. From the journal's own file, only the calls that are not over are copied. That file
is neither changed nor removed: the process that opens it next adopts ours, and finds there how these calls went on.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
)
from contextlib import aclosing, asynccontextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from adapters.sqlite import schema
from adapters.sqlite.connection import epochs_in
from adapters.sqlite.dating import Dating
from adapters.sqlite.files import companions_of, folder_of, journal_files, log_of, quarantine, side_files
from adapters.sqlite.lock import Lock
from adapters.sqlite.opening import check_file, judged, open_file
from adapters.sqlite.other_files import known_calls
from adapters.sqlite.reading import reading
from recovery.journal.errors import DamagedJournalError, ForeignJournalError, JournalError, NewerJournalError
from recovery.journal.history import Run

SLICE = 500
SLICE_BYTES = 1024 * 1024
"""Rows, and about how many bytes, that are copied in one transaction."""

LOOK_SECONDS = 0.05
"""How long an adoption takes at a time, about: commits wait for it."""

Slice: TypeAlias = tuple[str, list[tuple[object, ...]]]
"""A statement of ``schema``, and the values to execute it with."""

Stamp: TypeAlias = tuple[tuple[int, int, int, int], ...]

log = logging.getLogger("recovery.journal")


class Adoption:
    """Copies what dead processes left beside and in the journal *path* with *write*, and then calls *sync*.

    *dating* tells how this process dates its rows; without it, copied rows keep their dates.

    The lock of a side file that was copied but not removed yet is kept: another process would run its calls, too. The
    lock of the journal's own file is kept until ``release``, for the same reason.
    """

    def __init__(
        self,
        path: Path,
        write: Callable[[Slice], Awaitable[None]],
        sync: Callable[[], Awaitable[None]],
        dating: Dating | None = None,
    ) -> None:
        self._path = path
        self._write = write
        self._sync = sync
        self._dating = dating
        self._locks: dict[Path, Lock] = {}
        self._main = Lock(path)
        self._has_main = False
        self._looked_at: dict[Path, Stamp] = {}
        """Files of dead processes of which nothing can be adopted, as they were then: see ``_is_new``."""
        self._said: set[str] = set()
        self._steps: AsyncGenerator[None, None] | None = None  # of an adoption that is not finished

    async def run(self, own: Path, *, with_main: bool = True, seconds: float = LOOK_SECONDS) -> bool:
        """Adopt every orphan but *own*, and the journal's own file only *with_main*; whether there was anything.

        It takes about *seconds*, and the next call continues: until it returns False, there may be more. One process at
        a time adopts. To repeat an adoption that broke off adds nothing: rows have an identity.
        """
        end, found = time.monotonic() + seconds, False
        if self._steps is None:
            self._steps = self._adopt_all(own, with_main=with_main)
        try:
            async for _ in self._steps:
                found = True
                if time.monotonic() >= end:
                    return True
        except BaseException:
            self._steps = None
            raise
        self._steps = None
        return found

    async def break_off(self) -> None:
        """Let the next ``run`` begin again: it may write another file."""
        steps, self._steps = self._steps, None
        if steps is not None:
            await steps.aclose()

    async def _adopt_all(self, own: Path, *, with_main: bool) -> AsyncGenerator[None, None]:
        """Adopt, a step after another."""
        with_main = with_main and own != self._path
        if not any(path != own for path in side_files(self._path)) and not (with_main and self._path.exists()):
            return
        lock = Lock(folder_of(self._path) / "adopting")
        if not lock.path.parent.is_dir() or not lock.take():
            return
        try:
            # Before the side files: an earlier heir of the journal releases its side file first, so it is found here.
            inherits = with_main and self._take_main()
            for path, orphan in chain(list(self._locks.items()), self._orphans(own)):
                self._locks[path] = orphan
                async with aclosing(self._adopt(path, orphan)) as steps:
                    async for _ in steps:
                        yield
            if inherits:
                async with aclosing(self._copy_main(own)) as steps:
                    async for _ in steps:
                        yield
        finally:
            lock.release()

    def _orphans(self, own: Path) -> Iterator[tuple[Path, Lock]]:
        """The side files whose lock was free, each with that lock, which is ours now."""
        for path in side_files(self._path):
            lock = Lock(path)
            try:
                is_free = path != own and self._is_new(path) and lock.take()
            except (JournalError, OSError) as error:
                self._warn(error)
                continue
            if is_free:
                yield path, lock

    async def _adopt(self, path: Path, lock: Lock) -> AsyncGenerator[None, None]:
        try:
            async with aclosing(self._copy(slices_of(path, self._dating))) as steps:
                async for _ in steps:
                    yield
        except Unusable as unusable:
            [error] = unusable.args
            if isinstance(error, DamagedJournalError):
                log.warning("%s; it is kept as %s", error, quarantine(path))
                lock.retire()
            else:
                self._warn(error)
                if isinstance(error, ForeignJournalError | NewerJournalError):
                    self._looked_at[path] = stamp_of(path)
            self._locks.pop(path).release()
            return
        await self._sync()
        # The log goes before its file: what a kill in between leaves is whole.
        for name in (*companions_of(path), path):
            name.unlink(missing_ok=True)
        lock.retire()
        del self._locks[path]
        yield

    def _take_main(self) -> bool:
        """Whether the journal's own file is to be copied: its process is dead, and this has not been done."""
        if self._has_main or not self._path.exists() or not self._is_new(self._path):
            return False
        try:
            return self._main.is_held or self._main.take()
        except (JournalError, OSError) as error:
            self._warn(error)
            return False

    async def _copy_main(self, own: Path) -> AsyncGenerator[None, None]:
        try:
            calls = await calls_left_in(self._path, lambda: self.elsewhere(own))
            async with aclosing(self._copy(slices_of_calls(self._path, calls, self._dating))) as steps:
                async for _ in steps:
                    yield
        except Unusable as unusable:
            self._warn(unusable.args[0])
            calls = []
        if calls:
            await self._sync()
            self._has_main = True
        else:  # the process that opens it next finds its own calls and results in it, or quarantines it
            self._looked_at[self._path] = stamp_of(self._path)
            self._main.release()

    def _is_new(self, path: Path) -> bool:
        """Whether *path* has changed since it was found that nothing in it can be adopted, if ever."""
        return self._looked_at.get(path) != stamp_of(path)

    async def take_over(self, own: Path, calls: Collection[str]) -> None:
        """Copy every row of *calls* from the other files that can be read, those of living processes too."""
        while True:
            paths = [path for path in journal_files(self._path) if path != own]
            for path in paths:
                with suppress(Unusable):
                    async with aclosing(self._copy(slices_of_calls(path, calls, self._dating))) as steps:
                        async for _ in steps:
                            pass
            if all(path.exists() for path in paths):
                return  # otherwise a file was adopted meanwhile: its rows are in another one

    async def _copy(self, slices: AsyncGenerator[Slice, None]) -> AsyncGenerator[None, None]:
        """Write *slices*, one at each step."""
        async with aclosing(slices):
            async for one in slices:
                await self._write(one)
                yield

    def elsewhere(self, own: Path) -> list[Path]:
        """The side files that are not ours: those of living processes."""
        return [path for path in side_files(self._path) if path != own and path not in self._locks]

    def _warn(self, error: Exception) -> None:
        """Log why the file of a dead process is not adopted, once for each reason: the next look will try again."""
        if str(error) not in self._said:
            self._said.add(str(error))
            log.warning("the file of a dead process is not adopted: %s", error)

    def release(self) -> None:
        """Release every lock that is kept."""
        while self._locks:
            self._locks.popitem()[1].release()
        self._main.release()
        self._has_main = False


def stamp_of(path: Path) -> Stamp:
    """What changes with the file *path*, or with its log."""
    stamp: Stamp = ()
    for one in (path, log_of(path)):
        with suppress(FileNotFoundError):
            found = os.stat(one)
            stamp = (*stamp, (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
    return stamp


class Unusable(Exception):  # noqa: N818  # named for what it says of a file; it never leaves the adapters
    """A file that cannot be read; its argument is the error."""


@asynccontextmanager
async def _reading_orphan(path: Path) -> AsyncIterator[None]:
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise Unusable(await judged(error, path, "adopted")) from error
    except (JournalError, OSError) as error:
        raise Unusable(error) from error


async def slices_of(path: Path, dating: Dating | None = None) -> AsyncGenerator[Slice, None]:
    """The contents of the side file *path*, in slices. Raises Unusable."""
    async with _reading_orphan(path):
        orphan = await open_file(path)
        try:
            runs = await epochs_in(orphan)
            yield schema.INSERT_RUN, [schema.run_values(run, epoch) for run, epoch in runs]
            rows = orphan.execute(schema.RAW)
            async with rows as cursor, aclosing(_sliced(cursor, shifts_of(runs, dating))) as slices:
                async for one in slices:
                    yield one
        finally:
            await orphan.close()


async def calls_left_in(path: Path, others: Callable[[], list[Path]]) -> list[str]:
    """The calls in the file *path* that are not over, and have no rows in the files *others*. Raises Unusable."""
    async with _reading_orphan(path):
        await check_file(path)
        async with reading(path) as reader:
            calls = await reader.calls(schema.UNFINISHED_CALLS)
    known = await known_calls(others, calls)
    return [call for call in calls if call not in known]


async def slices_of_calls(path: Path, calls: Collection[str], dating: Dating | None) -> AsyncGenerator[Slice, None]:
    """Every row of *calls* in the file *path*; no call is divided between slices. Raises Unusable."""
    if not calls:
        return
    async with _reading_orphan(path), reading(path) as reader:
        runs = await reader.epochs()
        yield schema.INSERT_RUN, [schema.run_values(run, epoch) for run, epoch in runs]
        rows = reader.raw(schema.RAW_OF_CALLS, json.dumps(list(calls)))
        async with aclosing(rows), aclosing(_sliced(rows, shifts_of(runs, dating), divides_calls=False)) as slices:
            async for one in slices:
                yield one


def shifts_of(runs: Iterable[tuple[Run, float]], dating: Dating | None) -> dict[str, int]:
    """By run, the seconds to add to the dates of its rows: a jump of the wall clock may be between two files."""
    if dating is None or not dating.boot:
        return {}
    return {run.id: round(dating.epoch - epoch) for run, epoch in runs if run.boot == dating.boot}


async def _sliced(
    rows: AsyncIterable[Any], shifts: dict[str, int], *, divides_calls: bool = True
) -> AsyncGenerator[Slice, None]:
    """*rows* in slices; Any: the columns of ``schema``, as a file holds them."""
    values: list[tuple[object, ...]] = []
    size = 0
    async for found in rows:
        if (len(values) >= SLICE or size >= SLICE_BYTES) and (divides_calls or found[1] != values[-1][1]):
            yield schema.INSERT, values
            values, size = [], 0
        run, call, kind, body, number, written, *others = found
        values.append((run, call, kind, body, number, written + shifts.get(run, 0), *others))
        size += len(found[3] or b"")
    if values:
        yield schema.INSERT, values
