"""``kind = "git"``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from adapters.git.addresses import shown, wrong_url
from adapters.git.changes import wrong_ref
from adapters.git.destination import existing
from adapters.launcher.kinds.held_servers import Servers
from adapters.launcher.kinds.operation import Operation, Place, Problem
from adapters.launcher.launcher import Launcher
from events.errors import RecoveryError


class Git(Operation, frozen=True, kw_only=True, tag="git"):
    """``kind = "git"``: a repository. One that is there is brought to `ref`; without a `ref` it stays as it is.

    Args:
        url: Where the repository is: `https://`, `http://`, `ssh://`, `git://`, `user@host:path`, or a path.
        destination: The folder that it is cloned into, below the root.
        mirrors: Further places of the same repository, asked in this order where the first cannot be reached.
        ref: A branch, a tag or a commit. Unset, it is the branch that the server names.
        depth: Commits of history that are cloned. Unset, it is all of them.
        on_local_changes: What happens to files that were changed here where the update would overwrite them: "ask" a
            person, "stash" them, "reset" them to what was cloned, or "keep" them and leave the repository as it is.
    """

    url: str
    destination: str
    mirrors: tuple[str, ...] = ()
    ref: str | None = None
    depth: Annotated[int, msgspec.Meta(ge=1)] | None = None
    on_local_changes: Literal["ask", "stash", "reset", "keep"] = "ask"

    CALLS = ("clone", "update")
    HOW = ("mirrors", "depth", "on_local_changes")

    @property
    def url_of_circuit(self) -> str:
        """Its ``url``."""
        return self.url

    def places(self) -> Iterator[Place]:
        """The folder that it is cloned into."""
        yield Place("destination", self.destination, "folder")

    def problems(self) -> Iterator[Problem]:
        """Addresses and names that git must not be given."""
        urls = (self.url, *self.mirrors)
        for number, url in enumerate(urls):
            field = f"mirrors[{number - 1}]" if number else "url"
            if (reason := wrong_url(url)) is not None:
                yield field, f"{shown(url)!r} {reason}"
            if url in urls[:number]:
                yield field, f"{shown(url)!r} is named twice"
        if self.ref is not None and (reason := wrong_ref(self.ref)) is not None:
            yield "ref", f"{self.ref!r} {reason}"

    async def execute(self, launcher: Launcher, servers: Servers) -> None:
        """Clone it, or update it if it is there."""
        if self.ref is not None and await self._is_here(launcher):
            await launcher.update(self.destination, self.ref, self.on_local_changes, name=self.name)
        else:
            await launcher.clone(self.url, self.destination, self.ref, self.mirrors, self.depth, name=self.name)

    async def _is_here(self, launcher: Launcher) -> bool:
        place = launcher.place(self.destination)
        try:
            return await existing(place, self.destination, (self.url, *self.mirrors), None) is not None
        except RecoveryError:  # the call that clones says so, and may retry it
            return False
