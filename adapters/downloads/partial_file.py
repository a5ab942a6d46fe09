"""The partial file of a download, and the sidecar that describes it. Nothing here knows of HTTP.

A partial file is locked while it is open. Its sidecar never runs ahead of what is on the disk. Only a file with the
right size and hash gets its final name.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, BinaryIO, NoReturn
from urllib.parse import urlsplit, urlunsplit

import msgspec

from adapters.disk import UnsafeFileError, decode_plain, is_same_file, open_plain, sync_file, try_lock, write_whole
from adapters.downloads.content import HEAD, has_known_beginning, is_page, what_came
from adapters.downloads.identity import Identity, joined
from events.errors import Permanent, RecoveryError, Retryable

MOST_SIDECAR_BYTES = 512 * 1024
"""A URL has at most 65 536 characters."""


class DownloadError(RecoveryError):
    """A download that failed for a reason of its own, not of the network or the disk."""


class StalePartialFileError(DownloadError, Retryable):
    """The kept bytes do not fit the server's file. They were dropped, and the next attempt starts over."""


class DestinationBusyError(DownloadError, Retryable):
    """Another download to the same destination is under way."""


class UnusableResponseError(DownloadError, Retryable):
    """No response of the server fitted the bytes that are there, which stay."""


class WrongContentError(DownloadError, Permanent):
    """The server's file has another size or hash than was promised."""


class Sidecar(Identity, frozen=True, kw_only=True):
    """What is known of a partial file: *offset* bytes are safely on the disk, of *size* if that is known.

    *url* is kept without its query, which may hold secrets and change with every signature.
    """

    url: str
    size: Annotated[int, msgspec.Meta(ge=0)] | None = None
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0


def partial_path(destination: Path) -> Path:
    """Where the bytes of *destination* are kept until they are whole. The suffix stays: model.ckpt is not model.bin."""
    return destination.with_name(destination.name + ".part")


def files_of(destination: Path) -> tuple[Path, ...]:
    """Every file that a download to *destination* may make."""
    partial, sidecar = partial_path(destination), _sidecar_path(destination)
    return destination, partial, _beside(partial), sidecar, _beside(sidecar)


