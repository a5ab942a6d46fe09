"""Commands that write a journal themselves take turns: one that writes looks like a process to the others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.sqlite.claims import Claims
from adapters.sqlite.lock import written_files
from recovery.journal.errors import JournalError
from recovery.journal.store import Taken

POLL_INTERVAL = 0.02
"""Seconds between two looks whether it is the turn of this command."""


@contextmanager
def turn(journal: Path, timeout: float) -> Iterator[bool]:
    """Wait for the turn of this command, and yield whether a process writes *journal*.

    Args:
        journal: The journal's file.
        timeout: Seconds to wait at most; then, and where there are no such locks, the command goes on without its turn.
    """
    claims, end, mine = Claims(journal), time.monotonic() + timeout, None
    try:
        while isinstance(mine := claims.take(b"a command from outside"), Taken) and time.monotonic() < end:
            time.sleep(POLL_INTERVAL)
    except (JournalError, OSError):  # on a full disk, say: what the command writes fails, too, and says so
        pass
    try:
        yield bool(written_files(journal))
    finally:
        if mine is not None and not isinstance(mine, Taken):
            mine.release()
        claims.close()
