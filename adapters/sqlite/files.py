"""The files of a journal: where they are, which of them may be used, and how damaged ones are kept.

Beside the journal ``calls.db`` stand its lock ``calls.db-lock`` and the folder ``calls.db.d``. Every further process
writes a side file there, ``<run>.db``, with a lock of its own. ``calls.db.d/inbox`` takes commands. The file
``calls.db.d/claims`` stays empty: processes lock bytes of it, for each call that no other process may run meanwhile.
``calls.db.d/answers`` grows by a byte with each batch that has a question or an answer, so that other processes look.
``calls.db.d/remembered`` has the answers to secret questions that a person wants remembered.
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

from adapters.disk import open_plain, problem_of
from recovery.journal.errors import JournalError

MAGIC = b"SQLite format 3\0"
"""How a database begins."""


def journal_path(path: str | os.PathLike[str]) -> Path:
    """*path* as a ``Path``. Raises TypeError for what is none, ValueError for a name that can be no file's."""
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise TypeError(f"path must be a str or a Path, not {path!r}")
    text = os.fspath(path)
    is_uri = text.lower().startswith("file:")
    if text.strip() in ("", ":memory:") or (is_uri and "memory" in text):
        raise ValueError(f"a journal needs a file, not {text!r}; adapters.memory.MemoryStore keeps it in memory")
    if is_uri or "://" in text:
        raise ValueError(f"path must be the path of a file, not the URI {text!r}")
    if "\0" in text:
        raise ValueError(f"path must not contain a null character: {text!r}")
    if os.path.basename(text) in ("", ".", ".."):  # Path("calls.db/") would be the file
        raise ValueError(f"path must be the path of a file, not of a folder: {text!r}")
    return Path(path)


def folder_of(path: Path) -> Path:
    """The folder of the side files and the inbox."""
    return path.with_name(path.name + ".d")


def safe_folder_of(path: Path) -> Path:
    """The same, and the folder that the journal is in is made (0700). Raises JournalError for a symbolic link."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = folder_of(path)
    if folder.is_symlink():
        raise JournalError(f"{folder} is a symbolic link; choose another path for the journal")
    return folder


def note_answer(path: Path) -> None:
    """Have every process of the journal *path* read the answers again. Raises as ``open_private``."""
    folder = safe_folder_of(path)
    folder.mkdir(mode=0o700, exist_ok=True)
    file = open_private(folder / "answers", os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, b".")
    finally:
        os.close(file)


def answers_noted(path: Path) -> int:
    """How often an answer was noted; it never decreases."""
    return _size(folder_of(path) / "answers")


def side_files(path: Path) -> list[Path]:
    """The files of further processes, sorted by name."""
    return [file for file in sorted(folder_of(path).glob("*.db")) if file.is_file() and not file.is_symlink()]


def journal_files(path: Path) -> list[Path]:
    """The journal's own file, if it exists, and its side files."""
    return [file for file in (path, *side_files(path)) if file.exists()]


def log_of(path: Path) -> Path:
    """SQLite's write-ahead log of *path*."""
    return path.with_name(path.name + "-wal")


def index_of(path: Path) -> Path:
    """The index of that log, which all processes share that have *path* open."""
    return path.with_name(path.name + "-shm")


def companions_of(path: Path) -> tuple[Path, ...]:
    """The files that SQLite keeps beside *path*: the log, its index, and the rollback journal."""
    return log_of(path), index_of(path), path.with_name(path.name + "-journal")


def open_private(path: Path, flags: int = os.O_RDWR) -> int:
    """Open *path* for writing, made with mode 0600 if need be. Raises as ``open_plain``."""
    return open_plain(path, flags | os.O_CREAT)


def prepare(path: Path) -> bool:
    """Make sure that a journal can be at *path*, and return whether a file with content is there.

    Makes the folder (0700) and an empty file (0600) where they are missing. Raises JournalError for what must not be
    written: a symbolic link, a hard link, a folder, a pipe, a file of another user.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in (path, *companions_of(path)):
        check_name(name)
    if not path.exists():
        os.close(open_private(path, os.O_RDWR | os.O_EXCL))
    return path.stat().st_size > 0


def check_name(path: Path) -> None:
    """Raise JournalError if what is at *path* must not be written; nothing needs to be there."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    check(path, found)


def check(path: Path, found: os.stat_result) -> None:
    """Raise JournalError if *path*, which *found* describes, must not be written."""
    problem = problem_of(found)
    if problem is None and hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        problem = "belongs to another user"
    if problem is not None:
        raise JournalError(f"{path} {problem}; choose another path for the journal")


def has_lost_its_file(path: Path) -> bool:
    """Whether *path* is gone or empty but its log is not: SQLite would delete such a log."""
    return _size(path) <= 1 and _size(log_of(path)) > 0  # SQLite takes a file of one byte for an empty one


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def kept_name(path: Path, why: str) -> Path:
    """A free name beside *path* for what is no longer the journal, with the time and *why* in it: "damaged", ..."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    names = (path.with_name(f"{path.name}.{why}-{stamp}{ending}") for ending in endings)
    return next(name for name in names if not any(one.exists() for one in (name, *companions_of(name))))


def quarantine(path: Path) -> Path:
    """Rename a damaged journal with SQLite's files beside it, and return the new name."""
    renamed = kept_name(path, "damaged")
    # The file goes before its log: if the process is killed in between, ``has_lost_its_file`` recognizes the log.
    for name, kept in zip((path, *companions_of(path)), (renamed, *companions_of(renamed)), strict=True):
        if name.exists():
            name.rename(kept)
    return renamed
