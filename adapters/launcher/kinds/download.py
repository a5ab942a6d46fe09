"""``kind = "download"``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

import msgspec

from adapters.launcher.kinds.held_servers import Servers
from adapters.launcher.kinds.operation import Operation, Place, Problem
from adapters.launcher.launcher import Launcher
from adapters.launcher.limits import wrong_url
from recovery.redact import redact


class Download(Operation, frozen=True, kw_only=True, tag="download"):
    """``kind = "download"``: a file. One that is there and fits is not fetched again.

    Args:
        url: Where the file is: `http://`, `https://`, or `hf://org/repo@revision/file`.
        destination: Where it goes, below the root.
        mirrors: Further places of the same file, asked in this order where the first cannot be reached.
        sha256: Its SHA-256, in 64 hex digits. It is verified, and tells whether a file that is there fits.
        size: Its bytes. They are verified.
    """

    url: str
    destination: str
    mirrors: tuple[str, ...] = ()
    sha256: str | None = None
    size: Annotated[int, msgspec.Meta(ge=0)] | None = None

    CALLS = ("download",)

    @property
    def urls(self) -> tuple[str, ...]:
        """All places of the file; the first comes first."""
        return (self.url, *self.mirrors)

    @property
    def size_in_bytes(self) -> int | None:
        """Its ``size``."""
        return self.size

    @property
    def url_of_circuit(self) -> str:
        """Its ``url``."""
        return self.url

    def places(self) -> Iterator[Place]:
        """Where it goes."""
        yield Place("destination", self.destination, "file")

    def problems(self) -> Iterator[Problem]:
        """Wrong URLs and hashes."""
        for number, url in enumerate(self.urls):
            field = f"mirrors[{number - 1}]" if number else "url"
            if (reason := wrong_url(url)) is not None:
                yield field, f"{redact(url)!r} {reason}"
            if url in self.urls[:number]:
                yield field, f"{redact(url)!r} is named twice"
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", self.sha256):
            yield "sha256", "must be 64 hex digits"

    async def execute(self, launcher: Launcher, servers: Servers) -> None:
        """Download it."""
        await launcher.download(self.urls, self.destination, self.sha256, self.size, name=self.name)
