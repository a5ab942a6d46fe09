"""Make an environment of Python in its place, or find out what is wrong with one that is there.

It is never renamed: its scripts name its folder. ``venv`` hides why pip could not be installed, so ``ensurepip`` is a
command of its own. What a killed launcher left is deleted and made again. Packages are not lost without a question.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import anyio.to_thread
import msgspec

from adapters.packages.venv_folder import VenvFolder
from adapters.processes.command import run_command
from adapters.processes.query import query
from adapters.processes.running import alone
from events.errors import NeedsPerson, Permanent
from events.evidence import Remedy
from recovery.policies.error_output import telling_line

CHOICES = ("remake", "keep")
"""What a person can answer: make it again without its packages, or leave it as it is."""

PROBE = """
import sys
from importlib.util import find_spec
try:
    import pip
except Exception:
    pip = None
is_venv, has_ensurepip = sys.prefix != sys.base_prefix, find_spec("ensurepip") is not None
print("%d.%d.%d" % sys.version_info[:3], is_venv, pip is not None, has_ensurepip)
"""


class VenvError(Permanent):
    """An environment cannot be made, or used, as things are. The message says what to do."""


class LostPackagesError(NeedsPerson):
    """An environment does not work, or is of another Python; its packages would be lost if it were made again."""


class Venv(msgspec.Struct, frozen=True):
    """An environment.

    Args:
        python: The path of its interpreter.
        version: The version of that, e.g. "3.11.7".
    """

    python: str
    version: str


class Interpreter(NamedTuple):
    """What an interpreter says of itself."""

    version: str
    is_venv: bool
    has_pip: bool
    has_ensurepip: bool

    def is_like(self, other: Interpreter) -> bool:
        """Whether both have the same major and minor version, and so the same packages."""
        return self.version.split(".")[:2] == other.version.split(".")[:2]


async def make_venv(
    name: str,
    folder: Path,
    python: str | None = None,
    *,
    logs: Path,
    files: str,
    answer: Callable[[], object] = lambda: None,
    reopen: Callable[[str], object] = lambda _reason: None,
) -> Venv:
    """Make the environment *folder* if there is none that works, and return it.

    Args:
        name: What messages call it.
        folder: Its folder.
        python: The interpreter that it is made with, a version ("3.12"), or ``None`` for any: then that of this process
            makes it.
        logs: The folder for the output of its commands.
        files: Names the files there; the same for each launcher.
        answer: The answer to the question ``venv:NAME``: one of ``CHOICES``, or ``None``.
        reopen: Drops that answer, with a reason.

    Raises:
        VenvError: The interpreter is missing, cannot make one, or the folder has other files.
        LostPackagesError: A person must decide. The remedy has the question.
        subprocess.CalledProcessError, OSError: It failed.
    """
    if os.pathsep in str(folder):
        raise VenvError(
            f"{name} cannot be made in {folder}: {os.pathsep!r} divides the paths of PATH; choose another path"
        )
    if folder.is_file():
        raise VenvError(f"{name} cannot be made: {folder} is a file; choose another path, or move it away")
    making = _Making(name, VenvFolder(folder), python, answer)
    if (made := await making.made()) is None:
        logs.mkdir(parents=True, exist_ok=True)
        async with alone(name, logs / f"{files}.lock"):
            made = await making.make(logs, files)
    if answer() == "remake":
        reopen(f"{name} was made again")  # it is not made again the next time without a question
    return made


class _Making:
    """One call of ``make_venv``."""

    def __init__(self, name: str, folder: VenvFolder, python: str | None, answer: Callable[[], object]) -> None:
        self._name = name
        self._folder = folder
        self._python = python
        self._answer = answer
        self._base: Interpreter | None = None

    async def made(self) -> Venv | None:
        """The environment, if it is marked complete, and works."""
        marker = self._folder.marker()
        if marker is None or not marker.is_complete:
            return None
        found = await _probe(self._folder.python)
        if found is None or not found.is_venv or not await self._is_usable(found) or not await self._fits(found):
            return None
        return Venv(str(self._folder.python), found.version)

    async def make(self, logs: Path, files: str) -> Venv:
        """Make it, as the only launcher that does."""
        folder, program = self._folder.path, _program(self._python)

        async def run(argv: list[str], is_done: Callable[[], Awaitable[bool]]) -> None:
            try:
                await run_command(
                    self._name, argv, cwd=folder.parent, logs=logs, orphans="end", files=files, is_done=is_done
                )  # both commands have the same files: so each finds an orphan of the other
            except subprocess.CalledProcessError as error:
                if (reason := self._explained(error, program)) is not None:
                    raise VenvError(reason) from error
                raise

        folder.parent.mkdir(parents=True, exist_ok=True)
        await run([program, "-I", "-m", "venv", "--without-pip", str(folder)], self._is_there)
        if (await self._of_base()).has_ensurepip:
            argv = [str(self._folder.python), "-I", "-m", "ensurepip", "--upgrade", "--default-pip"]
            await run(argv, self._has_pip)
        found = await _probe(self._folder.python)
        if found is None or not await self._is_usable(found):
            raise VenvError(f"{self._name} was made in {folder}, and its interpreter, or its pip, does not work")
        self._folder.complete()
        return Venv(str(self._folder.python), found.version)

    async def _is_there(self) -> bool:
        """Whether an environment is there that only pip may be missing from; otherwise its folder is ready for one.

        Raises VenvError or LostPackagesError if it must not be touched.
        """
        folder, path = self._folder, self._folder.path
        marker = folder.marker()
        is_ours = marker is not None and not marker.is_complete
        if not (folder.is_free() or is_ours):
            if marker is None and not folder.is_venv():
                names = ", ".join(folder.strangers()[:3]) or "parts of an environment"
                problem = f"{path} is no environment, and has files ({names}); nothing is deleted"
                raise VenvError(f"{self._name}: {problem}: choose another path, or move them away")
            found = await _probe(folder.python)
            does_work = found is not None and found.is_venv
            if found is not None and does_work and await self._fits(found):
                if folder.packages() or await self._is_usable(found):
                    return True
            elif folder.packages() and not self._may_remake(found if does_work else None):
                return True
        if not folder.is_free() and (names := ", ".join(folder.strangers()[:3])):
            problem = f"{path} must be made again, and has files that are not of an environment ({names})"
            raise VenvError(f"{self._name}: {problem}; nothing is deleted: move them away, or choose another path")
        await self._check_base()
        await anyio.to_thread.run_sync(folder.begin)
        return False

    async def _has_pip(self) -> bool:
        found = await _probe(self._folder.python)
        return found is not None and found.has_pip

    def _may_remake(self, found: Interpreter | None) -> bool:
        """Whether a person lets it be made again; *found* is its interpreter, if that works."""
        packages = self._folder.packages()
        what = (
            f"does not work: its Python is gone ({self._folder.python})"
            if found is None
            else f"has Python {found.version}, and {self._python} was asked for"
        )
        lost = f"its {len(packages)} packages would be lost ({', '.join(packages[:3])}, ...)"
        question = f"venv:{self._name}"
        match self._answer():
            case "remake":
                return True
            case "keep" if found is not None:
                return False
            case "keep":
                problem = f"{self._name} {what}, and is kept, as a person said"
                raise VenvError(f"{problem}; install that Python again, or answer {question} with remake")
        text = f"The environment {self._name} {what}. Make it again? {lost[0].upper()}{lost[1:]}; or keep it."
        remedy = Remedy(text, question=question, kind="choice", choices=CHOICES)
        raise LostPackagesError(f"the environment {self._name} {what}; {lost}", remedy=remedy)

    async def _fits(self, found: Interpreter) -> bool:
        """Whether *found* is of the version that was asked for; or is kept, as a person said."""
        if self._python is None or found.is_like(await self._of_base()):
            return True
        return self._answer() == "keep"

    async def _is_usable(self, found: Interpreter) -> bool:
        return found.has_pip or (uv() is not None and not (await self._of_base()).has_ensurepip)

    async def _of_base(self) -> Interpreter:
        """The interpreter that makes it. Raises VenvError if there is none."""
        if self._base is None:
            program = _program(self._python)
            found = await _probe(Path(program))
            if found is None:
                what = f"there is no Python {self._python!r} here" if self._python else f"{program} does not work"
                raise VenvError(f"{self._name} cannot be made: {what}; install it, or name another as python=")
            self._base = found
        return self._base

    async def _check_base(self) -> None:
        """Raise VenvError if the interpreter can make no environment that packages can be installed into."""
        if not (await self._of_base()).has_ensurepip and uv() is None:
            problem = f"{_program(self._python)} has no ensurepip, so an environment would have no pip"
            raise VenvError(f"{self._name}: {problem}; install python3-venv (Debian, Ubuntu), or uv")

    def _explained(self, error: subprocess.CalledProcessError, program: str) -> str | None:
        """What to do about a failure that no retry heals; ``None`` for another."""
        output, folder = error.stderr or "", self._folder.path
        match re.search(r"Error: (?:\[Errno (\d+)\]|\[WinError (\d+)\]).*", output):
            case None:
                return None
            case match if match[1] == "13":
                cure = f"let this user write to {folder}, or choose another path"
            case match if match[1] == "2":
                cure = f"{program} may lack a file: install it again, or name another as python="
            case match if match[2] == "267":
                cure = f"Windows cannot use {folder}, perhaps for its length or its characters: choose another path"
            case _:
                return None
        return f"{self._name} cannot be made: {telling_line(output)}; {cure}"


def uv() -> str | None:
    """The path of uv, which installs packages without a pip in the environment; ``None`` if it is not there."""
    return shutil.which("uv") or shutil.which("uv", path=os.path.dirname(sys.executable))


def _program(python: str | None) -> str:
    """The path of the interpreter that *python* names, or the name as it is."""
    if python is None:
        is_python = not getattr(sys, "frozen", False)  # else this program is a launcher that was made one file
        return sys.executable if is_python else shutil.which("python3") or shutil.which("python") or "python3"
    name = f"python{python}" if re.fullmatch(r"[0-9]+(\.[0-9]+)?", python) else python
    return shutil.which(name) or name


async def _probe(python: Path) -> Interpreter | None:
    """What the interpreter *python* says of itself; ``None`` if it does not work. Raises TimeoutError."""
    try:
        answer = await query([str(python), "-I", "-c", PROBE])
    except OSError as error:
        if isinstance(error, TimeoutError):
            raise
        return None
    words = answer.output.split()[-4:]
    if answer.code != 0 or len(words) != 4:
        return None
    version, *flags = words
    return Interpreter(version, *(flag == "True" for flag in flags))
