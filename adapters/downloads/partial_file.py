"""The partial file of a download. Nothing here knows of HTTP.

A partial file is locked while it is open. Its sidecar never runs ahead of what is on the disk. Only a file with the
right size and hash gets its final name.
"""

from __future__ import annotations

import hashlib
import os
from io import FileIO
from pathlib import Path
from typing import NoReturn

import msgspec

from adapters.disk import UnsafeFileError, is_same_file, open_locked, open_plain, sync_data, sync_file
from adapters.downloads.content import first_bytes, has_known_beginning, what_came, what_is_wrong
from adapters.downloads.identity import Identity, joined
from adapters.downloads.names import beside_path, partial_path, sidecar_path
from adapters.downloads.sidecar import (
    Sidecar,
    clear_sidecar,
    forget_sidecar,
    of_same_content,
    read_sidecar,
    trusted,
    without_secrets,
    write_sidecar,
)
from events.errors import Permanent, RecoveryError, Retryable
from recovery.journal.boot import boot_id


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


class PartialFile:
    """What an earlier attempt left for *destination*, as far as it can be trusted, or an empty file.

    It is trusted only for what may be the same content (``of_same_content``). Bytes of another URL, which nothing
    identifies here, stay until ``restart``: their sidecar has that URL. The death of a process loses nothing that
    was written: in the same boot, the whole length of the same file is trusted. Otherwise the smaller of the sidecar's
    offset and the length is.

    The file is locked while it is open, and never longer than the bytes that came. No sidecar is made before the first
    ``save`` or ``note``. Set *is_resumable* to False for bytes that came encoded: they are not recorded.

    Args:
        destination: Where the whole file goes.
        url: Where it comes from.
        sha256: What the whole must have, in hex.
        size: Bytes that the whole must have.
        boot: The id of this boot of the machine; empty where the system has none.

    Attributes:
        start: The byte at which this attempt began: what is before came from earlier ones.

    Raises:
        DestinationBusyError: Another download has it open.
        UnsafeFileError: A link, a pipe or a folder is in the place of a file.
        OSError: The disk failed.
    """

    def __init__(
        self, destination: Path, *, url: str, sha256: str | None, size: int | None, boot: str | None = None
    ) -> None:
        destination.parent.mkdir(parents=True, exist_ok=True)
        if destination.exists() and not destination.is_file():
            raise UnsafeFileError(destination, "is no file, and cannot be replaced by one")
        self.destination = destination
        self.is_resumable = True
        self._wanted = Sidecar(url=without_secrets(url), sha256=sha256 and sha256.lower(), size=size)
        self._end: int | None = None
        self._kept: FileIO | None = None  # the partial file, while bytes go beside it
        self._source = partial_path(destination)
        self._is_lost = self._is_refused = False
        if (file := open_locked(self._source)) is None:
            raise DestinationBusyError(f"another download writes {self._source}")
        self._file = file
        try:
            found = os.fstat(self._file.fileno())
            boot = boot_id() if boot is None else boot
            here = f"{boot} {found.st_dev} {found.st_ino}" if boot else None
            left = read_sidecar(destination)
            known = self._wanted if left is None else of_same_content(left, self._wanted) or self._wanted
            offset = trusted(known, found.st_size, here)
            if left is None or not offset:
                forget_sidecar(destination)
                known = msgspec.structs.replace(self._wanted, was_refused=known.was_refused)
            beside_path(destination).unlink(missing_ok=True)  # of a process that was killed
            self._is_noted = known.written_to is not None and known.written_to == here
            self.sidecar = msgspec.structs.replace(known, offset=min(known.offset, offset), written_to=here)
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

    @property
    def is_open(self) -> bool:
        """Whether it must still be closed."""
        return not self._file.closed

    def restart(self) -> None:
        """Drop every byte, and the sidecar before them: it must never describe the bytes of another file."""
        if self._has_its_name:
            forget_sidecar(self.destination)
        self._truncate(0)
        self.is_resumable = True
        self._forget()

    def write_beside(self) -> None:
        """Begin the file again in a second one, from bytes that nothing identifies, which cannot be resumed.

        The bytes that are there, and their sidecar, stay until more are in the second file.
        """
        self.save()
        self._kept, self._source = self._file, beside_path(self.destination)
        self._file = FileIO(open_plain(self._source, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o666), "r+")
        self._truncate(0)
        self._forget()

    def _forget(self) -> None:
        """Know of the content what was promised, and nothing more."""
        self._is_noted = False
        known = self.sidecar
        self.sidecar = msgspec.structs.replace(self._wanted, written_to=known.written_to, was_refused=known.was_refused)

    @property
    def _has_its_name(self) -> bool:
        """Whether the path still leads to this file. If not, what is beside it is not ours either."""
        return is_same_file(partial_path(self.destination), os.fstat((self._kept or self._file).fileno()))

    def check_promise(self, identity: Identity, size: int | None) -> None:
        """Raise WrongContentError if a response is of another hash or *size* than was promised."""
        name, promised = self.destination.name, self._wanted.size
        if promised is not None and size is not None and size != promised:
            raise WrongContentError(f"{name} has {size} bytes, not {promised} as promised")
        if None not in (hashes := (identity.sha256, self._wanted.sha256)) and hashes[0] != hashes[1]:
            raise WrongContentError(f"{name} has the sha256 {hashes[0]}, not {hashes[1]} as promised, says the server")

    def describe(self, identity: Identity, *, size: int | None, end: int | None = None) -> None:
        """Take over what a response says of the file. Raises WrongContentError if something else was promised.

        Args:
            identity: Of the content, which is that of the bytes that are there.
            size: Bytes of the whole.
            end: Where the bytes end that come now, if that is known; at the latest with the whole.
        """
        self.check_promise(identity, size)
        known = next((one for one in (self._wanted.size, size, self.sidecar.size) if one is not None), None)
        described = msgspec.structs.replace(self.sidecar, **joined(self.sidecar, identity), size=known)
        self._is_noted = self._is_noted and described == self.sidecar
        self.sidecar = described
        self._is_joined = self.offset > 0
        self._end = min((one for one in (known, end) if one is not None), default=None)

    def check_page(self, head: bytes) -> None:
        """Raise WrongContentError if *head*, the first bytes of a response with the whole file, begins something else.

        Call it before ``restart``: a login page must not cost the bytes of earlier attempts. Where a hash is known,
        and these bytes began as *head* does, the hash will tell.
        """
        name = self.destination.name
        if (came := what_came(name, head)) is None:
            return
        if self.sidecar.sha256 is None or what_came(name, first_bytes(self._file)) is None:
            raise WrongContentError(f"{name} is not what the server sent: what came is {came}")

    def check_encoding(self, encoding: str, *, is_decoded: bool) -> None:
        """Raise WrongContentError for bytes that stay encoded, where neither a hash nor their beginning will tell."""
        name = self.destination.name
        if not is_decoded and self.sidecar.sha256 is None and not has_known_beginning(name):
            raise WrongContentError(f"{name} came encoded ({encoding!r}), which was not asked for and is not decoded")

    def write(self, data: bytes) -> None:
        """Append *data*. Raises as ``finish`` does if more comes than the whole has, before a byte too many is kept."""
        if self._end is not None and self.offset + len(data) > self._end:
            self._refuse(f"more than {self._end} bytes came")
        rest = memoryview(data)
        while rest:  # a disk that is almost full takes a part
            written = self._file.write(rest)
            self.offset += written
            rest = rest[written:]

    def save(self) -> int:
        """Sync what was written until now, then record that in the sidecar; return how many bytes it is.

        ``write`` may be called while this runs in another thread, and nothing else may.

        Raises StalePartialFileError if another process has removed or replaced the file, or a folder above it.
        """
        offset = self.offset
        self._check_name()
        if not self._is_noted:
            self.note()
        self._sync()
        self.sidecar = msgspec.structs.replace(self.sidecar, offset=offset if self._is_recorded else 0)
        self.note()
        if self._kept is not None and offset > os.fstat(self._kept.fileno()).st_size:
            os.ftruncate(self._kept.fileno(), 0)
        return offset

    def _check_name(self) -> None:
        if not self._has_its_name:
            part = partial_path(self.destination)
            raise StalePartialFileError(f"{part} was removed or replaced while it was written; starting over")

    def _sync(self) -> None:
        try:
            sync_data(self._file.fileno())
        except OSError:
            # The system may have given up the bytes that the disk did not take, and the next sync would not tell.
            self._is_lost = True
            raise

    @property
    def _is_recorded(self) -> bool:
        """Whether the sidecar tells of these bytes, and not of those that they lie beside."""
        return self.is_resumable and self._kept is None

    def note(self) -> None:
        """Record what is known of the bytes: from now on the death of this process loses none."""
        if self._is_recorded:
            write_sidecar(self.destination, self.sidecar)
            self._is_noted = True

    def close(self) -> None:
        """Save and unlock the file; remove it if it is empty or not resumable. Harmless when closed."""
        if self._file.closed:
            return
        try:
            if not self._has_its_name:
                return
            if self._kept is not None:
                self._source.unlink(missing_ok=True)
                is_left = os.fstat(self._kept.fileno()).st_size >= max(self.offset, 1)
            else:
                if self._is_lost:
                    self._truncate(self.sidecar.offset)
                if is_left := self.offset > 0 and self.is_resumable:
                    self.save()
            if not is_left:
                self._forget()
                if self._is_refused:
                    write_sidecar(self.destination, msgspec.structs.replace(self.sidecar, was_refused=True))
                else:
                    sidecar_path(self.destination).unlink(missing_ok=True)
                partial_path(self.destination).unlink(missing_ok=True)
        finally:
            self._file.close()
            if self._kept is not None:
                self._kept.close()

    def finish(self) -> int:
        """Check size and hash, sync the file, give it its name and close it; return its size.

        Raises StalePartialFileError if the bytes of several attempts do not fit together, WrongContentError if those of
        a single attempt are not what was promised. ``close`` drops the bytes in both cases.
        """
        self._check_name()
        known = self.sidecar
        if known.size not in (None, self.offset):
            self._refuse(f"{self.offset} bytes arrived of {known.size}")
        (self.save if self._is_noted else self._sync)()  # hashing takes long
        self._file.seek(0)
        if known.sha256 is not None:
            actual = hashlib.file_digest(self._file, "sha256").hexdigest()
            if actual != known.sha256:
                self._refuse(f"its sha256 is {actual}, not {known.sha256}")
        elif self._wanted.size != 0 and (wrong := what_is_wrong(self.destination.name, self._file)) is not None:
            self._refuse(f"what came is {wrong}")
        self._check_name()
        self._source.replace(self.destination)
        if self._kept is not None:
            partial_path(self.destination).unlink(missing_ok=True)
        clear_sidecar(self.destination)
        sync_file(self.destination.parent)
        self.close()
        return self.offset

    def _refuse(self, problem: str) -> NoReturn:
        """Have ``close`` drop every byte, and raise why. Those of a single response are what the server has."""
        self.is_resumable = False
        is_single = not (self.start or self._is_joined or self._kept)
        error = WrongContentError if is_single or self.sidecar.was_refused else StalePartialFileError
        self._is_refused = not (self._kept or error is WrongContentError)
        raise error(f"{self.destination.name} is not the file that was promised: {problem}")
