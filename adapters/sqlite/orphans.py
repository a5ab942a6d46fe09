"""What is left in the files of dead processes, in slices to copy."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Collection, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from adapters.sqlite import schema
from adapters.sqlite.connection import epochs_in
from adapters.sqlite.dating import Dating
from adapters.sqlite.files import log_of
from adapters.sqlite.opening import check_file, judged, open_file
from adapters.sqlite.other_files import known_calls
from adapters.sqlite.reading import reading
from recovery.journal.encoding import unfinished
from recovery.journal.errors import JournalError
from recovery.journal.history import CallRecord, Run

SLICE = 500
SLICE_BYTES = 1024 * 1024
"""Rows, and about how many bytes, that are copied in one transaction."""

Slice: TypeAlias = tuple[str, list[tuple[object, ...]]]
"""A statement of ``schema``, and the values to execute it with."""

Stamp: TypeAlias = tuple[tuple[int, int, int, int], ...]


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


async def pending_in(path: Path) -> tuple[CallRecord, ...]:
    """The calls in the file *path* that are not over. Raises Unusable."""
    async with _reading_orphan(path), reading(path) as reader:
        _, pending = unfinished((), await reader.rows(schema.UNFINISHED), "")
    return pending.calls
