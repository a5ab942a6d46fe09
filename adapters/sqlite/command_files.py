"""The files of commands in ``<journal>.d/inbox``: what they are called, and how they are written and read."""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import msgspec

from adapters.disk import decode_plain
from adapters.sqlite.files import folder_of, open_private
from recovery.journal.errors import JournalError
from recovery.journal.store import Answer, Command

MOST_BYTES = 64 * 1024
ENDING = ".json"
ORDER_ENDING = ".order"
REFUSED_ENDING = ".refused"
LONGEST_CALL = 120
"""Characters of a call's id, quoted, in the name of its command."""

C = TypeVar("C", bound=Command)

log = logging.getLogger("recovery.journal")

_numbers = itertools.count()


def inbox_of(journal: Path) -> Path:
    """The folder of the commands to the processes that write *journal*."""
    return folder_of(journal) / "inbox"


def new_path(journal: Path, command: Command) -> Path:
    """A new file for *command* in the inbox, which is made if it is not there."""
    inbox = inbox_of(journal)
    inbox.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{time.time_ns()}-{os.getpid()}-{next(_numbers)}-{secrets.token_hex(4)}"
    about = quote(command.call, safe="")
    return inbox / (f"{name}.{about}{ENDING}" if len(about) <= LONGEST_CALL else f"{name}{ENDING}")


def read_command(path: Path, kind: type[C]) -> C:
    """The command of that *kind* in the file *path*. Raises JournalError, OSError, ValueError for what is none."""
    if hasattr(os, "geteuid") and path.lstat().st_uid != os.geteuid():
        raise JournalError("it belongs to another user")
    return decode_plain(path, kind, MOST_BYTES)


def refuse(path: Path, error: Exception) -> None:
    """Log that the command in the file *path* is refused, and keep it for a day."""
    log.warning("the command %s is refused: %s", path, error)
    with suppress(OSError):  # the next look refuses it again
        path.rename(path.with_suffix(REFUSED_ENDING))


def write_command(path: Path, value: Command | Answer) -> None:
    """Write a file that appears whole: it is renamed to *path*. Raises OSError with the name of the file."""
    hidden = path.with_name(f"{path.name}-new")
    file = open_private(hidden, os.O_WRONLY | os.O_EXCL)
    try:
        with os.fdopen(file, "wb") as opened:
            opened.write(msgspec.json.encode(value))
        hidden.rename(path)
    except OSError as error:
        hidden.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
