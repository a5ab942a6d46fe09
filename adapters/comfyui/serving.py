"""The server before which a queue stands: where it is, which process it is, and what talks to it."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import anyio

from adapters.comfyui import identity
from adapters.comfyui.address import Address
from adapters.comfyui.answers import Standing
from adapters.comfyui.client import Client
from adapters.comfyui.errors import Refused, ServerBusyError, ServerDownError
from adapters.servers.supervisor import Supervisor

PAUSE = 0.5
"""Seconds between two questions to a server that does not answer."""

FORGETTING = 0.5
"""Seconds until a server has emptied its cache: a prompt that comes before is answered from it."""

NOTICE = 5.0
"""Seconds after which a warning says that a server does not answer."""

log = logging.getLogger("recovery.launch")


class Serving:
    """One server: of this launcher, which starts it again; or of another owner, at a URL.

    Args:
        name: What it is called.
        server: The server of this launcher; None for another.
        url: Where the other one is.
        timeout: Seconds for an answer, and for a connection.
    """

    def __init__(self, name: str, server: Supervisor | None, url: str = "", *, timeout: float = 10.0) -> None:
        self.name = name
        self.server = server
        self._url = url
        self._timeout = timeout
        self._client: Client | None = None
        self._client_url = ""
        self._clients = AsyncExitStack()
        self._info: dict[str, Any] = {}
        self._info_of = ""
        self._asking = anyio.Lock()

    async def __aenter__(self) -> Self:
        await self._clients.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._clients.__aexit__(kind, error, traceback)

    @property
    def is_ours(self) -> bool:
        """Whether the launcher starts and ends it."""
        return self.server is not None

    @property
    def url(self) -> str:
        """Its address."""
        return self._url if self.server is None else self.server.url

    @property
    def shown(self) -> str:
        """Its address as people may see it: without credentials."""
        return Address.of(self.url).shown if self.url else self.name

    @property
    def identity(self) -> str:
        """The process that serves now; "" for a server of another owner, and while none runs."""
        pid = None if self.server is None else self.server.pid
        return "" if pid is None else identity.of(pid)

    @property
    def last_end(self) -> str:
        """How its process ended, for the end of a sentence; "" where that is unknown."""
        said = "" if self.server is None else self.server.last_end
        return f": it {said}" if said else ""

    @property
    def _process(self) -> str:
        return f"{self.identity} {self.url}"

    async def client(self) -> Client:
        """What asks it. Its port may be another one after a restart."""
        if self._client is None or self._client_url != self.url:
            self._client_url = self.url
            self._client = await self._clients.enter_async_context(Client(self.url, timeout=self._timeout))
        return self._client

    async def until_ready(self) -> None:
        """Wait until it answers. Raises ServerGoneError if it has ended for good."""
        if self.server is not None:
            await self.server.until_ready()
            return
        due = anyio.current_time() + NOTICE
        while True:
            try:
                await (await self.client()).stats()
                return
            except (ServerDownError, ServerBusyError, Refused) as error:
                if anyio.current_time() > due:
                    log.warning("%s is waited for: %s", self.name, error)
                    due = float("inf")
            await anyio.sleep(PAUSE)

    async def info(self, classes: set[str]) -> dict[str, Any]:
        """What it says of *classes* of nodes; each that it has is asked for once for each start of the server.

        One that it does not have may be installed at any time, and may cost money then.
        """
        async with self._asking:
            if self._info_of != self._process or not all(map(self._info.get, classes)):
                await self.until_ready()
            if self._info_of != (now := self._process):
                self._info, self._info_of = {}, now
            client = await self.client()
            for kind in sorted(one for one in classes if not self._info.get(one)):
                try:
                    found = await client.object_info(kind)
                except Refused:
                    found = {}
                self._info[kind] = found.get(kind, {})
            return {kind: self._info[kind] for kind in classes}

    async def standing(self, prompt_id: str) -> Standing:
        """Where a prompt stands. Raises as ``Client.standing``."""
        return await (await self.client()).standing(prompt_id)

    async def remove(self, prompt_id: str) -> None:
        """Have it drop a prompt. Raises as ``Client.remove``."""
        await (await self.client()).remove(prompt_id)

    async def free(self) -> None:
        """Have it make room in the memory. Raises as ``Client.free``."""
        await (await self.client()).free()

    async def forget_outputs(self) -> None:
        """Have it run nodes again whose files are gone: it would answer from its cache. It does that once it is idle.

        Raises as ``Client.free``.
        """
        await self.free()
        await anyio.sleep(FORGETTING)

    def forget_info(self) -> None:
        """Ask again what it says of its nodes: files or nodes were added."""
        self._info = {}
