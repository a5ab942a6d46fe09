"""A repository on this computer: where its parts are, its state, and the repository elsewhere it came from."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from adapters.git.changes import UNDER_WAY, Status, status_of
from adapters.git.commands import ask
from events.errors import Permanent
from recovery.redact import brief

PARTS = (
    "rev-parse", "--is-bare-repository", "--is-shallow-repository", "--absolute-git-dir", "--git-common-dir"
)  # fmt: skip
STATUS = (
    "status", "--porcelain=v2", "--branch", "-z", "--no-renames", "--untracked-files=no", "--ignore-submodules=all"
)  # fmt: skip


class RepositoryError(Permanent):
    """A repository cannot be used as it is. The message says what to do."""


class Parts(NamedTuple):
    """Where a repository is.

    Args:
        place: The working tree.
        git_dir: Its ``.git``.
        common_dir: That of the repository, where several working trees share one; else the same.
        is_shallow: Whether earlier commits are missing.
    """

    place: Path
    git_dir: Path
    common_dir: Path
    is_shallow: bool

    @property
    def under_way(self) -> str:
        """What a person has begun here and not ended: "rebase", "merge", "cherry-pick", "revert", or ""."""
        return next((command for file, command in UNDER_WAY.items() if (self.git_dir / file).exists()), "")


async def parts_of(name: str, place: Path) -> Parts:
    """Where the parts of the repository *place* are; one around it does not count. *name* is for messages.

    Raises:
        RepositoryError: There is none, it has no files, or it belongs to another user.
        OSError: git cannot be started.
    """
    if not place.is_dir():
        raise RepositoryError(f"{name} cannot be updated: there is no folder {place}; clone it first")
    answer = await ask(PARTS, cwd=place)
    if "dubious ownership" in answer.errors:
        raise RepositoryError(
            f"{name} cannot be updated: {place} belongs to another user, so git does not use it; change its owner, or "
            f"allow it: git config --global --add safe.directory {quote(str(place))}"
        )
    if answer.code != 0:
        why = brief(answer.errors.strip().removeprefix("fatal: "))
        raise RepositoryError(
            f"{name} cannot be updated: {place} is no repository of git ({why}); move the folder away, and clone it"
        )
    is_bare, is_shallow, git_dir, common_dir = answer.output.splitlines()
    if is_bare == "true":
        raise RepositoryError(f"{name} cannot be updated: {place} is a bare repository, which has no files to update")
    return Parts(place, Path(git_dir), (place / common_dir).resolve(), is_shallow == "true")


async def status_at(place: Path) -> Status:
    """The state of the working tree *place*. Raises as ``answer_of``."""
    return status_of(await answer_of(STATUS, place))


async def remote_of(name: str, place: Path) -> tuple[str, str]:
    """The name and URL of the repository that *place* is updated from: ``origin``, or the only one there is.

    Raises RepositoryError if that is not clear.
    """
    remotes = (await answer_of(("remote",), place)).split()
    if "origin" not in remotes and len(remotes) != 1:
        there = f"only {', '.join(remotes)}" if remotes else "none at all"
        raise RepositoryError(
            f"{name} cannot be updated: {place} has no remote named origin, and {there}; add it: "
            f"git -C {quote(str(place))} remote add origin URL"
        )
    remote = "origin" if "origin" in remotes else remotes[0]
    return remote, (await answer_of(("remote", "get-url", remote), place)).strip()


async def url_of(place: Path) -> str:
    """The URL of the repository that *place* is updated from; "" if that is not clear."""
    try:
        return (await remote_of("", place))[1]
    except RepositoryError:
        return ""


async def answer_of(words: Sequence[str], place: Path) -> str:
    """What ``git WORDS`` prints in *place*. Raises CalledProcessError if it fails, and as ``ask``."""
    answer = await ask(words, cwd=place)
    if answer.code != 0:
        raise subprocess.CalledProcessError(answer.code, ["git", *words], stderr=answer.errors)
    return answer.output
