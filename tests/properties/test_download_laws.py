"""Laws of downloads: whatever a server does, no wrong file gets the name, and one that behaves again ends it."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Literal

import httpx2
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from adapters.downloads import DownloadError, download
from tests.torture.figures import MEMORY_FOLDER

OLD = bytes(range(40))
FILES = OLD, bytes(reversed(OLD)), bytes(range(100, 150))
"""The versions of the file: the second is as long as the first."""
LONG_AGO, NOW = "Mon, 05 Jan 2026 12:00:00 GMT", "Tue, 06 Jan 2026 12:00:00 GMT"
MOST_ATTEMPTS = 4


class Turn(msgspec.Struct, frozen=True):
    """What the server does with one request.

    It tells the truth: no two versions have the same validator, and a part of another version than was asked for has
    one.
    """

    version: int = 0
    kind: Literal["part", "early", "late", "capped", "whole", "encoded", "nothing", "unreadable", "refusal"] = "part"
    cut: int | None = None
    etag: Literal["fixed", "new", "weak", "none"] = "fixed"
    has_date: bool = False
    has_length: bool = True
    is_linked: bool = False
    ignores_if_range: bool = False


turns = st.builds(
    Turn,
    st.sampled_from([0, 0, 1, 1, 2]),
    st.sampled_from(
        [
            "part",
            "part",
            "part",
            "part",
            "early",
            "late",
            "capped",
            "whole",
            "encoded",
            "nothing",
            "unreadable",
            "refusal",
        ]
    ),
    st.sampled_from([None, 1, 7, 8, 13, 24]),
    st.sampled_from(["fixed", "fixed", "fixed", "new", "weak", "none"]),
    *[st.booleans()] * 4,
)
scripts = st.builds(
    lambda cut, has_date, is_linked, rest: [Turn(cut=cut, has_date=has_date, is_linked=is_linked), *rest],
    st.integers(5, 30),
    st.booleans(),
    st.booleans(),
    st.lists(turns, min_size=1, max_size=8),
)
"""The first request leaves a part that can be resumed."""


class Server(httpx2.AsyncBaseTransport):
    """Takes one of *turns* for each request, and then behaves."""

    def __init__(self, turns: Sequence[Turn], then: Turn) -> None:
        self.turns, self.then = list(turns), then
        self._answers = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._answers += 1
        turn = self.turns.pop(0) if self.turns else self.then
        content = FILES[turn.version]
        headers = self._validators(turn)
        match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        valid = request.headers.get("if-range") in (None, headers.get("etag"), headers.get("last-modified"))
        if turn.kind == "refusal":
            return httpx2.Response(503)
        if not match or not (valid or turn.ignores_if_range) or turn.kind in ("whole", "encoded"):
            body = gzip.compress(content) if turn.kind == "encoded" else content
            headers |= {"content-encoding": "gzip"} if turn.kind == "encoded" else {}
            return self._response(200, headers, body, turn)
        start, end, size = int(match[1]), len(content), len(content)
        if turn.kind == "nothing" or start >= size:
            return self._response(416, headers | {"content-range": f"bytes */{size}"}, b"", turn)
        start = max(start - 7, 0) if turn.kind == "early" else start + 3 if turn.kind == "late" else start
        end = min(start + 5, end) if turn.kind == "capped" else end
        place = "?" if turn.kind == "unreadable" else f"bytes {start}-{end - 1}/{size}"
        return self._response(206, headers | {"content-range": place}, content[start:end], turn)

    def _validators(self, turn: Turn) -> dict[str, str]:
        tag = {"fixed": f'"{turn.version}"', "new": f'"new {self._answers}"', "weak": 'W/"w"', "none": ""}[turn.etag]
        if turn.ignores_if_range and turn.etag in ("weak", "none"):
            tag = f'"{turn.version}"'
        date = f"Mon, 05 Jan 2026 1{turn.version}:00:00 GMT" if turn.has_date else ""
        linked = hashlib.sha256(FILES[turn.version]).hexdigest() if turn.is_linked else ""
        found = {"etag": tag, "last-modified": date, "date": NOW, "x-linked-etag": linked}
        return {name: value for name, value in found.items() if value}

    def _response(self, status: int, headers: dict[str, str], body: bytes, turn: Turn) -> httpx2.Response:
        if turn.has_length:
            headers = headers | {"content-length": str(len(body))}
        return httpx2.Response(status, headers=headers, stream=Body(body, turn.cut))


class Body(httpx2.AsyncByteStream):
    """Bytes in pieces of eight, until the connection breaks off after *cut* of them."""

    def __init__(self, data: bytes, cut: int | None) -> None:
        self._data, self._cut = data, cut

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._data if self._cut is None else self._data[: self._cut]
        for at in range(0, len(left), 8):
            yield left[at : at + 8]
        if len(left) < len(self._data):
            raise httpx2.ReadError("cut off")


async def fetched(server: Server, place: Path, sha256: str | None) -> bool:
    """Whether one attempt brings the file."""
    async with httpx2.AsyncClient(transport=server) as client:
        try:
            await download(client, "http://host/model.bin", place, sha256=sha256)
        except (httpx2.HTTPError, DownloadError):
            assert not place.exists()
            return False
    return True


@given(scripts, st.sampled_from([0, 2]), st.booleans(), st.sampled_from(["fixed", "new"]))
def test_no_wrong_file_gets_the_name_and_a_server_that_behaves_ends_it(
    script: list[Turn], last: int, is_known: bool, etag: Literal["fixed", "new"]
) -> None:
    sha256 = hashlib.sha256(FILES[last]).hexdigest() if is_known else None
    server = Server(script, Turn(last, etag=etag))

    async def run(place: Path) -> None:
        while server.turns:
            if await fetched(server, place, sha256):
                return
        for _ in range(MOST_ATTEMPTS):
            if await fetched(server, place, sha256):
                return
        raise AssertionError(f"not whole after {MOST_ATTEMPTS} attempts")

    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as folder:
        place = Path(folder, "model.bin")
        asyncio.run(run(place))
        assert place.read_bytes() in ([FILES[last]] if is_known else FILES)
        assert [path.name for path in Path(folder).iterdir()] == ["model.bin"]
