"""The lock of a journal's file: the one process that holds it writes the file.

The lock is a ``flock`` on ``<file>-lock``. The system frees it when the process ends, also after ``kill -9``. A file
whose lock is free is an orphan: its process is dead.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakSet

from adapters.disk import PLAIN_FILE, is_same_file, try_lock
from adapters.sqlite.files import check_name, journal_files, open_private, safe_folder_of
from adapters.sqlite.fork_guard import fork_guard
from recovery.journal.errors import JournalBusyError, JournalError

RETRY_PAUSES = (0.005, 0.015, 0.05, 0.15)
"""Seconds between tries for a lock: ``written_files`` holds it for a moment."""

_held: WeakSet[Lock] = WeakSet()
"""Locks that this process holds. A forked child releases them all, or they would outlive the parent."""


class Lock:
    """The right to write a journal's file. It ends with ``release`` or with the process."""

    def __init__(self, path: Path) -> None:
        self.path = _lock_of(path)
        self._file: int | None = None

    def take(self, pauses: Sequence[float] = ()) -> bool:
        """Take the lock if it is free, and return whether it is ours now.

        A lock that is taken is tried again after each of *pauses*, in seconds. Raises OSError where no lock file can
        be made, JournalError where the file system has no locks.
        """
        for pause in (0.0, *pauses):
            time.sleep(pause)
            # Under the guard: a child forked between ``flock`` and ``_held`` would keep the lock for its lifetime.
            if fork_guard.call(self._try):
                return True
        return False

    def _try(self) -> bool:
        while True:
            file = open_private(self.path)
            try:
                is_free = try_lock(file)
            except OSError as error:
                os.close(file)
                raise JournalError(f"{self.path} cannot be locked ({error}); a journal needs a local disk") from error
            if is_free and is_same_file(self.path, os.fstat(file)):
                self._file = file
                _held.add(self)
                return True
            os.close(file)
            if not is_free:
                return False
            # Another process retired the lock in between: its file is a new one.

    def release(self) -> None:
        """Release the lock; harmless if it is not held. In a forked child the parent keeps its own."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def is_held(self) -> bool:
        """Whether the lock is ours, and its file is still the one that other processes open."""
        return self._file is not None and is_same_file(self.path, os.fstat(self._file))

    def retire(self) -> None:
        """Release the lock and remove its file."""
        self.path.unlink(missing_ok=True)
        self.release()


def _after_fork() -> None:
    for lock in list(_held):
        lock.release()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def lock_for(path: Path, run: str, *, may_be_main: bool) -> tuple[Path, Lock]:
    """The file of the journal at *path* that the process *run* writes, and its lock, taken.

    It is the journal itself, if that is free and *may_be_main*, or else a file of its own beside it.
    """
    check_name(path)  # or a lock would be made beside what is refused
    folder, lock = safe_folder_of(path), Lock(path)
    if may_be_main and lock.take(RETRY_PAUSES):
        return path, lock
    own = folder / f"{run}.db"
    own.parent.mkdir(mode=0o700, exist_ok=True)
    lock = Lock(own)
    if not lock.take():
        raise JournalBusyError(own)
    return own, lock


def written_files(path: str | os.PathLike[str]) -> list[Path]:
    """The files of the journal at *path* that a living process writes, each its own. Always empty on Windows."""
    return [file for file in journal_files(Path(path)) if os.name == "posix" and fork_guard.call(_is_locked, file)]


def _is_locked(path: Path) -> bool:
    try:
        file = os.open(_lock_of(path), os.O_RDONLY | PLAIN_FILE)
    except OSError:
        return False  # there is no lock file, or none that could be locked
    try:
        return not try_lock(file, is_shared=True)
    except OSError:
        return False
    finally:
        os.close(file)


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + "-lock")
