"""The command line of a ComfyUI server, from its folder or its words."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from adapters.comfyui.server import READY, option
from adapters.launcher.arguments import InvalidRequestError, words_of

MAIN = "main.py"
PORT = "{port}"

VENVS = (".venv", "venv")
"""The folders in that of ComfyUI that may hold its environment."""

PORTABLE = ("python_embeded", "python_embedded")
"""The folders beside that of ComfyUI that hold the interpreter of a portable build."""

INTERPRETERS = (Path("bin/python"), Path("Scripts/python.exe"))

EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses to listen on that no client can ask, and what is asked instead: "::" has the addresses of IPv6 alone."""

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
    if (said := option(words, "--port")) is None and not any(PORT in word for word in words):
        words += ["--port", PORT]
    elif said not in (None, PORT, str(port)):
        raise InvalidRequestError(f"the words of the server say --port {said}: leave that out, and give port={said}")
    elif said == str(port):  # the same in both places
        words = [word.replace(f"--port={said}", f"--port={PORT}") for word in words]
        words = [PORT if before == "--port" else word for before, word in zip(["", *words], words, strict=False)]
    return Plan(tuple(words), f"{_address(words)}{READY}", cwd)


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
    host = (option(words, "--listen") or "").split(",")[0].strip()
    host = EVERYWHERE.get("" if host.startswith("-") else host, host)
    scheme = "https" if option(words, "--tls-keyfile") else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{PORT}"
