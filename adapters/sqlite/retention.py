"""What a journal's file need not keep, and how a slice of it is found without reading the rest."""

from __future__ import annotations

from collections.abc import Sequence

import aiosqlite
import msgspec

from adapters.sqlite.formats import DONE
from recovery import validation

SLICE = 500
"""Rows that are deleted in a transaction."""
NO_CALL_KEPT = 10_000
"""Rows that concern no call (circuits, the journal itself) of which the latest so many are kept."""


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How long calls that are over are kept: *seconds* since their end, at most *calls* of them, and *bytes* in all.

    Calls that succeeded, were cancelled or turned away are deleted, the oldest first; those that gave up and those that
    are not over never are. Raises TypeError or ValueError for what is no number or negative.
    """

    seconds: float = 7 * 86400.0
    calls: int = 50_000
    bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        validation.number("seconds", self.seconds, least=0.0)
        validation.whole("calls", self.calls, least=0)
        validation.whole("bytes", self.bytes, least=0)


# No more calls are over than there are rows, about: where those may all be kept nothing needs to be counted.
_SPAN = "SELECT (SELECT max(id) FROM events) - (SELECT min(id) FROM events)"
# How many are too many is counted from the newest on, for a count of all of them would read the whole index.
_TOO_MANY_CALLS = f"""
SELECT count(*) FROM (
    SELECT 1 FROM events WHERE kind IN ({DONE}) ORDER BY written DESC, id DESC LIMIT {SLICE} OFFSET ?
)
"""
_OLDEST_CALL = f"SELECT written FROM events WHERE kind IN ({DONE}) ORDER BY written, id LIMIT 1"
# Whole calls, the oldest first; the row that says that a call is over goes last, should it have more than a slice.
_OLD_CALLS = f"""
WITH done AS (
    SELECT call, written, id FROM events WHERE kind IN ({DONE}) ORDER BY written, id LIMIT {SLICE}
), placed AS (SELECT call, written, row_number() OVER (ORDER BY written, id) AS place FROM done),
old AS (SELECT call, place FROM placed WHERE written < ? OR place <= ?),
rows AS (
    SELECT events.id, sum(1) OVER (ORDER BY old.place, events.kind IN ({DONE}), events.id) AS total, old.place
    FROM old JOIN events ON events.call = old.call AND events.call <> ''
), whole AS (SELECT place FROM rows GROUP BY place HAVING max(total) <= {SLICE} OR place = 1)
SELECT id FROM rows WHERE place IN (SELECT place FROM whole) ORDER BY total LIMIT {SLICE}
"""
_OLD_NO_CALL = f"SELECT id FROM events WHERE call = '' AND written < ? ORDER BY written, id LIMIT {SLICE}"
_TOO_MANY_NO_CALL = f"""
SELECT id FROM events WHERE call = '' ORDER BY written DESC, id DESC LIMIT {SLICE} OFFSET {NO_CALL_KEPT}
"""
_RUNS = f"""
SELECT rowid FROM runs WHERE id <> ? AND NOT EXISTS (SELECT 1 FROM events WHERE events.run = runs.id) LIMIT {SLICE}
"""


async def prune(connection: aiosqlite.Connection, keep: Retention, now: float, run: str) -> bool:
    """Delete a slice of what *keep* does not want at Unix time *now*; whether there may be more of it.

    With the last rows of a run goes what is known of it, but for *run*, which is writing.
    """
    before = int(now - keep.seconds)
    deleted = await _delete(connection, _OLD_NO_CALL, (before,)) or await _delete(connection, _TOO_MANY_NO_CALL)
    is_big = await _size(connection) > keep.bytes
    too_many = 0
    [(span,)] = await connection.execute_fetchall(_SPAN)
    if span is not None and span >= keep.calls:
        [(too_many,)] = await connection.execute_fetchall(_TOO_MANY_CALLS, (keep.calls,))
    oldest = list(await connection.execute_fetchall(_OLDEST_CALL))
    if is_big or too_many or (oldest and oldest[0][0] < before):
        deleted += await _delete(connection, _OLD_CALLS, (before, SLICE if is_big else too_many))
    if not deleted:
        await connection.execute(f"DELETE FROM runs WHERE rowid IN ({_RUNS})", (run,))
    return deleted >= SLICE or (deleted > 0 and is_big)


async def _size(connection: aiosqlite.Connection) -> int:
    """Bytes of the file that hold something."""
    numbers = []
    for name in ("page_count", "freelist_count", "page_size"):
        [(number,)] = await connection.execute_fetchall(f"PRAGMA {name}")
        numbers.append(int(number))
    pages, free, size = numbers
    return (pages - free) * size


async def _delete(connection: aiosqlite.Connection, query: str, values: Sequence[object] = ()) -> int:
    async with connection.execute(f"DELETE FROM events WHERE id IN ({query})", values) as cursor:
        return cursor.rowcount
