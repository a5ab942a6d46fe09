"""Locks on files and on parts of them, and syncs of files and folders.

The system frees a lock when its process ends.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from pathlib import Path

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

PLAIN_FILE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Flags to open a file: a symbolic link is an error, and a pipe does not block."""
FLOCK = struct.Struct("hhqqi0q")
"""Linux's ``struct flock``: type, whence, start, length, process id; padded to the alignment of its numbers."""


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


def try_lock_range(file: int, start: int, length: int) -> bool:
    """Lock bytes of *file*, open for writing; False if another opening of the file has locked one of them.

    The lock belongs to this opening (an "open file description" lock): the system frees it when the last descriptor of
    it is closed, so a forked child must close its own. The same range again, through the same opening, is no conflict.

    Raises OSError where there are no such locks: only Linux has them, and not on every file system.
    """
    try:
        _range_lock("F_OFD_SETLK", file, "F_WRLCK", start, length)
    except (BlockingIOError, PermissionError):
        return False
    return True


def unlock_range(file: int, start: int, length: int) -> None:
    """Free what this opening of *file* has locked among these bytes."""
    _range_lock("F_OFD_SETLK", file, "F_UNLCK", start, length)


def locked_range(file: int, start: int, length: int) -> tuple[int, int] | None:
    """Start and length of a lock that another opening of *file* has on one of these bytes; ``None`` if there is none.

    The system does not tell which process has it.
    """
    kind, _, first, size, _ = _range_lock("F_OFD_GETLK", file, "F_WRLCK", start, length)
    return None if fcntl is None or kind == fcntl.F_UNLCK else (first, size)


def _range_lock(command: str, file: int, kind: str, start: int, length: int) -> tuple[int, int, int, int, int]:
    if sys.platform != "linux" or fcntl is None or not hasattr(fcntl, command):
        raise OSError(errno.EOPNOTSUPP, "this system has no locks on parts of a file")
    request = FLOCK.pack(getattr(fcntl, kind), os.SEEK_SET, start, length, 0)
    found = FLOCK.unpack(fcntl.fcntl(file, getattr(fcntl, command), request))
    return found[0], found[1], found[2], found[3], found[4]


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
