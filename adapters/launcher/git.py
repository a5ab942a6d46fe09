"""The brick for repositories of git: cloned beside their folder, verified, and renamed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from adapters.downloads.families import family_of
from adapters.git.addresses import wrong_url
from adapters.git.attempts import Way
from adapters.git.clone import CloneWish, Means, clone, staging_of
from adapters.git.destination import Repository
from adapters.launcher.arguments import InvalidRequestError
from adapters.launcher.bricks import Bricks
from adapters.launcher.limits import too_long
from events.errors import JoinedElsewhere
from recovery import context
from recovery.policies.hosts import host_of
from recovery.redact import redact


class GitBrick(Bricks):
    """Repositories of git."""

    def _declare(self) -> None:
        super()._declare()
        self._recoverable(
            "clone",
            self._clone,
            lambda _name, _urls, to, *_: f"repository {self.root / to}",
            breaker=self._breaker,
            when_open="wait",
            key=lambda _name, urls, *_: host_of(urls[0]),
        )

    async def clone(
        self,
        url: str,
        to: str | os.PathLike[str],
        ref: str | None = None,
        mirrors: Sequence[str] = (),
        depth: int | None = None,
        *,
        name: str | None = None,
    ) -> Repository:
        """Clone a repository of git to the folder *to*, below the root, and return what is there then.

        It goes into ``to.cloning-<id>`` first, and is renamed once it is whole. What is there already, with *ref*
        checked out, is left as it is; a folder of anything else is never changed. After a transfer that broke off, the
        next attempt speaks HTTP/1.1, then fetches the newest commit alone and the others by and by, then asks a mirror.
        git asks for nothing, runs no hooks, and gives up a server that is silent for ``stall_timeout`` seconds.

        Submodules are not fetched. Large files (LFS) are fetched if git-lfs is installed; else their pointers stay.

        Args:
            url: An https, http, ssh or git URL without a password, ``user@host:path``, or an absolute path.
            to: The folder.
            ref: A branch, a tag, a commit, or another ref (``refs/pull/1/head``); by default the server's branch.
            mirrors: URLs of the same repository, for when *url* does not serve it. A missing repository, or one that
                wants a token, is not looked for there.
            depth: Commits of history; by default all of them. If these cannot be fetched, fewer are there at the end,
                and a warning says so.
            name: What it is called on the screen; by default *to*.

        Raises:
            InvalidRequestError: A URL, a ref or a depth that git does not take, or a folder outside the root.
            OccupiedError: Something else is in the folder.
            AccessError: The server wants a token, and no answer has given a good one.
            RepositoryMissingError, RefMissingError: There is no such repository, branch, tag or commit.
            CallRejectedError: Another clone to *to* is under way.
            subprocess.CalledProcessError, OSError: Its retries are exhausted.
        """
        target = os.fspath(to)
        urls = list(dict.fromkeys([url, *_mirrors(mirrors)]))
        _check(urls, ref, depth)
        _check_folder(self.root, target, self.place(target))
        name = name or target
        while True:
            try:
                made = await self._call("clone", name, urls, target, ref, depth)
            except JoinedElsewhere as elsewhere:
                if elsewhere.ended != "succeeded":
                    raise
                continue  # another process made it, and it is here now
            return made if isinstance(made, Repository) else msgspec.convert(made, Repository)

    async def _clone(self, name: str, urls: list[str], to: str, ref: str | None, depth: int | None) -> Repository:
        wish = CloneWish(self.place(to), to, tuple(urls), ref, depth)
        async with self._slots:
            with self._tokens.attempt() as headers:

                def token(url: str) -> str:
                    return headers(url).get("Authorization", "").removeprefix("Bearer ")

                means = Means(
                    name=name,
                    logs=self.logs,
                    silence=self._stall_timeout,
                    token=token,
                    family=partial(family_of, endpoint=os.environ.get("HF_ENDPOINT")),
                    way=msgspec.convert(context.saved({}), Way),
                    save=context.checkpoint,
                )
                return await clone(wish, means)


def _mirrors(mirrors: object) -> list[str]:
    if isinstance(mirrors, str) or not isinstance(mirrors, Iterable):
        raise InvalidRequestError(f"mirrors must be a list of URLs, not {mirrors!r}")
    return list(mirrors)


def _check(urls: Sequence[str], ref: object, depth: object) -> None:
    for url in urls:
        if (reason := wrong_url(url)) is not None:
            raise InvalidRequestError(f"{redact(str(url))!r} {reason}")
    if ref is not None and not _is_ref(ref):
        raise InvalidRequestError(f"ref must be the name of a branch, a tag or a commit, not {ref!r}")
    if depth is not None and (type(depth) is not int or depth < 1):
        raise InvalidRequestError(f"depth must be a number of commits, at least 1, not {depth!r}")


def _is_ref(ref: object) -> bool:
    """Whether git may get *ref* as a name (``git check-ref-format``)."""
    if not isinstance(ref, str) or not ref or ref.startswith(("-", "/")) or ref.endswith(("/", ".", ".lock")):
        return False
    return ref.isprintable() and not set(" ~^:?*[\\") & set(ref) and not any(one in ref for one in ("..", "@{", "//"))


def _check_folder(root: Path, text: str, place: Path) -> None:
    if place == root:
        raise InvalidRequestError(f"{text!r} is the root itself, {root}; name a folder below it")
    if (reason := too_long(place, [staging_of(place)])) is not None:
        raise InvalidRequestError(f"{text!r} {reason}")
