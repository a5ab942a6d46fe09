"""What to do with a response to a request for the rest of a file: tables."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.downloads.identity import Identity
from adapters.downloads.responses import ASK_AGAIN_BEYOND, Advice, Answer, Asked, read_response

SHA256 = "0123456789abcdef" * 4
X, Y, NOTHING = Identity(etag='"x"'), Identity(etag='"y"'), Identity()
HASH = Identity(sha256=SHA256, etag='"x"')
OLD, YOUNG = Identity(modified="Mon"), Identity(modified="Tue")
FAR = ASK_AGAIN_BEYOND + 1


def read(
    status: int, content_range: str = "", *, now: Identity = X, headers: dict[str, str] | None = None, **asked: Any
) -> Answer:
    """The answer to a response of *status*, for a request of bytes 5 on of a file with ETag "x"."""
    known = Asked(**{"offset": 5, "kept": X, "is_ranged": True, "is_conditional": True, **asked})
    return read_response(status, {"content-range": content_range, **(headers or {})}, known, now)


@pytest.mark.parametrize(
    ("content_range", "size", "expected"),
    [
        ("bytes 5-9/10", None, ("append", 10, 0, 10)),
        (" bytes 5-9/10 ", 10, ("append", 10, 0, 10)),
        ("bytes 5-9/*", 10, ("append", 10, 0, 10)),
        ("bytes 5-7/10", None, ("append", 10, 0, 8)),
        ("bytes 4-9/10", None, ("append", 10, 1, 10)),
        ("bytes 0-5/10", None, ("append", 10, 5, 6)),
        ("bytes 5-9/*", None, ("whole", None, 0, None)),
        ("bytes 0-4/10", None, ("whole", 10, 0, None)),
        ("bytes 6-9/10", None, ("whole", 10, 0, None)),
        ("bytes 9-5/10", None, ("whole", 10, 0, None)),
        ("bytes 5-9/10", 11, ("drop", 10, 0, None)),
        ("", None, ("whole", None, 0, None)),
        ("bytes 5-9", None, ("whole", None, 0, None)),
        ("bytes 5-/10", None, ("whole", None, 0, None)),
        ("bytes */10", None, ("whole", None, 0, None)),
        ("items 5-9/10", None, ("whole", None, 0, None)),
        ("bytes 5-9/10, 12-13/14", None, ("whole", None, 0, None)),
        (f"bytes 5-9/{'9' * 5000}", None, ("whole", None, 0, None)),
    ],
)
def test_a_part_is_written_as_far_as_it_fits_behind_the_kept_bytes(
    content_range: str, size: int | None, expected: tuple[Advice, int | None, int, int | None]
) -> None:
    answer = read(206, content_range, size=size)
    assert (answer.advice, answer.total, answer.skip, answer.end) == expected


@pytest.mark.parametrize(
    ("content_range", "offset", "size", "kept", "advice"),
    [
        ("bytes */10", 10, None, X, "complete"),
        ("bytes */10", 10, 10, X, "complete"),
        ("", 10, 10, X, "complete"),
        ("bytes */10", 10, 12, X, "drop"),
        ("bytes */10", 10, 12, HASH, "complete"),
        ("bytes */10", 9, None, X, "whole"),
        ("bytes */10", 11, None, X, "drop"),
        ("bytes */0", 0, None, NOTHING, "drop"),
        ("bytes */*", 10, None, X, "drop"),
        ("", 10, None, HASH, "drop"),
        ("", 10, 12, X, "drop"),
    ],
)
def test_a_416_is_complete_only_if_the_size_is_right(
    content_range: str, offset: int, size: int | None, kept: Identity, advice: Advice
) -> None:
    assert read(416, content_range, offset=offset, size=size, kept=kept, now=NOTHING).advice == advice


@pytest.mark.parametrize(
    ("kept", "now", "part", "whole"),
    [
        (X, X, "append", "append"),
        (X, Y, "drop", "restart"),
        (HASH, Y, "append", "append"),
        (HASH, NOTHING, "append", "append"),
        (HASH, Identity(sha256="f" * 64), "drop", "restart"),
        (Identity(linked="1"), Identity(linked="1", etag='"y"'), "append", "append"),
        (Identity(linked="1", etag='"x"'), Identity(linked="2", etag='"x"'), "drop", "restart"),
        (OLD, OLD, "append", "append"),
        (OLD, YOUNG, "drop", "restart"),
        (X, NOTHING, "append", "beside"),
        (X, YOUNG, "append", "restart"),
        (NOTHING, NOTHING, "append", "restart"),
    ],
)
def test_bytes_of_two_versions_are_never_put_together(
    kept: Identity, now: Identity, part: Advice, whole: Advice
) -> None:
    assert read(206, "bytes 5-9/10", kept=kept, now=now).advice == part
    assert read(200, kept=kept, now=now).advice == whole
    assert read(206, "bytes 0-9/10", offset=0, kept=kept, now=now).advice == "append"


def test_a_part_of_an_unknown_version_is_not_written_if_the_server_was_not_told_of_one() -> None:
    assert read(206, "bytes 5-9/10", kept=Identity(linked="1"), now=X, is_conditional=False).advice == "whole"
    assert read(206, "bytes 5-9/10", kept=X, now=X, is_conditional=False).advice == "append"


@pytest.mark.parametrize(
    ("asked", "advice"),
    [
        ({"offset": FAR}, "again"),
        ({"offset": FAR - 1}, "append"),
        ({"offset": FAR, "is_again": True}, "append"),
        ({"offset": FAR, "is_ranged": False}, "append"),
        ({"offset": FAR, "kept": Y}, "restart"),
    ],
)
def test_a_whole_file_is_skipped_over_if_a_second_request_brings_it_again(
    asked: dict[str, Any], advice: Advice
) -> None:
    answer = read(200, **asked)
    assert (answer.advice, answer.skip) == (advice, asked["offset"] if advice == "append" else 0)


@pytest.mark.parametrize(
    ("headers", "total"),
    [
        ({"content-length": "10"}, 10),
        ({"content-length": "10", "content-encoding": "identity"}, 10),
        ({"content-length": "10", "content-encoding": "gzip"}, None),
        ({"content-length": "0"}, 0),
        ({"content-length": "-1"}, None),
        ({"content-length": "²"}, None),
        ({}, None),
    ],
)
def test_a_length_counts_only_unencoded(headers: dict[str, str], total: int | None) -> None:
    assert read(200, headers=headers, offset=0).total == total


def test_encoded_bytes_are_never_put_behind_others() -> None:
    encoded = {"content-encoding": "gzip"}
    assert read(206, "bytes 5-9/10", headers=encoded).advice == "whole"
    assert read(200, headers=encoded).advice == "beside"
    assert read(200, headers=encoded, offset=0).advice == "restart"


@pytest.mark.parametrize(("length", "size"), [("4", None), ("9", 8), ("7", 8)])
def test_a_whole_file_of_another_size_is_another(length: str, size: int | None) -> None:
    assert read(200, headers={"content-length": length}, size=size).advice == "restart"
    assert read(200, headers={"content-length": length}, size=size, kept=HASH).advice == "restart"


def test_an_answer_that_costs_bytes_says_why() -> None:
    whys = [
        read(200).why,
        read(200, now=NOTHING).why,
        read(200, now=Y).why,
        read(200, headers={"content-encoding": "gzip"}).why,
        read(206).why,
        read(206, "bytes 6-9/10").why,
        read(206, "bytes 4-9/10").why,
        read(206, "bytes 5-9/10", size=9).why,
        read(416).why,
    ]
    assert all(whys)
    assert len(set(whys)) == len(whys)
