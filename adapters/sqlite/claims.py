"""Claims: while a process runs a call, no other process of the journal runs an equal one.

A claim is a lock on bytes of the file ``<journal>.d/claims``, at a place hashed from the call's identity. The kernel
frees it when the process ends, also after ``kill -9``. The kernel names no holder, so the lock is as many bytes long as
the holder's process id. Two identities have the same place once in 10^12: then they exclude each other.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from weakref import WeakSet

from adapters.disk import is_same_file, locked_range, try_lock_range, unlock_range
from adapters.sqlite.files import check, folder_of, open_private, safe_folder_of
from adapters.sqlite.fork_guard import fork_guard
from recovery.journal.errors import JournalError
from recovery.journal.store import Claim, Taken

PLACE = 2**23
"""Bytes of the file for each place: more than any process id (at most 2**22 on Linux)."""
PLACE_BYTES = 5
"""Bytes of the hash: 2**40 places of 2**23 bytes are as far as a file reaches."""

_opened: WeakSet[Claims] = WeakSet()
"""Claims whose file this process has open. A forked child closes it at once, or the claims would outlive the parent."""


class Claims:
    """The claims of this process on calls of the journal *path*. Thread-safe.

    The file is opened with the first claim. If it is removed or replaced, the next ``take`` or ``check`` notices and
    claims again in the new file what is held; until then another process may claim the same.
    """

    def __init__(self, path: Path) -> None:
        self.path = folder_of(path) / "claims"
        self._journal = path
        self._closes_when_free = False
        self._forget()

    def _forget(self) -> None:
        # Reentrant: a signal handler may interrupt its own thread here.
        self._lock = threading.RLock()
        self._held: dict[int, _Held] = {}
        self._file: int | None = None
        self._identity: os.stat_result | None = None

    def take(self, identity: bytes) -> Claim | Taken:
        """Claim the calls of *identity*, without waiting. A claim of this process itself is in the way, too.

        Raises JournalError where processes cannot exclude each other: the system or the file system has no such locks,
        or the file cannot be opened.
        """
        place = int.from_bytes(blake2b(identity, digest_size=PLACE_BYTES).digest()) * PLACE
        with self._lock:
            if place in self._held:
                return Taken(os.getpid())
            try:
                while not try_lock_range(file := self._current(), place, os.getpid()):
                    other = locked_range(file, place, PLACE)
                    if other is not None:
                        return Taken(other[1] if other[0] == place and 0 < other[1] < PLACE else None)
                    # It was released in between.
            except OSError as error:
                raise JournalError(f"processes cannot exclude each other's calls: {self.path}: {error}") from error
            self._held[place] = claim = _Held(self, place)
            return claim

    def check(self) -> None:
        """Claim again what is held, if the file was removed or replaced. Raises OSError, JournalError."""
        with self._lock:
            if self._held:
                self._current()

    def _current(self) -> int:
        """The file's descriptor; the file is opened if it is not, or if its name is another file's now."""
        if self._identity is None or not is_same_file(self.path, self._identity):
            self._close()
            # Under the guard: a child forked between ``open`` and ``_opened`` would keep the claims for its lifetime.
            fork_guard.call(self._open)
        assert self._file is not None
        return self._file

    def _open(self) -> None:
        safe_folder_of(self._journal).mkdir(mode=0o700, exist_ok=True)
        file = open_private(self.path)
        try:
            check(self.path, found := os.fstat(file))
            for place in self._held:
                try_lock_range(file, place, os.getpid())
        except BaseException:
            os.close(file)
            raise
        self._file, self._identity = file, found
        _opened.add(self)

    def release(self, claim: Claim, place: int) -> None:
        """Release *claim* on *place*, if it is held."""
        with self._lock:
            if self._held.get(place) is claim:
                del self._held[place]
                if self._file is not None:
                    with suppress(OSError):  # it ends with the process at the latest
                        unlock_range(self._file, place, PLACE)
                self._close_if_free()

    def close(self) -> None:
        """Close the file as soon as no claim is held: a call may go on for a while after its journal is closed."""
        with self._lock:
            self._closes_when_free = True
            self._close_if_free()

    def _close_if_free(self) -> None:
        if self._closes_when_free and not self._held:
            self._close()

    def _close(self) -> None:
        file, self._file, self._identity = self._file, None, None
        if file is not None:
            os.close(file)

    def after_fork(self) -> None:
        """In a forked child: hold nothing. The claims are the parent's."""
        self._close()
        self._forget()


class _Held:
    """A claim that is held."""

    __slots__ = ("_claims", "_place")

    def __init__(self, claims: Claims, place: int) -> None:
        self._claims = claims
        self._place = place

    def release(self) -> None:
        """Let other processes claim the call. Idempotent, from any thread; harmless in a forked child."""
        self._claims.release(self, self._place)


def _after_fork() -> None:
    for claims in list(_opened):
        claims.after_fork()
    _opened.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
