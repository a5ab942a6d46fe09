"""The partial file of a download, and the sidecar that says what it is: nothing here knows of HTTP.

A part is locked while it is open, what is noted of it never runs ahead of what is on the disk, and only a file that has
the right size and hash gets its final name.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, BinaryIO, Self
from urllib.parse import urlsplit, urlunsplit

import msgspec

from events.errors import Permanent, RecoveryError, Retryable

try:
    import fcntl
except ImportError:  # Windows has no flock; there two downloads to one destination are not told apart
    fcntl = None  # type: ignore[assignment]


class DownloadError(RecoveryError):
    """A transfer that cannot be trusted."""


class StalePartError(DownloadError, Retryable):
    """What was kept does not fit what the server has now; it was dropped, and the next attempt starts over."""


class DestinationBusyError(DownloadError, Retryable):
    """Another download to the same destination is under way."""


class WrongContentError(DownloadError, Permanent):
    """The server's file is not the one that was promised: another size, or another hash."""


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a partial file: *offset* bytes of it are on the disk for sure, of *size* if that is known.

    *url* is kept without its query: that is where secrets are, and it may change with every signature.
    """

    url: str
    etag: str | None = None
    size: Annotated[int, msgspec.Meta(ge=0)] | None = None
    sha256: str | None = None
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0


def part_of(destination: Path) -> Path:
    """Where the bytes of *destination* are kept until it is whole. Not ``with_suffix``: model.ckpt is not model.bin."""
    return destination.with_name(destination.name + ".part")


def files_of(destination: Path) -> tuple[Path, ...]:
    """Every file that a download to *destination* may make."""
    sidecar = _sidecar_of(destination)
    return destination, part_of(destination), sidecar, sidecar.with_name(sidecar.name + ".new")


class Part:
    """The partial file of one destination, locked for as long as it is open; *promised* is the size it must have.

    Set *is_resumable* to False for bytes that cannot be continued (they came encoded): then nothing is noted of them.
    """

    def __init__(self, destination: Path, file: BinaryIO, sidecar: Sidecar, promised: int | None) -> None:
        self.destination = destination
        self.sidecar = sidecar
        self.promised = promised
        self.offset = sidecar.offset
        self.is_resumable = True
        self._file = file

    @classmethod
    def open(cls, destination: Path, *, url: str, sha256: str | None, size: int | None) -> Self:
        """Open what an earlier attempt left, as far as it can be trusted, or begin anew.

        What is trusted is the smaller of the noted offset and the file's size, and only for the same content: the same
        sha256, or the same url where no hash is known. Raises DestinationBusyError, or OSError as the disk has it.
        """
        destination.parent.mkdir(parents=True, exist_ok=True)
        url, sha256 = _without_secrets(url), sha256 and sha256.lower()
        file = _open_locked(part_of(destination))
        try:
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
        """Whether every byte is there, for sure: without a hash, the server is asked again."""
        return self.offset > 0 and self.offset == self.sidecar.size and self.sidecar.sha256 is not None

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
        """Forget every byte, on the disk too: what is noted there must never be of another file than the bytes."""
        self._truncate(0)
        self.is_resumable = True
        self.sidecar = msgspec.structs.replace(self.sidecar, etag=None, offset=0)
        self.save()

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
        self.sidecar = msgspec.structs.replace(self.sidecar, offset=self.offset if self.is_resumable else 0)
        path = _sidecar_of(self.destination)
        temporary = path.with_name(path.name + ".new")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(self.sidecar))
        temporary.replace(path)
        return self.offset

    def close(self) -> None:
        """Save as far as possible, and let go of the lock; leave nothing where nothing came. Harmless when closed."""
        if self._file.closed:
            return
        try:
            if self.offset and self.is_resumable:
                self.save()
            else:
                _sidecar_of(self.destination).unlink(missing_ok=True)
                part_of(self.destination).unlink(missing_ok=True)
        finally:
            self._file.close()

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
            if actual != known.sha256:
                problem = f"its sha256 is {actual}, not {known.sha256}"
        if problem is not None:
            self.restart()
            error = StalePartError if was_resumed else WrongContentError
            raise error(f"{self.destination.name} is not the file that was promised: {problem}")
        part_of(self.destination).replace(self.destination)
        _sidecar_of(self.destination).unlink(missing_ok=True)
        _sync_directory(self.destination.parent)
        self._file.close()
        return self.offset


def _open_locked(path: Path) -> BinaryIO:
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BlockingIOError:
            file.close()
            raise DestinationBusyError(f"another download writes {path}") from None
        except FileNotFoundError:
            pass
        except OSError:
            return file  # a file system without locks, or without identities: go on without
        # Between opening and locking, whoever had it gave it its final name, or removed it: that file is not ours.
        file.close()


def _without_secrets(url: str) -> str:
    """*url* without user, query and fragment, where tokens are and what changes with every signature."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


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


def _sync_directory(path: Path) -> None:
    if os.name != "posix":
        return  # elsewhere a directory cannot be opened, and a rename needs no help
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
