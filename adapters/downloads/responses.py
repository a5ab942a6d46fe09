"""What a request for the rest of a file asks, and what its response means. Pure.

Source: RFC 9110, 13.1.5 (``If-Range``), 14.2 (``Range``), 15.3.7 (206).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

DECODED = ("gzip", "deflate")
"""Encodings of a body that are decoded: the client needs no further library for them."""

CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")

ENTITY_TAG = re.compile(r"[!-~](?:[ -~]{0,998}[!-~])?")
"""An entity tag that can be sent back. Another one is as good as none."""

Advice: TypeAlias = Literal["append", "restart", "complete", "drop"]


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
