"""Update a repository to another version: fetch what is missing, then check it out.

What is to be checked out is noted in ``.git`` before. So the next update can tell what a killed one has written from
what a person has changed, and finishes it. Changes of a person are put aside, dropped or kept as that person chooses.
"""

from __future__ import annotations

import logging
import math
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import anyio.to_thread
import msgspec

from adapters.disk import decode_plain, sync_file, write_whole
from adapters.git.changes import (
    Status,
    Touched,
    changed_by_others,
    in_the_way,
    is_begun,
    shown,
    touched_by,
)  # fmt: skip
from adapters.git.commands import alone_in, ask, output_of, run, said
from adapters.git.locks import free_locks
from adapters.git.repository import Repository, answer_of, parts_of, status_at
from adapters.git.versions import Version, Versions
from events.errors import NeedsPerson
from events.evidence import Remedy

Choice: TypeAlias = Literal["stash", "reset", "keep"]
LocalChanges: TypeAlias = Literal["ask", "stash", "reset", "keep"]

NOTE = "recovery-update.json"
"""The file in ``.git`` that says what is checked out now."""

MOST_NOTE = 4096
MOST_HASHED = 200
"""Files that one call of git hashes: a command line is bounded."""

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


class Note(msgspec.Struct, frozen=True):
    """What is checked out: from the commit *old* to *new*, on *branch* ("": on none)."""

    old: str
    new: str
    branch: str


class Answered(NamedTuple):
    """What a person has answered, and of which files and commits."""

    choice: Choice | None = None
    items: Collection[str] = ()


NOTHING_ANSWERED = Answered()


async def update(
    name: str,
    place: Path,
    ref: str,
    *,
    logs: Path,
    on_local_changes: LocalChanges = "ask",
    answered: Answered = NOTHING_ANSWERED,
    silence: float | None = None,
    settings: Mapping[str, str] | None = None,
) -> Repository:
    """Update the repository *place* to *ref*. One update of a repository runs at a time.

    Args:
        name: What messages call it.
        place: The absolute path of its working tree.
        ref: A branch, a tag, or a commit. A branch is moved forward to where the server has it, and checked out; of
            the others HEAD is detached.
        logs: The folder for the output of git.
        on_local_changes: What becomes of local changes that are in the way.
        answered: The answer to an earlier ChangesError; it counts for what that error named.
        silence: Seconds without any sign of life after which git is ended.
        settings: Further settings for git's transfers.

    Raises:
        ChangesError: Local changes are in the way, and a person must decide.
        RepositoryError: The repository cannot be updated to *ref*.
        LockedError: Another process of git works there.
        subprocess.CalledProcessError: git failed.
        SilentCommandError: git was silent for too long.
        OSError: git cannot be started, or a file cannot be written.
    """
    one = _Update(name, place, ref, logs, on_local_changes, answered, silence, settings)
    async with alone_in(place, name, logs):
        return await one.run()


