"""Install packages into an environment, by pip or uv: one install at a time, checked, and put back if it breaks others.

The packages that are there are noted on the disk before anything is changed (``notes``). What finds a note at its
beginning finishes that install, or puts the packages back: of a killed launcher, first its pip is ended.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec

from adapters.packages.begun_install import FOLDER, Note, NoteFile, turn
from adapters.packages.frozen import (
    Environment,
    Restoration,
    are_met,
    breakage,
    changes,
    constraints,
    damaged,
    freeze,
    kept,
    missing,
    restoration,
)
from adapters.packages.installer import NoInstallerError, Request, Runs, check, look_at
from adapters.packages.tools import Tool, Way, problem_of
from adapters.processes.command import run_command
from events.errors import Permanent

ROUNDS = 3
"""Rounds in which packages are put back: to uninstall one may damage another that has the same files."""

log = logging.getLogger("recovery.launch")


class BrokenPackagesError(Permanent):
    """An install broke packages that were there. They are put back as they were."""


class NotInstalledError(Permanent):
    """pip or uv ended well, and packages are not there: a setting sends them elsewhere, or has nothing installed."""


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """What an install did.

    Args:
        tool: "pip" or "uv"; "" if everything was there.
        installed: The versions of the packages that are new, by name.
        changed: The versions before and now of those that were there.
    """

    tool: str = ""
    installed: dict[str, str] = {}
    changed: dict[str, tuple[str, str]] = {}


async def install(request: Request) -> Installed:
    """Install what *request* says, unless it is there.

    Raises:
        NoInstallerError: There is no interpreter, or neither pip nor uv.
        PackageConflictError: The requirements contradict each other, or what is protected.
        PackageBuildError: A package does not build, and has no wheel.
        BrokenPackagesError: It broke packages that were there; they are as before.
        NotInstalledError: pip or uv ended well, and installed nothing here.
        subprocess.CalledProcessError: pip or uv failed for another reason.
        SilentCommandError: It was silent for too long.
        OSError: The environment cannot be written.
    """
    environment = await look_at(request.python)
    folder = Path(environment.prefix, FOLDER)
    if not NoteFile(folder).path.exists() and are_met(request.requirements, environment):
        return Installed()
    folder.mkdir(exist_ok=True)
    async with turn(folder, request.name, environment.prefix):
        return await _Install(request, folder).run()


class _Install:
    """One install, while no other changes the environment."""

    def __init__(self, request: Request, folder: Path) -> None:
        self._request = request
        self._folder = folder
        self._file = NoteFile(folder)
        self._name = request.name
        self._runs = Runs(request, folder)

    async def run(self) -> Installed:
        was_interrupted, wanted = self._file.path.exists(), self._request.requirements
        note = await self._heal()
        before = await self._runs.look(does_verify=True)
        if note is None:
            if are_met(wanted, before):
                return Installed()
            note = self._file.write(self._note(before))
        try:
            tool = await self._runs.tool(before)
        except NoInstallerError:
            if note.checked is None:  # nothing is installed
                self._file.remove()
            raise
        if (checked := note.checked) is None:
            checked = await check(tool)
            note = self._file.write(msgspec.structs.replace(note, checked=checked))
        try:
            if not are_met(wanted, before):  # a killed run may have come so far
                tool = await self._runs.upgrade(tool, was_interrupted=was_interrupted)
                await self._install(tool, note)
            now = await self._runs.look(does_verify=True)
            if lost := tuple(one.text for name, one in note.frozen.items() if name not in freeze(now)):
                await self._restore(tool, note, lost)  # a killed run has uninstalled it
                now = await self._runs.look(does_verify=True)
            if absent := missing(wanted, now):
                raise self._absent(absent, tool)
        except Exception as error:
            await self._undo(tool, note, error)
            raise
        changed = changes(note.frozen, freeze(now))
        if broke := breakage(note.kept, kept(now, note.kept), (checked, await check(tool))):
            reason = f"{_shown(changed)} broke other packages: {'; '.join(broke)}"
            await self._put_back(tool, msgspec.structs.replace(note, broke=reason))
            raise self._broken(reason)
        self._file.remove()
        return Installed(
            tool=tool.name,
            installed={name: version for name, (before, version) in changed.items() if not before},
            changed={name: versions for name, versions in changed.items() if versions[0]},
        )

    def _note(self, before: Environment) -> Note:
        request = self._request
        logs, files = str(request.logs), self._runs.files
        return Note(
            request=request.key, name=request.name, logs=logs, files=files, frozen=freeze(before),
            kept=kept(before, request.protect),
        )  # fmt: skip

    # what an earlier install left

    async def _heal(self) -> Note | None:
        """The note of this install if it goes on; of any other, the packages are put back first."""
        note = self._file.read()
        if note is None:
            return None
        log.warning("%s: the install of %s was interrupted; what it left is repaired", self._name, note.name)
        await run_command(
            note.name, ["true"], cwd=self._folder, logs=Path(note.logs), orphans="end", files=note.files, is_done=_yes
        )
        note = msgspec.structs.replace(note, logs=str(self._request.logs), files=self._runs.files)
        self._file.write(note)
        self._remove_husks(note, await self._runs.look(does_verify=True))
        now = await self._runs.look(does_verify=True)
        if note.request == self._request.key and not note.is_undone:
            if spoilt := damaged(note.frozen, freeze(now)):
                tool = await self._runs.tool(now)
                await self._runs.run(tool.uninstall(spoilt))
            return note
        await self._put_back(await self._runs.tool(now), note)
        if note.request == self._request.key and note.broke:
            raise self._broken(note.broke)
        return None

    def _remove_husks(self, note: Note, environment: Environment) -> None:
        """Remove what pip does not know how to uninstall: it would count as installed."""
        husks = [Path(one) for one in environment.leftovers]
        for one in environment.distributions:
            then = note.frozen.get(one.key)
            was_there = then is not None and then.version == one.version and not then.is_whole
            if one.is_own and one.lacks and not was_there and not one.has_metadata:
                husks.append(Path(one.folder))
        for husk in husks:
            log.warning("%s: %s is half of a package, and is removed", self._name, husk)
            shutil.rmtree(husk) if husk.is_dir() and not husk.is_symlink() else husk.unlink(missing_ok=True)

    async def _undo(self, tool: Tool, note: Note, error: Exception) -> None:
        """Put the packages back after a failure; what cannot be put back now, the next attempt puts back."""
        try:
            await self._put_back(tool, note)
        except Exception as further:
            error.add_note(f"the packages of {self._folder.parent} are not put back as they were yet: {further}")

    async def _put_back(self, tool: Tool, note: Note) -> None:
        """Make the packages those of *note*. Raises as ``Runs.from_indexes``, and BrokenPackagesError."""
        back = Restoration()
        for _ in range(ROUNDS):
            back = restoration(note.frozen, freeze(await self._runs.look(does_verify=True)))
            if not back:
                self._file.remove()
                return
            self._file.write(msgspec.structs.replace(note, is_undone=True))
            words = ", ".join((*back.install, *(f"no {one}" for one in (*back.damaged, *back.new))))
            log.warning("%s: the packages are put back as they were: %s", self._name, words)
            if back.damaged:
                await self._runs.run(tool.uninstall(back.damaged))
            await self._restore(tool, note, back.install)
            if back.new:
                await self._runs.run(tool.uninstall(back.new))
        raise self._not_back(note, back.install)

    async def _restore(self, tool: Tool, note: Note, texts: tuple[str, ...]) -> None:
        if not texts:
            return

        def words(way: Way) -> list[str]:
            return tool.restore(texts, wheels_only=way.wheels_only)

        try:
            await self._runs.from_indexes(tool, words, is_exact=True)
        except subprocess.CalledProcessError as error:
            if problem_of(str(error.stderr)) == "unreachable":
                raise  # the next attempt goes on
            raise self._not_back(note, texts) from error

    def _not_back(self, note: Note, texts: tuple[str, ...]) -> BrokenPackagesError:
        reason = f"{note.broke}, and " if note.broke else ""
        cure = f"have an index offer these versions, or remove {self._file.path} to keep the packages as they are"
        return BrokenPackagesError(f"{self._name}: {reason}{', '.join(texts)} cannot be put back; {cure}")

    def _broken(self, reason: str) -> BrokenPackagesError:
        cure = "the packages are as before; choose other versions, or give it an environment of its own"
        return BrokenPackagesError(f"{self._name} is not installed, for {reason}; {cure}")

    def _absent(self, names: list[str], tool: Tool) -> NotInstalledError:
        reason = f"{tool.name} ended well, and {', '.join(names)} is not in {self._folder.parent}"
        cure = f"see `{tool.name} config list`" if tool.name == "pip" else "see uv.toml and the variables UV_*"
        return NotInstalledError(f"{self._name}: {reason}; a setting sends packages elsewhere, or is a dry run: {cure}")

    # the install

    async def _install(self, tool: Tool, note: Note) -> None:
        wanted = self._request.requirements
        words = list[str]()
        limits = wanted.text(constraints=True) + "".join(f"{line}\n" for line in constraints(note.kept))
        for option, name, text in (("-r", "requirements.txt", wanted.text()), ("-c", "constraints.txt", limits)):
            if text:
                path = self._folder / name
                path.touch(mode=0o600)  # a URL may hold a password
                path.write_text(text, encoding="utf-8")
                words += [option, str(path)]
        await self._runs.from_indexes(tool, lambda way: tool.install(*words, wheels_only=way.wheels_only))


async def _yes() -> bool:
    return True


def _shown(changed: Mapping[str, tuple[str, str]]) -> str:
    """What changed, for a person."""
    parts = (f"{name} {now or 'none'}" + (f" (was {then})" if then else "") for name, (then, now) in changed.items())
    return ", ".join(parts) or "the install"
