"""The files of a journal: who may touch them, which process writes which, and what is done with damaged ones.

Beside the journal ``calls.db`` stand ``calls.db-lock``, whose flock belongs to the one process that writes it, and the
folder ``calls.db.d``: there every further process has a file of its own (``<run>.db``) with a lock of its own. A file
whose lock is free is an orphan: its process is dead, for ``kill -9`` frees a lock.
"""

from __future__ import annotations

import itertools
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from events.errors import JournalError

try:
    import fcntl
except ImportError:  # Windows has no flock; there two processes on one file are not told apart
    fcntl = None  # type: ignore[assignment]

PATIENCE = (0.005, 0.015, 0.05, 0.15)
"""Seconds between tries for a lock: who only asks whether it is taken holds it for a moment."""


def folder_of(path: Path) -> Path:
    """Where the files of further processes are, and the inbox."""
    return path.with_name(path.name + ".d")


def parts_of(path: Path) -> list[Path]:
    """The journal's file and those of further processes, as far as they exist."""
    return [part for part in (path, *sorted(folder_of(path).glob("*.db"))) if part.exists()]


class Lock:
    """The right to write a journal's file; the process's death frees it, and so does ``release``."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + "-lock")
        self._file: int | None = None

    def take(self, patience: Sequence[float] = ()) -> bool:
        """Take it if it is free, asking again after each of the seconds of *patience*; whether it could be taken.

        Raises OSError where there can be no lock: no such folder, no flock.
        """
        pauses = iter(patience)
        while not self._try():
            pause = next(pauses, None)
            if pause is None:
                return False
            time.sleep(pause)
        return True

    def _try(self) -> bool:
        while True:
            file = open_private(self.path)
            try:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                return False
            except OSError:
                os.close(file)
                raise
            if _is_still(self.path, file):
                self._file = file
                return True
            os.close(file)  # whoever retired the file took it away in between

    def release(self) -> None:
        """Give it back; harmless if it was never taken. In a forked child only the child's hold on it ends."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def is_being_written(path: str | os.PathLike[str]) -> bool:
    """Whether a living process writes the journal at *path*. False where the system has no flock."""
    for part in parts_of(Path(path)) if fcntl is not None else ():
        try:
            with part.with_name(part.name + "-lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            continue
        except BlockingIOError:
            return True
    return False


def open_private(path: Path, flags: int = os.O_RDWR) -> int:
    """Open *path* for writing, made for us alone; raises OSError for a link, which might lead anywhere."""
    if not hasattr(os, "O_NOFOLLOW"):  # Windows
        return os.open(path, flags | os.O_CREAT, 0o600)
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)


def prepare(path: Path) -> bool:
    """Make sure that *path* can be our journal, whether there is one or not; whether there is.

    The folder is made for us alone. Raises JournalError for what is there and must not be written: a symbolic link, a
    hard link (another name for somebody's file), a folder, a pipe, a file of another user.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in (path, *_companions(path)):
        try:
            found = name.lstat()
        except FileNotFoundError:
            continue
        problem = (
            "is a symbolic link" if stat.S_ISLNK(found.st_mode)
            else "is no file" if not stat.S_ISREG(found.st_mode)
            else "has a second name (a hard link)" if found.st_nlink > 1
            else "belongs to another user" if hasattr(os, "geteuid") and found.st_uid != os.geteuid()
            else None
        )  # fmt: skip
        if problem is not None:
            raise JournalError(f"{name} {problem}; choose another path for the journal")
    is_there = path.exists() and path.stat().st_size > 0
    if not path.exists():
        os.close(open_private(path, os.O_RDWR | os.O_EXCL))
    return is_there


def set_aside(path: Path) -> Path:
    """Rename a damaged journal, all files of it together, so that nothing is lost; its new name."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.damaged-{stamp}" + (f"-{number}" if number > 1 else ""))
        if not aside.exists():
            break
    for name, kept in zip((path, *_companions(path)), (aside, *_companions(aside)), strict=True):
        if name.exists():
            name.rename(kept)
    return aside


def remove(path: Path, lock: Lock) -> None:
    """Remove an orphan of which everything has been copied; its lock, which we hold, goes last."""
    for name in (path, *_companions(path), lock.path):
        name.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Return when the disk has *path* (a file or a folder), as far as it is honest."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(file)
    finally:
        os.close(file)


def orphans(path: Path, own: Path) -> Iterator[tuple[Path, Lock]]:
    """The files of dead processes beside the journal *path*, each with its lock, which was free and is now ours."""
    for part in sorted(folder_of(path).glob("*.db")):
        lock = Lock(part)
        if part != own and lock.take():
            yield part, lock


def _companions(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def _is_still(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False
