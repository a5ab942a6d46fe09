"""What a ComfyUI server says of itself: whether it is the one that was started, and what it lacks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import PurePosixPath, PureWindowsPath

from adapters.comfyui.client import Client
from recovery.redact import redact

READY = "/system_stats"
"""What is asked whether it is ready: it answers once all nodes are loaded."""

FAILED = re.compile(r"[\d.]+ seconds \((?:IMPORT|PRESTARTUP) FAILED\): (.+?)\s*$")


def option(words: Sequence[str], name: str) -> str | None:
    """The value of the option *name* in *words*, the last one; None if it is not there; "" if it has no value."""
    found = None
    for place, word in enumerate(words):
        if word == name:
            found = words[place + 1] if place + 1 < len(words) else ""
        elif word.startswith(f"{name}="):
            found = word[len(name) + 1 :]
    return found


def is_ours(stats_argv: Sequence[str], argv: Sequence[str]) -> bool:
    """Whether a server that was started with the words *argv* can say *stats_argv* of itself, as ComfyUI does.

    ComfyUI says its script and the arguments of that, and not its interpreter. What a wrapper passes on is not known:
    of one that names no script the port alone is compared. An older server says nothing, and is believed.
    """
    if not stats_argv:
        return True
    script, *arguments = stats_argv
    if not any(word.endswith(".py") or word == "-m" for word in argv):
        port = option(arguments, "--port")
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


def _last_name(path: str) -> str:
    kind = PureWindowsPath if "\\" in path else PurePosixPath
    return kind(path).name
