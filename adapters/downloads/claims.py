"""What downloads still need of each file system, told to the user's other processes.

Each process keeps one small file in a folder of the user's, locked as long as the process lives, with the bytes that
its downloads claim on each device. The file of a dead process is ignored and removed. A claim counts room: it reserves
nothing on the disk. Without locks (Windows), and where the folder cannot be used, only this process's claims count.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from adapters.disk import UnsafeFileError, open_plain, try_lock
from events.fork_locks import fork_safe

SUFFIX = ".claims"

MOST_BYTES = 64 * 1024
"""Bytes of a file of claims that are read: more than a thousand devices."""

TURN = 1.0
"""Seconds: a turn takes less than a millisecond, unless the disk hangs."""

log = logging.getLogger("recovery.downloads")


def folder_of_user() -> Path:
    """The folder where the user's processes tell their claims; it is made if it is missing.

    ``$XDG_RUNTIME_DIR/launcher-recovery``, or ``launcher-recovery-UID`` among the temporary files.

    Raises:
        UnsafeFileError: It is a link, belongs to another user, or others may write there.
        OSError: It cannot be made.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    is_usable = os.path.isabs(runtime) and os.path.isdir(runtime)
    folder = (
        Path(runtime, "launcher-recovery")
        if is_usable
        else Path(tempfile.gettempdir(), f"launcher-recovery-{os.getuid()}")
    )
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeFileError(folder, "is no folder")
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o77:
        raise UnsafeFileError(folder, "is open to other users")
    return folder


class Claims:
    """The claims of this process, by what claims, and those of the user's other processes. Safe to use from any thread.

    Args:
        folder: Returns the folder where the processes tell their claims.
        turn: Seconds that a claim waits for its turn among the processes. Then it goes ahead all the same: a process
            that was stopped stops no other.
    """

    def __init__(self, folder: Callable[[], Path] = folder_of_user, *, turn: float = TURN) -> None:
        self._folder_of = folder
        self._longest_wait = turn
        self._lock = fork_safe(threading.Lock())
        self._own: dict[object, tuple[int, int]] = {}
        self._file: tuple[int, Path] | None = None
        self._told: dict[int, int] = {}
        self._has_warned = False

    def begin_run(self) -> None:
        """Claim nothing: a forked child has none of the downloads of its parent."""
        self._own.clear()
        self._told = {}
        if self._file is not None:
            os.close(self._file[0])  # or the lock would outlive the parent
            self._file = None

    def take(self, owner: object, device: int, missing: int, fits: Callable[[int], bool]) -> int | None:
        """Claim *missing* bytes of *device* for *owner*, in the place of what it has claimed until now.

        Args:
            owner: What claims.
            device: The number of the file system.
            missing: Bytes; 0 ends the claim.
            fits: Told how many bytes others claim there; whether there is room beside them.

        Returns:
            None, or how many bytes others claim if there is no room beside them; then *owner* claims nothing.
        """
        with self._lock, self._turn(self._longest_wait) as folder:
            self._own.pop(owner, None)
            others = self._claimed(device, folder)
            is_granted = fits(others)
            if is_granted and missing:
                self._own[owner] = device, missing
            self._tell(folder)
        return None if is_granted else others

    def shrink(self, owner: object, missing: int) -> None:
        """Note that *owner* still needs *missing* bytes; 0 ends its claim. Other processes may learn of it later."""
        with self._lock:
            if owner not in self._own:
                return
            device, _ = self._own.pop(owner)
            if missing:
                self._own[owner] = device, missing
            with self._turn(0.0 if missing else self._longest_wait) as folder:
                self._tell(folder)

    def claimed(self, device: int) -> int:
        """How many bytes of *device* are claimed, by this process and the user's others."""
        with self._lock, self._turn(self._longest_wait) as folder:
            return self._claimed(device, folder)

    @contextmanager
    def _turn(self, longest_wait: float) -> Iterator[Path | None]:
        """The folder, while no other process looks at the claims there.

        ``None`` if there is none to use, or if another process has its turn and *longest_wait* is 0.
        """
        file = None
        try:
            folder = self._folder_of() if os.name == "posix" else None
            if folder is not None:
                file = open_plain(folder / "turn", os.O_RDWR | os.O_CREAT)
                end = time.monotonic() + longest_wait
                while not try_lock(file):
                    if time.monotonic() >= end:
                        folder = folder if longest_wait else None
                        break
                    time.sleep(0.001)
        except OSError as error:
            folder = None
            self._warn(error)
        try:
            yield folder
        finally:
            if file is not None:
                os.close(file)

    def _claimed(self, device: int, folder: Path | None) -> int:
        own = sum(missing for where, missing in self._own.values() if where == device)
        return own + sum(told.get(device, 0) for told in self._others(folder))

    def _others(self, folder: Path | None) -> Iterator[dict[int, int]]:
        """What each of the user's other processes claims, by device. The files of dead ones are removed."""
        for path in () if folder is None else list(folder.glob(f"*{SUFFIX}")):
            if self._file is not None and path == self._file[1]:
                continue
            with suppress(OSError, msgspec.MsgspecError):  # one that is going away claims nothing
                file = open_plain(path)
                try:
                    if try_lock(file, is_shared=True):
                        path.unlink()
                    else:
                        yield msgspec.json.decode(os.read(file, MOST_BYTES), type=dict[int, int])
                finally:
                    os.close(file)

    def _tell(self, folder: Path | None) -> None:
        """Write what this process claims for the others to read; without claims there is no file."""
        claims: dict[int, int] = {}
        for device, missing in self._own.values():
            claims[device] = claims.get(device, 0) + missing
        if folder is None or claims == self._told:
            return
        try:
            if self._file is not None and not (claims and self._file[1].exists()):
                file, path = self._file
                self._file = None
                os.close(file)
                path.unlink(missing_ok=True)
            if claims:
                self._file = self._file or _new_file(folder)
                data = msgspec.json.encode(claims)
                os.pwrite(self._file[0], data, 0)
                os.ftruncate(self._file[0], len(data))
        except OSError as error:
            self._warn(error)
        self._told = claims

    def _warn(self, error: OSError) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning("downloads of other processes may be promised the same room on the disk: %s", error)


def _new_file(folder: Path) -> tuple[int, Path]:
    """A file for the claims of this process. It gets its name once it is locked: it would be taken for a dead one's."""
    path = folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}{SUFFIX}"
    hidden = path.with_suffix(".new")
    file = open_plain(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        try_lock(file)
        hidden.rename(path)
    except BaseException:
        os.close(file)
        raise
    return file, path


CLAIMS = Claims()
"""Those of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=CLAIMS.begin_run)
