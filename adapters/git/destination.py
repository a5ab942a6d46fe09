"""What stands where a repository is to be cloned to: nothing, the repository itself, a husk, or something else.

A husk is what a killed ``git clone`` leaves: a folder that holds ``.git`` alone, without a commit. It is removed. No
folder that holds more is ever changed.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import anyio.to_thread
import msgspec

from adapters.git.addresses import is_same, shown
from adapters.git.commands import ask, run, said
from events.errors import Permanent, Retryable
from recovery.installation import extra

with extra("launcher"):
    import psutil

FULL_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
PART_OF_SHA = re.compile(r"[0-9a-f]{4,64}")

UNFINISHED = "recovery-checkout"
"""The file in ``.git`` that says that a checkout is being completed."""

log = logging.getLogger("recovery.launch")


class OccupiedError(Permanent):
    """Something else stands where a repository is to be cloned to. It is left as it is."""


class Repository(msgspec.Struct, frozen=True):
    """A repository that is here.

    Args:
        to: Where it is, as it was asked for.
        commit: The commit that is checked out: its full name.
        is_shallow: Whether older commits are missing here.
    """

    to: str
    commit: str
    is_shallow: bool = False


async def commit_of(place: Path, name: str = "HEAD") -> str | None:
    """The full name of the commit *name* in the repository *place*; ``None`` if it has none."""
    return await said(["rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"], cwd=place)


async def found_at(place: Path, to: str) -> Repository | None:
    """The repository *place*, which is shown as *to*; ``None`` if it has no commit checked out."""
    if (commit := await commit_of(place)) is None:
        return None
    shallow = await said(["rev-parse", "--is-shallow-repository"], cwd=place)
    return Repository(to, commit, shallow == "true")


async def target_of(place: Path, ref: str) -> str | None:
    """The commit that *ref* names in the repository *place*: a branch of the server, a tag, or a commit."""
    branch = f"refs/remotes/origin/{ref.removeprefix('refs/heads/').removeprefix('refs/')}"
    names = [branch, ref if ref.startswith("refs/") else f"refs/tags/{ref}"]
    if PART_OF_SHA.fullmatch(ref):
        names = [ref] if FULL_SHA.fullmatch(ref) else [*names, ref]
    for name in names:
        if (commit := await commit_of(place, name)) is not None:
            return commit
    return None


async def is_at(place: Path, commit: str, ref: str | None) -> bool:
    """Whether *commit*, which is checked out in *place*, is what *ref* wishes for; ``None`` wishes for any."""
    if ref is None or (PART_OF_SHA.fullmatch(ref) and commit.startswith(ref)):
        return True
    return commit == await target_of(place, ref) or ref == await said(["symbolic-ref", "--short", "HEAD"], cwd=place)


async def existing(place: Path, to: str, urls: Sequence[str], ref: str | None) -> Repository | None:
    """The repository that is wished for, if it is there already; ``None`` if there is room for it, after a husk too.

    Raises:
        OccupiedError: Something else is there.
        Retryable: A husk is there, and a git process works on it.
    """
    held = await anyio.to_thread.run_sync(_entries, place)
    if held is None:
        raise OccupiedError(f"{to} is a file, and no folder: move it away, or choose another folder")
    if not held:
        return None
    if ".git" not in held:
        raise OccupiedError(f"{to} holds {_few(held)}, and is no repository: move it away, or choose another folder")
    if "dubious ownership" in (await ask(["rev-parse", "--git-dir"], cwd=place)).errors:
        raise OccupiedError(
            f"{to} belongs to another user, so git does not use it: change its owner, or allow it: "
            f"git config --global --add safe.directory {quote(str(place))}"
        )
    here = await found_at(place, to)
    origin = await said(["config", "--get", "remote.origin.url"], cwd=place)
    if here is None:
        if held != [".git"] or not await _is_husk(place):
            what = f"beside {_few([one for one in held if one != '.git'])}" if len(held) > 1 else "with branches"
            raise OccupiedError(f"{to} has a .git without a commit, {what}: move it away, or choose another folder")
        await anyio.to_thread.run_sync(_remove_husk, place, to)
        return None
    if not any(is_same(url, origin or "") for url in urls):
        of = f"a clone of {shown(origin)}" if origin else "a repository of its own"
        raise OccupiedError(f"{to} is {of}, and not of {shown(urls[0])}: move it away, or choose another folder")
    if not await is_at(place, here.commit, ref):
        raise OccupiedError(
            f"{to} is at {here.commit[:12]}, and not at {ref}: launcher.update({to!r}, {ref!r}) moves it"
        )
    return here


def is_half_checked_out(place: Path) -> bool:
    """Whether a ``git clone`` that was killed has left the files of *place* unwritten, or written in part."""
    folder = place / ".git"
    return folder.is_dir() and (not (folder / "index").exists() or (folder / UNFINISHED).exists())


async def complete_checkout(place: Path, to: str, name: str, logs: Path) -> None:
    """Check out what is missing in *place*, shown as *to*; a file that is there is left as it is.

    Args:
        place: The repository.
        to: What messages call it.
        name: What messages and the log file call the work.
        logs: The folder for the output of git.

    Raises:
        OccupiedError: A file differs from what would be checked out.
        Retryable: A git process works there.
        subprocess.CalledProcessError, OSError: It failed.
    """
    folder = place / ".git"
    await anyio.to_thread.run_sync(check_not_in_use, place, to)
    (folder / "index.lock").unlink(missing_ok=True)
    (folder / UNFINISHED).touch()
    log.warning("%s was left half checked out: what is missing is checked out now", to)
    refresh = ("update-index", "-q", "--ignore-missing", "--refresh")  # a file that is as it should be is no error then
    for words in (("read-tree", "HEAD"), refresh, ("checkout-index", "--all", "--quiet")):
        changed = set((await said(["ls-files", "--modified"], cwd=place) or "").splitlines())
        changed -= set((await said(["ls-files", "--deleted"], cwd=place) or "").splitlines())
        if changed:
            (folder / "index").unlink()
            (folder / UNFINISHED).unlink()
            text = "was left half checked out, and differs in {}: move it away, or give that up by git reset --hard"
            raise OccupiedError(f"{to} {text.format(min(changed))}")
        await run(name, words, place=place, cwd=place, logs=logs)
    (folder / UNFINISHED).unlink()


def _entries(place: Path) -> list[str] | None:
    """The names in the folder *place*; ``None`` if it is no folder."""
    try:
        return sorted(os.listdir(place))
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        return None


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


async def _is_husk(place: Path) -> bool:
    """Whether a folder of ``.git`` alone, without a commit checked out, holds nothing of a person's."""
    if (place / ".git" / "index").exists() or not (place / ".git").is_dir():
        return False
    return not await said(["for-each-ref", "--count=1", "refs/heads", "refs/stash"], cwd=place)


def _remove_husk(place: Path, to: str) -> None:
    check_not_in_use(place, to)
    log.warning("%s holds what a killed git clone left, and no commit: it is cloned again", to)
    shutil.rmtree(place)


def check_not_in_use(place: Path, to: str) -> None:
    """Raise Retryable if a git process of another program works in *place*, or clones to it."""
    for process in psutil.process_iter(["name", "cmdline", "cwd"]):
        words, cwd = process.info["cmdline"] or (), process.info["cwd"] or ""
        if not (process.info["name"] or "").startswith("git") or not words:
            continue
        # A clone that names no folder goes to one that is called as the repository is.
        is_clone_beside = "clone" in words and cwd == str(place.parent) and any(_names(one, place) for one in words)
        if is_clone_beside or any(os.path.normpath(os.path.join(cwd, one)) == str(place) for one in ("", *words)):
            raise Retryable(f"git works on {to} for another program, process {process.pid}; it is looked at again")


def _names(url: str, place: Path) -> bool:
    return re.split("[/:]", url.rstrip("/").removesuffix("/.git").removesuffix(".git"))[-1] == place.name
