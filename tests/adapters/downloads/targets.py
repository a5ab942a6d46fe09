"""A file on a real server, and the place where it must arrive."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import httpx2
import msgspec
import pytest

from adapters.demo.server import Fault, FileServer, Hosted, Request
from adapters.downloads import Downloaded, download
from adapters.downloads.sidecar import Sidecar

CONTENT = random.Random("model").randbytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


class Target:
    """One file on a real server, and the place where it must arrive."""

    def __init__(
        self,
        folder: Path,
        *,
        faults: Iterable[Fault] = (),
        content: bytes = CONTENT,
        etag: bool = True,
        rate: float | None = None,
    ) -> None:
        self.hosted = Hosted(content, faults=faults, rate=rate)
        if not etag:
            self.hosted.etag = None
        self.server = FileServer({"/model.bin": self.hosted})
        self.url = f"{self.server.url}/model.bin"
        self.destination = folder / "models" / "model.bin"
        self.asked: list[httpx2.Headers] = []

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.__exit__()

    @property
    def requests(self) -> list[Request]:
        return self.server.requests

    @property
    def partial(self) -> Path:
        return self.destination.with_name(self.destination.name + ".part")

    @property
    def sidecar(self) -> Path:
        return self.destination.with_name(self.destination.name + ".part.json")

    def files(self) -> set[str]:
        return {path.name for path in self.destination.parent.iterdir()}

    def leave(self, data: bytes, **known: Any) -> None:
        """As if an earlier process had been killed when it had *data*."""
        self.destination.parent.mkdir(parents=True, exist_ok=True)
        self.partial.write_bytes(data)
        known = {"url": self.url, "etag": self.hosted.etag, "offset": len(data)} | known
        self.sidecar.write_bytes(msgspec.json.encode(Sidecar(**known)))

    async def attempt(self, *, silence: float = 5.0, **options: Any) -> Downloaded:
        async def note_request(request: httpx2.Request) -> None:
            self.asked.append(request.headers)

        async with httpx2.AsyncClient(timeout=silence, verify=False, event_hooks={"request": [note_request]}) as client:
            return await download(client, self.url, self.destination, **options)

    async def broken_attempt(self, **options: Any) -> int:
        """An attempt that breaks off; returns how many bytes it has left for the next one."""
        with pytest.raises(httpx2.TransportError):
            await self.attempt(**options)
        return self.partial.stat().st_size
