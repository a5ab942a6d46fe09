"""A download that carries on where it stopped, in this process or the next one.

Bytes go to ``<destination>.part``; what they are goes to a sidecar, ``<destination>.part.json``: url, etag, size,
sha256, and how many bytes are safely on the disk. The next attempt asks for the rest (RFC 9110, 14.2 ``Range`` with
13.1.5 ``If-Range``), and believes nothing: a 200 starts over, a 206 that begins elsewhere is not written, a 416 is
complete only if the size is right. When all is there, size and sha256 are checked; only then the file gets its name.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Literal, Self, TypeAlias

import anyio
import anyio.to_thread
import httpx2
import msgspec

from events.errors import Permanent, RecoveryError, Retryable
from events.facts import Category
from recovery.breaker import BreakerPolicy

try:
    import fcntl
except ImportError:  # Windows has no flock; there two downloads to one destination are not told apart
    fcntl = None  # type: ignore[assignment]

SAVE_EVERY_SECONDS = 1.0
SAVE_EVERY_BYTES = 16 * 1024 * 1024

HOST_BREAKER = BreakerPolicy(counts="attempts", categories=frozenset({Category.UNREACHABLE}))
"""One circuit per host: it counts only attempts that never reached it, five in a row; anything else resets it."""

log = logging.getLogger("recovery.downloads")


class DownloadError(RecoveryError):
    """A transfer that cannot be trusted."""


class StalePartError(DownloadError, Retryable):
    """What was kept does not fit what the server has now; it was dropped, and the next attempt starts over."""


class DestinationBusyError(DownloadError, Retryable):
    """Another download to the same destination is under way."""


class WrongContentError(DownloadError, Permanent):
    """The server's file is not the one that was promised: another size, or another hash."""


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a partial file: *offset* bytes of it are on the disk for sure, of *size* if that is known."""

    url: str
    etag: str | None = None
    size: int | None = None
    sha256: str | None = None
    offset: int = 0


class Downloaded(msgspec.Struct, frozen=True, kw_only=True):
    """A file that arrived whole: *size* bytes, of which this attempt received *received*, beginning at *start*."""

    path: str
    size: int
    start: int = 0
    received: int = 0


Advice: TypeAlias = Literal["append", "restart", "complete", "drop"]
Note: TypeAlias = Callable[[int, int | None], object]


def part_of(destination: Path) -> Path:
    """Where the bytes of *destination* are kept until it is whole. Not ``with_suffix``: model.ckpt is not model.bin."""
    return destination.with_name(destination.name + ".part")


def files_of(destination: Path) -> tuple[Path, ...]:
    """Every file that a download to *destination* may make."""
    sidecar = _sidecar_of(destination)
    return destination, part_of(destination), sidecar, sidecar.with_name(sidecar.name + ".new")


def host_of(url: str) -> str:
    """The host and port that a circuit is kept for. Raises httpx2.InvalidURL."""
    parsed = httpx2.URL(url)
    return parsed.netloc.decode("ascii")


def read_answer(
    status: int, headers: Mapping[str, str], *, offset: int, size: int | None
) -> tuple[Advice, int | None, str]:
    """What to do with an answer to a request for the bytes from *offset* on: advice, the size of the whole, and why.

    *size* is the size of the whole as far as it is known. "append" writes the body at *offset*, "restart" truncates and
    writes it from 0, "complete" needs no body, "drop" must not write it. Pure; other statuses are the caller's.
    """
    if status == 206:
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", headers.get("content-range", "").strip())
        if match is None:
            return "drop", None, "a 206 without a Content-Range that can be read"
        start, total = int(match[1]), None if match[3] == "*" else int(match[3])
        if start != offset:
            return "drop", total, f"asked for the bytes from {offset} on, got those from {start} on"
        if size is not None and total is not None and total != size:
            return "drop", total, f"the file has {total} bytes now, it had {size}"
        return "append", total if total is not None else size, ""
    if status == 416:
        match = re.fullmatch(r"bytes \*/(\d+)", headers.get("content-range", "").strip())
        total = int(match[1]) if match else None
        if offset > 0 and total == offset:
            return "complete", total, ""
        return "drop", total, f"nothing there from byte {offset} on"
    length = headers.get("content-length", "")
    total = int(length) if length.isdigit() and headers.get("content-encoding", "identity") == "identity" else None
    return "restart", total, "the server sent the whole file again" if offset else ""


class Part:
    """The partial file of one destination, locked for as long as it is open; *promised* is the size it must have."""

    def __init__(self, destination: Path, file: BinaryIO, sidecar: Sidecar, promised: int | None) -> None:
        self.destination = destination
        self.sidecar = sidecar
        self.promised = promised
        self.offset = sidecar.offset
        self._file = file

    @classmethod
    def open(cls, destination: Path, *, url: str, sha256: str | None, size: int | None) -> Self:
        """Open what an earlier attempt left, as far as it can be trusted, or begin anew.

        What is trusted is the smaller of the noted offset and the file's size, and only for the same content: the same
        sha256, or the same url where no hash is known. Raises DestinationBusyError, or OSError as the disk has it.
        """
        destination.parent.mkdir(parents=True, exist_ok=True)
        path = part_of(destination)
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")
        try:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise DestinationBusyError(f"another download writes {path}") from None
            fresh = Sidecar(url=url, sha256=sha256, size=size)
            left = _read_sidecar(_sidecar_of(destination))
            if left is None or not _is_same_content(left, fresh):
                left = fresh
            offset = min(left.offset, os.fstat(file.fileno()).st_size)
            known = left.size if size is None else size
            part = cls(destination, file, msgspec.structs.replace(left, url=url, size=known, offset=offset), size)
            part._truncate(offset)
        except BaseException:
            file.close()
            raise
        return part

    def _truncate(self, offset: int) -> None:
        self._file.truncate(offset)
        self._file.seek(offset)
        self.offset = offset

    @property
    def is_complete(self) -> bool:
        """Whether every byte is there, as far as the size is known."""
        return self.offset > 0 and self.offset == self.sidecar.size

    def range_headers(self) -> dict[str, str]:
        """The headers that ask for the rest; starts over where nothing would notice that the file has changed."""
        etag = self.sidecar.etag
        is_strong = etag is not None and not etag.startswith("W/")
        if self.offset and not is_strong and self.sidecar.sha256 is None:
            self.restart()
        if not self.offset:
            return {}
        return {"Range": f"bytes={self.offset}-"} | ({"If-Range": etag} if etag and is_strong else {})

    def restart(self) -> None:
        """Forget every byte."""
        self._truncate(0)
        self.sidecar = msgspec.structs.replace(self.sidecar, etag=None, offset=0)

    def describe(self, *, etag: str | None, size: int | None) -> None:
        """Note what the server says of the file. Raises WrongContentError if that is not what was promised."""
        if self.promised is not None and size is not None and size != self.promised:
            raise WrongContentError(f"{self.destination.name} has {size} bytes, not {self.promised} as promised")
        self.sidecar = msgspec.structs.replace(
            self.sidecar, etag=etag, size=size if self.promised is None else self.promised
        )

    def write(self, data: bytes) -> None:
        """Append *data*."""
        self._file.write(data)
        self.offset += len(data)

    def save(self) -> int:
        """Bring what was written to the disk, then note how much that is; returns it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self.sidecar = msgspec.structs.replace(self.sidecar, offset=self.offset)
        path = _sidecar_of(self.destination)
        temporary = path.with_name(path.name + ".new")
        temporary.write_bytes(msgspec.json.encode(self.sidecar))
        temporary.replace(path)
        return self.offset

    def close(self) -> None:
        """Save as far as possible, and let go of the lock; leave nothing where nothing came. Harmless when closed."""
        if self._file.closed:
            return
        try:
            if self.offset:
                self.save()
            else:
                _sidecar_of(self.destination).unlink(missing_ok=True)
                part_of(self.destination).unlink(missing_ok=True)
        finally:
            self._file.close()

    def drop(self) -> None:
        """Forget every byte, on the disk too."""
        self.restart()
        self.save()

    def finish(self, *, was_resumed: bool) -> int:
        """Check size and hash, and give the file its name; returns its size.

        Raises StalePartError if pieces of several attempts do not fit together, WrongContentError if one whole transfer
        is not what was promised; the bytes are dropped in both cases.
        """
        self.save()
        known = self.sidecar
        problem = None
        if known.size is not None and self.offset != known.size:
            problem = f"{self.offset} bytes arrived of {known.size}"
        elif known.sha256 is not None:
            self._file.seek(0)
            actual = hashlib.file_digest(self._file, "sha256").hexdigest()  # type: ignore[arg-type]  # it has readinto
            if actual != known.sha256.lower():
                problem = f"its sha256 is {actual}, not {known.sha256}"
        if problem is not None:
            self.drop()
            error = StalePartError if was_resumed else WrongContentError
            raise error(f"{self.destination.name} is not the file that was promised: {problem}")
        part_of(self.destination).replace(self.destination)
        _sidecar_of(self.destination).unlink(missing_ok=True)
        _sync_directory(self.destination.parent)
        self._file.close()
        return self.offset


