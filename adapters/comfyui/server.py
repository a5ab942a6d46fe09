"""The ComfyUI server that a launcher starts: its command line, whether one that answers is ours, and what it lacks."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

import msgspec

from adapters.comfyui.client import Client
from adapters.launcher.arguments import InvalidRequestError, words_of
from recovery.redact import redact

MAIN = "main.py"
PORT = "{port}"

READY = "/system_stats"
"""What is asked whether it is ready: it answers once all nodes are loaded."""

VENVS = (".venv", "venv")
"""The folders in that of ComfyUI that may hold its environment."""

PORTABLE = ("python_embeded", "python_embedded")
"""The folders beside that of ComfyUI that hold the interpreter of a portable build."""

INTERPRETERS = (Path("bin/python"), Path("Scripts/python.exe"))

EVERYWHERE = ("", "0.0.0.0", "::")
"""Addresses to listen on that no client can ask."""

FAILED = re.compile(r"[\d.]+ seconds \((?:IMPORT|PRESTARTUP) FAILED\): (.+?)\s*$")

log = logging.getLogger("recovery.launch")


class Plan(msgspec.Struct, frozen=True):
    """How a ComfyUI server is started.

    Args:
        argv: The program and its arguments, with ``{port}`` where its port goes.
        ready: The URL that is asked whether it is ready.
        cwd: The folder that it runs in; None for the root of the launcher.
    """

    argv: tuple[str, ...]
    ready: str
    cwd: str | None


def plan(
    path_or_argv: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    root: Path,
    *,
    port: int | Literal["auto"] = "auto",
    python: str | os.PathLike[str] | None = None,
    extra: Sequence[str] = (),
) -> Plan:
    """How the server of *path_or_argv* is started.

    Args:
        path_or_argv: The folder of ComfyUI, with its ``main.py``; or a program and its arguments, which get
            ``--port {port}`` where they name no port.
        root: The folder that a path is relative to.
        port: The port that was asked for.
        python: The interpreter that runs it; by default that of its ``.venv`` or ``venv``, or of the portable build
            that it belongs to, or else this one. The log says which.
        extra: Further arguments, as ``--lowvram``.

    Raises:
        InvalidRequestError: There is no such folder or interpreter, it is not of ComfyUI, or the words name another
            port.
    """
    if isinstance(path_or_argv, str | os.PathLike):
        folder = os.fspath(path_or_argv)
        words, cwd = [*_interpreter(_checked(folder, root), root, python), MAIN], folder
    else:
        if python is not None:
            raise InvalidRequestError("python= goes with the folder of ComfyUI; the words of a command name their own")
        words, cwd = words_of(path_or_argv), None
    words += words_of(extra) if extra else ()
    if (said := _option(words, "--port")) is None and not any(PORT in word for word in words):
        words += ["--port", PORT]
    elif said not in (None, PORT, str(port)):
        raise InvalidRequestError(f"the words of the server say --port {said}: leave that out, and give port={said}")
    elif said == str(port):  # the same in both places
        words = [word.replace(f"--port={said}", f"--port={PORT}") for word in words]
        words = [PORT if before == "--port" else word for before, word in zip(["", *words], words, strict=False)]
    return Plan(tuple(words), f"{_address(words)}{READY}", cwd)


def is_ours(stats_argv: Sequence[str], argv: Sequence[str]) -> bool:
    """Whether a server that was started with the words *argv* can say *stats_argv* of itself, as ComfyUI does.

    ComfyUI says its script and the arguments of that, and not its interpreter. What a wrapper passes on is not known:
    of one that names no script the port alone is compared. An older server says nothing, and is believed.
    """
    if not stats_argv:
        return True
    script, *arguments = stats_argv
    if not any(word.endswith(".py") or word == "-m" for word in argv):
        port = _option(arguments, "--port")
        return port is None or any(port in word for word in argv)
    begin = len(argv) - len(arguments)
    if begin < 1 or list(argv[begin:]) != arguments:
        return False
    is_module = begin > 1 and argv[begin - 2] == "-m"
    return is_module or _last_name(argv[begin - 1]) == _last_name(script)


async def confirm(url: str, argv: Sequence[str]) -> str:
    """What shows that the server at *url* is not the one that was started with the words *argv*; "" if it is.

    Raises as ``Client.stats``.
    """
    async with Client(url.removesuffix(READY)) as client:
        stats = await client.stats()
    if is_ours(stats.argv, argv):
        return ""
    return f"the ComfyUI that answers at {url} was started as {redact(shlex.join(stats.argv))!r:.300}"


def import_failed(line: str) -> str:
    """The custom node that *line* of the output says could not be loaded; "" if it says nothing of the kind."""
    found = FAILED.search(line)
    return _last_name(found[1]) if found else ""


def _checked(text: str, root: Path) -> Path:
    folder = root / text
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InvalidRequestError(f"{folder} {what}: give the folder of ComfyUI, the one with {MAIN} in it")
    if (folder / MAIN).is_file():
        return folder
    inner = next((one for one in (folder / "ComfyUI", folder / "comfyui") if (one / MAIN).is_file()), None)
    cure = f"it is {inner}: give that" if inner else "give the folder of ComfyUI"
    raise InvalidRequestError(f"{folder} has no {MAIN}, so that it is not the folder of ComfyUI; {cure}")


def _interpreter(folder: Path, root: Path, python: str | os.PathLike[str] | None) -> list[str]:
    """The interpreter of the ComfyUI in *folder*, with its options."""
    if python is not None:
        given = os.fspath(python)
        if not os.path.dirname(given):  # a program of the PATH
            return [given]
        if not (root / given).is_file():
            raise InvalidRequestError(f"python={given!r}: there is no such file; leave python= out, or name one")
        return [os.path.abspath(root / given)]
    for name in VENVS:
        for each in INTERPRETERS:
            if (found := folder / name / each).is_file():
                log.info("%s is run by the interpreter of its environment, %s", folder, found)
                return [str(found)]
    for name in PORTABLE:
        for place in (folder.parent, folder):
            if (found := place / name / "python.exe").is_file():
                log.info("%s is run by the interpreter of its portable build, %s", folder, found)
                return [str(found), "-s"]
    text = "%s has neither %s nor a portable build's interpreter: it is run by this one, %s; python= names another"
    log.warning(text, folder, " nor ".join(VENVS), sys.executable)
    return [sys.executable]


def _address(words: Sequence[str]) -> str:
    """The address that a client asks, from the options of the server."""
    host = (_option(words, "--listen") or "").split(",")[0].strip()
    host = "127.0.0.1" if host in EVERYWHERE or host.startswith("-") else host
    scheme = "https" if _option(words, "--tls-keyfile") else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{PORT}"


def _option(words: Sequence[str], name: str) -> str | None:
    """The value of the option *name* in *words*, the last one; None if it is not there; "" if it has no value."""
    found = None
    for place, word in enumerate(words):
        if word == name:
            found = words[place + 1] if place + 1 < len(words) else ""
        elif word.startswith(f"{name}="):
            found = word[len(name) + 1 :]
    return found


def _last_name(path: str) -> str:
    kind = PureWindowsPath if "\\" in path else PurePosixPath
    return kind(path).name
