"""Commands to a running process: files in ``<journal>.d/inbox``, each taken by one process."""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from adapters.sqlite.files import PLAIN_FILE, folder_of, open_private
from recovery.journal.errors import JournalError
from recovery.journal.store import Command

MOST_BYTES = 64 * 1024
ENDING = ".json"

EXPIRES_AFTER = 60.0
"""Seconds. An older command is refused, so that it cannot surprise a call that waits again much later."""

log = logging.getLogger("recovery.journal")

_numbers = itertools.count()


def inbox_of(journal: Path) -> Path:
    """The folder of the commands to the processes that write *journal*."""
    return folder_of(journal) / "inbox"


def submit_command(journal: Path, command: Command) -> Path:
    """Put *command* into the inbox as JSON, and return its file, which vanishes when a process takes it.

    Raises OSError if the file cannot be written.
    """
    inbox = inbox_of(journal)
    inbox.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{time.time_ns()}-{os.getpid()}-{next(_numbers)}-{secrets.token_hex(4)}"
    hidden, path = inbox / name, inbox / f"{name}{ENDING}"
    file = open_private(hidden, os.O_WRONLY | os.O_EXCL)
    try:
        os.write(file, msgspec.json.encode(command))
    finally:
        os.close(file)
    hidden.rename(path)
    return path


def take_commands(journal: Path, is_ours: Callable[[str], bool]) -> list[Command]:
    """Take the commands whose call *is_ours*, oldest first; each command goes to one process.

    A file that is no command, that another user may have written, or that is a minute old is logged and renamed to
    ``.refused``.
    """
    commands = []
    for path in _files(inbox_of(journal)):
        try:
            command = _read(path)
            if is_ours(command.call):
                path.unlink()  # the process that succeeds with this has the command
                commands.append(command)
        except FileNotFoundError:
            continue  # another process took it
        except (JournalError, OSError, msgspec.MsgspecError) as error:
            log.warning("the command %s is refused: %s", path, error)
            with suppress(OSError):  # the next look refuses it again
                path.rename(path.with_suffix(".refused"))
    return commands


def _files(inbox: Path) -> list[Path]:
    try:
        return sorted(path for path in inbox.iterdir() if path.suffix == ENDING)
    except OSError:  # usually there is no inbox
        return []


def _read(path: Path) -> Command:
    file = os.open(path, os.O_RDONLY | PLAIN_FILE)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
            raise JournalError(f"it is no file of at most {MOST_BYTES} bytes")
        if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
            raise JournalError("it belongs to another user")
        command = msgspec.json.decode(os.read(file, MOST_BYTES), type=Command)
    finally:
        os.close(file)
    if (age := time.time() - found.st_mtime) > EXPIRES_AFTER:
        raise JournalError(f"no process has taken it for {age:.0f} s")
    return command
