"""The locks of a repository, ``index.lock`` and others: one that a killed git left is removed, and no other one.

A lock is left behind if no process of git works in that repository, none has the lock open, and it was there before our
work began. Only processes of the same user can be seen, so the lock of another user stays.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread

from adapters.disk import is_same_file
from adapters.processes.identity import age_of, is_alive
from events.errors import RecoveryError
from recovery.installation import extra
from recovery.redact import brief

with extra("launcher"):
    import psutil

WAIT = 10.0
"""Seconds that a lock may be held before the attempt fails."""

POLL_INTERVAL = 0.2

OWN = ("index.lock", "HEAD.lock", "ORIG_HEAD.lock")
COMMON = ("config.lock", "shallow.lock", "packed-refs.lock")
"""Locks of a working tree, and of the repository that it may share with others."""

log = logging.getLogger("recovery.launch")


class LockedError(RecoveryError):
    """A lock is in the way, and may be in use. Another attempt may find it gone."""


async def free_locks(
    name: str, place: Path, git_dir: Path, common_dir: Path, *, before: float, wait: float = WAIT
) -> None:
    """Remove the locks that killed processes have left in the repository *place*; wait for those that are in use.

    Args:
        name: What messages call this work.
        place: The working tree.
        git_dir: Its ``.git``.
        common_dir: That of the repository, where several working trees share one; else the same.
        before: A lock that is younger, in seconds since 1970, is not removed: its process may not be visible here.
        wait: Seconds to wait for the others.

    Raises:
        LockedError: One is still in use.
        OSError: One cannot be removed.
    """
    end = anyio.current_time() + wait
    while True:
        held = await anyio.to_thread.run_sync(_free, name, place, git_dir, common_dir, before)
        if held is None:
            return
        if anyio.current_time() >= end:
            raise LockedError(
                f"{name} cannot go on in {place}: another git process seems to be running in this repository, as "
                f"{held}; let it end, or end it. The next attempt looks again"
            )
        await anyio.sleep(POLL_INTERVAL)


def locks_in(git_dir: Path, common_dir: Path) -> Iterator[Path]:
    """The locks that are there now."""
    for folder, names in ((git_dir, OWN), (common_dir, COMMON)):
        yield from (folder / one for one in names if (folder / one).is_file())
    yield from (one for one in (common_dir / "refs").rglob("*.lock") if one.is_file())  # no branch has such a name


def workers_in(place: Path, git_dir: Path, common_dir: Path) -> list[psutil.Process]:
    """The processes of git that work in the repository *place* now, of those that can be seen."""
    repository = (place, git_dir, common_dir)
    return [one for one in _every() if _is_git(one) and _works_in(one, repository) and is_alive(one)]


def _free(name: str, place: Path, git_dir: Path, common_dir: Path, before: float) -> str | None:
    """Remove what may be removed. Returns what is in the way of the rest, or None."""
    locks = {path: found for path in locks_in(git_dir, common_dir) if (found := _stat(path)) is not None}
    if not locks:
        return None
    for worker in workers_in(place, git_dir, common_dir):
        return f"{next(iter(locks))} is there and {_shown(worker)} works there"
    for path, found in locks.items():
        if hasattr(os, "getuid") and found.st_uid not in (os.getuid(), _owner(place)):
            return f"{path} belongs to the user {found.st_uid}, whose processes cannot be seen"
        if found.st_mtime >= before:
            return f"{path} is new, although no process of git is seen"
        for opener in _every():
            if _has_open(opener, path):
                return f"{_shown(opener)} has {path} open"
        if is_same_file(path, found):
            path.unlink(missing_ok=True)
            log.warning("%s: a process that was killed has left %s, which is removed", name, path)
    return None


def _every() -> Iterator[psutil.Process]:
    yield from (one for one in psutil.process_iter() if one.pid != os.getpid())


def _is_git(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.name().lower().startswith("git")
    return False


def _works_in(process: psutil.Process, repository: tuple[Path, ...]) -> bool:
    """Whether *process* has been started in one of the folders *repository*, or for it, as far as that can be seen."""
    with suppress(psutil.Error, OSError):
        folder = Path(process.cwd())
        top = next((one for one in (folder, *folder.parents) if (one / ".git").exists()), folder)
        if top in repository or any(folder.is_relative_to(one) for one in repository[1:]):
            return True
    with suppress(psutil.Error, OSError):
        environ = process.environ()
        named = [*process.cmdline()[1:], environ.get("GIT_DIR", ""), environ.get("GIT_WORK_TREE", "")]
        return any(str(one) in text for text in named for one in repository)
    return False


def _has_open(process: psutil.Process, path: Path) -> bool:
    with suppress(psutil.Error, OSError):
        return any(Path(one.path) == path for one in process.open_files())
    return False


def _shown(process: psutil.Process) -> str:
    words = ""
    with suppress(psutil.Error):
        words = f" ({brief(' '.join(process.cmdline()), 80)})"
    return f"process {process.pid}{words}, which has run for {age_of(process)},"


def _stat(path: Path) -> os.stat_result | None:
    with suppress(OSError):
        return path.lstat()
    return None


def _owner(place: Path) -> int:
    return place.stat().st_uid
