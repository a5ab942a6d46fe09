"""Check the files of a journal without changing them: damage, checksums, orphans, copies that were kept."""

from __future__ import annotations

import os
import shlex
import stat
import time
from collections.abc import Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Literal

import msgspec

from adapters.disk import problem_of
from adapters.launcher.progress import amount
from adapters.sqlite import schema
from adapters.sqlite.command_files import ENDING, ORDER_ENDING, REFUSED_ENDING, inbox_of
from adapters.sqlite.files import companions_of, folder_of, has_lost_its_file, log_of, side_files
from adapters.sqlite.lock import written_files
from adapters.sqlite.opening import check_file
from adapters.sqlite.overview import overview_of
from adapters.sqlite.reading import Reader, reading
from adapters.sqlite.remembered import remembered_at
from recovery.explain import counted, duration
from recovery.journal.errors import DamagedJournalError, ForeignJournalError, JournalError, NewerJournalError

MOST_NAMED = 5
"""Damaged calls that a finding names; more are counted."""
KEPT_COPIES = ("damaged", "removed", "restored")
"""What the names of files say that are no longer the journal."""
RESUMES = "the next process that resumes"


class FileCheck(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the journal.

    Args:
        path: The file.
        role: "journal" for its main file, "side file" for that of a further process.
        is_sound: Whether all of it can be read.
        is_being_written: Whether a living process writes it.
        rows: Its rows; 0 if it cannot be read.
        pending: Its calls that are not over.
        bytes: What it holds, with SQLite's log.
    """

    path: str
    role: Literal["journal", "side file"]
    is_sound: bool
    is_being_written: bool
    rows: int = 0
    pending: int = 0
    bytes: int = 0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What is noticed about a file.

    Args:
        kind: "problem" for what is damaged or unsafe; "note" for what is in order, and good to know.
        path: The file, or the folder.
        text: What it is.
        cure: What to do about it, or what happens by itself.
    """

    kind: Literal["problem", "note"]
    path: str
    text: str
    cure: str


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What the check of a journal has found.

    Args:
        path: The journal's main file.
        is_sound: Whether there is no problem.
        files: Its files.
        findings: What is noticed about them: problems and notes.
    """

    path: str
    is_sound: bool
    files: tuple[FileCheck, ...]
    findings: tuple[Finding, ...]


async def verify_journal(journal: Path) -> Verified:
    """Check *journal*: read every row of its files and of their indexes, and change nothing.

    Raises:
        FileNotFoundError: There is no journal.
    """
    beside = side_files(journal)
    if not journal.exists() and not beside and not has_lost_its_file(journal):
        raise FileNotFoundError(f"there is no journal at {journal}")
    written = written_files(journal)
    files, findings = [], []
    for path in dict.fromkeys((journal, *beside)):
        checked, found = await _check(path, is_main=path == journal, is_written=path in written)
        files += [checked] if checked is not None else []
        findings += found
    findings += [*_others(journal)]
    is_sound = all(one.kind == "note" for one in findings)
    return Verified(path=str(journal), is_sound=is_sound, files=tuple(files), findings=tuple(findings))


async def _check(path: Path, *, is_main: bool, is_written: bool) -> tuple[FileCheck | None, list[Finding]]:
    """The file at *path*, if it is there, and what is to be said of it."""
    if not path.exists() and not has_lost_its_file(path):
        gone = "is not there, and files of further processes are"
        return None, [_note(path, gone, f"{RESUMES} begins it again")]
    checked = FileCheck(
        path=str(path),
        role="journal" if is_main else "side file",
        is_sound=False,
        is_being_written=is_written,
        bytes=_size(path) + _size(log_of(path)),
    )
    try:
        for name in (path, *companions_of(path)):
            if (problem := _unsafe(name)) is not None:  # reading through a link would make files beside its target
                return checked, [_problem(name, f"it {problem}: no process writes it", "give the journal another path")]
        if has_lost_its_file(path):
            raise DamagedJournalError(f"{path} is gone or empty, but not its log")
        return await _read(path, checked)
    except (ForeignJournalError, NewerJournalError) as error:
        return checked, [_problem(path, str(error), "give the journal another path")]
    except DamagedJournalError as error:
        aside = f"{RESUMES} keeps it as {path.name}.damaged-TIME and begins a new one; copy it before if you need it"
        return checked, [_problem(path, str(error), aside)]
    except (JournalError, OSError) as error:
        if not is_main and not path.exists():
            return None, []  # it was adopted meanwhile
        return checked, [_problem(path, str(error), "see to the disk, and to the permissions of the file")]


def _unsafe(path: Path) -> str | None:
    try:
        return problem_of(path.lstat())
    except FileNotFoundError:
        return None


async def _read(path: Path, checked: FileCheck) -> tuple[FileCheck, list[Finding]]:
    """Read all of *path*. Raises JournalError or OSError."""
    if not checked.is_being_written:  # the log is looked at, too: while it grows its end looks damaged
        await check_file(path)
    overview = await overview_of(path, most_left=0, most_over=0)  # reads each row, and its checksum
    async with reading(path) as reader:
        if checked.is_being_written:
            await reader.check(path)
        rows = await _number(reader, schema.COUNT_ROWS)
        unknown = await _number(reader, schema.COUNT_UNKNOWN)
    findings = [*_of_rows(path, overview.unreadable, unknown), *_of_permissions(path)]
    if checked.role == "side file" and not checked.is_being_written:
        adopts = f"{RESUMES} takes it over, and removes it"
        findings.append(_note(path, "the process that wrote it is dead", adopts))
    is_sound = not any(one.kind == "problem" for one in findings)
    return msgspec.structs.replace(checked, is_sound=is_sound, rows=rows, pending=overview.pending), findings


async def _number(reader: Reader, query: str) -> int:
    async with aclosing(reader.raw(query)) as found:
        return sum([int(str(number)) async for (number,) in found])


def _of_rows(path: Path, unreadable: dict[str, int], unknown: int) -> Iterator[Finding]:
    if unreadable:
        calls = [call for call in unreadable if call]
        more = f" and {len(calls) - MOST_NAMED} more" if len(calls) > MOST_NAMED else ""
        of_calls = f", of {', '.join(calls[:MOST_NAMED])}{more}" if calls else ""
        text = f"{counted(sum(unreadable.values()), 'row')} not as written{of_calls}"
        yield _problem(path, text, "such calls are not resumed: `recovery give-up` ends one")
    if unknown:
        text = f"{counted(unknown, 'row')} of processes of which nothing is known"
        yield _problem(path, text, "their times are unknown, and they are read all the same")


def _of_permissions(path: Path) -> Iterator[Finding]:
    if os.name == "posix" and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        text = f"other users of the machine may open it (mode {mode:04o})"
        yield _problem(path, text, f"chmod 600 {shlex.quote(str(path))}")


def _others(journal: Path) -> Iterator[Finding]:
    """What is to be said of the files beside those of the journal."""
    folder, inbox = folder_of(journal), inbox_of(journal)
    if folder.is_symlink():
        yield _problem(folder, "it is a symbolic link: no further process can write", "give the journal another path")
    if remembered_at(journal).is_file():
        yield from _of_permissions(remembered_at(journal))
    for pattern, place in ((f"{journal.name}.*-*", journal.parent), ("*.db.*-*", folder)):
        for path in sorted(place.glob(pattern)):
            why = path.name.rpartition(".")[2].partition("-")[0]
            if why in KEPT_COPIES and path.is_file():
                text = f"{amount(_size(path))} that were kept: the file was {why}"
                yield _note(path, text, "remove it when you need nothing of it")
    waiting = {ending: [*inbox.glob(f"*{ending}")] for ending in (ENDING, ORDER_ENDING, REFUSED_ENDING)}
    if commands := waiting[ENDING]:
        oldest = max(time.time() - _dated(path) for path in commands)
        text = f"{counted(len(commands), 'command')} in the inbox, the oldest {duration(max(oldest, 0.0))} old"
        yield _note(inbox, text, "a process that writes the journal takes them")
    if orders := len(waiting[ORDER_ENDING]):
        yield _note(inbox, f"{counted(orders, 'order')} for calls that no process runs", f"{RESUMES} carries them out")
    if refused := len(waiting[REFUSED_ENDING]):
        yield _note(inbox, f"{counted(refused, 'command')} that no process took", "they are removed after a day")


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):  # a process may remove it at any moment
        return path.stat().st_size
    return 0


def _dated(path: Path) -> float:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return time.time()


def _problem(path: Path, text: str, cure: str) -> Finding:
    return Finding(kind="problem", path=str(path), text=text, cure=cure)


def _note(path: Path, text: str, cure: str) -> Finding:
    return Finding(kind="note", path=str(path), text=text, cure=cure)