class PartialFile:
    """What an earlier attempt left for *destination*, as far as it can be trusted, or an empty file.

    The smaller of the sidecar's offset and the file's size is trusted, and only for what may be the same content: see
    ``_of_same_content``. The file is locked while it is open; *size* is what the whole must
    have. *start* is the byte at which this attempt began: what is before came from earlier ones.

    Raises DestinationBusyError, UnsafeFileError for a link, a pipe or a folder in the place of a file, or OSError.

    Set *is_resumable* to False for bytes that cannot be resumed, because they came encoded. They are not recorded.
    """

    def __init__(self, destination: Path, *, url: str, sha256: str | None, size: int | None) -> None:
        destination.parent.mkdir(parents=True, exist_ok=True)
        if destination.exists() and not destination.is_file():
            raise UnsafeFileError(destination, "is no file, and cannot be replaced by one")
        self.destination = destination
        self.is_resumable = True
        self._promised = Identity(sha256=sha256 and sha256.lower())
        self._promised_size = size
        self._end: int | None = None
        self._kept: BinaryIO | None = None  # the partial file, while bytes go beside it
        self._source = partial_path(destination)
        self._file = _open_locked(self._source)
        try:
            fresh = Sidecar(url=_without_secrets(url), sha256=self._promised.sha256, size=size)
            left = _read_sidecar(_sidecar_path(destination))
            known = fresh if left is None else _of_same_content(left, fresh) or fresh
            offset = min(known.offset, os.fstat(self._file.fileno()).st_size)
            self.sidecar = msgspec.structs.replace(known, offset=offset)
            self._truncate(offset)
        except BaseException:
            self._file.close()
            raise

    def _truncate(self, offset: int) -> None:
        self._file.truncate(offset)
        self._file.seek(offset)
        self.start = self.offset = offset
        self._is_joined = False

    @property
    def is_complete(self) -> bool:
        """Whether every byte is there and a hash can prove it; without a hash, the server must be asked."""
        return self.offset > 0 and self.offset == self.sidecar.size and self.sidecar.sha256 is not None

    def restart(self) -> None:
        """Drop every byte, also from the sidecar on the disk: it must never describe the bytes of another file."""
        self._truncate(0)
        self.is_resumable = True
        self._forget()
        if self._has_its_name:
            self.save()

    def write_beside(self) -> None:
        """Begin the file again in a second one, from bytes that nothing identifies, which cannot be resumed.

        The bytes that are there, and their sidecar, stay until more are in the second file.
        """
        self.save()
        self._source = _beside(self._source)
        self._source.unlink(missing_ok=True)  # of a process that was killed
        file = os.fdopen(open_plain(self._source, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o666), "r+b")
        self._kept, self._file = self._file, file
        self._truncate(0)
        self._forget()

    def _forget(self) -> None:
        """Know what was promised, and nothing more."""
        self.sidecar = Sidecar(url=self.sidecar.url, sha256=self._promised.sha256, size=self._promised_size)

    @property
    def _has_its_name(self) -> bool:
        """Whether the path still leads to this file. If not, what is beside it is not ours either."""
        return is_same_file(partial_path(self.destination), os.fstat((self._kept or self._file).fileno()))

    def check_promise(self, identity: Identity, size: int | None) -> None:
        """Raise WrongContentError if a response is of another hash or *size* than was promised."""
        name, promised = self.destination.name, self._promised_size
        if promised is not None and size is not None and size != promised:
            raise WrongContentError(f"{name} has {size} bytes, not {promised} as promised")
        if None not in (hashes := (identity.sha256, self._promised.sha256)) and hashes[0] != hashes[1]:
            raise WrongContentError(f"{name} has the sha256 {hashes[0]}, not {hashes[1]} as promised, says the server")

    def describe(self, identity: Identity, *, size: int | None, end: int | None = None) -> None:
        """Take over what a response says of the file. Raises WrongContentError if something else was promised.

        Args:
            identity: Of the content, which is that of the bytes that are there.
            size: Bytes of the whole.
            end: Where the bytes end that come now, if that is known; at the latest with the whole.
        """
        self.check_promise(identity, size)
        known = size if self._promised_size is None else self._promised_size
        self.sidecar = msgspec.structs.replace(self.sidecar, **joined(self.sidecar, identity), size=known)
        self._is_joined = self.offset > 0
        self._end = min((one for one in (known, end) if one is not None), default=None)

    def check_page(self, head: bytes) -> None:
        """Raise WrongContentError if *head*, the first bytes of a response with the whole file, begins an HTML page.

        Call it before ``restart``: a login page must not cost the bytes of earlier attempts.
        """
        name = self.destination.name
        if is_page(name, head) and (self.sidecar.sha256 is None or has_known_beginning(name)):
            raise WrongContentError(f"{name} is not what the server sent: {what_came(name, head)}")

    def check_encoding(self, encoding: str, *, is_decoded: bool) -> None:
        """Raise WrongContentError for bytes that stay encoded, where neither a hash nor their beginning will tell."""
        name = self.destination.name
        if not is_decoded and self.sidecar.sha256 is None and not has_known_beginning(name):
            raise WrongContentError(f"{name} came encoded ({encoding!r}), which was not asked for and is not decoded")

    def write(self, data: bytes) -> None:
        """Append *data*. Raises as ``finish`` does if more comes than the whole has, before a byte too many is kept."""
        if self._end is not None and self.offset + len(data) > self._end:
            self._refuse(f"more than {self._end} bytes came")
        self._file.write(data)
        self.offset += len(data)

    def save(self) -> int:
        """Sync the file, then record its size in the sidecar; return that size.

        Raises StalePartialFileError if another process has removed or replaced the file, or a folder above it.
        """
        if not self._has_its_name:
            part = partial_path(self.destination)
            raise StalePartialFileError(f"{part} was removed or replaced while it was written; starting over")
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._kept is not None:
            if self.offset > os.fstat(self._kept.fileno()).st_size:
                os.ftruncate(self._kept.fileno(), 0)  # of sidecar and file the smaller is trusted
            return self.offset
        self.sidecar = msgspec.structs.replace(self.sidecar, offset=self.offset if self.is_resumable else 0)
        write_whole(_sidecar_path(self.destination), msgspec.json.encode(self.sidecar))
        return self.offset

    def close(self) -> None:
        """Save and unlock the file; remove it if it is empty or not resumable. Harmless when closed."""
        if self._file.closed:
            return
        try:
            if not self._has_its_name:
                return
            if self._kept is not None:
                self._source.unlink(missing_ok=True)
                is_left = os.fstat(self._kept.fileno()).st_size > 0
            elif is_left := self.offset > 0 and self.is_resumable:
                self.save()
            if not is_left:
                _sidecar_path(self.destination).unlink(missing_ok=True)
                partial_path(self.destination).unlink(missing_ok=True)
        finally:
            self._close_files()

    def _close_files(self) -> None:
        self._file.close()
        if self._kept is not None:
            self._kept.close()

    def finish(self) -> int:
        """Check size and hash, give the file its name, and return its size.

        Raises StalePartialFileError if the bytes of several attempts do not fit together, WrongContentError if those of
        a single attempt are not what was promised. The bytes are dropped in both cases.
        """
        self.save()
        known = self.sidecar
        if known.size not in (None, self.offset):
            self._refuse(f"{self.offset} bytes arrived of {known.size}")
        if known.sha256 is not None:
            self._file.seek(0)
            actual = hashlib.file_digest(self._file, "sha256").hexdigest()  # type: ignore[arg-type]  # it has readinto
            if actual != known.sha256:
                self._refuse(f"its sha256 is {actual}, not {known.sha256}")
        else:
            self._file.seek(0)
            if (came := what_came(self.destination.name, self._file.read(HEAD))) is not None:
                self._refuse(f"what came is {came}")
        if not self._has_its_name:  # hashing takes long
            self.save()
        self._source.replace(self.destination)
        partial_path(self.destination).unlink(missing_ok=True)
        _sidecar_path(self.destination).unlink(missing_ok=True)
        sync_file(self.destination.parent)
        self._close_files()
        return self.offset

    def _refuse(self, problem: str) -> NoReturn:
        """Drop every byte, and raise why. The bytes of one response are what the server has: it is no use again."""
        is_single = not (self.start or self._is_joined or self._kept)
        error = WrongContentError if is_single else StalePartialFileError
        self.restart()
        raise error(f"{self.destination.name} is not the file that was promised: {problem}")


