"""Update a repository to another version: fetch what is missing, then check it out.

What is to be checked out is noted in ``.git`` before. So the next update can tell what a killed one has written from
what a person has changed, and finishes it. Changes of a person are put aside, dropped or kept as that person chooses.
"""

from __future__ import annotations

import logging
import math
import os
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Literal, NamedTuple, TypeAlias

import anyio.to_thread
import msgspec

from adapters.git.calls import Calls
from adapters.git.changes import Status, in_the_way, shown
from adapters.git.commands import alone_in, ask, output_of, said
from adapters.git.destination import Repository
from adapters.git.interrupted_checkout import Note, Notes, changed_since, in_the_way_of, repository_at
from adapters.git.locks import free_locks
from adapters.git.repository import RepositoryError, parts_of, status_at, url_of
from adapters.git.versions import Version, Versions
from events.errors import NeedsPerson
from events.evidence import Remedy

Choice: TypeAlias = Literal["stash", "reset", "keep"]
LocalChanges: TypeAlias = Literal["ask", "stash", "reset", "keep"]

CHOICES: Mapping[Choice, str] = {
    "stash": "puts them aside (`git stash`; commits as a branch) and updates",
    "reset": "deletes them and updates",
    "keep": "leaves all as it is, without the update",
}

log = logging.getLogger("recovery.launch")


class ChangesError(NeedsPerson):
    """Something was changed in a repository that the update would overwrite.

    Args:
        message: What was changed, and what can be done.
        items: The files or commits.
        remedy: The question ``changes:NAME``.
    """

    def __init__(self, message: str, items: Collection[str], remedy: Remedy) -> None:
        super().__init__(message, remedy=remedy)
        self.items = tuple(items)


class Answered(NamedTuple):
    """What a person has answered, and of which files and commits."""

    choice: Choice | None = None
    items: Collection[str] = ()


MOST_AT_ONCE = 2000
"""Files that one stash puts aside: a command line is bounded."""

NOTHING_ANSWERED = Answered()


class UpdateWish(msgspec.Struct, frozen=True):
    """What is to be updated.

    Args:
        to: The repository, as messages call it.
        ref: A branch, a tag, or a commit. A branch is moved forward to where the server has it, and checked out; of
            the others HEAD is detached.
        on_local_changes: What becomes of local changes that are in the way.
        answered: The answer to an earlier ChangesError; it counts for what that error named.
    """

    to: str
    ref: str
    on_local_changes: LocalChanges = "ask"
    answered: Answered = NOTHING_ANSWERED


async def update(wish: UpdateWish, calls: Calls) -> Repository:
    """Update the repository of *calls*. One launcher works on it at a time.

    Raises:
        ChangesError: Local changes are in the way, and a person must decide.
        RepositoryError: The repository cannot be updated to that version.
        LockedError: Another process of git works there.
        AccessError, RepositoryMissingError: The server wants a token, or has no such repository.
        subprocess.CalledProcessError, SilentCommandError, TimeoutError: git failed, or was silent for too long.
        OSError: git cannot be started, or a file cannot be written.
    """
    async with alone_in(calls.place, calls.name, calls.logs):
        return await _Update(wish, calls).run()


