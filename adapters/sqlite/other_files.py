"""The files of a journal that other processes write, read while they write.

The rows of a call may be in two files: the journal's own file keeps what a dead process wrote, and the process that
goes on with the call writes a side file. Side files are adopted whole.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from adapters.sqlite import schema
from adapters.sqlite.reading import Reader, reading
from recovery.journal.errors import DamagedJournalError, JournalError
from recovery.journal.history import Run
from recovery.journal.store import Row

T = TypeVar("T")


async def read_each(files: Callable[[], Iterable[Path]], read: Callable[[Reader], Awaitable[T]]) -> list[T]:
    """What *read* finds in each of *files*, in that order. Files that cannot be read are left out.

    A file that is adopted meanwhile vanishes, and its rows are in another, which may have been read before: then all
    are read again.
    """
    while True:
        found: list[T] = []
        paths = list(files())
        for path in paths:
            with suppress(JournalError, OSError):
                found.append(await _read(path, read))
        if all(path.exists() for path in paths):
            return found


async def _read(path: Path, read: Callable[[Reader], Awaitable[T]]) -> T:
    try:
        async with reading(path) as reader:
            return await read(reader)
    except DamagedJournalError:  # a process that began to write the file at that moment may have confused the reader
        async with reading(path) as reader:
            return await read(reader)


async def known_calls(files: Callable[[], Iterable[Path]], calls: Collection[str]) -> set[str]:
    """Those of *calls* that have rows in *files*."""
    if not calls:
        return set()
    wanted = json.dumps(list(calls))
    return set().union(*await read_each(files, lambda reader: reader.calls(schema.KNOWN_CALLS, wanted)))


async def rows_of_operation(
    files: Callable[[], Iterable[Path]], operation: str, boot: str, since: float | None
) -> tuple[Sequence[Run], Sequence[Row]]:
    """The rows that ``Store.calls_of`` returns, and the runs that wrote them."""
    # As msgspec has written it. Arguments may hold the same text.
    member = b'"operation":' + msgspec.json.encode(operation)
    earliest = schema.NEVER if since is None else math.floor(since)

    async def read(reader: Reader) -> tuple[Sequence[Run], Sequence[Row]]:
        return await reader.runs(), await reader.rows(schema.OF_OPERATION, boot, earliest, member, member)

    found = await read_each(files, read)
    runs = {run.id: run for known, _ in found for run in known}
    rows = once(row for _, rows in found for row in reversed(rows))
    return list(runs.values()), [row for row in rows if not row.is_readable or _operation_of(row) == operation]


async def question_rows(files: Callable[[], Iterable[Path]]) -> list[Row]:
    """The rows about questions and answers in *files*."""
    found = await read_each(files, lambda reader: reader.rows(schema.QUESTION_ROWS))
    return [row for rows in found for row in rows]


class _Named(msgspec.Struct):
    operation: str = ""


def _operation_of(row: Row) -> str:
    with suppress(msgspec.DecodeError, UnicodeError):
        return msgspec.json.decode(row.body, type=_Named).operation
    return ""


def once(rows: Iterable[Row]) -> Iterator[Row]:
    """Each of *rows* once: a row that is being adopted, or was copied, is in two files."""
    seen: set[tuple[str, int]] = set()
    for row in rows:
        if (row.run, row.number) not in seen or not row.is_readable:
            seen.add((row.run, row.number))
            yield row
