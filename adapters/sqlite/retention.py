"""Which rows of a journal's file are deleted, and how a slice of them is found without reading the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import aiosqlite
import msgspec

from adapters.sqlite.connection import number_of
from adapters.sqlite.schema import ASKED, DONE
from recovery import validation

SLICE = 500
"""Rows that one transaction deletes at most."""
FIRST = -(2**62)
"""Before any date."""
NO_CALL_KEPT = 10_000
"""Latest rows about no call (circuits, the journal itself) that are kept."""


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How long finished calls are kept. Succeeded, cancelled and rejected calls are deleted, the oldest first.

    Calls that gave up, calls that are not over, questions and answers are never deleted.

    Args:
        seconds: How long, since the end of the call.
        calls: How many finished calls are kept.
        bytes: How many bytes the file may hold.

    Raises:
        TypeError, ValueError: A value is no number, or negative.
    """

    seconds: float = 7 * 86400.0
    calls: int = 50_000
    bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        validation.number("seconds", self.seconds, least=0.0)
        validation.whole("calls", self.calls, least=0)
        validation.whole("bytes", self.bytes, least=0)


# There are fewer finished calls than rows: if that many may be kept, nothing needs to be counted.
_SPAN = "SELECT (SELECT max(id) FROM events) - (SELECT min(id) FROM events)"
# Counted from the newest call on: a count of all of them would read the whole index.
_TOO_MANY_CALLS = f"""
SELECT count(*) FROM (
    SELECT 1 FROM events WHERE kind IN ({DONE}) ORDER BY written DESC, id DESC LIMIT {SLICE} OFFSET ?
)
"""
_OLDEST_CALL = f"SELECT written FROM events WHERE kind IN ({DONE}) AND written >= ? ORDER BY written, id LIMIT 1"
# Whole calls, the oldest first. The terminal row of a call with more rows than a slice is deleted last.
_OLD_CALLS = f"""
WITH done AS (
    SELECT call, written, id FROM events WHERE kind IN ({DONE}) AND written >= ? ORDER BY written, id LIMIT {SLICE}
), placed AS (SELECT call, written, row_number() OVER (ORDER BY written, id) AS place FROM done),
old AS (SELECT call, place FROM placed WHERE written < ? OR place <= ?),
rows AS (
    SELECT events.id, sum(1) OVER (ORDER BY old.place, events.kind IN ({DONE}), events.id) AS total, old.place
    FROM old JOIN events ON events.call = old.call AND events.call <> ''
), whole AS (SELECT place FROM rows GROUP BY place HAVING max(total) <= {SLICE} OR place = 1)
SELECT id FROM rows WHERE place IN (SELECT place FROM whole) ORDER BY total LIMIT {SLICE}
"""
_OLD_NO_CALL = f"""
SELECT id FROM events WHERE call = '' AND written >= ? AND written < ? AND kind NOT IN ({ASKED}) ORDER BY written, id
LIMIT {SLICE}
"""
_TOO_MANY_NO_CALL = f"""
SELECT events.id FROM (
    SELECT id FROM events WHERE call = '' ORDER BY written DESC, id DESC LIMIT -1 OFFSET {NO_CALL_KEPT}
) AS old JOIN events ON events.id = old.id WHERE events.kind NOT IN ({ASKED}) LIMIT {SLICE}
"""
_RUNS = f"""
SELECT rowid FROM runs WHERE id <> ? AND NOT EXISTS (SELECT 1 FROM events WHERE events.run = runs.id) LIMIT {SLICE}
"""


class Pruned(msgspec.Struct, frozen=True):
    """What was deleted: whole calls, and rows in all; *is_more* says that there may be more to delete."""

    calls: int = 0
    rows: int = 0
    is_more: bool = False

    def __add__(self, later: Pruned) -> Pruned:
        return Pruned(self.calls + later.calls, self.rows + later.rows, later.is_more)


async def prune(
    connection: aiosqlite.Connection, keep: Retention, now: float, run: str, *, since: float = FIRST
) -> Pruned:
    """Delete a slice of what *keep* does not allow at Unix time *now*, and return what it was.

    Rows from before *since* are not deleted for their age. A run without rows is deleted too, except *run*, which is
    writing.
    """
    ages = math.floor(since), math.floor(now - keep.seconds)
    deleted = await _delete(connection, _OLD_NO_CALL, ages)
    if not deleted.rows:
        deleted = await _delete(connection, _TOO_MANY_NO_CALL)
    is_big = await _size(connection) > keep.bytes
    too_many = 0
    [(span,)] = await connection.execute_fetchall(_SPAN)
    if span is not None and span >= keep.calls:
        [(too_many,)] = await connection.execute_fetchall(_TOO_MANY_CALLS, (keep.calls,))
    oldest = list(await connection.execute_fetchall(_OLDEST_CALL, ages[:1]))
    if is_big or too_many:
        deleted += await _delete(connection, _OLD_CALLS, (FIRST, 0, SLICE if is_big else too_many))
    elif oldest and oldest[0][0] < ages[1]:
        deleted += await _delete(connection, _OLD_CALLS, (*ages, 0))
    if not deleted.rows:
        await connection.execute(f"DELETE FROM runs WHERE rowid IN ({_RUNS})", (run,))
    is_more = deleted.rows >= SLICE or (deleted.rows > 0 and is_big)
    return Pruned(deleted.calls, deleted.rows, is_more)


async def _size(connection: aiosqlite.Connection) -> int:
    """Bytes of the file that are in use."""
    pages = await number_of(connection, "page_count") - await number_of(connection, "freelist_count")
    return pages * await number_of(connection, "page_size")


async def _delete(connection: aiosqlite.Connection, query: str, values: Sequence[object] = ()) -> Pruned:
    deleting = f"DELETE FROM events WHERE id IN ({query}) RETURNING kind IN ({DONE})"
    ends = [is_end for (is_end,) in await connection.execute_fetchall(deleting, values)]
    return Pruned(sum(ends), len(ends))
