"""The commit that a branch, a tag or a hash means now: the server is asked, and what is missing here is fetched."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from adapters.git.addresses import shown
from adapters.git.calls import Calls
from adapters.git.changes import advertised, patterns_of
from adapters.git.commands import ask, output_of, said
from adapters.git.destination import FULL_SHA, PART_OF_SHA
from adapters.git.failures import lacks_ref
from adapters.git.repository import Parts, RepositoryError, remote_of

FETCH = ("fetch", "--progress", "--no-tags", "--no-prune", "--no-recurse-submodules", "--no-write-fetch-head")
LOG = ("log", "--no-show-signature")

IN_PLACE = re.compile(r"'(refs/remotes/[^']{1,300})' exists; cannot create")
"""How git says that a branch ``a``, which the server had once, is in the place of ``a/b``, or the other way round."""

MOST_COMMITS = 100
"""Own commits that are looked at."""


class Version(NamedTuple):
    """What is to be checked out.

    Args:
        commit: Its full hash.
        branch: The branch that is moved to it; "" to detach HEAD.
        remote: The repository elsewhere that has the branch; "" if that does not matter.
        own_commits: Commits on the branch, made here, that the server does not have.
    """

    commit: str
    branch: str = ""
    remote: str = ""
    own_commits: tuple[str, ...] = ()


class Versions:
    """Finds versions of a repository.

    Args:
        parts: Where it is.
        calls: Calls git there.
    """

    def __init__(self, parts: Parts, calls: Calls) -> None:
        self._name = calls.name
        self._place = parts.place
        self._is_shallow = parts.is_shallow
        self._calls = calls

    async def find(self, ref: str) -> Version:
        """What *ref* means now. Its commit is here then, with all its files.

        Raises:
            RepositoryError: Neither the server nor the repository has it.
            subprocess.CalledProcessError: git failed, as where the server is not reached.
        """
        if FULL_SHA.fullmatch(ref):
            if not await self._has(ref):
                await self._fetch_commit(ref)
            return Version(await self._commit(ref))
        remote, url = await remote_of(self._name, self._place)
        words = ["ls-remote", remote, *patterns_of(ref)]
        there = advertised(await self._calls.answer(words, url=url), ref)
        if there.ref.startswith("refs/heads/"):
            return await self._branch(there.ref.removeprefix("refs/heads/"), there.commit, remote, url)
        if there.ref:
            if not await self._has(there.commit):
                into = f"+{there.ref}:{there.ref}" if there.ref.startswith("refs/tags/") else there.ref
                await self._calls.run([*FETCH, *self._depth(), remote, into], url=url)
            return Version(await self._commit(there.commit))
        if found := await said(["rev-parse", "-q", "--verify", f"refs/tags/{ref}^{{commit}}"], cwd=self._place):
            return Version(found)
        if PART_OF_SHA.fullmatch(ref):
            return Version(await self._abbreviated(ref, remote, url))
        raise self._gone(f"branch, tag or commit {ref}", remote, url)

    async def _branch(self, branch: str, commit: str, remote: str, url: str) -> Version:
        known = f"refs/remotes/{remote}/{branch}"
        if await said(["rev-parse", "-q", "--verify", known], cwd=self._place) != commit:
            await self._fetch_branch([*FETCH, remote, f"+refs/heads/{branch}:{known}"], url)
            commit = (await self._calls.answer(["rev-parse", known])).strip()  # it may have moved again
        local = await said(["rev-parse", "-q", "--verify", f"refs/heads/{branch}"], cwd=self._place)
        if local is None or await self._is_ancestor(local, commit):
            return Version(commit, branch, remote)
        if await self._is_ancestor(commit, local):
            return Version(local, branch, remote)  # what was committed here is ahead of the server
        # Commits that the server had once, and has no longer, were not made here.
        fork = await said(["merge-base", "--fork-point", known, local], cwd=self._place)
        own = await self._commits(local, f"^{commit}", *([f"^{fork}"] if fork else []))
        return Version(commit, branch, remote, own)

    async def made_since_checkout(self, head: str, wanted: str) -> tuple[str, ...]:
        """Commits of the detached HEAD *head* that were made here, and that neither a ref nor *wanted* leads to."""
        log = await said([*LOG, "--walk-reflogs", "--format=%H %gs", "HEAD"], cwd=self._place)
        entries = [line.partition(" ") for line in (log or "").splitlines()]
        got = [f"^{commit}" for commit, _, action in entries if action.startswith(("checkout:", "clone:"))]
        if not head or not got:
            return ()
        return await self._commits(
            head, f"^{wanted}", *dict.fromkeys(got), "--not", "--branches", "--tags", "--remotes"
        )

    async def _commits(self, *words: str) -> tuple[str, ...]:
        made = await self._calls.answer([*LOG, "--format=%h %s", f"-{MOST_COMMITS}", *words, "--"])
        return tuple(made.splitlines())

    async def _fetch_branch(self, words: Sequence[str], url: str) -> None:
        """Fetch a branch; where what is known of a branch that the server has no longer is in its place, drop that."""
        dropped = set[str]()
        while True:
            try:
                return await self._calls.run(words, url=url)
            except subprocess.CalledProcessError as error:
                found = IN_PLACE.search(output_of(error))
                if found is None or found[1] in dropped:
                    raise
                dropped.add(found[1])
                await self._calls.run(["update-ref", "-d", found[1]])

    async def _abbreviated(self, ref: str, remote: str, url: str) -> str:
        for words in ((), *self._everything(remote)):
            if words:
                await self._fetch_some(words, url)
            found = await said(["rev-parse", "-q", "--verify", f"{ref}^{{commit}}"], cwd=self._place)
            if found is not None and await self._has(found):
                return found
        raise self._gone(f"branch, tag or commit {ref}", remote, url)

    async def _fetch_commit(self, commit: str) -> None:
        """Fetch *commit*: by itself, else with all branches and tags, else with the whole past."""
        remote, url = await remote_of(self._name, self._place)
        for words in ((*self._depth(), remote, commit), *self._everything(remote)):
            await self._fetch_some(words, url)
            if await self._has(commit):
                return
        raise self._gone(f"commit {commit}", remote, url)

    async def _fetch_some(self, words: Sequence[str], url: str) -> None:
        """Fetch; a ref that the server lacks, and a tag that is another one here, are no failure."""
        try:
            await self._calls.run([*FETCH, *words], url=url)
        except subprocess.CalledProcessError as error:
            output = output_of(error)
            if not lacks_ref(output) and "would clobber existing tag" not in output:
                raise

    def _everything(self, remote: str) -> list[tuple[str, ...]]:
        """The arguments that fetch all branches and tags, and then the past that a shallow repository lacks."""
        words = (remote, f"+refs/heads/*:refs/remotes/{remote}/*", "refs/tags/*:refs/tags/*")
        return [words, ("--unshallow", *words)] if self._is_shallow else [words]

    def _depth(self) -> list[str]:
        """A shallow repository stays so."""
        return ["--depth=1"] if self._is_shallow else []

    async def _has(self, commit: str) -> bool:
        """Whether *commit* is here with all its files: a killed fetch may have left it without."""
        words = ["rev-list", "--objects", "--quiet", "--exclude-promisor-objects", commit, "--not", "--all"]
        return (await ask(words, cwd=self._place)).code == 0

    async def _commit(self, ref: str) -> str:
        found = await said(["rev-parse", "-q", "--verify", f"{ref}^{{commit}}"], cwd=self._place)
        if found is None:
            raise RepositoryError(f"{self._name} cannot be updated: {ref} is no commit of {self._place}")
        return found

    async def _is_ancestor(self, commit: str, later: str) -> bool:
        return (await ask(["merge-base", "--is-ancestor", commit, later], cwd=self._place)).code == 0

    def _gone(self, what: str, remote: str, url: str) -> RepositoryError:
        return RepositoryError(
            f"{self._name} cannot be updated: {remote} ({shown(url)}) has no {what}, and {self._place} has no tag or "
            "commit of that name either; name a version that is there"
        )
