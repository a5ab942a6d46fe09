"""The files of a journal: who may touch them, which process writes which, and what is done with damaged ones.

Beside the journal ``calls.db`` stand ``calls.db-lock``, whose flock belongs to the one process that writes it, and the
folder ``calls.db.d``: there every further process has a file of its own (``<run>.db``) with a lock of its own. A file
whose lock is free is an orphan: its process is dead, for ``kill -9`` frees a lock.
"""

from __future__ import annotations

import itertools
import logging
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from weakref import WeakSet

from recovery.journal.errors import JournalError

try:
    import fcntl
except ImportError:  # Windows has no flock; there two processes on one file are not told apart
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("recovery.journal")

FORK_TIMEOUT = (0.005, 0.015, 0.05, 0.15)
"""Seconds between tries for a lock: who only asks whether it is taken holds it for a moment."""


def folder_of(path: Path) -> Path:
    """Where the files of further processes are, and the inbox."""
    return path.with_name(path.name + ".d")


def parts_of(path: Path) -> list[Path]:
    """The journal's file and those of further processes, as far as they exist."""
    return [part for part in (path, *others_of(path)) if part.exists()]


def others_of(path: Path) -> list[Path]:
    """The files of further processes."""
    return [part for part in sorted(folder_of(path).glob("*.db")) if part.is_file() and not part.is_symlink()]


_held: WeakSet[Lock] = WeakSet()
"""Locks that are held: a forked child lets go of all, or they would stay taken when their owner has died."""


class Lock:
    """The right to write a journal's file; the process's death frees it, and so does ``release``."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + "-lock")
        self._file: int | None = None

    def take(self, patience: Sequence[float] = ()) -> bool:
        """Take it if it is free, asking again after each of the seconds of *patience*; whether it could be taken.

        Raises OSError where there can be no lock file, JournalError where the file system has no locks.
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
            except OSError as error:
                os.close(file)
                raise JournalError(f"{self.path} cannot be locked ({error}); a journal needs a local disk") from error
            if is_still(self.path, os.fstat(file)):
                self._file = file
                _held.add(self)
                return True
            os.close(file)  # whoever retired the file took it away in between

    def release(self) -> None:
        """Give it back; harmless if it was never taken. In a forked child only the child's hold on it ends."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def is_held(self) -> bool:
        """Whether it is ours, and is still what others would ask for: its file may have been removed."""
        return self._file is not None and is_still(self.path, os.fstat(self._file))

    def retire(self) -> None:
        """Give it back for good, its file too, which nobody needs any more."""
        self.path.unlink(missing_ok=True)
        self.release()


def _after_fork() -> None:
    for lock in list(_held):
        lock.release()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def is_being_written(path: str | os.PathLike[str]) -> bool:
    """Whether a living process writes the journal at *path*. False where the system has no flock."""
    for part in parts_of(Path(path)) if fcntl is not None else ():
        try:
            file = os.open(part.with_name(part.name + "-lock"), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue  # nobody has made one, or nobody could lock that
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            continue
        finally:
            os.close(file)
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
    for name in (path, *companions_of(path)):
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


def is_torn_apart(path: Path) -> bool:
    """Whether there is a log whose file is gone or empty: SQLite would take it for another file's and delete it."""
    return _size(path) <= 1 and _size(path.with_name(path.name + "-wal")) > 0  # one byte is nothing, too, for SQLite


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def set_aside(path: Path) -> Path:
    """Rename a journal that cannot be used, all files of it together, so that nothing is lost; its new name."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.damaged-{stamp}" + (f"-{number}" if number > 1 else ""))
        if not any(name.exists() for name in (aside, *companions_of(aside))):
            break
    # The journal itself first: a log without it is recognized (``is_torn_apart``), should we be killed in between.
    for name, kept in zip((path, *companions_of(path)), (aside, *companions_of(aside)), strict=True):
        if name.exists():
            name.rename(kept)
    return aside


def remove(path: Path, lock: Lock) -> None:
    """Remove an orphan of which everything has been copied; its lock, which we hold, goes last."""
    # The log goes before its file: what is left of the two, should we be killed in between, is whole.
    for name in (*companions_of(path), path):
        name.unlink(missing_ok=True)
    lock.retire()


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
    for part in others_of(path):
        lock = Lock(part)
        try:
            is_free = part != own and lock.take()
        except (JournalError, OSError) as error:
            log.warning("what a dead process left is not adopted: %s", error)
            continue
        if is_free:
            yield part, lock


def companions_of(path: Path) -> tuple[Path, ...]:
    """What SQLite keeps beside its file *path*: the log, the index of it, the journal of the time before the log."""
    return tuple(path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal"))


def is_still(path: Path, found: os.stat_result) -> bool:
    """Whether *path* names the file that was *found* before."""
    try:
        return os.path.samestat(path.stat(), found)
    except FileNotFoundError:
        return False
