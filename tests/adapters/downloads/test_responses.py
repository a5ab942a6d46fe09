"""What to ask a server for, and what to do with its response: tables."""

from __future__ import annotations

import pytest

from adapters.downloads.responses import range_headers, read_response

SHA256 = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("etag", "sha256", "headers"),
    [
        ('"x"', None, {"Range": "bytes=5-", "If-Range": '"x"'}),
        ('"x"', SHA256, {"Range": "bytes=5-", "If-Range": '"x"'}),
        ('W/"x"', SHA256, {"Range": "bytes=5-"}),
        (None, SHA256, {"Range": "bytes=5-"}),
        ('W/"x"', None, {}),
        (None, None, {}),
        ('"\u00e9"', SHA256, {"Range": "bytes=5-"}),
        ('"x"\r\nX: 1', None, {}),
        ('"' + "x" * 60_000 + '"', None, {}),
    ],
)
def test_the_rest_is_asked_for_only_where_a_change_would_be_noticed(
    etag: str | None, sha256: str | None, headers: dict[str, str]
) -> None:
    assert range_headers(5, etag, sha256) == headers
    assert range_headers(0, etag, sha256) == {}


@pytest.mark.parametrize(
    ("status", "content_range", "offset", "size", "advice", "total"),
    [
        (206, "bytes 5-9/10", 5, None, "append", 10),
        (206, "bytes 5-9/10", 5, 10, "append", 10),
        (206, " bytes 5-9/10 ", 5, 10, "append", 10),
        (206, "bytes 5-9/*", 5, 10, "append", 10),
        (206, "bytes 5-9/*", 5, None, "append", None),
        (206, "bytes 0-9/10", 0, None, "append", 10),
        (206, "bytes 0-9/10", 5, None, "drop", 10),
        (206, "bytes 4-9/10", 5, None, "drop", 10),
        (206, "bytes 6-9/10", 5, None, "drop", 10),
        (206, "bytes 5-9/10", 5, 11, "drop", 10),
        (206, "", 5, None, "drop", None),
        (206, "bytes 5-9", 5, None, "drop", None),
        (206, "bytes 5-/10", 5, None, "drop", None),
        (206, "bytes */10", 5, None, "drop", None),
        (206, "items 5-9/10", 5, None, "drop", None),
        (206, "bytes 5-9/10, 12-13/14", 5, None, "drop", None),
        (206, f"bytes 5-9/{'9' * 5000}", 5, None, "drop", None),
        (416, "bytes */10", 10, None, "complete", 10),
        (416, "bytes */10", 9, None, "drop", 10),
        (416, "bytes */10", 11, None, "drop", 10),
        (416, "bytes */0", 0, None, "drop", 0),
        (416, "bytes */*", 10, None, "drop", None),
        (416, "", 10, None, "drop", None),
    ],
)
def test_a_206_is_appended_and_a_416_is_complete_only_if_it_fits(
    status: int, content_range: str, offset: int, size: int | None, advice: str, total: int | None
) -> None:
    response = read_response(status, {"content-range": content_range}, offset=offset, size=size, etag=None)
    assert response[:2] == (advice, total)


@pytest.mark.parametrize(
    ("kept", "offset", "now", "advice"),
    [
        ('"x"', 5, {"etag": '"x"'}, "append"),
        ('"x"', 5, {"etag": '"y"'}, "drop"),
        ('"x"', 5, {}, "append"),
        (None, 5, {"etag": '"y"'}, "append"),
        ('"x"', 0, {"etag": '"y"'}, "append"),
        (None, 5, {"content-encoding": "gzip"}, "drop"),
    ],
)
def test_bytes_of_two_entity_tags_or_encodings_are_never_put_together(
    kept: str | None, offset: int, now: dict[str, str], advice: str
) -> None:
    headers = {"content-range": f"bytes {offset}-9/10"} | now
    assert read_response(206, headers, offset=offset, size=10, etag=kept)[0] == advice


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
@pytest.mark.parametrize("offset", [0, 5])
def test_a_200_starts_over_and_its_length_counts_only_unencoded(
    headers: dict[str, str], total: int | None, offset: int
) -> None:
    assert read_response(200, headers, offset=offset, size=7, etag=None)[:2] == ("restart", total)


def test_an_answer_that_costs_bytes_says_why() -> None:
    whys = [
        read_response(200, {}, offset=5, size=None, etag='"x"')[2],
        read_response(206, {}, offset=5, size=None, etag='"x"')[2],
        read_response(206, {"content-range": "bytes 0-9/10"}, offset=5, size=None, etag='"x"')[2],
        read_response(206, {"content-range": "bytes 5-9/10", "etag": '"y"'}, offset=5, size=None, etag='"x"')[2],
        read_response(206, {"content-range": "bytes 5-9/10"}, offset=5, size=9, etag='"x"')[2],
        read_response(416, {}, offset=5, size=None, etag='"x"')[2],
    ]
    assert all(whys)
    assert len(set(whys)) == len(whys)
