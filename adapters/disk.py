"""Files that others may have made: opened, read, replaced, locked and synced.

Every file whose name derives from a user's path is opened here. The system frees a lock when its process ends.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from events.errors import Permanent

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")

PLAIN_FILE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Flags to open a file: a symbolic link is an error, a pipe does not block, and bytes stay as they are."""

FLOCK = struct.Struct("hhqqi0q")
"""Linux's ``struct flock``: type, whence, start, length, process id; padded to the alignment of its numbers."""


class UnsafeFileError(Permanent, OSError):
    """A path leads to what must not be opened: a link, a pipe, a device, a folder, a file with a second name."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(errno.EPERM, problem, str(path))

    def __str__(self) -> str:
        return f"{self.filename} {self.strerror}; remove it, or choose another path"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it by its own arguments, which set what an ``OSError`` keeps outside its attributes."""
        return type(self), (Path(self.filename), str(self.strerror)), self.__getstate__()


def problem_of(found: os.stat_result, *, is_written: bool = True) -> str | None:
    """Why the file that *found* describes must not be opened; None for a regular one, with one name if *is_written*."""
    return (
        "is a symbolic link" if stat.S_ISLNK(found.st_mode)
        else "is a folder" if stat.S_ISDIR(found.st_mode)
        else "is a pipe, a socket or a device, and no file" if not stat.S_ISREG(found.st_mode)
        else "has a second name (a hard link)" if is_written and found.st_nlink > 1
        else None
    )  # fmt: skip


def open_plain(path: Path, flags: int = os.O_RDONLY, *, mode: int = 0o600) -> int:
    """Open the regular file *path* without following a link or waiting for the other end of a pipe.

    Args:
        path: Its last part is not followed. The caller has resolved the folder.
        flags: As for ``os.open``. ``O_TRUNC`` would empty a file before it is checked: use ``os.ftruncate``.
        mode: The permissions of a file that is made.

    Raises:
        UnsafeFileError: *path* is no regular file, or is opened for writing and has a second name.
        OSError: As ``os.open``.
    """

    def check(found: os.stat_result) -> None:
        if (problem := problem_of(found, is_written=flags & (os.O_WRONLY | os.O_RDWR) != 0)) is not None:
            raise UnsafeFileError(path, problem)

    with suppress(FileNotFoundError):
        check(path.lstat())
    file = os.open(path, flags | PLAIN_FILE, mode)
    try:
        check(os.fstat(file))  # it may have changed in between
    except BaseException:
        os.close(file)
        raise
    return file


def read_plain(path: Path, most: int) -> bytes:
    """The bytes of the regular file *path*, at most *most*. Raises UnsafeFileError for more, or as ``open_plain``."""
    with os.fdopen(open_plain(path), "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise UnsafeFileError(path, f"has more than {most} bytes")
    return data


def decode_plain(path: Path, kind: type[T], most: int) -> T:
    """The value of type *kind* in the JSON file *path*, which others may have written.

    Raises ValueError for bytes that hold none, and as ``read_plain``.
    """
    data = read_plain(path, most)
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} does not hold what it should: {error}") from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole and replaces what bears its name: it is renamed from ``<path>.new``."""
    hidden = path.with_name(path.name + ".new")
    hidden.unlink(missing_ok=True)  # of a process that was killed
    with os.fdopen(open_plain(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(data)
    hidden.replace(path)


def is_same_file(path: Path, found: os.stat_result) -> bool:
    """Whether *path* itself, and no link there, still names the file that *found* describes."""
    try:
        return os.path.samestat(path.lstat(), found)
    except (FileNotFoundError, NotADirectoryError):
        return False


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


def open_locked(path: Path) -> FileIO | None:
    """Open the regular file *path* for writing, make it if it is missing, and lock it; ``None`` if that is taken.

    A file system without locks or file identities counts as one where every lock is free.

    Raises as ``open_plain``.
    """
    while True:
        file = FileIO(open_plain(path, os.O_RDWR | os.O_CREAT, mode=0o666), "r+")
        try:
            if not try_lock(file.fileno()):
                file.close()
                return None
            if is_same_file(path, os.fstat(file.fileno())):
                return file
        except OSError:
            return file
        file.close()  # between opening and locking, another process renamed or removed it: this one is not ours


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


def sync_data(file: int) -> None:
    """Have the bytes and the length of the open *file* written to the disk, and not its times."""
    getattr(os, "fdatasync", os.fsync)(file)  # macOS and Windows have no fdatasync


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
