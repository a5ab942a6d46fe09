"""Calls of git: short questions, and commands that run alone in their repository and end with the launcher."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from adapters.git.addresses import is_path, origin_of
from adapters.git.environment import variables
from adapters.processes.command import run_command
from adapters.processes.query import Answer, query
from adapters.processes.running import Running, alone, file_name
from events.errors import Permanent
from recovery.literals import LEAST_LITERAL
from recovery.redact import hide

OLDEST = (2, 31)
"""The oldest git that takes its settings from the environment: an older one would run hooks, and get no token."""

_fitting: set[str] = set()
"""The programs that are new enough."""


class GitMissingError(Permanent):
    """There is no git on this computer, or one that is too old."""


class UnusablePlaceError(Permanent):
    """git cannot be kept from the repository around such a folder."""


def files_of(place: Path) -> str:
    """Names the files of the commands that change the repository *place*: of two of them, the second waits."""
    return f"{place.name}.git-{hashlib.sha256(os.fsencode(place)).hexdigest()[:8]}"


@asynccontextmanager
async def alone_in(place: Path, name: str, logs: Path) -> AsyncIterator[None]:
    """Wait until no other launcher works on the repository *place*, and keep others from it. Raises OSError.

    Args:
        place: The absolute path of the repository.
        name: What messages call this work.
        logs: The folder for the output of commands, which all launchers of one root share.
    """
    logs.mkdir(parents=True, exist_ok=True)
    async with alone(name, logs / f"{file_name(files_of(place))}.lock") as file:
        file.write(Running(mark="", argv="", launcher=os.getpid()))
        yield


async def ask(
    words: Sequence[str],
    *,
    cwd: Path,
    url: str = "",
    token: str = "",
    timeout: float = 60.0,
    settings: Mapping[str, str] | None = None,
) -> Answer:
    """What ``git WORDS`` answers, which changes nothing. An exit code that is not 0 is an answer, too.

    Args:
        words: The arguments of git.
        cwd: The folder it runs in: the repository itself, and none below it.
        url: The repository elsewhere that it asks; "" for none.
        token: A token for the origin of *url*.
        timeout: Seconds that it may take.
        settings: Further settings of git.

    Raises:
        GitMissingError: There is no git.
        UnusablePlaceError: The path of *cwd* has a ``:``.
        TimeoutError: It takes too long.
        OSError: It cannot be started.
    """
    env = await _environment(cwd, url, token, None, settings)
    return await query([program(), *words], cwd=cwd, env=env, timeout=timeout)


async def said(words: Sequence[str], *, cwd: Path) -> str | None:
    """The answer of ``git WORDS``, without the end of its line; ``None`` if git fails. Raises as ``ask``."""
    answer = await ask(words, cwd=cwd)
    return answer.output.rstrip("\n") if answer.code == 0 else None


async def run(
    name: str,
    words: Sequence[str],
    *,
    place: Path,
    cwd: Path,
    logs: Path,
    url: str = "",
    token: str = "",
    silence: float | None = None,
    settings: Mapping[str, str] | None = None,
    is_done: Callable[[], Awaitable[bool]] | None = None,
    on_output: Callable[[str], object] | None = None,
) -> None:
    """Run ``git WORDS``, which changes the repository *place*, to its end. What a killed launcher left of it is ended.

    Args:
        name: What messages and the log file call it.
        words: The arguments of git; they are shown, so they must hold no token.
        place: The absolute path of the repository, which need not be there yet.
        cwd: The folder it runs in: the repository itself, or the one around it.
        logs: The folder for its output.
        url: The repository elsewhere that it talks to; "" for none.
        token: A token for the origin of *url*.
        silence: Seconds without output, processor time, input and output after which it is ended.
        settings: Further settings of git.
        is_done: Asked once no other process changes *place*, just before git is started: True and it is not run.
        on_output: Called with each line of its output, redacted.

    Raises:
        GitMissingError: There is no git.
        subprocess.CalledProcessError: It failed; the error has the beginning and the end of its output.
        SilentCommandError: It was silent for too long.
        OSError: It cannot be started.
    """
    await run_command(
        name,
        [program(), *words],
        cwd=cwd,
        logs=logs,
        env=await _environment(cwd, url, token, silence, settings),
        # git itself gives up a silent server of HTTP, and says so; this is for all else.
        silence=silence * 1.5 + 1 if silence is not None and origin_of(url) else silence,
        orphans="end",
        files=files_of(place),
        is_done=is_done,
        on_output=on_output,
    )


def program() -> str:
    """The path of git. Raises GitMissingError."""
    found = shutil.which("git")
    if found is None:
        raise GitMissingError(
            "git is not installed, or not on PATH: install it (https://git-scm.com), then start again"
        )
    return found


def output_of(error: subprocess.CalledProcessError) -> str:
    """What git printed before it failed."""
    return error.stderr if isinstance(error.stderr, str) else ""


async def _environment(
    cwd: Path, url: str, token: str, silence: float | None, settings: Mapping[str, str] | None = None
) -> dict[str, str | None]:
    await _check_version(program())
    if os.pathsep in str(cwd.parent):
        raise UnusablePlaceError(
            f"git is not run in {cwd}: {os.pathsep!r} ends a path in GIT_CEILING_DIRECTORIES, so it could take a "
            f"repository around that folder for it; choose a folder without {os.pathsep!r} in its path"
        )
    if len(token) >= LEAST_LITERAL and origin_of(url):
        hide(token)
    speaks_ssh = bool(url) and not is_path(url) and not url.startswith(("http://", "https://", "git://"))
    return variables(
        os.environ,
        cwd=str(cwd),
        url=url,
        token=token,
        silence=silence,
        settings=settings,
        has_ssh_command=speaks_ssh and await _has_ssh_command(),
    )


async def _check_version(git: str) -> None:
    if git in _fitting:
        return
    answer = await query([git, "--version"])
    found = re.search(r"(\d+)\.(\d+)", answer.output)
    if found is not None and (int(found[1]), int(found[2])) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise GitMissingError(
            f"{git} is version {found[0]}, and {wanted} or newer is needed: update git, then start again"
        )
    _fitting.add(git)


async def _has_ssh_command() -> bool:
    env = variables(os.environ, has_ssh_command=True)
    return bool((await query([program(), "config", "core.sshCommand"], env=env)).output.strip())
