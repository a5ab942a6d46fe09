"""What identifies the content of a file, and what a request may say of it: tables."""

from __future__ import annotations

import pytest

from adapters.downloads.identity import Identity, identity_of, is_same, linked_of, range_headers

SHA256 = "0123456789abcdef" * 4
NOON = "Mon, 05 Jan 2026 12:00:00 GMT"
BEFORE_NOON = "Mon, 05 Jan 2026 11:59:00 GMT"
NEARLY_NOON = "Mon, 05 Jan 2026 11:59:01 GMT"


@pytest.mark.parametrize(
    ("headers", "identity"),
    [
        ({"etag": '"x"'}, Identity(etag='"x"')),
        ({"etag": 'W/"x"'}, Identity()),
        ({"etag": ""}, Identity()),
        ({"etag": '"\u00e9"'}, Identity()),
        ({"etag": '"' + "x" * 60_000 + '"'}, Identity()),
        ({"last-modified": BEFORE_NOON, "date": NOON}, Identity(modified=BEFORE_NOON)),
        ({"last-modified": NEARLY_NOON, "date": NOON}, Identity()),
        ({"last-modified": NOON, "date": BEFORE_NOON}, Identity()),
        ({"last-modified": BEFORE_NOON}, Identity()),
        ({"last-modified": "yesterday", "date": NOON}, Identity()),
        ({"last-modified": "Mon, 05 Jan 2026 11:59:00", "date": NOON}, Identity()),
        ({"last-modified": "Mon, 05 Jan 99999 11:59:00 GMT", "date": NOON}, Identity()),
    ],
)
def test_only_strong_validators_identify_a_version(headers: dict[str, str], identity: Identity) -> None:
    assert identity_of(headers) == identity


@pytest.mark.parametrize(
    ("tag", "size", "expected"),
    [
        (f'"{SHA256.upper()}"', "10", (Identity(sha256=SHA256), 10)),
        (SHA256, "", (Identity(sha256=SHA256), None)),
        (f'"{SHA256[:40]}"', "10", (Identity(linked=SHA256[:40]), 10)),
        ('W/"x"', "-1", (Identity(linked="x"), None)),
        ('""', "10", (Identity(), None)),
    ],
)
def test_a_linked_tag_of_64_hex_digits_is_the_hash(tag: str, size: str, expected: tuple[Identity, int | None]) -> None:
    assert linked_of({"x-linked-etag": tag, "x-linked-size": size}) == expected


@pytest.mark.parametrize(
    ("kept", "headers"),
    [
        (Identity(etag='"x"', modified=NOON), {"If-Range": '"x"'}),
        (Identity(modified=NOON), {"If-Range": NOON}),
        (Identity(sha256=SHA256, etag='"x"', modified=NOON), {}),
        (Identity(linked="x", etag='"x"'), {}),
        (Identity(), None),
        (Identity(etag='"x"\r\nX: 1'), None),
    ],
)
def test_the_rest_is_asked_for_only_where_a_change_would_be_noticed(
    kept: Identity, headers: dict[str, str] | None
) -> None:
    assert range_headers(5, kept) == ({} if headers is None else {"Range": "bytes=5-"} | headers)
    assert range_headers(0, kept) == {}


@pytest.mark.parametrize(
    ("kept", "now", "same"),
    [
        (Identity(sha256=SHA256, etag='"x"'), Identity(etag='"y"'), True),
        (Identity(sha256=SHA256), Identity(sha256="f" * 64), False),
        (Identity(linked="1", etag='"x"'), Identity(linked="1", etag='"y"'), True),
        (Identity(etag='"x"', modified=NOON), Identity(etag='"y"', modified=NOON), False),
        (Identity(etag='"x"', modified=NOON), Identity(modified=NOON), True),
        (Identity(etag='"x"'), Identity(sha256=SHA256, modified=NOON), None),
    ],
)
def test_the_strongest_that_both_have_decides(kept: Identity, now: Identity, same: bool | None) -> None:
    assert is_same(kept, now) is same