class _Update:
    """One attempt of an update."""

    def __init__(
        self,
        name: str,
        place: Path,
        ref: str,
        logs: Path,
        on_local_changes: LocalChanges,
        answered: Answered,
        silence: float | None,
        settings: Mapping[str, str] | None,
    ) -> None:
        self._name = name
        self._place = place
        self._ref = ref
        self._logs = logs
        self._on_local_changes = on_local_changes
        self._answered = answered
        self._silence = silence
        self._settings = settings

    async def run(self) -> Repository:
        """Finish what an earlier update left, then update. Raises as ``update``."""
        await self._end_orphan()
        began = time.time()
        self._parts = await parts_of(self._name, self._place)
        self._note = self._parts.git_dir / NOTE
        note = self._noted()
        await free_locks(self._name, *self._parts[:3], before=began if note is None else math.inf)
        if note is None or await self._finish(note):
            await self._update()
        parts, status = await parts_of(self._name, self._place), await status_at(self._place)
        return Repository(str(self._place), status.commit, parts.is_shallow)

    async def _update(self) -> None:
        versions = Versions(self._name, self._parts, self._git, self._silence)
        version = await versions.find(self._ref)
        status = await status_at(self._place)
        mine = tuple(dict.fromkeys((*status.changed, *status.unmerged)))
        is_busy = bool(status.unmerged or self._parts.under_way)
        if status.commit == version.commit and version.branch in ("", status.branch) and not is_busy:
            await self._clean(version, status, mine)
            return
        does_force = False
        if mine or is_busy:
            choice = self._choose(mine, self._state(status))
            if choice == "keep":
                return
            does_force = await self._clear(choice)
        if version.own_commits:
            choice = self._choose(version.own_commits, f"has commits on {version.branch} that the server has not")
            if choice == "keep":
                return
            does_force = await self._leave_commits(choice, version) or does_force
        if not (found := await self._check_out(version, status, does_force=does_force)):
            return
        choice = self._choose(found, "has files that git does not track, in the way of new ones")
        if choice == "keep":
            return
        does_force = await self._clear(choice)
        if found := await self._check_out(version, status, does_force=does_force):
            self._choose(found, "has files in the way again", ("keep",))

    async def _clean(self, version: Version, status: Status, mine: Collection[str]) -> None:
        """HEAD is there already: drop or put aside what was changed, if that was asked for in advance."""
        if not mine:
            return
        if self._on_local_changes == "stash":
            await self._clear("stash")
        elif self._on_local_changes == "reset":
            await self._check_out(version._replace(branch=status.branch), status, does_force=True)
        else:
            log.info("%s is at %s already, with local changes: %s", self._name, self._ref, shown(mine))

    # what a person has changed

    def _state(self, status: Status) -> str:
        if self._parts.under_way:
            return f"has a {self._parts.under_way} under way"
        return "has conflicts that are not resolved" if status.unmerged else "has local changes"

    def _choose(self, items: Collection[str], state: str, choices: Sequence[Choice] = ()) -> Choice:
        """What becomes of *items*. Raises ChangesError if a person must decide."""
        can_stash = not self._parts.under_way and "conflicts" not in state
        choices = choices or [one for one in CHOICES if one != "stash" or can_stash]
        named = set(items) or {state}
        is_answered = self._answered.choice is not None and named <= set(self._answered.items)
        choice = self._answered.choice if is_answered else self._on_local_changes
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
        raise ChangesError(f"{problem}: answer changes:{self._name}: {means}", sorted(named), remedy)

    async def _clear(self, choice: Choice, paths: Collection[str] = ()) -> bool:
        """Put local changes aside, of *paths* or all. Returns whether the checkout has to overwrite them instead."""
        if choice == "reset":
            if command := self._parts.under_way:
                is_am = (self._parts.git_dir / "rebase-apply" / "applying").exists()
                await self._git(["am" if is_am else command, "--quit"])
            return True
        now = datetime.now(UTC).isoformat(timespec="seconds")
        message = f"launcher-recovery: before the update of {self._name} to {self._ref}, {now}"
        only = [f":(top,literal){path}" for path in paths]
        await self._git(["stash", "push", "--include-untracked", "--message", message, "--", *only])
        stash = await said(["rev-parse", "--short", "refs/stash"], cwd=self._place)
        text = "%s: local changes were put aside as the stash %s; to have them back: git -C '%s' stash pop"
        log.warning(text, self._name, stash, self._place)
        return False

    async def _leave_commits(self, choice: Choice, version: Version) -> bool:
        """Keep own commits by a branch, or not. Returns whether changed files are to be overwritten: never."""
        if choice == "stash":
            aside = f"before-update/{version.branch}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
            await self._git(["branch", aside, f"refs/heads/{version.branch}"])
            log.warning("%s: commits that the server has not are on the branch %s now", self._name, aside)
        else:
            text = "%s: these commits on %s are dropped: %s"
            log.warning(text, self._name, version.branch, shown(version.own_commits))
        return False

    # the checkout, and what is left of a killed one

    async def _check_out(self, version: Version, status: Status, *, does_force: bool) -> tuple[str, ...]:
        """Check *version* out. Returns the files in the way, where git has changed nothing."""
        self._write_note(Note(status.commit, version.commit, version.branch))
        way = ["-B", version.branch, "--no-track"] if version.branch else ["--detach"]
        force = ["--force"] if does_force else []
        try:
            await self._git(["checkout", "--progress", "--no-recurse-submodules", *force, *way, version.commit, "--"])
        except subprocess.CalledProcessError as error:
            if not (found := in_the_way(output_of(error))):
                raise
            self._note.unlink(missing_ok=True)
            return found
        if (
            version.branch
            and version.remote
            and not await said(["config", f"branch.{version.branch}.merge"], cwd=self._place)
        ):
            await self._git(["config", f"branch.{version.branch}.remote", version.remote])
            await self._git(["config", f"branch.{version.branch}.merge", f"refs/heads/{version.branch}"])
        self._note.unlink(missing_ok=True)
        log.info("%s is at %s now (%.10s), before at %.10s", self._name, self._ref, version.commit, status.commit)
        if (self._place / ".gitmodules").exists():
            text = "%s has submodules, which are left as they are: git -C '%s' submodule update --init --recursive"
            log.warning(text, self._name, self._place)
        return ()

    async def _finish(self, note: Note) -> bool:
        """Finish the checkout that a killed update has begun. Returns False if changes in its way are kept."""
        status = await status_at(self._place)
        is_here = (await ask(["cat-file", "-e", f"{note.new}^{{commit}}"], cwd=self._place)).code == 0
        if not is_here or status.commit not in (note.old, note.new) or self._parts.under_way:
            self._note.unlink(missing_ok=True)  # a person has gone on with it
            return True
        mine = await self._changed_by_others(note, status)
        if mine:
            choice = self._choose(mine, "was changed since an update to another version was killed in it")
            if choice == "keep":
                return False
            await self._clear(choice, mine)
        log.warning("%s: an update was killed in its checkout; it is finished", self._name)
        await self._check_out(Version(note.new, note.branch), status, does_force=True)
        return True

    async def _changed_by_others(self, note: Note, status: Status) -> tuple[str, ...]:
        old = note.old or (await answer_of(["hash-object", "-t", "tree", "/dev/null"], self._place)).strip()
        diff = ["diff-tree", "-r", "-z", "--no-renames", old, note.new]
        touched = touched_by(await answer_of(diff, self._place))
        found = await self._blobs(touched)
        mine = list[str]()
        for path in changed_by_others(status.changed, touched, found):
            if path in found and await self._is_begun(note.new, path):
                continue
            mine.append(path)
        return tuple(mine)

    async def _blobs(self, touched: Sequence[Touched]) -> dict[str, str]:
        """What those of *touched* that are there hold now."""
        there = await anyio.to_thread.run_sync(lambda: [one.path for one in touched if self._is_file(one.path)])
        found = dict[str, str]()
        for first in range(0, len(there), MOST_HASHED):
            some = there[first : first + MOST_HASHED]
            answer = await answer_of(["hash-object", "--", *some], self._place)
            found |= dict(zip(some, answer.split(), strict=True))
        return found

    def _is_file(self, path: str) -> bool:
        place = self._place / path
        return place.is_file() and not place.is_symlink()

    async def _is_begun(self, commit: str, path: str) -> bool:
        """Whether the file *path* is the beginning of what *commit* has there."""
        whole = await ask(["cat-file", "--filters", f"{commit}:{path}"], cwd=self._place)
        written = await anyio.to_thread.run_sync((self._place / path).read_bytes)
        return whole.code == 0 and is_begun(written, whole.output)

    def _write_note(self, note: Note) -> None:
        write_whole(self._note, msgspec.json.encode(note))
        sync_file(self._note)
        sync_file(self._note.parent)

    def _noted(self) -> Note | None:
        try:
            return decode_plain(self._note, Note, MOST_NOTE)
        except FileNotFoundError:
            return None
        except ValueError as error:
            log.warning("%s: %s; it is taken for no note", self._name, error)
            return None

    # git

    async def _git(self, words: Sequence[str], *, url: str = "") -> None:
        await run(
            self._name,
            words,
            place=self._place,
            cwd=self._place,
            logs=self._logs,
            url=url,
            silence=self._silence,
            settings=self._settings if url else None,
        )

    async def _end_orphan(self) -> None:
        """End what a killed launcher has left running in the repository."""

        async def is_done() -> bool:
            return True

        await run(self._name, ["--version"], place=self._place, cwd=self._place, logs=self._logs, is_done=is_done)
