"""What an environment keeps while its packages change: the turn of one install, and the packages before it."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec

from adapters.disk import decode_plain, open_locked, sync_file, write_whole
from adapters.packages.frozen import Frozen
from adapters.processes.running import POLL_INTERVAL, Reminder

FOLDER = ".launcher-recovery"
"""The folder in the environment."""

MOST_BYTES = 16 * 1024 * 1024

log = logging.getLogger("recovery.launch")


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """An install that has begun, and has not ended well.

    Args:
        request: Which one.
        name: What messages call it.
        logs: The folder with the files of its commands.
        files: The name of these files.
        frozen: The packages before.
        kept: The versions of the protected ones.
        checked: What ``pip check`` said before; ``None``: it was not asked yet, and nothing is installed.
        is_undone: Whether the packages are put back.
        broke: What the install broke; "" if it failed before it could.
    """

    request: str
    name: str
    logs: str
    files: str
    frozen: Mapping[str, Frozen]
    kept: Mapping[str, str] = {}
    checked: str | None = None
    is_undone: bool = False
    broke: str = ""


class NoteFile:
    """The file of the note, in *folder*."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "frozen.json"

    def read(self) -> Note | None:
        """The note that a dead process, or an attempt that failed, has left."""
        try:
            return decode_plain(self.path, Note, MOST_BYTES)
        except FileNotFoundError:
            return None
        except ValueError as error:
            log.warning("%s; packages cannot be put back as they were before an earlier launch", error)
            return None

    def write(self, note: Note) -> Note:
        """Have *note* on the disk before this returns. Raises OSError."""
        write_whole(self.path, msgspec.json.encode(note))
        sync_file(self.path)
        sync_file(self.path.parent)
        return note

    def remove(self) -> None:
        """Say that no install is under way."""
        self.path.unlink(missing_ok=True)


@asynccontextmanager
async def turn(folder: Path, name: str, environment: str) -> AsyncIterator[None]:
    """Wait until no other install changes *environment*, and keep others from it.

    Args:
        folder: For the file that is locked.
        name: What messages call this install.
        environment: What they call the environment.

    Raises:
        OSError: The folder cannot be written.
    """
    path = folder / "install.lock"
    reminder = Reminder()
    while (file := open_locked(path)) is None:
        if reminder.is_due():
            other = path.read_text(encoding="utf-8", errors="replace") or "another launch"
            log.warning("%s waits for %s, which changes the packages of %s now", name, other, environment)
        await anyio.sleep(POLL_INTERVAL)
    with file:
        file.truncate(0)
        file.write(f"{name} (process {os.getpid()})".encode())
        yield
