"""The servers that a launch holds, for the operations that need them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import anyio

from events.errors import Permanent

PLACE = re.compile(r"\{([^{}]+)\.(port|url)\}")
"""Where the port or the address of a server goes: ``{comfyui.url}``."""


class Reachable(Protocol):
    """Where a server listens."""

    @property
    def url(self) -> str:
        """Its address, without a path."""
        ...


class Servers:
    """The servers of a launch.

    Args:
        on_ready: Called with the name of a server that is ready: what needs it may begin.
    """

    def __init__(self, on_ready: Callable[[str], object]) -> None:
        self._on_ready = on_ready
        self._ready: dict[str, Reachable] = {}
        self.others_are_over = anyio.Event()
        """Set when every operation that is no server has ended."""

    def __contains__(self, name: str) -> bool:
        return name in self._ready

    def take(self, name: str, server: Reachable) -> None:
        """Let what needs the server *name* begin."""
        self._ready[name] = server
        self._on_ready(name)

    def held(self, name: str) -> Any:
        """What ``take`` was given for the server *name*. Raises Permanent if it does not run."""
        if (server := self._ready.get(name)) is None:  # it was optional
            raise Permanent(f"it needs the server {name}, which does not run")
        return server

    def filled(self, text: str) -> str:
        """*text* with the ports and addresses of the servers that it names. Raises Permanent if one does not run."""
        return PLACE.sub(self._value, text)

    def _value(self, found: re.Match[str]) -> str:
        if (server := self._ready.get(found[1])) is None:  # it was optional
            raise Permanent(f"it needs the {found[2]} of {found[1]}, which does not run")
        if found[2] == "url":
            return server.url
        address = urlsplit(server.url)
        return str(address.port or (443 if address.scheme == "https" else 80))
