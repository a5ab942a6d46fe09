"""Connections that no client of good will makes: they end, and tell nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from adapters.web.access import Access
from adapters.web.asgi import page
from adapters.web.connections import Connection
from adapters.web.headers import HEADERS
from tests.adapters.web.serving import TOKEN, Served, serving
from tests.adapters.web.test_access import Noted

HOST = b"host: localhost\r\n"
BEARER = f"authorization: Bearer {TOKEN.value}\r\n".encode()


class Impatient(Connection):
    idle_for = 0.05


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(page(Noted(), Access(TOKEN)), http=Impatient) as server:
        yield server


@pytest.mark.parametrize("begun", [b"", b"GET /state HTTP/1.1\r\nhost: loc", b"GET /state HTTP/1.1\r\n" + HOST])
def test_a_connection_that_sends_no_whole_head_is_closed(served: Served, begun: bytes):
    assert served.sent(begun) == b""


def test_a_connection_that_has_had_an_answer_is_closed_when_it_is_idle(served: Served):
    answer = served.sent(b"GET /state HTTP/1.1\r\n" + HOST + BEARER + b"\r\nGET /st")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.count(b"HTTP/1.1") == 1


def test_a_stream_is_not_idle(served: Served):
    stream = served.stream()
    stream.event()
    stream.connection.settimeout(0.2)
    with pytest.raises(TimeoutError):
        stream.until(b"event")
    stream.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /state HTTP/1.1\r\n\r\n",
        b"GET /state HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n",
        b"POST /actions HTTP/1.1\r\n" + HOST + b"content-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
    ],
)
def test_what_is_no_http_is_answered_with_the_headers_of_every_answer(served: Served, sent: bytes):
    head, _, body = served.sent(sent).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    assert status.startswith("HTTP/1.1 400 ")
    assert HEADERS.items() <= dict(line.split(": ", 1) for line in lines).items()
    assert body == b"Invalid HTTP request received."
