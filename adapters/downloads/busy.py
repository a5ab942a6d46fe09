"""Wait for another download of the same file, of this process or another one, and join its result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from adapters.downloads.partial_file import DestinationBusyError
from adapters.downloads.sidecar import Sidecar, read_sidecar
from adapters.downloads.writing import OnProgress

T = TypeVar("T")

FIRST_POLL, POLL_GROWTH, LONGEST_POLL = 0.2, 1.5, 1.0
"""Seconds between two looks whether the other download is over, how they grow, and the longest."""

log = logging.getLogger("recovery.downloads")


async def open_when_free(opened: Callable[[bool], T], destination: Path, on_progress: OnProgress) -> T:
    """What *opened* returns, once no other download writes the partial file of *destination*. Cancellable.

    The system ends the lock of a process that dies, so the wait needs no deadline: the other download ends, and this
    one finds the whole file, or goes on from what there is.

    Args:
        opened: Opens the partial file, in a thread; told whether it is the first time. DestinationBusyError means
            another look later; other errors pass.
        destination: Where the file goes.
        on_progress: Told how far the other download is, each time that it has come farther.
    """
    pause, seen = FIRST_POLL, -1
    while True:
        try:
            return await anyio.to_thread.run_sync(opened, seen < 0)
        except DestinationBusyError:
            other = await anyio.to_thread.run_sync(read_sidecar, destination)
        if seen < 0:
            log.warning("%s: another download of it is under way%s; waiting for it", destination.name, _share(other))
            seen = 0
        if other is not None and other.offset > seen:
            seen = other.offset
            on_progress(other.offset, other.size)
        await anyio.sleep(pause)
        pause = min(pause * POLL_GROWTH, LONGEST_POLL)


def _share(other: Sidecar | None) -> str:
    return f", {other.offset / other.size:.0%}".replace("%", " %") if other is not None and other.size else ""
