"""Commands to a running process: files in ``<journal>.d/inbox``, each taken by one process, which answers in a file.

A command is ``<name>.<call>.json``, and its answer ``<name>.<call>.answer``. Both appear whole, by renaming. The
process that removes a command has taken it. A secret that goes with a command is never in a file: the sender holds it
ready in a pipe, ``<name>.<call>.secret``, which is empty without the sender.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from adapters.disk import decode_plain
from adapters.sqlite.claims import Claims
from adapters.sqlite.command_files import (
    MOST_BYTES,
    ORDER_ENDING,
    inbox_of,
    new_path,
    read_command,
    refuse,
    write_command,
)
from adapters.sqlite.orders import Orders
from recovery.journal.errors import JournalError
from recovery.journal.store import Answer, Command, CommandSink

MOST_SECRET = 4096
"""Bytes of a secret: every pipe holds as many."""
ANSWER_ENDING = ".answer"
SECRET_ENDING = ".secret"
MOST_FOUND = 1000
"""Commands that are noted before they are carried out."""
LOOK_SECONDS = 0.02
"""How long one look at the inbox takes at most, about: commits wait for it."""

EXPIRES_AFTER = 60.0
"""Seconds. An older command is refused, so that it cannot surprise a call that waits again much later."""

FORGOTTEN_AFTER = 86400.0
"""Seconds after which a refused command, or one that was never whole, is removed."""

POLL_INTERVAL = 0.02
"""Seconds between two looks for an answer."""

log = logging.getLogger("recovery.journal")


def submit_command(journal: Path, command: Command) -> Path:
    """Put *command* into the inbox as JSON, and return its file, which vanishes when a process takes it.

    Raises OSError if the file cannot be written.
    """
    path = new_path(journal, command)
    write_command(path, command)
    return path


def send_commands(journal: Path, commands: Iterable[Command], *, timeout: float) -> list[Answer | OSError | None]:
    """As ``send_command``, of several at once; the answers are in their order. *timeout* is that of all of them.

    An OSError is why a command could not be written: the others are sent all the same.
    """
    end = time.monotonic() + timeout
    paths: list[Path | OSError] = []
    for command in commands:
        try:
            paths.append(submit_command(journal, command))
        except OSError as error:
            paths.append(error)
    return [path if isinstance(path, OSError) else _answer_to(path, timeout, end) for path in paths]


def send_command(journal: Path, command: Command, *, timeout: float, secret: str = "") -> Answer | None:
    """Put *command* into the inbox, and return what a process answers; None if no process takes it within *timeout*.

    A *secret* goes along through a pipe, and is written to no disk.

    Raises OSError if the file cannot be written, or the secret not be handed over.
    """
    path = new_path(journal, command)
    with _held_ready(path.with_suffix(SECRET_ENDING), secret):
        write_command(path, command)
        return _answer_to(path, timeout, time.monotonic() + timeout)


@contextmanager
def _held_ready(pipe: Path, secret: str) -> Iterator[None]:
    """Hold *secret*, if there is one, ready to be read from the named *pipe*."""
    if not secret:
        yield
        return
    data = secret.encode()
    if not hasattr(os, "mkfifo") or len(data) > MOST_SECRET:
        raise OSError(f"a secret can be handed to a process on POSIX, and has at most {MOST_SECRET} bytes")
    os.mkfifo(pipe, 0o600)
    try:
        file = os.open(
            pipe, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW
        )  # for reading too: a writer alone may not open it
        try:
            os.write(file, data)
            yield
        finally:
            os.close(file)
    finally:
        pipe.unlink(missing_ok=True)


def _secret_in(pipe: Path) -> str:
    """The secret that the sender of a command holds ready; "" if there is none."""
    try:
        file = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return ""
    try:
        found = os.fstat(file)
        if not stat.S_ISFIFO(found.st_mode) or found.st_uid != os.geteuid():
            raise JournalError(f"{pipe} is no pipe of this user")
        return os.read(file, MOST_SECRET).decode()
    finally:
        os.close(file)


def _answer_to(path: Path, timeout: float, end: float) -> Answer | None:
    answer = path.with_suffix(ANSWER_ENDING)
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


class CommandInbox:
    """The commands to the processes that write *journal*, as one of these processes reads them.

    A look takes ``LOOK_SECONDS``, however many files there are: the next look goes on where it ended.

    Args:
        journal: The journal's file.
        claims: What excludes other processes from an order.
    """

    def __init__(self, journal: Path, claims: Claims) -> None:
        self._inbox = inbox_of(journal)
        self._orders = Orders(claims)
        self._entries: Iterator[os.DirEntry[str]] | None = None
        self._found: list[Path] = []
        self.has_more = False
        """Whether the latest look found commands, and there may be more; not if it ended among those for others."""

    def take(self, sink: CommandSink, *, seconds: float = LOOK_SECONDS) -> list[tuple[Path, Command]]:
        """Let *sink* carry out the commands that concern it, oldest first, and answer them; each goes to one process.

        Returns the commands that the store carries out, for ``answer_command``, each with its file.

        A file that is no command, that another user may have written, or that is a minute old is logged and renamed to
        ``.refused``. Answers are removed after a minute, refused files after a day.
        """
        end, taken, self.has_more = time.monotonic() + seconds, [], False
        if self._is_read_through(sink, end):
            self.has_more = bool(self._found)
            self._found.sort()
            while self._found and time.monotonic() < end:
                path = self._found.pop(0)
                if path.suffix == ORDER_ENDING:
                    self._orders.take(path, sink)
                elif (command := _carry_out(path, sink)) is not None:
                    taken.append((path, command))
        return taken

    def close(self) -> None:
        """Stop reading."""
        entries, self._entries = self._entries, None
        if entries is not None:
            entries.close()  # type: ignore[attr-defined]  # an iterator of ``os.scandir``

    def _is_read_through(self, sink: CommandSink, end: float) -> bool:
        """Note in ``_found`` what may concern *sink*, until *end*; whether every file was looked at."""
        if self._found:
            return True  # the commands of the previous look come first
        try:
            if self._entries is None:
                self._entries = os.scandir(self._inbox)
            for entry in self._entries:
                if entry.name not in self._orders.seen and _may_concern(entry, sink):
                    self._found.append(Path(entry.path))
                if len(self._found) >= MOST_FOUND:
                    break
                if time.monotonic() >= end:
                    return False
        except OSError:  # usually there is no inbox
            pass
        self.close()
        return True


def _may_concern(entry: os.DirEntry[str], sink: CommandSink) -> bool:
    """Whether *entry* may be a command for *sink*, or must be read to know that. Removes what is old.

    The name tells which call a command is about, so that commands for other processes need not be opened.
    """
    name, ending = os.path.splitext(entry.name)
    with suppress(OSError):
        match ending:
            case ".answer" | ".secret" | ".refused" | ".json-new" | ".answer-new" | ".order-new":
                if _age(entry) > (EXPIRES_AFTER if ending in (ANSWER_ENDING, SECRET_ENDING) else FORGOTTEN_AFTER):
                    os.unlink(entry.path)
            case ".json":
                _, is_named, call = name.partition(".")
                return not is_named or sink.concerns(unquote(call)) or _age(entry) > EXPIRES_AFTER
            case ".order":
                return sink.concerns(unquote(name.partition(".")[2]))
    return False


def _age(entry: os.DirEntry[str]) -> float:
    return time.time() - entry.stat(follow_symlinks=False).st_mtime


def _carry_out(path: Path, sink: CommandSink) -> Command | None:
    """Have *sink* carry out the command in the file *path*, and answer it; the command, if the store carries it out."""
    try:
        command = read_command(path, Command)
        if (age := time.time() - path.lstat().st_mtime) > EXPIRES_AFTER:
            raise JournalError(f"no process has taken it for {age:.0f} s")
        if not sink.concerns(command.call):
            return None
        path.unlink()  # the process that succeeds with this has the command
        secret = _secret_in(path.with_suffix(SECRET_ENDING))
    except FileNotFoundError:
        return None  # another process took it
    except (JournalError, OSError, ValueError) as error:
        refuse(path, error)
        return None
    if command.name == "prune":
        return command

    reply = partial(answer_command, path)
    if (answer := sink.carry_out(command, secret, reply)) is not None:
        reply(answer)
    return None


def answer_command(path: Path, answer: Answer) -> None:
    """Answer the command that was in the file *path*."""
    with suppress(OSError):  # the command is carried out all the same
        write_command(path.with_suffix(ANSWER_ENDING), answer)
