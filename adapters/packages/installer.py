"""Run pip or uv in an environment: with one index after another, and with what is tried after a failure."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from adapters.packages.frozen import TOOL, Environment
from adapters.packages.requirements import Requirements
from adapters.packages.tools import VARIABLES, Problem, Tool, Way, conflict, is_old, next_way, problem_of, refusals
from adapters.packages.venv import uv
from adapters.processes.command import SilentCommandError, run_command
from adapters.processes.query import query
from events.errors import NeedsPerson, Permanent, Retryable
from events.evidence import Remedy
from recovery.serialization.secret import Secret

SILENCE = 900.0
"""Seconds without a sign of life after which pip or uv is ended: a compiler and a resolver are busy, not silent."""

ANSWER_TIMEOUT = 300.0
"""Seconds that an environment on a slow disk may take to tell its packages, or whether they fit."""

WHY = {
    "refused": "the index refused it",
    "unreachable": "the index was not reached",
    "build": "a package does not build here",
}

log = logging.getLogger("recovery.launch")


class NoInstallerError(Permanent):
    """An environment has no interpreter, or neither pip nor uv can install into it."""


class PackageConflictError(Permanent):
    """Requirements contradict each other, or what is protected."""


class CutDownloadError(Retryable):
    """A pip that is too old to notice it has taken a part of a file for the whole."""


class PackageBuildError(NeedsPerson):
    """A package does not build here, and there is no wheel of it. A person may install what it needs."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be installed.

    Args:
        key: Tells it from other requests.
        name: What messages call it.
        python: The interpreter of the environment.
        requirements: What is wanted.
        protect: Names of packages that keep their versions.
        indexes: Where packages come from: the first one, unless that refuses or is not reached. Without one, as the
            settings of pip or uv say.
        tool: What installs: "auto" for pip if the environment has it.
        cwd: The folder that pip and uv run in.
        logs: The folder for their output.
        may_upgrade_pip: Whether a pip that cannot go on with a download is upgraded first.
    """

    key: str
    name: str
    python: Path
    requirements: Requirements
    protect: tuple[str, ...] = ()
    indexes: tuple[str | Secret, ...] = ()
    tool: Literal["auto", "pip", "uv"] = "auto"
    cwd: Path
    logs: Path
    may_upgrade_pip: bool = True


async def look_at(python: Path, *, does_verify: bool = False) -> Environment:
    """What the interpreter *python* says of its environment. Raises NoInstallerError if it does not run."""
    words = [str(python), "-I", str(Path(__file__).with_name("probe.py")), *(["--verify"] if does_verify else [])]
    try:
        answer = await query(words, timeout=ANSWER_TIMEOUT)
    except OSError as error:
        reason = error.strerror or str(error)
        raise NoInstallerError(f"{python} does not run ({reason}); make the environment first") from error
    if answer.code != 0:
        said = answer.errors.strip().rpartition("\n")[2]
        raise NoInstallerError(f"{python} does not tell its packages ({said}); it must be Python 3.8 or later")
    try:
        return msgspec.json.decode(answer.output, type=Environment)
    except msgspec.MsgspecError as error:
        raise NoInstallerError(f"{python} is no Python: it answers {answer.output[:80]!r}") from error


class Runs:
    """The runs of pip or uv for one request. Only one may be under way.

    Args:
        request: What is to be installed.
        folder: For a file of pip.
    """

    def __init__(self, request: Request, folder: Path) -> None:
        self._request = request
        self._log = folder / "pip.log"
        self.files = f"packages-{request.key[-16:]}"

    async def tool(self, environment: Environment) -> Tool:
        """What installs into *environment*. Raises NoInstallerError if there is nothing."""
        python, wanted = str(self._request.python), self._request.tool
        pip = environment.packages().get(TOOL)
        if wanted != "uv" and pip is not None:
            if (await query([python, "-I", "-m", "pip", "--version"], timeout=ANSWER_TIMEOUT)).code == 0:
                return Tool("pip", python, resumes=not is_old(pip.version))
            if pip.is_own and Path(pip.folder).is_dir():
                shutil.rmtree(pip.folder)  # a killed upgrade left it; ensurepip would take it for one that works
        if wanted != "pip" and (program := uv()):
            return Tool("uv", python, program)
        if wanted != "uv" and environment.has_ensurepip:
            await self.run([python, "-I", "-m", "ensurepip", "--upgrade", "--default-pip"])
            made = (await self.look()).packages().get(TOOL)
            return Tool("pip", python, resumes=made is not None and not is_old(made.version))
        missing = {"auto": "neither pip nor uv", "pip": "no pip", "uv": "no uv"}[wanted]
        cure = "install uv, or make the environment with pip (launcher.venv does)"
        raise NoInstallerError(f"there is {missing} that installs into {environment.prefix}; {cure}")

    async def run(self, argv: list[str], env: Mapping[str, str | Secret] | None = None) -> None:
        """Run a command that changes the environment."""
        request = self._request
        try:
            await run_command(
                request.name,
                argv,
                cwd=request.cwd,
                logs=request.logs,
                env={**VARIABLES, "PIP_LOG": str(self._log), **(env or {})},
                silence=SILENCE,
                orphans="end",
                files=self.files,
            )
        except subprocess.CalledProcessError as error:
            if self._log.exists():
                with self._log.open(encoding="utf-8", errors="replace") as lines:
                    error.stderr = refusals(lines) + error.stderr
            raise
        finally:
            self._log.unlink(missing_ok=True)

    async def look(self, *, does_verify: bool = False) -> Environment:
        """The environment as it is now."""
        return await look_at(self._request.python, does_verify=does_verify)

    async def from_indexes(self, tool: Tool, argv: Callable[[Way], list[str]], *, is_exact: bool = False) -> None:
        """Run the words that *argv* makes, with one index after another.

        Args:
            tool: What they run.
            argv: Makes them.
            is_exact: Whether the packages were installed before, so that an index that lacks one is passed over.
        """
        way = Way()
        while True:
            indexes = self._request.indexes
            try:
                await self.run(argv(way), tool.index(indexes[way.index]) if indexes else {})
                return
            except (subprocess.CalledProcessError, SilentCommandError) as error:
                said = "" if isinstance(error, SilentCommandError) else str(error.stderr)
                problem = tool.problem_of(said) if said else "unreachable"
                problem = "refused" if is_exact and problem in ("missing", "conflict") else problem
                if (following := next_way(way, problem, len(indexes))) is None:
                    if problem == "unreachable" and problem_of(said) == "altered":
                        raise self._cut(tool) from error
                    if not is_exact:
                        self._explain(error, said, problem, way)
                    raise
                other = f"index {following.index + 1}" if following.index != way.index else "wheels alone"
                log.warning("%s: %s; %s is tried", self._request.name, WHY[problem], other)
                way = following

    def _explain(self, error: Exception, said: str, problem: Problem, way: Way) -> None:
        """Raise the error that says more than *error*, of a run that *said* so, if there is one."""
        name = self._request.name
        if way.wheels_only and problem in ("build", "missing", "conflict"):
            cause = f"a package of {name} does not build here, and has no wheel for this Python"
            cure = "Install what it needs (a compiler, CUDA), and answer yes to try again, or no to give up."
            remedy = Remedy(f"{cause[0].upper()}{cause[1:]}. {cure}", question=f"build:{name}")
            raise PackageBuildError(cause, remedy=remedy) from error
        if problem == "conflict" and (reason := conflict(said)):
            cure = "change the requirements, or what is protected (protect=)"
            raise PackageConflictError(f"{name} cannot be installed: {reason}; {cure}") from error

    def _cut(self, tool: Tool) -> CutDownloadError:
        cause = f"a file of {self._request.name} is not the one that was promised"
        why = f"its download broke off, or it was altered, and the old pip of {tool.python} cannot tell which"
        return CutDownloadError(f"{cause}: {why}; it is loaded again; if that does not help, upgrade that pip")

    async def upgrade(self, tool: Tool, *, was_interrupted: bool) -> Tool:
        """Upgrade a pip that cannot go on with a download that broke off; a failure does not matter much."""
        if tool.resumes or not (self._request.may_upgrade_pip or was_interrupted):
            return tool
        with suppress(subprocess.CalledProcessError, SilentCommandError):
            index = tool.index(self._request.indexes[0]) if self._request.indexes else {}
            await self.run(tool.install("--upgrade", "--retries", "1", TOOL), index)
        found = (await self.look()).packages().get(TOOL)
        if found is not None and not is_old(found.version):
            return msgspec.structs.replace(tool, resumes=True)
        text = "%s: pip %s cannot be upgraded; a download that breaks off begins from the start"
        log.warning(text, self._request.name, "" if found is None else found.version)
        return tool


async def check(tool: Tool) -> str:
    """What ``pip check``, or ``uv pip check``, says. Raises CalledProcessError if it cannot look."""
    answer = await query(words := tool.check(), env=VARIABLES, timeout=ANSWER_TIMEOUT)
    if answer.code not in (0, 1):
        raise subprocess.CalledProcessError(answer.code, words, stderr=answer.errors)
    return f"{answer.output}\n{answer.errors}"