def _open_locked(path: Path) -> BinaryIO:
    while True:
        file = os.fdopen(open_plain(path, os.O_RDWR | os.O_CREAT, mode=0o666), "r+b")
        try:
            if not try_lock(file.fileno()):
                file.close()
                raise DestinationBusyError(f"another download writes {path}")
            if is_same_file(path, os.fstat(file.fileno())):
                return file
        except OSError:
            return file  # a file system without locks or file identities
        # Between opening and locking, another download renamed or removed the file: this one is not ours.
        file.close()


def _without_secrets(url: str) -> str:
    """*url* without user, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _sidecar_path(destination: Path) -> Path:
    return destination.with_name(destination.name + ".part.json")


def _read_sidecar(path: Path) -> Sidecar | None:
    try:
        return decode_plain(path, Sidecar, MOST_SIDECAR_BYTES)
    except (FileNotFoundError, ValueError):
        return None


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def _of_same_content(left: Sidecar, wanted: Sidecar) -> Sidecar | None:
    """What is known of a part, of which *left* was known, if it may be of the content that is *wanted*; or None.

    A hash tells of any server's bytes, and decides alone. A validator tells of the bytes of its own URL. Bytes of the
    same URL are kept also if only the one or the other has a hash: it decides in the end.
    """
    pairs = (left.size, wanted.size), (left.sha256, wanted.sha256)
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        return None
    if left.url != wanted.url:
        left = msgspec.structs.replace(left, url=wanted.url, etag=None, modified=None)
        if left.sha256 is None and (left.linked is None or wanted.sha256 is not None):
            return None
    return msgspec.structs.replace(
        left, sha256=wanted.sha256 or left.sha256, size=left.size if wanted.size is None else wanted.size
    )