class _Update:
    """One attempt of an update."""

    def __init__(self, wish: UpdateWish, calls: Calls) -> None:
        self._wish = wish
        self._calls = calls
        self._name = calls.name
        self._ref = wish.ref
        self._place: Path = calls.place

    async def run(self) -> Repository:
        """Finish what an earlier update left, then update. Raises as ``update``."""
        await self._calls.end_orphan()
        began = time.time()
        self._parts = await parts_of(self._name, self._place)
        self._notes = Notes(self._parts.git_dir)
        note = self._notes.read()
        await free_locks(self._name, *self._parts[:3], before=began if note is None else math.inf)
        if note is None or await self._finish(note):
            await self._update()
        parts, status = await parts_of(self._name, self._place), await status_at(self._place)
        return Repository(self._wish.to, status.commit, parts.is_shallow)

    async def _update(self) -> None:
        versions = Versions(self._parts, self._calls)
        version = await versions.find(self._ref)
        status = await status_at(self._place)
        mine = tuple(dict.fromkeys((*status.changed, *status.unmerged)))
        is_busy = bool(status.unmerged or self._parts.under_way)
        if status.commit == version.commit and version.branch in ("", status.branch) and not is_busy:
            await self._clean(version, status, mine)
            return
        detached = () if status.branch else await versions.made_since_checkout(status.commit, version.commit)
        can_stash = bool(status.commit)  # git stash needs a commit
        own = {version.branch: version.own_commits, "": detached}
        if mine or is_busy or any(own.values()):
            items = (*mine, *version.own_commits, *detached)
            choice = self._choose(items, self._state(status, own), can_stash=can_stash and not is_busy)
            if choice == "keep":
                return
            if mine or is_busy:
                await self._clear(choice)
            for branch, commits in own.items():
                if commits:
                    await self._leave_commits(choice, branch, commits)
        cleared = set[str]()
        while (found := await self._check_out(version, status)) is not None:
            found = tuple(dict.fromkeys((*found, *await in_the_way_of(status.commit, version.commit, self._calls))))
            choice = self._choose(found, "has files that would be overwritten", can_stash=can_stash)
            if choice == "keep":
                return
            inner = await anyio.to_thread.run_sync(repository_at, self._place, found)
            if inner or not found:
                what = f"the repository {self._place / inner} is" if inner else "files that git does not name are"
                raise RepositoryError(f"{self._name} cannot be updated to {self._ref}: {what} in the way; move it away")
            if choice == "reset" or cleared.issuperset(found):  # git takes these for changed whatever they hold
                await self._check_out(version, status, does_force=True)
                return
            some = found[:MOST_AT_ONCE]
            await self._clear(choice, some)
            cleared.update(some)

    async def _clean(self, version: Version, status: Status, mine: Sequence[str]) -> None:
        """HEAD is there already: drop or put aside what was changed, if that was asked for in advance."""
        if not mine:
            return
        if self._wish.on_local_changes == "stash":
            await self._clear("stash")
        elif self._wish.on_local_changes == "reset":
            await self._check_out(version._replace(branch=status.branch), status, does_force=True)
        else:
            log.info("%s is at %s already, with local changes: %s", self._name, self._ref, shown(mine))

    # what a person has changed

    def _state(self, status: Status, own: Mapping[str, Collection[str]]) -> str:
        if self._parts.under_way:
            return f"has a {self._parts.under_way} under way"
        if status.unmerged:
            return "has conflicts that are not resolved"
        commits = [
            f"has commits on {branch} that the server has not" if branch else "has commits that no branch has"
            for branch, made in own.items()
            if made
        ]
        return " and ".join(["has local changes"] * bool(status.changed) + commits)

    def _choose(self, items: Sequence[str], state: str, *, can_stash: bool = True) -> Choice:
        """What becomes of *items*. Raises ChangesError if a person must decide."""
        choices: list[Choice] = [one for one in CHOICES if one != "stash" or can_stash]
        named = items or (state,)
        is_answered = self._wish.answered.choice is not None and set(named) <= set(self._wish.answered.items)
        choice = self._wish.answered.choice if is_answered else self._wish.on_local_changes
        for one in choices:
            if one == choice:
                if one == "keep":
                    text = "%s %s (%s), and is not updated to %s: they are kept"
                    log.warning(text, self._name, state, shown(named), self._ref)
                return one
        listed = f" ({shown(items)})" if items else ""
        problem = f"{self._name} {state}{listed}, so it was not updated to {self._ref}"
        means = "; ".join(f"{one} {CHOICES[one]}" for one in choices)
        remedy = Remedy(f"{problem}. {means}.", question=f"changes:{self._name}", kind="choice", choices=tuple(choices))
        raise ChangesError(f"{problem}: answer changes:{self._name}: {means}", named, remedy)

    async def _clear(self, choice: Choice, paths: Collection[str] = ()) -> None:
        """Put local changes aside, or drop them: of *paths*, tracked or not, or of all tracked files."""
        if choice == "reset":
            if command := self._parts.under_way:
                is_am = (self._parts.git_dir / "rebase-apply" / "applying").exists()
                await self._calls.run(["am" if is_am else command, "--quit"])
            if not paths:
                await self._calls.run(["reset", "--hard", "--quiet"])
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        message = f"launcher-recovery: before the update of {self._name} to {self._ref}, {now}"
        if added := (await self._calls.answer(["diff", "--name-only", "--diff-filter=A", "-z"])).split("\0")[:-1]:
            await self._calls.run(["reset", "--quiet", "--", *added])  # git stash fails at "git add --intent-to-add"
        only = [f":(top,literal){path}" for path in paths]
        await self._show(only)
        before = await said(["rev-parse", "--short", "refs/stash"], cwd=self._place)
        await self._calls.run(["stash", "push", *(["--all"] if paths else []), "--message", message, "--", *only])
        stash = await said(["rev-parse", "--short", "refs/stash"], cwd=self._place)
        if stash == before and not paths:
            return
        if stash == before:
            raise RepositoryError(
                f"{self._name}: git stash has put nothing aside of {shown(list(paths))}; move it away"
            )
        text = "%s: local changes were put aside as the stash %s; to have them back: git -C %s stash pop"
        log.warning(text, self._name, stash, quote(str(self._place)))

    async def _show(self, only: Collection[str]) -> None:
        """Have git see changes of the files *only* that a person has hidden from it; else they are not put aside."""
        if not only:
            return
        answer = await self._calls.answer(["ls-files", "-v", "-z", "--", *only])
        for option, marks in (("--no-assume-unchanged", "hsmrck"), ("--no-skip-worktree", "Ss")):
            hidden = [line[2:] for line in answer.split("\0") if line[:1] in set(marks)]
            if hidden:
                await self._calls.run(["update-index", option, "--", *hidden])

    async def _leave_commits(self, choice: Choice, branch: str, commits: Sequence[str]) -> None:
        """Keep own commits of *branch* ("": of a detached HEAD) by a branch, or say which ones are dropped."""
        if choice == "stash":
            newest = commits[0].partition(" ")[0]  # a kill and another try make no second branch
            aside = f"before-update/{branch or 'detached'}-{newest}"
            await self._calls.run(["branch", "--force", aside, f"refs/heads/{branch}" if branch else "HEAD"])
            log.warning("%s: commits that the server has not are on the branch %s now", self._name, aside)
        else:
            text = "%s: these commits on %s are dropped: %s"
            log.warning(text, self._name, branch or "no branch", shown(commits))

    # the checkout, and what is left of a killed one

    async def _check_out(self, version: Version, status: Status, *, does_force: bool = False) -> tuple[str, ...] | None:
        """Check *version* out. Returns files in the way, where git has changed nothing; None if it is done."""
        self._notes.write(Note(status.commit, version.commit, version.branch))
        way = ["-B", version.branch, "--no-track"] if version.branch else ["--detach"]
        force = ["--force"] if does_force else ["--no-overwrite-ignore"]
        words = ["checkout", "--progress", "--no-recurse-submodules", *force, *way, version.commit, "--"]
        try:
            await self._calls.run(words, url=await url_of(self._place))  # large files, and those of a partial clone
        except subprocess.CalledProcessError as error:
            output = output_of(error)
            if does_force or not in_the_way(output):
                raise
            found = tuple(one for one in in_the_way(output) if os.path.lexists(self._place / one))
            self._notes.remove()
            return found
        if version.remote:
            await self._follow(version.branch, version.remote)
        self._notes.remove()
        log.info("%s is at %s now (%.10s), before at %.10s", self._name, self._ref, version.commit, status.commit)
        if (self._place / ".gitmodules").exists():
            text = "%s has submodules, which are left as they are: git -C %s submodule update --init --recursive"
            log.warning(text, self._name, quote(str(self._place)))
        return None

    async def _follow(self, branch: str, remote: str) -> None:
        """Have ``git pull`` of a person know where *branch* comes from, unless it has been told."""
        settings = {f"branch.{branch}.remote": remote, f"branch.{branch}.merge": f"refs/heads/{branch}"}
        if await said(["config", f"branch.{branch}.merge"], cwd=self._place) is None:
            for key, value in settings.items():
                await self._calls.run(["config", key, value])

    async def _finish(self, note: Note) -> bool:
        """Finish the checkout that a killed update has begun. Returns False if changes in its way are kept."""
        status = await status_at(self._place)
        is_here = (await ask(["cat-file", "-e", f"{note.new}^{{commit}}"], cwd=self._place)).code == 0
        if not is_here or status.commit not in (note.old, note.new) or self._parts.under_way:
            self._notes.remove()  # a person has gone on with it
            return True
        mine = await changed_since(note, status, self._calls)
        if mine:
            choice = self._choose(mine, "was changed since an update to another version was killed in it")
            if choice == "keep":
                return False
            await self._clear(choice, mine)
        log.warning("%s: an update was killed in its checkout; it is finished", self._name)
        await self._check_out(Version(note.new, note.branch), status, does_force=True)
        return True
