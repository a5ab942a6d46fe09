"""Clone a repository: beside its folder first, verified, and then renamed; each attempt changes what has failed.

It goes into ``x.cloning-<id>``. A launcher that is killed leaves that and perhaps a git process: the next run ends the
process, keeps a transfer that is whole, and clones again what is not. So ``x`` is either whole or not there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio.to_thread
import msgspec

from adapters.disk import sync_file
from adapters.downloads.refusals import AccessError
from adapters.git.addresses import given_to_git, shown
from adapters.git.attempts import Failure, Step, Way, deepenings, next_way, step_of, valid
from adapters.git.commands import alone_in, ask, files_of, output_of, run, said
from adapters.git.destination import (
    FULL_SHA,
    PART_OF_SHA,
    OccupiedError,
    Repository,
    check_not_in_use,
    complete_checkout,
    existing,
    found_at,
    is_half_checked_out,
    target_of,
)
from adapters.git.failures import RefMissingError, RepositoryMissingError, explained, kind_of, lacks_ref
from adapters.processes.command import SilentCommandError
from events.errors import Retryable
from recovery.explain import counted
from recovery.policies.error_output import telling_line

FAILED = (subprocess.CalledProcessError, SilentCommandError)
LACKS = (RefMissingError, RepositoryMissingError, AccessError)
EVERY_BRANCH = "+refs/heads/*:refs/remotes/origin/*"

MARK = "launcher-recovery.wish"
"""The setting of a repository that is being made: the wish it is made for."""

log = logging.getLogger("recovery.launch")


class CloneWish(msgspec.Struct, frozen=True):
    """What is to be cloned.

    Args:
        place: The absolute path of the folder.
        to: What messages call it.
        urls: The repository, and its mirrors.
        ref: A branch, a tag or a commit; ``None`` for the server's branch.
        depth: Commits of history; ``None`` for all.
    """

    place: Path
    to: str
    urls: tuple[str, ...]
    ref: str | None = None
    depth: int | None = None

    @property
    def mark(self) -> str:
        """What tells the leftovers of this wish from those of another: the configuration of a transfer holds it."""
        text = msgspec.json.encode((self.urls[0], self.ref, self.depth))
        return hashlib.sha256(text).hexdigest()[:16]


class Means(msgspec.Struct, frozen=True):
    """What a clone works with.

    Args:
        name: What messages and its log file call it.
        logs: The folder for the output of git.
        silence: Seconds after which a server that sends nothing is given up.
        token: Finds the token for a URL; "" for none.
        family: Finds the family of a URL: the question for a token names it.
        way: How this attempt begins.
        save: Keeps how the next attempt is made, across restarts.
    """

    name: str
    logs: Path
    silence: float
    token: Callable[[str], str]
    family: Callable[[str], str]
    way: Way
    save: Callable[[Way], object]


def staging_of(place: Path) -> Path:
    """The folder that a clone to *place* goes into until it is whole."""
    return place.with_name(f"{place.name}.cloning-{files_of(place)[-8:]}")


async def clone(wish: CloneWish, means: Means) -> Repository:
    """Make one attempt at each server, until one has served it. Make it one attempt of a recoverable call.

    Raises:
        OccupiedError: Something else is there.
        AccessError: The first server wants a token, or refuses the one it got.
        RepositoryMissingError, RefMissingError: It has no such repository, branch, tag or commit.
        subprocess.CalledProcessError, SilentCommandError: The transfer failed.
        OSError: The disk refuses.
    """
    async with alone_in(wish.place, means.name, means.logs):
        if (here := await existing(wish.place, wish.to, wish.urls, wish.ref)) is not None:
            if is_half_checked_out(wish.place):
                await complete_checkout(wish.place, wish.to, means.name, means.logs)
            return here
        wish.place.parent.mkdir(parents=True, exist_ok=True)
        way, tried = valid(means.way, wish.urls, wish.depth), dict[int, Exception]()
        while True:
            url = wish.urls[way.server]
            try:
                return await _Clone(wish, means, way).made()
            except (*FAILED, RefMissingError) as error:
                tried[way.server] = better = _explained(error, url, means)
                does_lack = isinstance(better, LACKS)
                if does_lack and way.server == 0:
                    if isinstance(better, RefMissingError):
                        await anyio.to_thread.run_sync(partial(shutil.rmtree, staging_of(wish.place), True))
                    raise better from error
                failure: Failure = "elsewhere" if does_lack else kind_of(error, _printed(error))
                way = next_way(way, failure, wish.urls, wish.depth)
                means.save(way)
                if way.server in tried:
                    # What a mirror lacks, the repository itself may have once it is back.
                    raise (tried.get(0, better) if does_lack else better) from error
                why = telling_line(_printed(error)) or str(error)
                text = "%s: %s did not serve it (%s); trying %s"
                log.warning(text, means.name, shown(url), why, shown(wish.urls[way.server]))


def _explained(error: Exception, url: str, means: Means) -> Exception:
    if not isinstance(error, subprocess.CalledProcessError):
        return error
    family, has_token = means.family(url), bool(means.token(url))
    return explained(error, output_of(error), url, family=family, has_token=has_token)


class _Clone:
    """One attempt at one server."""

    def __init__(self, wish: CloneWish, means: Means, way: Way) -> None:
        self._wish = wish
        self._means = means
        self._step: Step = step_of(way, wish.urls, wish.depth)
        self._url = wish.urls[way.server]
        self._staging = staging_of(wish.place)

    async def made(self) -> Repository:
        """Clone it, and rename what is whole. Raises as ``clone``."""
        ref = self._wish.ref and self._wish.ref.removeprefix("refs/heads/")
        await self._transfer(None if ref is None or ref.startswith("refs/") or FULL_SHA.fullmatch(ref) else ref)
        if given_to_git(self._url) != await said(["config", "--get", "remote.origin.url"], cwd=self._staging):
            await self._git("remote", "set-url", "origin", given_to_git(self._url))
        if ref is not None and await target_of(self._staging, ref) is None:
            await self._fetch_ref(ref)
        if self._is_shallow() and (self._wish.depth is None or self._wish.depth != self._step.depth):
            await self._deepen()
        await self._check_out(ref)
        await self._git("remote", "set-url", "origin", given_to_git(self._wish.urls[0]))
        return await self._put_in_place()

    async def _transfer(self, branch: str | None) -> None:
        depth = () if self._step.depth is None else (f"--depth={self._step.depth}",)
        begin = ("clone", "--no-checkout", "--progress", "--origin=origin", f"--config={MARK}={self._wish.mark}")
        where = ("--", given_to_git(self._url), str(self._staging))
        if branch is None:
            await self._git(*begin, *depth, *where, is_done=self._is_transferred)
            return
        try:
            await self._git(*begin, *depth, f"--branch={branch}", *where, is_done=self._is_transferred)
        except subprocess.CalledProcessError as error:
            if not lacks_ref(output_of(error)):
                raise
            if not PART_OF_SHA.fullmatch(branch):
                raise self._no_ref(branch) from error
            await self._git(*begin, *where, is_done=self._is_transferred)

    async def _is_transferred(self) -> bool:
        """Whether an earlier attempt has left a transfer that is whole; what is not whole is removed.

        Asked once no other process works on it: so locks in it are of processes that are over.
        """
        if not self._staging.exists():
            return False
        # A launcher of another root may work there: it has another log folder, and so another lock.
        await anyio.to_thread.run_sync(check_not_in_use, self._staging, self._wish.to)
        is_ours = (self._staging / ".git").is_dir() and (
            await said(["config", "--get", MARK], cwd=self._staging) == self._wish.mark
        )
        if is_ours and await found_at(self._staging, self._wish.to) is not None:
            for lock in (self._staging / ".git").rglob("*.lock"):
                lock.unlink()
            if (await ask(["fsck", "--connectivity-only"], cwd=self._staging, timeout=600.0)).code == 0:
                log.info("%s: a killed launcher left a transfer that is whole; it goes on from there", self._means.name)
                return True
        await anyio.to_thread.run_sync(shutil.rmtree, self._staging)
        return False

    async def _fetch_ref(self, ref: str) -> None:
        """Fetch a commit or a ref that the server does not show to all; from all that it has, if it refuses that."""
        if FULL_SHA.fullmatch(ref) or ref.startswith("refs/"):
            to = "" if FULL_SHA.fullmatch(ref) else f":refs/remotes/origin/{ref.removeprefix('refs/')}"
            depth = () if self._step.depth is None else (f"--depth={self._step.depth}",)
            try:
                await self._git("fetch", "--progress", "--no-tags", *depth, "origin", f"{ref}{to}")
                return
            except subprocess.CalledProcessError as error:
                if not lacks_ref(output_of(error)):
                    raise
        past = ["--unshallow"] if self._is_shallow() else []  # a leftover transfer may be old
        await self._git("fetch", "--progress", "--tags", *past, "origin", EVERY_BRANCH)
        if await target_of(self._staging, ref) is None:
            raise self._no_ref(ref)

    async def _deepen(self) -> None:
        """Fetch the history that is wished for, in steps; where that fails, the clone stays as shallow as it is."""
        if self._wish.depth is None:
            await self._git("config", "remote.origin.fetch", EVERY_BRANCH)
        for options in deepenings(self._wish.depth):
            if not self._is_shallow():
                return
            try:
                await self._git("fetch", "--progress", *options, "origin")
            except FAILED as error:
                why = telling_line(_printed(error)) or str(error)
                text = (
                    "%s has its newest commits alone: the others could not be fetched (%s); git fetch --unshallow does"
                )
                log.warning(text, self._wish.to, why)
                return

    async def _check_out(self, ref: str | None) -> None:
        here = await found_at(self._staging, self._wish.to)
        wanted = None if ref is None else await target_of(self._staging, ref)
        if here is None and wanted is None:
            raise RefMissingError(f"{shown(self._url)} has no commit yet")
        if wanted is None or (here is not None and wanted == here.commit):
            await self._git("reset", "--hard", "--quiet", "HEAD")
        else:
            await self._git("checkout", "--force", "--quiet", "--detach", wanted)
        if missing := await said(["ls-files", "--deleted"], cwd=self._staging):
            raise Retryable(f"{self._wish.to}: the checkout lacks {missing.splitlines()[0]}; it is made again")

    async def _put_in_place(self) -> Repository:
        made = await found_at(self._staging, self._wish.to)
        assert made is not None
        await _warn_of_pointers(self._staging, self._wish.to)
        await anyio.to_thread.run_sync(_rename, self._staging, self._wish.place, self._wish.to)
        await self._git("config", "--remove-section", MARK.partition(".")[0], cwd=self._wish.place)
        return made

    def _is_shallow(self) -> bool:
        return (self._staging / ".git" / "shallow").exists()

    def _no_ref(self, ref: str) -> RefMissingError:
        return RefMissingError(f"{shown(self._url)} has no branch, tag or commit {ref!r}; choose another ref")

    async def _git(
        self, *words: str, cwd: Path | None = None, is_done: Callable[[], Awaitable[bool]] | None = None
    ) -> None:
        settings = [word for one in self._step.settings for word in ("-c", one)]
        await run(
            self._means.name,
            [*settings, *words],
            place=self._wish.place,
            cwd=cwd or (self._wish.place.parent if words[0] == "clone" else self._staging),
            logs=self._means.logs,
            url=given_to_git(self._url),
            token=self._means.token(self._url),
            silence=self._means.silence,
            is_done=is_done,
        )


def _printed(error: BaseException) -> str:
    if isinstance(error, SilentCommandError):
        return error.output
    return output_of(error) if isinstance(error, subprocess.CalledProcessError) else ""


async def _warn_of_pointers(place: Path, to: str) -> None:
    """Warn of files that are pointers to large ones, where git-lfs, which fetches those, is not installed."""
    pointers = await said(["ls-files", "--", ":(attr:filter=lfs)"], cwd=place)
    if pointers and await said(["config", "--get", "filter.lfs.process"], cwd=place) is None:
        first, *others = pointers.splitlines()
        what = f"{first} is a pointer to a large file" if not others else f"{first} and {counted(len(others), 'other')}"
        what += "" if not others else " are pointers to large files"
        log.warning("%s: %s; install git-lfs, then run: git lfs pull", to, what)


def _rename(staging: Path, place: Path, to: str) -> None:
    for folder, _, files in os.walk(staging):
        for file in files:
            if not os.path.islink(path := os.path.join(folder, file)):
                sync_file(Path(path))
        sync_file(Path(folder))
    try:
        if place.is_dir():
            place.rmdir()
        staging.rename(place)
    except OSError as error:
        if os.path.lexists(place):
            raise OccupiedError(
                f"{to} was made by another program meanwhile: move it away ({error.strerror})"
            ) from error
        raise
    sync_file(place.parent)
