"""What dead processes wrote into files of their own, as slices for whoever takes it over."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path

from adapters.sqlite import schema
from adapters.sqlite.opening import open_file
from recovery.journal.errors import JournalError

SLICE = 500
SLICE_BYTES = 1024 * 1024


class Unusable(Exception):  # noqa: N818  # named for what it says of a file; it never leaves the adapters
    """What a dead process left cannot be read: *error* says why."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


async def slices_of(part: Path) -> AsyncGenerator[tuple[str, list[tuple[object, ...]]], None]:
    """What the file *part* holds: statements with values. Raises Unusable."""
    try:
        orphan = await open_file(part)
        try:
            yield schema.INSERT_RUN, [schema.values_of_run(run) for run in await schema.runs_in(orphan)]
            values: list[tuple[object, ...]] = []
            size = 0
            async with orphan.execute(schema.COPIED) as cursor:
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
        raise Unusable(schema.error_for(error, part, "adopted")) from error
    except (JournalError, OSError) as error:
        raise Unusable(error) from error
