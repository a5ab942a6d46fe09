"""Locks on files, and syncs of files and folders. The system frees a lock when its process ends."""

from __future__ import annotations

import os
from pathlib import Path

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]


def try_lock(file: int, *, is_shared: bool = False) -> bool:
    """Lock the open *file*, and return False if another process has locked it. On Windows every lock is free.

    Raises OSError where the file system has no locks.
    """
    if fcntl is not None:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def sync_file(path: Path) -> None:
    """Have *path*, a file or a folder, written to the disk; a missing one is ignored."""
    if os.name != "posix" and path.is_dir():
        return  # Windows opens no folders, and a rename needs no help there
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(file)
    finally:
        os.close(file)
