"""A checkout that was killed: noted in ``.git`` before it began, and told from what a person has changed."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import anyio.to_thread
import msgspec

from adapters.disk import decode_plain, sync_file, write_whole
from adapters.git.calls import Calls
from adapters.git.changes import Status, Touched, changed_by_others, is_begun, touched_by
from adapters.git.commands import ask

DIFF = ("diff-tree", "-r", "-z", "--no-renames")
FILE = "recovery-update.json"
MOST_BYTES = 4096

MOST_HASHED = 200
"""Files that one call of git hashes: a command line is bounded."""

log = logging.getLogger("recovery.launch")


class Note(msgspec.Struct, frozen=True):
    """What is checked out: from the commit *old* to *new*, on *branch* ("": on none)."""

    old: str
    new: str
    branch: str


class Notes:
    """The note of a working tree, in its folder *git_dir*."""

    def __init__(self, git_dir: Path) -> None:
        self._path = git_dir / FILE

    def write(self, note: Note) -> None:
        """Have *note* on the disk. Raises OSError."""
        write_whole(self._path, msgspec.json.encode(note))
        sync_file(self._path)
        sync_file(self._path.parent)

    def read(self) -> Note | None:
        """What a killed update has noted. Raises OSError."""
        try:
            return decode_plain(self._path, Note, MOST_BYTES)
        except FileNotFoundError:
            return None
        except ValueError as error:
            log.warning("%s, and is removed: changed files may be of an update that was killed", error)
            self.remove()
            return None

    def remove(self) -> None:
        """The checkout is over, or has changed nothing."""
        self._path.unlink(missing_ok=True)


async def changed_since(note: Note, status: Status, calls: Calls) -> tuple[str, ...]:
    """The files that a person has changed, of a working tree whose checkout was killed. Raises as ``Calls.answer``.

    A file with its old content, with its new content or with the beginning of that was left so by the checkout.
    """
    old = note.old or await _nothing(calls)
    touched = touched_by(await calls.answer([*DIFF, old, note.new]))
    found = await _blobs(touched, calls)
    changed = changed_by_others((*status.changed, *status.unmerged), touched, found)
    return tuple([one for one in changed if not (one in found and await _is_begun(note.new, one, calls))])


async def in_the_way_of(old: str, new: str, calls: Calls) -> tuple[str, ...]:
    """Files at the places of those that the commit *new* has and *old* has not, with another content."""
    old = old or await _nothing(calls)
    added = [one for one in touched_by(await calls.answer([*DIFF, old, new])) if not one.old]
    found = await _blobs(added, calls)
    return tuple(one.path for one in added if found.get(one.path, one.new) != one.new)


def repository_at(place: Path, paths: Collection[str]) -> str:
    """A repository below *place* that is at, around or below one of *paths*; "" if there is none."""
    for path in paths:
        below = place / path
        around = [below, *below.parents]
        inner = below.rglob(".git") if below.is_dir() and not below.is_symlink() else ()
        for folder in (*around[: around.index(place)], *(one.parent for one in inner)):
            if os.path.lexists(folder / ".git"):
                return str(folder.relative_to(place))
    return ""


async def _nothing(calls: Calls) -> str:
    return (await calls.answer(["hash-object", "-t", "tree", "/dev/null"])).strip()


async def _blobs(touched: Sequence[Touched], calls: Calls) -> dict[str, str]:
    """What those of *touched* that are there hold now."""

    def is_file(path: str) -> bool:
        place = calls.place / path
        return place.is_file() and not place.is_symlink()

    there = await anyio.to_thread.run_sync(lambda: [one.path for one in touched if is_file(one.path)])
    found = dict[str, str]()
    for first in range(0, len(there), MOST_HASHED):
        some = there[first : first + MOST_HASHED]
        found |= dict(zip(some, (await calls.answer(["hash-object", "--", *some])).split(), strict=True))
    return found


async def _is_begun(commit: str, path: str, calls: Calls) -> bool:
    """Whether the file *path* is the beginning of what *commit* has there."""
    whole = await ask(["cat-file", "--filters", f"{commit}:{path}"], cwd=calls.place)
    written = await anyio.to_thread.run_sync((calls.place / path).read_bytes)
    return whole.code == 0 and is_begun(written, whole.output)
