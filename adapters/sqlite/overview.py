"""What a journal's file holds, in short: which calls are worth a look, and how many others there are.

The work grows with the rows, the memory with the calls that are named.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from pathlib import Path

import msgspec

from adapters.sqlite import schema
from adapters.sqlite.reading import Reader, reading
from recovery.journal.errors import DamagedJournalError
from recovery.journal.history import Run
from recovery.journal.store import Row

ALL = -1
"""No limit."""
MOST_LISTED = 10_000
"""Damaged calls that are listed."""


class Overview(msgspec.Struct, frozen=True):
    """A file of a journal.

    Args:
        path: The file.
        runs: The processes that wrote it.
        left: The calls that are not over, the latest last, as many as were asked for.
        over: The calls that ended last, the latest last, as many as were asked for.
        ended: How many calls ended, by the kind of the event that ended them.
        pending: How many calls are not over.
        circuits: The latest rows about circuits and incidents.
        unreadable: How many rows are damaged or hold no event, by call; "" for rows about no call.
    """

    path: Path
    runs: tuple[Run, ...]
    left: tuple[str, ...]
    over: tuple[str, ...]
    ended: dict[str, int]
    pending: int
    circuits: tuple[Row, ...]
    unreadable: dict[str, int]


async def overview_of(path: Path, *, most_left: int, most_over: int) -> Overview:
    """Read the file at *path*; ``ALL`` means no limit. Raises as ``reading`` does."""
    try:
        return await _overview_of(path, most_left, most_over)
    except DamagedJournalError:  # a process that began to write the file at that moment may have confused the reader
        return await _overview_of(path, most_left, most_over)


async def _overview_of(path: Path, most_left: int, most_over: int) -> Overview:
    async with reading(path) as reader:
        return Overview(
            path=path,
            runs=tuple(await reader.runs()),
            left=tuple(reversed(await reader.calls(schema.LATEST_UNFINISHED, most_left))),
            over=tuple(reversed(await reader.calls(schema.LATEST_OVER, most_over))),
            ended=dict(await _counts(reader, schema.COUNT_OVER)),
            pending=sum(count for _, count in await _counts(reader, schema.COUNT_UNFINISHED)),
            circuits=tuple(await reader.rows(schema.CIRCUIT_STATES)),
            unreadable=dict(await _counts(reader, schema.UNSOUND, MOST_LISTED)),
        )


async def _counts(reader: Reader, query: str, *values: object) -> list[tuple[str, int]]:
    async with aclosing(reader.raw(query, *values)) as found:
        return [(str(what), int(str(count))) async for what, count in found]


async def rows_of(path: Path, calls: Collection[str]) -> AsyncGenerator[Row, None]:
    """Every row of *calls* in the file at *path*, call by call, each in the order written."""
    async with reading(path) as reader, aclosing(reader.raw(schema.OF_CALLS, json.dumps(list(calls)))) as found:
        async for values in found:
            yield schema.as_row(*values)
