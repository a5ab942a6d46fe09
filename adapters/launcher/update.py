"""The brick that updates repositories of git; what becomes of changes made there is for a person to say."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from functools import partial
from typing import Any

from adapters.disk import read_plain
from adapters.downloads.families import family_of
from adapters.git.calls import Calls
from adapters.git.changes import wrong_ref
from adapters.git.destination import Repository
from adapters.git.update import Answered, ChangesError, LocalChanges, UpdateWish, update
from adapters.launcher.arguments import InvalidRequestError
from adapters.launcher.bricks import Bricks
from events.errors import JoinedElsewhere
from recovery import context, validation
from recovery.policies.hosts import host_of

URL_OF_ORIGIN = re.compile(r'\[remote "origin"\][^\[]*?\n\s*url\s*=\s*([^\s"]+)')
MOST_CONFIG = 1 << 20


class UpdateBrick(Bricks):
    """Updates of repositories."""

    def _declare(self) -> None:
        super()._declare()
        self._recoverable(
            "update",
            self._update,
            lambda _name, repo, *_: f"repository {self.root / repo}",
            breaker=self._breaker,
            when_open="wait",
            key=lambda _name, repo, *_: self._host_of(repo),
        )

    async def update(
        self,
        repo: str | os.PathLike[str],
        ref: str,
        on_local_changes: LocalChanges = "ask",
        *,
        name: str | None = None,
    ) -> Repository:
        """Update a repository of git to another version, and return what is there then.

        A branch is moved forward to where the server has it. Of a tag or a commit HEAD is detached. What is missing is
        fetched: a commit that no branch leads to as well, and the past that a shallow clone lacks. A killed update is
        finished by the next one. A full hash that is checked out already costs no network.

        Args:
            repo: Its folder, below the root.
            ref: A branch, a tag, or a commit.
            on_local_changes: What becomes of files that were changed here, of files in the way of new ones (ignored
                ones, too), of commits on the branch that the server has not, and of commits that no branch has. "ask"
                has the call wait for the answer to the question ``changes:NAME``; "stash" puts them aside (``git
                stash``, a branch for commits); "reset" drops them; "keep" leaves all as it is: a warning says that the
                repository was not updated. Other files that git does not track are left where they are.
            name: What it is called on the screen; by default *repo*.

        Raises:
            InvalidRequestError: A folder outside the root, or what can be no version.
            CallRejectedError: Another update of *repo* is under way.
            RepositoryError: *repo* is no repository that can be updated, or nothing has that version.
            ChangesError: A person must decide, and has not in time.
            LockedError, subprocess.CalledProcessError, OSError: Its retries are exhausted.
        """
        target = os.fspath(repo)
        if (reason := wrong_ref(ref)) is not None:
            raise InvalidRequestError(f"ref={ref!r} {reason}")
        validation.choice("on_local_changes", on_local_changes, ("ask", "stash", "reset", "keep"))
        self.place(target)
        while True:
            try:
                updated: Repository = await self._call("update", name or target, target, ref, on_local_changes)
            except JoinedElsewhere:
                continue  # another process updated it, which costs little to see
            return updated

    async def _update(self, name: str, repo: str, ref: str, on_local_changes: LocalChanges) -> Repository:
        place, asked = self.place(repo), context.saved(default=[])
        answer: Any = self.service.calls.answered(f"changes:{name}") if asked else None
        # A connection that breaks off breaks off again if nothing changes.
        settings = {"http.version": "HTTP/1.1"} if context.attempt() % 2 == 0 else {}
        async with self._slots:
            with self._tokens.attempt() as headers:

                def token(url: str) -> str:
                    return headers(url).get("Authorization", "").removeprefix("Bearer ")

                family = partial(family_of, endpoint=os.environ.get("HF_ENDPOINT"))
                calls = Calls(name, place, self.logs, self._stall_timeout, token, family, settings)
                try:
                    return await update(UpdateWish(repo, ref, on_local_changes, Answered(answer, asked)), calls)
                except ChangesError as error:
                    context.checkpoint(error.items)  # an answer counts for these only
                    raise

    def _host_of(self, repo: str) -> str:
        """The host of the repository that *repo* came from; "" if that cannot be read."""
        with suppress(OSError, ValueError):
            config = read_plain(self.root / repo / ".git" / "config", MOST_CONFIG).decode("utf-8", "replace")
            return host_of(*URL_OF_ORIGIN.findall(config))
        return ""
