"""What the response to a request for the rest of a file means. Pure.

Source: RFC 9110, 14.2 (``Range``), 15.3.7 (206), 15.5.17 (416).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from adapters.downloads.identity import LENGTH, Identity, is_known, is_same

DECODED = ("gzip", "deflate")
"""Encodings of a body that are decoded: the client needs no further library for them."""

ASK_AGAIN_BEYOND = 8 * 1024 * 1024
"""Bytes that are worth a second request when a server sends the whole file again; fewer are read and skipped."""

CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
NO_RANGE = re.compile(r"bytes \*/([0-9]{1,18})")

Advice: TypeAlias = Literal["append", "restart", "beside", "complete", "again", "whole", "drop"]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, and what is known of the bytes that are there.

    Args:
        offset: How many bytes are there.
        size: Of the whole file, if known.
        kept: Of which content they are.
        is_ranged: Whether the bytes from *offset* on were asked for, and not the whole file.
        is_conditional: Whether the server was told of which version they must be (``If-Range``).
        is_again: Whether the same was asked before, and brought no byte.
    """

    offset: int = 0
    size: int | None = None
    kept: Identity = Identity()
    is_ranged: bool = False
    is_conditional: bool = False
    is_again: bool = False


class Answer(msgspec.Struct, frozen=True):
    """What to do with a response, and why if it costs bytes.

    Args:
        advice: "append" writes the body behind the bytes that are there, without its first *skip* bytes. "restart"
            drops the kept bytes and writes the body. "beside" writes it beside them. "complete" needs no body. The
            others need another request: "again" for the same, "whole" for the whole file, "drop" for the whole file
            once the kept bytes are dropped.
        why: In words; empty if the response is what was asked for.
        total: Bytes of the whole file, if known.
        skip: Bytes of the body that are there already.
        end: The byte of the file at which the body ends, if known.
    """

    advice: Advice
    why: str = ""
    total: int | None = None
    skip: int = 0
    end: int | None = None


def encoding_of(headers: Mapping[str, str]) -> str:
    """How the body is encoded, in lower case; "identity" if it is not."""
    return headers.get("content-encoding", "").strip().lower() or "identity"


def size_in(status: int, headers: Mapping[str, str]) -> int | None:
    """The size of the whole file, if a response of this *status* tells it."""
    if status == 200:
        length = headers.get("content-length", "")
        return int(length) if encoding_of(headers) == "identity" and LENGTH.fullmatch(length) else None
    text = headers.get("content-range", "").strip()
    match = NO_RANGE.fullmatch(text) if status == 416 else CONTENT_RANGE.fullmatch(text)
    total = match[match.re.groups] if match else "*"
    return None if total == "*" else int(total)


def read_response(status: int, headers: Mapping[str, str], asked: Asked, now: Identity) -> Answer:
    """What to do with a response.

    Bytes of two versions are never put together (RFC 9110, 15.3.7.3), also if a proxy dropped ``If-Range``. Kept bytes
    are dropped only once the server says that its file is another.

    Args:
        status: 200, 206 or 416; other statuses are the caller's.
        headers: By name in lower case.
        asked: The request.
        now: Of which content the response is.
    """
    total = size_in(status, headers)
    same = is_same(asked.kept, now)
    # A 416 that says a size, and no hash, proves no change of it: the part may be too long, and is dropped below.
    if asked.offset and same is not False and status != 416 and None not in (total, asked.size) and total != asked.size:
        same, why = False, f"the file has {total} bytes now, it had {asked.size}"
    else:
        why = "the file has changed"
    if status == 200:
        return _read_whole(headers, asked, now, same, total, why)
    if same is False and asked.offset:
        return Answer("drop", why, total)
    return _read_part(headers, asked, same, total) if status == 206 else _read_nothing(asked, total)


def _read_whole(
    headers: Mapping[str, str], asked: Asked, now: Identity, same: bool | None, total: int | None, why: str
) -> Answer:
    if not asked.offset:
        return Answer("restart", "", total, end=total)
    if same is False or (total is not None and total < asked.offset and same):
        return Answer("restart", why, total, end=total)
    if encoding_of(headers) != "identity":
        return Answer("beside", "the server sent the whole file again, encoded", total)
    if same is None:
        is_lost = is_known(now) or not is_known(asked.kept)
        why = "the server sent the whole file again, and nothing tells whether it is the same"
        return Answer("restart" if is_lost else "beside", why, total, end=total)
    why = "the server sent the whole file again"
    if asked.is_ranged and not asked.is_again and asked.offset > ASK_AGAIN_BEYOND:
        return Answer("again", why, total)
    return Answer("append", why, total, skip=asked.offset, end=total)


def _read_part(headers: Mapping[str, str], asked: Asked, same: bool | None, total: int | None) -> Answer:
    match = CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    if match is None:
        return Answer("whole", "a 206 without a readable Content-Range", total)
    if encoding_of(headers) != "identity":
        return Answer("whole", "the bytes are encoded, and fit nowhere", total)
    start, end = int(match[1]), int(match[2]) + 1
    if start > asked.offset or end <= asked.offset:
        return Answer("whole", f"asked for the bytes from {asked.offset} on, got those from {start} to {end}", total)
    if same is None and asked.offset and not asked.is_conditional:
        return Answer("whole", "nothing tells whether it is the same file", total)
    total = asked.size if total is None else total
    if total is None and asked.kept.sha256 is None:  # nothing would tell a part from the whole
        return Answer("whole", "the server does not say how long the file is", total)
    skip = asked.offset - start
    why = f"the server sent {skip} bytes again" if skip else ""
    return Answer("append", why, total, skip, end)


def _read_nothing(asked: Asked, total: int | None) -> Answer:
    known = asked.size if total is None else total
    is_right = known == asked.offset and (asked.kept.sha256 is not None or asked.size in (None, known))
    if asked.offset and asked.is_ranged and is_right:
        return Answer("complete", "", known)
    why = f"the server has nothing from byte {asked.offset} on"
    return Answer("whole" if total is not None and total > asked.offset else "drop", why, total)
