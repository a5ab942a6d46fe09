"""A download that resumes where it stopped, in this process or a later one.

Bytes go to ``<destination>.part``. A sidecar, ``<destination>.part.json``, records url, etag, size, sha256, and how
many bytes are safely on the disk. The next attempt asks for the rest (RFC 9110, 14.2 ``Range`` with 13.1.5
``If-Range``) and trusts no response: a 200 starts over, a 206 that begins elsewhere is not written, a 416 is complete
only if the size is right. The file gets its name only after its size and sha256 were checked. Without a sha256, its
first bytes must fit its name (``adapters.downloads.content``).
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import anyio
import anyio.to_thread
import msgspec

from adapters.downloads.content import HEAD, what_came
from adapters.downloads.partial_file import DownloadError, PartialFile, StalePartialFileError
from recovery.installation import extra

with extra("launcher"):
    import httpx2

SAVE_INTERVAL = 1.0
"""Seconds after which received bytes are brought to the disk."""

DECODED = ("gzip", "deflate")
"""Encodings of a body that are decoded: the client needs no further library for them."""

CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")

ENTITY_TAG = re.compile(r"[!-~](?:[ -~]{0,998}[!-~])?")
"""An entity tag that can be sent back. Another one is as good as none."""

log = logging.getLogger("recovery.downloads")


class Downloaded(msgspec.Struct, frozen=True, kw_only=True):
    """A whole file of *size* bytes. This attempt received *received* of them, from byte *start* on."""

    path: str
    size: int
    start: int = 0
    received: int = 0


Advice: TypeAlias = Literal["append", "restart", "complete", "drop"]
OnProgress: TypeAlias = Callable[[int, int | None], object]


def sendable(etag: str | None) -> str | None:
    """*etag* if it can be sent back: printable ASCII, and at most 1 000 characters."""
    return etag if etag is not None and ENTITY_TAG.fullmatch(etag) else None


def range_headers(offset: int, etag: str | None, sha256: str | None) -> dict[str, str]:
    """The headers that ask for the bytes from *offset* on.

    None for the whole file, which must be asked for if nothing (no strong *etag*, no *sha256*) would tell that the file
    has changed.
    """
    etag = sendable(etag)
    is_strong = etag is not None and not etag.startswith("W/")
    if not offset or not (is_strong or sha256):
        return {}
    return {"Range": f"bytes={offset}-"} | ({"If-Range": etag} if etag and is_strong else {})


def encoding_of(headers: Mapping[str, str]) -> str:
    """How the body is encoded, in lower case; "identity" if it is not."""
    return headers.get("content-encoding", "").strip().lower() or "identity"


def read_response(
    status: int, headers: Mapping[str, str], *, offset: int, size: int | None, etag: str | None
) -> tuple[Advice, int | None, str]:
    """What to do with the response to a request for the bytes from *offset* on. Pure.

    Bytes of two entity tags are never put together (RFC 9110, 15.3.7.3), also if a proxy dropped ``If-Range``.

    Args:
        status: 200, 206 or 416; other statuses are the caller's.
        headers: By name in lower case.
        offset: How many bytes are there.
        size: The size of the whole file, if known.
        etag: The entity tag of the bytes that are there, if known.

    Returns:
        The size of the whole file, if known, the reason, and advice: "append" writes the body at *offset*, "restart"
        truncates and writes it from 0, "complete" needs no body, "drop" must not write it.
    """
    is_plain = encoding_of(headers) == "identity"
    content_range = headers.get("content-range", "").strip()
    if status == 206:
        match = CONTENT_RANGE.fullmatch(content_range)
        if match is None:
            return "drop", None, "a 206 without a readable Content-Range"
        if not is_plain:
            return "drop", None, "the bytes are encoded, and fit nowhere"
        start, total = int(match[1]), None if match[3] == "*" else int(match[3])
        if start != offset:
            return "drop", total, f"asked for the bytes from {offset} on, got those from {start} on"
        if offset and etag is not None and headers.get("etag", etag) != etag:
            return "drop", total, "the entity tag is another: the file has changed"
        if size is not None and total is not None and total != size:
            return "drop", total, f"the file has {total} bytes now, it had {size}"
        return "append", total if total is not None else size, ""
    if status == 416:
        match = re.fullmatch(r"bytes \*/([0-9]{1,18})", content_range)
        total = int(match[1]) if match else None
        if offset > 0 and total == offset:
            return "complete", total, ""
        return "drop", total, f"the server has nothing from byte {offset} on"
    length = headers.get("content-length", "")
    total = int(length) if is_plain and re.fullmatch("[0-9]{1,18}", length) else None
    return "restart", total, "the server sent the whole file again" if offset else ""


async def download(
    client: httpx2.AsyncClient,
    url: str,
    destination: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    on_progress: OnProgress = lambda _offset, _size: None,
    save_every: int = 16 * 1024 * 1024,
) -> Downloaded:
    """Make one attempt to download *url* to *destination*, resuming what earlier attempts left.

    Only a whole file ever bears the name *destination*. A file that is there and fits *sha256* and *size* is not
    fetched again. Runs under asyncio and trio. The client's read timeout ends a stall; it does not limit the whole
    transfer.

    Args:
        client: Sends the request; its timeouts apply.
        url: What to fetch.
        destination: Where the file goes; its folder is made if it is missing.
        sha256: In hex, checked if given.
        size: In bytes, checked if given.
        on_progress: Called with the bytes that are safely on the disk and the size of the whole file (None if
            unknown), about once a second.
        save_every: Bytes after which the file is synced, if that comes before a second has passed.

    Raises:
        DownloadError: What arrived cannot be trusted, or another download to *destination* is under way.
        httpx2.HTTPError: The transfer failed, or the server refused it.
        OSError: The disk failed.
    """

    async def finished() -> Downloaded | None:
        found = await anyio.to_thread.run_sync(_size_if_whole, destination, sha256, size)
        if found is None:
            return None
        on_progress(found, found)
        return Downloaded(path=str(destination), size=found)

    if (there := await finished()) is not None:
        return there
    partial = await anyio.to_thread.run_sync(lambda: PartialFile(destination, url=url, sha256=sha256, size=size))
    total: int | None = None
    try:
        # The download that held the lock until now may have finished the file.
        if not partial.offset and (there := await finished()) is not None:
            return there
        if not partial.is_complete:
            await _receive(client, url, partial, on_progress, save_every)
        start, received = partial.start, partial.offset - partial.start
        whole = total = await anyio.to_thread.run_sync(partial.finish)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(partial.close)
        if total is None and partial.sidecar.offset > 0:
            on_progress(partial.sidecar.offset, partial.sidecar.size)  # what a failed attempt saved last
    on_progress(whole, whole)
    return Downloaded(path=str(destination), size=whole, start=start, received=received)


async def _receive(
    client: httpx2.AsyncClient, url: str, partial: PartialFile, on_progress: OnProgress, save_every: int
) -> None:
    """Write the rest of the file to *partial*."""
    headers = range_headers(partial.offset, partial.sidecar.etag, partial.sidecar.sha256)
    if partial.offset and not headers:
        await anyio.to_thread.run_sync(partial.restart)
    # Encoded bytes could not be resumed in the middle, and their length would say nothing.
    headers["Accept-Encoding"] = "identity"
    offset, size, etag = partial.offset, partial.sidecar.size, partial.sidecar.etag
    async with _response(client, client.build_request("GET", url, headers=headers)) as response:
        if response.status_code not in (200, 206, 416):
            response.raise_for_status()
            raise DownloadError(f"{url} answered {response.status_code}, which is neither a file nor an error")
        advice, total, why = read_response(response.status_code, response.headers, offset=offset, size=size, etag=etag)
        if advice == "append" and total is None and partial.sidecar.sha256 is None:
            advice, why = "drop", "the server does not say how long the file is"  # nothing would tell a part from it
        if advice == "drop":
            await anyio.to_thread.run_sync(partial.restart)
            raise StalePartialFileError(f"{partial.destination.name}: {why}; starting over")
        if advice == "complete":
            partial.describe(etag=etag, size=total)
            return
        tag = sendable(response.headers.get("etag", etag if advice == "append" else None))
        part = CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip())
        encoding = encoding_of(response.headers)
        is_plain, is_decoded = encoding == "identity", encoding in DECODED
        partial.check_encoding(encoding, is_decoded=is_plain or is_decoded)
        async with aclosing(response.aiter_bytes() if is_decoded else response.aiter_raw()) as chunks:
            if advice == "restart" and offset:
                first = await anext(chunks, b"")
                partial.check_page(first)
                log.warning("%s: %s; starting over", partial.destination.name, why)
                await anyio.to_thread.run_sync(partial.restart)
            else:
                first = b""
            partial.describe(etag=tag, size=total, end=int(part[2]) + 1 if part and advice == "append" else None)
            partial.is_resumable = is_plain
            partial.write(first)
            saved, saved_at = partial.start, anyio.current_time()
            async for chunk in chunks:
                partial.write(chunk)
                now = anyio.current_time()
                if now - saved_at >= SAVE_INTERVAL or partial.offset - saved >= save_every:
                    saved_at, saved = now, await anyio.to_thread.run_sync(partial.save)
                    on_progress(saved, partial.sidecar.size)


@asynccontextmanager
async def _response(client: httpx2.AsyncClient, request: httpx2.Request) -> AsyncIterator[httpx2.Response]:
    """The response to *request*, after redirects if *client* follows them.

    The client would read the body of a redirect, which may have no end.
    """
    response = await client.send(request, stream=True, follow_redirects=False)
    passed = 0
    try:
        while client.follow_redirects and (following := response.next_request) is not None:
            await response.aclose()
            if (passed := passed + 1) > client.max_redirects:
                raise httpx2.TooManyRedirects("Exceeded maximum allowed redirects.", request=request)
            response = await client.send(following, stream=True, follow_redirects=False, auth=None)
        yield response
    finally:
        await response.aclose()


def _size_if_whole(destination: Path, sha256: str | None, size: int | None) -> int | None:
    """The size of the file at *destination*, if it is there and fits *sha256* and *size*, and is no page."""
    if not destination.is_file() or size not in (None, destination.stat().st_size):
        return None
    with destination.open("rb") as file:
        if sha256 is None:
            is_right = what_came(destination.name, file.read(HEAD)) is None
        else:
            is_right = hashlib.file_digest(file, "sha256").hexdigest() == sha256.lower()
    return destination.stat().st_size if is_right else None