async def download(
    client: httpx2.AsyncClient,
    url: str,
    destination: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    note: Note = lambda _offset, _size: None,
) -> Downloaded:
    """One attempt to have *url* whole at *destination*, carrying on what earlier attempts left.

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
    try:
        start = part.offset
        if not part.is_complete:
            start = await _receive(client, url, part, note)
        received = part.offset - start
        total = await anyio.to_thread.run_sync(lambda: part.finish(was_resumed=start > 0))
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(part.close)
    note(total, total)
    return Downloaded(path=str(destination), size=total, start=start, received=received)


async def _receive(client: httpx2.AsyncClient, url: str, part: Part, note: Note) -> int:
    """Write the rest of the file to *part*; returns where it began."""
    # Encoded bytes could not be continued in the middle, and their length would say nothing.
    headers = {"Accept-Encoding": "identity", **part.range_headers()}
    offset, size = part.offset, part.sidecar.size
    async with client.stream("GET", url, headers=headers) as response:
        if response.status_code not in (200, 206, 416):
            response.raise_for_status()
            raise DownloadError(f"{url} answered {response.status_code}, which is neither a file nor an error")
        advice, total, why = read_answer(response.status_code, response.headers, offset=offset, size=size)
        if advice == "drop":
            await anyio.to_thread.run_sync(part.drop)
            raise StalePartError(f"{part.destination.name}: {why}; starting over")
        if advice == "complete":
            part.describe(etag=part.sidecar.etag, size=total)
            return offset
        if advice == "restart":
            if offset:
                log.warning("%s: %s; starting over", part.destination.name, why)
            part.restart()
        part.describe(etag=response.headers.get("etag"), size=total)
        start = part.offset
        is_plain = response.headers.get("content-encoding", "identity") == "identity"
        saved_at = anyio.current_time()
        async for chunk in response.aiter_raw() if is_plain else response.aiter_bytes():
            part.write(chunk)
            now = anyio.current_time()
            if now - saved_at >= SAVE_EVERY_SECONDS or part.offset - part.sidecar.offset >= SAVE_EVERY_BYTES:
                saved_at = now
                note(await anyio.to_thread.run_sync(part.save), part.sidecar.size)
    return start


def _sidecar_of(destination: Path) -> Path:
    return destination.with_name(destination.name + ".part.json")


def _read_sidecar(path: Path) -> Sidecar | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Sidecar)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _is_same_content(left: Sidecar, wanted: Sidecar) -> bool:
    if wanted.size is not None and left.size is not None and wanted.size != left.size:
        return False
    if wanted.sha256 is not None or left.sha256 is not None:
        return wanted.sha256 == left.sha256
    return wanted.url == left.url


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


def _sync_directory(path: Path) -> None:
    if os.name != "posix":
        return  # elsewhere a directory cannot be opened, and a rename needs no help
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
