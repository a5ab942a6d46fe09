"""The rows of a journal's calls, read from all of its files, and which process writes a file."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import aclosing
from pathlib import Path

from adapters.journals.pauses import Pause
from adapters.sqlite.files import side_files
from adapters.sqlite.other_files import once
from adapters.sqlite.overview import Overview, overview_of, rows_of
from events.codec import decode
from events.errors import CodecError
from events.event import Event
from events.operation_events import CheckpointSaved
from recovery.journal.errors import JournalError
from recovery.journal.history import Run
from recovery.journal.store import Row


async def overviews_of_all(path: Path, most_left: int, most_over: int) -> tuple[list[Overview], list[str]]:
    """The journal's own file, if it is there, and its side files; and which of these cannot be read."""
    found, damaged = [], []
    # The journal itself last: a row that is adopted meanwhile is seen twice then, and not missed.
    for file in side_files(path):
        try:
            found.append(await overview_of(file, most_left=most_left, most_over=most_over))
        except FileNotFoundError:
            continue
        except JournalError:
            if file.exists():
                damaged.append(str(file))
    if path.exists() or not found:
        found.insert(0, await overview_of(path, most_left=most_left, most_over=most_over))
    return found, damaged


async def rows_of_calls(found: Sequence[Overview], calls: Collection[str], pause: Pause) -> list[Row]:
    """The rows of *calls* in every file, each once; of checkpoints, the latest of each call."""
    rows: list[Row | None] = []
    saved: dict[str, int] = {}
    for one in found:
        async with aclosing(rows_of(one.path, calls)) as read:
            async for row in read:
                pause()
                if row.kind == CheckpointSaved.__name__:
                    if (earlier := saved.get(row.call)) is not None:
                        rows[earlier] = None
                    saved[row.call] = len(rows)
                rows.append(row)
    return list(once(filter(None, rows)))


def event_of(row: Row) -> Event:
    """The event in *row*. Raises CodecError if it is not as it was written."""
    if not row.is_readable:
        raise CodecError("it is not as it was written")
    return decode(row.body)


def writer_of(runs: Sequence[Run]) -> str:
    """Which of *runs*, all found in one file, writes that file: the others are dead, some of them adopted."""
    alive = [run for run in runs if _is_alive(run.pid)] or runs  # none, if it lives in another container
    return max(alive, key=lambda run: run.wall).id


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # of another user
    except (OSError, OverflowError):
        return False
    return True
