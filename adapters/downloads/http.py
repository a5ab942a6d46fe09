"""A download that resumes where it stopped, in this process or the next one.

Bytes go to ``<destination>.part``; what they are goes to a sidecar, ``<destination>.part.json``: url, etag, size,
sha256, and how many bytes are safely on the disk. The next attempt asks for the rest (RFC 9110, 14.2 ``Range`` with
13.1.5 ``If-Range``), and believes nothing: a 200 starts over, a 206 that begins elsewhere is not written, a 416 is
complete only if the size is right. When all is there, size and sha256 are checked; only then the file gets its name.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Literal, TypeAlias

import anyio
import anyio.to_thread
import httpx2
import msgspec

from adapters.downloads.partial_file import DownloadError, Part, StalePartError
from events.evidence import Category
from recovery.policies.circuit_breaker import BreakerPolicy

SAVE_EVERY_SECONDS = 1.0
SAVE_EVERY_BYTES = 16 * 1024 * 1024

HOST_BREAKER = BreakerPolicy(counts="attempts", categories=frozenset({Category.UNREACHABLE}))
"""One circuit per host: it counts only attempts that never reached it, five in a row; anything else resets it."""

log = logging.getLogger("recovery.downloads")


class Downloaded(msgspec.Struct, frozen=True, kw_only=True):
    """A file that arrived whole: *size* bytes, of which this attempt received *received*, beginning at *start*."""

    path: str
    size: int
    start: int = 0
    received: int = 0


Advice: TypeAlias = Literal["append", "restart", "complete", "drop"]
Note: TypeAlias = Callable[[int, int | None], object]


def host_of(url: str) -> str:
    """The host and port that a circuit is kept for. Raises httpx2.InvalidURL."""
    parsed = httpx2.URL(url)
    return parsed.netloc.decode("ascii")


def read_answer(
    status: int, headers: Mapping[str, str], *, offset: int, size: int | None, etag: str | None
) -> tuple[Advice, int | None, str]:
    """What to do with an answer to a request for the bytes from *offset* on: advice, the size of the whole, and why.

    *size* is the size of the whole and *etag* its entity tag, as far as they are known. Bytes of two tags are never put
    together (RFC 9110, 15.3.7.3), whatever became of ``If-Range`` on the way. "append" writes the body at *offset*,
    "restart" truncates and writes it from 0, "complete" needs no body, "drop" must not write it. Pure; other statuses
    are the caller's.
    """
    is_plain = headers.get("content-encoding", "identity") == "identity"
    if status == 206:
        match = re.fullmatch(
            r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", headers.get("content-range", "").strip()
        )
        if match is None:
            return "drop", None, "a 206 without a Content-Range that can be read"
        if not is_plain:
            return "drop", None, "the bytes came encoded, and fit nowhere"
        start, total = int(match[1]), None if match[3] == "*" else int(match[3])
        if start != offset:
            return "drop", total, f"asked for the bytes from {offset} on, got those from {start} on"
        if offset and etag is not None and headers.get("etag", etag) != etag:
            return "drop", total, "it is another file now, by its entity tag"
        if size is not None and total is not None and total != size:
            return "drop", total, f"the file has {total} bytes now, it had {size}"
        return "append", total if total is not None else size, ""
    if status == 416:
        match = re.fullmatch(r"bytes \*/([0-9]{1,18})", headers.get("content-range", "").strip())
        total = int(match[1]) if match else None
        if offset > 0 and total == offset:
            return "complete", total, ""
        return "drop", total, f"nothing there from byte {offset} on"
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
    note: Note = lambda _offset, _size: None,
) -> Downloaded:
    """One attempt to have *url* whole at *destination*, resuming what earlier attempts left.

    *sha256* (hex) and *size* (bytes) are checked where given. A file that is there already and fits them is not
    fetched again; nothing but a whole file ever bears that name. *note* is called with the bytes that are safely on the
    disk and the size of the whole, about once a second and never ahead of an fsync.

    Raises httpx2's errors, OSError, and the DownloadErrors of this module. Runs under asyncio and trio. A stall is the
    client's read timeout: silence for that long, not a limit for the whole file.
    """
    there = await anyio.to_thread.run_sync(_size_if_there, destination, sha256, size)
    if there is not None:
        note(there, there)
        return Downloaded(path=str(destination), size=there)
    part = await anyio.to_thread.run_sync(lambda: Part.open(destination, url=url, sha256=sha256, size=size))
    total: int | None = None
    try:
        # Whoever had the lock until now may have finished it.
        there = None if part.offset else await anyio.to_thread.run_sync(_size_if_there, destination, sha256, size)
        if there is not None:
            note(there, there)
            return Downloaded(path=str(destination), size=there)
        start = part.offset
        if not part.is_complete:
            start = await _receive(client, url, part, note)
        received = part.offset - start
        total = await anyio.to_thread.run_sync(lambda: part.finish(was_resumed=start > 0))
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(part.close)
        if total is None and part.sidecar.offset > 0:
            note(part.sidecar.offset, part.sidecar.size)  # it failed: what came since it was noted last
    note(total, total)
    return Downloaded(path=str(destination), size=total, start=start, received=received)


async def _receive(client: httpx2.AsyncClient, url: str, part: Part, note: Note) -> int:
    """Write the rest of the file to *part*; returns where it began."""
    # Encoded bytes could not be continued in the middle, and their length would say nothing.
    headers = {"Accept-Encoding": "identity", **part.range_headers()}
    offset, size, etag = part.offset, part.sidecar.size, part.sidecar.etag
    async with client.stream("GET", url, headers=headers) as response:
        if response.status_code not in (200, 206, 416):
            response.raise_for_status()
            raise DownloadError(f"{url} answered {response.status_code}, which is neither a file nor an error")
        advice, total, why = read_answer(response.status_code, response.headers, offset=offset, size=size, etag=etag)
        if advice == "drop":
            await anyio.to_thread.run_sync(part.restart)
            raise StalePartError(f"{part.destination.name}: {why}; starting over")
        if advice == "complete":
            part.describe(etag=part.sidecar.etag, size=total)
            return offset
        if advice == "restart" and offset:
            log.warning("%s: %s; starting over", part.destination.name, why)
            await anyio.to_thread.run_sync(part.restart)
        part.describe(etag=response.headers.get("etag", etag if advice == "append" else None), size=total)
        part.is_resumable = response.headers.get("content-encoding", "identity") == "identity"
        start = part.offset
        saved_at, saved = anyio.current_time(), part.offset
        async with aclosing(response.aiter_raw() if part.is_resumable else response.aiter_bytes()) as chunks:
            async for chunk in chunks:
                part.write(chunk)
                now = anyio.current_time()
                if now - saved_at >= SAVE_EVERY_SECONDS or part.offset - saved >= SAVE_EVERY_BYTES:
                    saved_at, saved = now, await anyio.to_thread.run_sync(part.save)
                    note(saved, part.sidecar.size)
    return start


def _size_if_there(destination: Path, sha256: str | None, size: int | None) -> int | None:
    """The size of *destination*, if it is there and nothing speaks against it."""
    if not destination.is_file():
        return None
    actual = destination.stat().st_size
    if size is not None and actual != size:
        return None
    if sha256 is not None:
        with destination.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256.lower():
                return None
    return actual
