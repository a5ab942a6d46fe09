"""The file that names the command that runs: ``<name>.running``.

It has two purposes. Its lock, which no other process inherits, decides which launcher runs the command. Its content
names the command's process, so that the next launcher finds what a killed one left, and only that: neither a helper
that the command left running nor another process with its process id is waited for.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from io import FileIO
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import msgspec

from adapters.disk import is_same_file, open_plain, try_lock
from adapters.processes.identity import Identity

POLL_INTERVAL = 0.1
"""Seconds between two looks at a process or a file."""

REMIND_AFTER = 60.0
"""Seconds between two warnings that something is waited for."""

MOST_BYTES = 4096

log = logging.getLogger("recovery.launch")


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """What runs, as ``<name>.running`` says.

    Args:
        mark: What its processes bear in their environment.
        argv: A hash of its command line.
        launcher: The process id of its launcher.
        process: Its process; ``None`` just before it is started.
        ending: Why its launcher ends it; "" as long as it does not. It is noted before the first signal is sent: so
            the next launcher ends what is left, and waits for nothing.
        copied: Bytes of its output that are in the log.
    """

    mark: str
    argv: str
    launcher: int
    process: Identity | None = None
    ending: str = ""
    copied: int = 0


class RunningFile:
    """The locked file. ``left`` is what a launcher that was killed has written."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self._path = path
        self._file = file
        self._now: Running | None = None
        self.left = _read(path, file)

    def write(self, running: Running) -> None:
        """Say that *running* runs. Raises OSError if that cannot be written."""
        # One line, and one call: a reader takes the first line, and a kill comes before or after the call.
        self._file.seek(0)
        self._file.write(msgspec.json.encode(running) + b"\n")
        self._now = running

    def change(self, **changes: Any) -> None:
        """Change what the file says; where it cannot be written, the rest of it stays true."""
        running = self._now or self.left
        if running is not None:
            with suppress(OSError):
                self.write(msgspec.structs.replace(running, **changes))

    def remove(self) -> None:
        """Say that nothing runs, and give up the lock."""
        with suppress(OSError):
            self._path.unlink()
        self._file.close()


class Reminder:
    """Says when a warning is due: at once, and then once in a while."""

    def __init__(self, every: float = REMIND_AFTER) -> None:
        self._every = every
        self._due = 0.0

    def is_due(self) -> bool:
        """Whether it is due now; then it is given."""
        now = monotonic()
        if now < self._due:
            return False
        self._due = now + self._every
        return True


@asynccontextmanager
async def alone(name: str, path: Path) -> AsyncIterator[RunningFile]:
    """Wait until no other launcher runs the command *name*, and keep others from it. Raises as ``open_plain``."""
    reminder = Reminder()
    while True:
        file = FileIO(open_plain(path, os.O_RDWR | os.O_CREAT), "r+")
        try:
            if is_free := try_lock(file.fileno()):
                if is_same_file(path, os.fstat(file.fileno())):  # else its launcher has removed it meanwhile
                    break
            elif reminder.is_due():
                other = _read(path, file)
                launcher = f"process {other.launcher}, " if other else ""
                log.warning("%s waits for another launch, %swhich runs it now", name, launcher)
        except BaseException:
            file.close()
            raise
        file.close()
        if not is_free:
            await anyio.sleep(POLL_INTERVAL)
    running = RunningFile(path, file)
    try:
        yield running
    finally:
        running.remove()


def file_name(name: str) -> str:
    """*name* as the name of files of its own: at most 109 bytes, and another one for every other name."""
    plain = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)[:100]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def hash_of(argv: Sequence[str]) -> str:
    """What tells the command line *argv* from others, and nothing about it."""
    return hashlib.sha256(msgspec.json.encode(list(argv))).hexdigest()[:16]


def _read(path: Path, file: FileIO) -> Running | None:
    file.seek(0)
    line = file.read(MOST_BYTES).partition(b"\n")[0]
    if not line:
        return None
    try:
        return msgspec.json.decode(line, type=Running)
    except (msgspec.MsgspecError, ValueError) as error:
        text = "%s cannot be read (%s), and is replaced: a command of an earlier launch may still run"
        log.warning(text, path, error)
        return None
