"""Servers that send without end: a download ends with the first byte too many, and nothing more is on the disk."""

from __future__ import annotations

import resource
import socketserver
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from adapters.downloads import Downloaded, StalePartialFileError, WrongContentError, download
from tests.adapters.downloads.targets import SHA256, Target

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Async generator 'httpcore2"),  # trio tells of one that httpx2 does not close
]

TWO_GIGABYTES = 2_000_000_000
PIECE = bytes(64 * 1024)


class Endless(socketserver.ThreadingTCPServer):
    """Answers every request with *head*, then sends chunks, encoded with gzip or not, of up to two gigabytes.

    With a *pause*, each chunk is a byte, and comes that many seconds later.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, head: str, *, is_gzip: bool = False, pause: float = 0.0) -> None:
        self.head, self.is_gzip, self.pause = head, is_gzip, pause
        self.sent = 0
        super().__init__(("127.0.0.1", 0), Stream)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/model.bin"


class Stream(socketserver.StreamRequestHandler):
    server: Endless

    def handle(self) -> None:
        while self.rfile.readline() not in (b"\r\n", b""):
            pass
        encoding = "Content-Encoding: gzip\r\n" if self.server.is_gzip else ""
        head = f"HTTP/1.1 {self.server.head}\r\n{encoding}Transfer-Encoding: chunked\r\n\r\n"
        gzip = zlib.compressobj(9, wbits=31)
        try:
            self.wfile.write(head.encode())
            while self.server.sent < TWO_GIGABYTES:
                time.sleep(self.server.pause)
                piece = PIECE[:1] if self.server.pause else PIECE
                data = gzip.compress(piece) if self.server.is_gzip else piece
                if data:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
                self.server.sent += len(PIECE)
        except OSError:
            pass  # the client has enough


@contextmanager
def serving(head: str, **options: Any) -> Iterator[Endless]:
    with Endless(head, **options) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The kernel fails every write behind byte *size* of a file with "File too large"."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def fetch(url: str, destination: Path, *, size: int | None = None, sha256: str | None = None) -> Downloaded:
    async with httpx2.AsyncClient(timeout=5.0, follow_redirects=True) as client:
        return await download(client, url, destination, size=size, sha256=sha256)


@pytest.mark.parametrize("sha256", [None, SHA256])
@pytest.mark.parametrize("is_gzip", [False, True], ids=["plain", "gzip bomb"])
async def test_a_body_without_end_stops_at_the_first_byte_too_many(
    tmp_path: Path, is_gzip: bool, sha256: str | None
) -> None:
    with serving("200 OK", is_gzip=is_gzip) as server, no_file_above(1000):
        with pytest.raises(WrongContentError, match="more than 1000 bytes came"):
            await fetch(server.url, tmp_path / "model.bin", size=1000, sha256=sha256)
        assert server.sent < TWO_GIGABYTES // 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("last", "total", "size"), [(999, "1000", None), (999, "*", 1200), (10**12, "1000", None), (10**12, "*", 1000)]
)
async def test_a_range_ends_where_the_server_said_and_not_behind_the_file(
    tmp_path: Path, last: int, total: str, size: int | None
) -> None:
    head = f'206 Partial Content\r\nContent-Range: bytes 4-{last}/{total}\r\nETag: "x"'
    with serving(head) as server, Target(tmp_path) as target:
        target.url = server.url
        target.leave(b"1234", etag='"x"')
        with no_file_above(1000), pytest.raises(StalePartialFileError, match="more than 1000 bytes came"):
            await target.attempt(size=size)
        assert target.files() == {"model.bin.part.json"}


async def test_a_redirect_whose_body_has_no_end_is_followed(tmp_path: Path) -> None:
    with Target(tmp_path) as target, serving(f"302 Found\r\nLocation: {target.url}") as server:
        await fetch(server.url, target.destination, sha256=SHA256)
        assert server.sent < TWO_GIGABYTES // 10


async def test_a_refusal_whose_body_trickles_is_not_read_for_longer_than_a_stall(tmp_path: Path) -> None:
    with serving("404 Not Found", pause=0.02) as server, Target(tmp_path) as target, anyio.fail_after(5.0):
        target.url = server.url
        with pytest.raises(httpx2.HTTPStatusError, match="404"):
            await target.attempt(silence=0.1)


async def test_a_body_within_its_promise_arrives(tmp_path: Path) -> None:
    with Target(tmp_path) as target:
        assert (await target.attempt(size=len(target.hosted.content))).received == len(target.hosted.content)
