"""A download that resumes where it stopped, in this process or a later one.

Bytes go to ``<destination>.part``. A sidecar, ``<destination>.part.json``, records url, size, how many bytes are safely
on the disk, and what identifies their content (``adapters.downloads.identity``). The next attempt asks for the rest
(RFC 9110, 14.2 ``Range`` with 13.1.5 ``If-Range``) and trusts no response: see ``adapters.downloads.responses``. Kept
bytes are dropped only when the server's file is another. The file gets its name only after its size and sha256 were
checked. Without a sha256, its first bytes must fit its name (``adapters.downloads.content``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from adapters.downloads.busy import open_when_free
from adapters.downloads.content import what_is_wrong
from adapters.downloads.partial_file import PartialFile
from adapters.downloads.receiving import HeadersOf, no_headers, receive
from adapters.downloads.sidecar import clear_sidecar
from adapters.downloads.space import Claim
from adapters.downloads.watchdog import TRICKLE, Trickle
from adapters.downloads.writing import SAVE_BYTES, OnProgress
from recovery.installation import extra

with extra("launcher"):
    import httpx2


class Downloaded(msgspec.Struct, frozen=True, kw_only=True):
    """A whole file.

    Args:
        path: Where it is.
        size: Its bytes.
        start: The first byte that this attempt received; what is before it came in an earlier one.
        received: The bytes that this attempt received.
    """

    path: str
    size: int
    start: int = 0
    received: int = 0


async def download(
    client: httpx2.AsyncClient,
    url: str,
    destination: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    headers: HeadersOf = no_headers,
    on_progress: OnProgress = lambda _offset, _size: None,
    on_begin: OnProgress = lambda _offset, _size: None,
    save_every: int = SAVE_BYTES,
    trickle: Trickle = TRICKLE,
) -> Downloaded:
    """Make one attempt to download *url* to *destination*, resuming what earlier attempts left.

    Only a whole file bears the name *destination*; one that fits *sha256* and *size* is not fetched again. Another
    download to *destination*, of any process, is waited for first. The client's read timeout ends a stall, and
    *trickle* a slow transfer; neither limits the whole. Runs under asyncio and trio.

    Args:
        client: Sends the request; its timeouts apply.
        url: What to fetch.
        destination: Where the file goes; its folder is made if it is missing.
        sha256: In hex, checked if given.
        size: In bytes, checked if given.
        headers: Gives each hop of redirects, by its URL, the headers for that hop alone, such as a token.
        on_progress: Called about once a second with the bytes that are safely on the disk, and the whole size or None;
            also with those of another download that is waited for.
        on_begin: Called likewise once, before the first request, with the bytes that are there.
        save_every: Bytes after which the file is synced, if that comes before a second has passed.
        trickle: How few bytes in how many seconds end the attempt; ``Trickle(least=0)`` for none.

    Raises:
        DownloadError: What arrived cannot be used or comes too slowly.
        NoRoomError: The disk, or a quota of it, has no room for the rest.
        httpx2.HTTPError: The transfer failed, or the server refused it.
        OSError: The disk failed.
    """
    with Claim(destination) as claim:
        partial = await open_when_free(_opener(destination, url, sha256, size), destination, on_progress)
        if isinstance(partial, Downloaded):
            on_progress(partial.size, partial.size)
            return partial
        total: int | None = None
        try:
            if not partial.is_complete:
                await claim.cover(partial)
                on_begin(partial.offset, partial.sidecar.size)
                await receive(client, url, partial, claim, on_progress, save_every, headers, trickle)
            start, received = partial.start, partial.offset - partial.start
            whole = total = await anyio.to_thread.run_sync(partial.finish)
        finally:
            if partial.is_open:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(partial.close)
            if total is None and partial.sidecar.offset > 0:
                on_progress(partial.sidecar.offset, partial.sidecar.size)  # what a failed attempt saved last
    on_progress(whole, whole)
    return Downloaded(path=str(destination), size=whole, start=start, received=received)


def _opener(
    destination: Path, url: str, sha256: str | None, size: int | None
) -> Callable[[bool], PartialFile | Downloaded]:
    """What opens the partial file of *destination*, or finds the whole file."""

    def opened(is_first: bool) -> PartialFile | Downloaded:
        # Only the first look may take long: a file that is there may have to be hashed.
        if not is_first or (whole := _size_if_whole(destination, sha256, size)) is None:
            partial = PartialFile(destination, url=url, sha256=sha256, size=size)
            # The download that held the lock until now may have finished the file.
            if partial.offset or (whole := _size_if_whole(destination, sha256, size)) is None:
                return partial
            partial.close()
        clear_sidecar(destination)
        return Downloaded(path=str(destination), size=whole)

    return opened


def _size_if_whole(destination: Path, sha256: str | None, size: int | None) -> int | None:
    """The size of the file at *destination*, if it is there and fits *sha256* and *size*, and its name."""
    if not destination.is_file() or size not in (None, destination.stat().st_size):
        return None
    with destination.open("rb") as file:
        if sha256 is None:
            is_right = size == 0 or what_is_wrong(destination.name, file) is None
        else:
            is_right = hashlib.file_digest(file, "sha256").hexdigest() == sha256.lower()
    return destination.stat().st_size if is_right else None
