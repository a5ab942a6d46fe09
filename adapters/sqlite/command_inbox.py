"""Orders to a running process: files that appear whole in ``<journal>.d/inbox``, each taken by one process."""

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

from adapters.sqlite.files import folder_of, open_private
from recovery.journal.errors import JournalError
from recovery.journal.store import Command

MOST_BYTES = 64 * 1024
ENDING = ".json"

GOOD_FOR = 60.0
"""Seconds: an order that nobody has taken by then is not carried out when its call, long after, waits again."""

log = logging.getLogger("recovery.journal")

_numbers = itertools.count()


def inbox_of(journal: Path) -> Path:
    """Where orders to the processes that write *journal* are put."""
    return folder_of(journal) / "inbox"


def submit_command(journal: Path, command: Command) -> Path:
    """Put *command* into the inbox; its file is gone when a process has taken it. Raises OSError if that cannot be."""
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
    """The orders for this process, the oldest first; each is taken once, by whoever comes first.

    What is no order, might be somebody else's, or has lain there for a minute is renamed (``.refused``) and logged.
    """
    commands = []
    for path in _files(inbox_of(journal)):
        try:
            command, age = _read(path)
            if age > GOOD_FOR:
                log.warning("%s is refused: nobody has taken it for %d s", path, age)
                _refuse(path)
            elif is_ours(command.call):
                path.unlink()  # whoever succeeds with this has it
                commands.append(command)
        except FileNotFoundError:
            continue  # another process was quicker
        except (JournalError, OSError, msgspec.MsgspecError) as error:
            log.warning("%s is no order, and is refused: %s", path, error)
            _refuse(path)
    return commands


def _refuse(path: Path) -> None:
    with suppress(OSError):  # it will be refused again
        path.rename(path.with_suffix(".refused"))


def _files(inbox: Path) -> list[Path]:
    try:
        return sorted(path for path in inbox.iterdir() if path.suffix == ENDING)
    except OSError:  # there is no inbox, as a rule
        return []


def _read(path: Path) -> tuple[Command, float]:
    """The order, and how many seconds it has been there."""
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
            raise JournalError(f"it is no file of {MOST_BYTES} bytes at the most")
        if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
            raise JournalError("it belongs to another user")
        return msgspec.json.decode(os.read(file, MOST_BYTES), type=Command), time.time() - found.st_mtime
    finally:
        os.close(file)
