"""What tells that two responses carry the same file: its hash, or what the server says of its version. Pure.

Source: RFC 9110, 8.8 (validators), 13.1.5 (``If-Range``); ``X-Linked-Etag`` and ``X-Linked-Size`` are those of the
Hugging Face Hub, which says with its redirect what the storage behind it will send.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import msgspec

STRONG_AFTER = timedelta(seconds=60)
"""The age at which a file's date tells its versions apart: RFC 9110, 8.8.2.2; clocks of one site differ by seconds."""

SENDABLE = re.compile(r"[!-~](?:[ -~]{0,998}[!-~])?")
"""A validator that can be sent back: printable ASCII, and at most 1 000 characters. Another one is as good as none."""

LINKED = "x-linked-etag"

SHA256 = re.compile(r"[0-9a-fA-F]{64}")
LENGTH = re.compile(r"[0-9]{1,18}")


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the content of a file; the first of these that two of them have decides whether it is the same.

    Args:
        sha256: In hex, in lower case: of the caller, or of an ``X-Linked-Etag`` with 64 hex digits.
        linked: Another ``X-Linked-Etag``, from the server that was asked, before redirects.
        etag: The strong entity tag that came with the bytes.
        modified: The date of the last change that came with the bytes, as the server wrote it, if it is strong.
    """

    sha256: str | None = None
    linked: str | None = None
    etag: str | None = None
    modified: str | None = None


def identity_of(headers: Mapping[str, str]) -> Identity:
    """What the *headers* of a response with bytes, by name in lower case, say of its content."""
    etag = headers.get("etag", "").strip()
    modified = headers.get("last-modified", "").strip()
    return Identity(
        etag=etag if SENDABLE.fullmatch(etag) and not etag.startswith("W/") else None,
        modified=modified if _is_strong_date(modified, headers.get("date", "")) else None,
    )


def linked_of(headers: Mapping[str, str]) -> tuple[Identity, int | None]:
    """What a response of the server that was asked says of the content behind a redirect, and its size if it does."""
    tag = headers.get(LINKED, "").strip().removeprefix("W/").strip('"')
    size = headers.get("x-linked-size", "").strip()
    is_hash = SHA256.fullmatch(tag) is not None
    identity = Identity(sha256=tag.lower() if is_hash else None, linked=None if is_hash else tag or None)
    return identity, int(size) if tag and LENGTH.fullmatch(size) else None


def is_same(kept: Identity, now: Identity) -> bool | None:
    """Whether bytes of *kept* and of *now* are of the same content; None if nothing tells.

    Of the first of these that both have, it is the same. Where the sha256 of *kept* is known, only another one tells
    otherwise: the whole will be checked, and signed URLs come with a new entity tag each time.
    """
    if kept.sha256 is not None:
        return now.sha256 in (None, kept.sha256)
    for name in Identity.__struct_fields__:
        one, other = getattr(kept, name), getattr(now, name)
        if one is not None and other is not None:
            return bool(one == other)
    return None


def joined(kept: Identity, now: Identity) -> dict[str, str | None]:
    """What is known of a content after a response said *now*: the latest of each kind."""
    return {name: getattr(now, name) or getattr(kept, name) for name in Identity.__struct_fields__}


def is_known(identity: Identity) -> bool:
    """Whether a change of the file would be noticed."""
    return any(getattr(identity, name) is not None for name in Identity.__struct_fields__)


def range_headers(offset: int, kept: Identity) -> dict[str, str]:
    """The headers that ask for the bytes from *offset* on; none for the whole file, where no change would be noticed.

    A server that knows another validator than the one in ``If-Range`` sends the whole file again. So it is not sent
    where something else tells whether the content is the same: the hash, or the server that was asked first.
    """
    if not offset or not is_known(kept):
        return {}
    validator = None if kept.sha256 or kept.linked else kept.etag or kept.modified
    if validator is not None and not SENDABLE.fullmatch(validator):  # another program has changed the sidecar
        return {}
    return {"Range": f"bytes={offset}-"} | ({"If-Range": validator} if validator else {})


def _is_strong_date(modified: str, now: str) -> bool:
    changed, sent = _date(modified), _date(now)
    return changed is not None and sent is not None and sent - changed >= STRONG_AFTER


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo is not None else None
