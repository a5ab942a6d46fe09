"""Commands to a running process: files in ``<journal>.d/inbox``, each taken by one process, which answers in a file.

A command is ``<name>.json``, and its answer ``<name>.answer``. Both appear whole, by renaming. The process that removes
a command has taken it.
"""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import stat
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from adapters.disk import PLAIN_FILE, decode_plain
from adapters.sqlite.files import folder_of, open_private
from recovery.journal.errors import JournalError
from recovery.journal.store import Answer, Command, CommandSink

MOST_BYTES = 64 * 1024
ENDING = ".json"
ANSWER_ENDING = ".answer"

EXPIRES_AFTER = 60.0
"""Seconds. An older command is refused, so that it cannot surprise a call that waits again much later."""

POLL_INTERVAL = 0.02
"""Seconds between two looks for an answer."""

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
    path = inbox / f"{name}{ENDING}"
    _write(path, command)
    return path


def send_command(journal: Path, command: Command, *, timeout: float) -> Answer | None:
    """Put *command* into the inbox, and return what a process answers; None if no process takes it within *timeout*.

    Raises OSError if the file cannot be written.
    """
    path = submit_command(journal, command)
    answer, end = path.with_suffix(ANSWER_ENDING), time.monotonic() + timeout
    while not os.path.lexists(answer):
        if time.monotonic() > end:
            try:
                path.unlink()
            except FileNotFoundError:
                return Answer(is_done=False, said=f"a process took the command, but did not answer in {timeout:g} s")
            return None
        time.sleep(POLL_INTERVAL)
    try:
        return decode_plain(answer, Answer, MOST_BYTES)
    except ValueError as error:
        return Answer(is_done=False, said=f"a process took the command, and answered what cannot be read: {error}")
    finally:
        answer.unlink(missing_ok=True)


def take_commands(journal: Path, sink: CommandSink) -> None:
    """Let *sink* carry out the commands that concern it, oldest first, and answer them; each goes to one process.

    A file that is no command, that another user may have written, or that is a minute old is logged and renamed to
    ``.refused``. Answers that are a minute old are removed.
    """
    for path in _files(inbox_of(journal)):
        try:
            if path.suffix == ANSWER_ENDING:
                if time.time() - path.lstat().st_mtime > EXPIRES_AFTER:
                    path.unlink()
                continue
            command = _read(path)
            if not sink.concerns(command.call):
                continue
            path.unlink()  # the process that succeeds with this has the command
        except FileNotFoundError:
            continue  # another process took it
        except (JournalError, OSError, ValueError, msgspec.MsgspecError) as error:
            log.warning("the command %s is refused: %s", path, error)
            with suppress(OSError):  # the next look refuses it again
                path.rename(path.with_suffix(".refused"))
            continue
        answer = sink.carry_out(command)
        with suppress(OSError):  # the command is carried out all the same
            _write(path.with_suffix(ANSWER_ENDING), answer)


def _files(inbox: Path) -> list[Path]:
    try:
        return sorted(path for path in inbox.iterdir() if path.suffix in (ENDING, ANSWER_ENDING))
    except OSError:  # usually there is no inbox
        return []


def _write(path: Path, value: Command | Answer) -> None:
    """Write a file that appears whole: it is renamed to *path*."""
    hidden = path.with_name(f"{path.name}-new")
    file = open_private(hidden, os.O_WRONLY | os.O_EXCL)
    try:
        os.write(file, msgspec.json.encode(value))
    finally:
        os.close(file)
    hidden.rename(path)


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
