"""File locks between processes. The system frees a lock when its process ends. On Windows every lock is free."""

from __future__ import annotations

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]


def try_lock(file: int, *, is_shared: bool = False) -> bool:
    """Lock the open *file*, and return False if another process has locked it.

    Raises OSError where the file system has no locks.
    """
    if fcntl is not None:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
