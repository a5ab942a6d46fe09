"""The sidecar of a partial file: what is known of its bytes, and how many of them a later attempt may trust."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

import msgspec

from adapters.disk import decode_plain, sync_file, write_whole
from adapters.downloads.identity import Identity, is_known
from adapters.downloads.names import files_of, partial_path, sidecar_path

MOST_SIDECAR_BYTES = 512 * 1024
"""A URL has at most 65 536 characters."""


class Sidecar(Identity, frozen=True, kw_only=True):
    """What is known of a partial file: *offset* bytes are safely on the disk, of *size* if that is known.

    *url* is kept without its query, which may hold secrets and change with every signature. *written_to* is the boot,
    device and inode of the partial file: while these are the same, no loss of power can have taken what was written.
    *was_refused*: bytes of several responses were whole and had another hash once. The next time, that is the server's.
    """

    url: str
    size: Annotated[int, msgspec.Meta(ge=0)] | None = None
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    written_to: str | None = None
    was_refused: bool = False


def without_secrets(url: str) -> str:
    """*url* without user, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def write_sidecar(destination: Path, known: Sidecar) -> None:
    """Record what is *known* of the partial file of *destination*."""
    write_whole(sidecar_path(destination), msgspec.json.encode(known))


def forget_sidecar(destination: Path) -> None:
    """Remove the sidecar also from the disk, before other bytes come than those that it describes."""
    try:
        sidecar_path(destination).unlink()
    except FileNotFoundError:
        return
    sync_file(destination.parent)


def clear_sidecar(destination: Path) -> None:
    """Remove what describes a partial file that has its final name by now, also after a process was killed then."""
    if not partial_path(destination).exists():
        for path in files_of(destination)[-2:]:
            path.unlink(missing_ok=True)


def trusted(left: Sidecar, length: int, here: str | None) -> int:
    """How many of the *length* bytes of the partial file *here* are those that the sidecar describes."""
    if here is not None and left.written_to == here and (left.size is None or length <= left.size):
        return length
    return min(left.offset, length)


def read_sidecar(destination: Path) -> Sidecar | None:
    """What is known of the partial file of *destination*; None if that is nothing readable."""
    try:
        return decode_plain(sidecar_path(destination), Sidecar, MOST_SIDECAR_BYTES)
    except (FileNotFoundError, ValueError):
        return None


def of_same_content(left: Sidecar, wanted: Sidecar) -> Sidecar | None:
    """What is known of bytes of which *left* was known, if they may be of the content that is *wanted*; or None.

    A hash, and what a hub says of its files, tells of the bytes of any server; a validator of those of its own URL.
    Bytes of the same URL are kept also if only the one or the other has a hash: it decides in the end. Those of another
    URL that nothing identifies here are returned as they are: that URL may be asked again before this one has a byte.
    """
    pairs = (left.size, wanted.size), (left.sha256, wanted.sha256)
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        return None
    if left.url != wanted.url:
        if not _is_of_any_url(left, wanted):
            return left
        left = msgspec.structs.replace(left, url=wanted.url, etag=None, modified=None)
    size = left.size if wanted.size is None else wanted.size
    return msgspec.structs.replace(left, sha256=wanted.sha256 or left.sha256, size=size)


def held_by(destination: Path) -> tuple[str, int] | None:
    """The URL that alone can go on with the bytes that are kept of *destination*, without its query, and their number.

    None if there are no bytes, if any server of the same content can go on with them, or if none can.
    """
    try:
        left = read_sidecar(destination)
    except OSError:  # the attempt will tell
        return None
    if left is None or not left.offset or not is_known(left) or _is_of_any_url(left, left):
        return None
    return left.url, left.offset


def _is_of_any_url(left: Sidecar, wanted: Sidecar) -> bool:
    """Whether what is known of bytes tells of the *wanted* ones of any URL; not where those of several did not fit."""
    return not left.was_refused and (left.sha256 is not None or (left.linked is not None and wanted.sha256 is None))
