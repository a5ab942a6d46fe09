"""The sidecar of a partial file: what is known of its bytes, and how many of them a later attempt may trust."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

import msgspec

from adapters.disk import decode_plain, sync_file, write_whole
from adapters.downloads.names import sidecar_path

MOST_SIDECAR_BYTES = 512 * 1024
"""A URL has at most 65 536 characters."""


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a partial file: *offset* bytes are safely on the disk, of *size* if that is known.

    *url* is kept without its query, which may hold secrets and change with every signature. *written_to* is the boot,
    device and inode of the partial file: while these are the same, no loss of power can have taken what was written.
    """

    url: str
    etag: str | None = None
    size: Annotated[int, msgspec.Meta(ge=0)] | None = None
    sha256: str | None = None
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    written_to: str | None = None


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


def is_same_content(left: Sidecar, wanted: Sidecar) -> bool:
    """Whether the bytes that *left* describes may be of the content that is *wanted*."""
    if wanted.size is not None and left.size is not None and wanted.size != left.size:
        return False
    if wanted.sha256 is not None or left.sha256 is not None:
        return wanted.sha256 == left.sha256
    return wanted.url == left.url
