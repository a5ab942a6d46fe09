"""Downloads from servers that cut, rotate, ignore, cap and change: each ends, with no byte more than it needs.

``make torture`` does the same with 256 MB.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Literal

import httpx2
import msgspec
import pytest

from adapters.downloads import DownloadError, WrongContentError, download
from adapters.downloads.responses import ASK_AGAIN_BEYOND
from adapters.downloads.sidecar import Sidecar
from tests.adapters.downloads.rough_server import Rough, RoughServer

MIB = 1024 * 1024
HALF = MIB // 2
CONTENT = random.Random("model").randbytes(MIB)
LARGE = random.Random("large model").randbytes(ASK_AGAIN_BEYOND + 2 * MIB)
CHANGED = random.Random("a newer model").randbytes(MIB)
CUTS = (len(CONTENT) // 16, len(CONTENT) // 4)
MOST_ATTEMPTS = 200

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def leave(place: Path, server: RoughServer, data: bytes, *, etag: str | None = None) -> None:
    """As if an earlier process had been killed when it had *data*."""
    place.with_name("model.bin.part").write_bytes(data)
    etag = f'"{server.sha256[:16]}"' if etag is None else etag
    known = Sidecar(url=server.url, etag=etag, size=len(server.content), offset=len(data))
    place.with_name("model.bin.part.json").write_bytes(msgspec.json.encode(known))


async def fetch(server: RoughServer, place: Path, *, most: int = MOST_ATTEMPTS, **options: Any) -> int:
    """Download the file in as many attempts as it takes; returns how many these were."""
    async with httpx2.AsyncClient(verify=False, follow_redirects=True, timeout=5.0) as client:
        for attempt in range(most):
            try:
                await download(client, server.url, place, **options)
            except WrongContentError:
                raise
            except (httpx2.TransportError, DownloadError):
                continue
            return attempt + 1
    raise AssertionError(f"not whole after {most} attempts")


KNOWN, UNKNOWN = True, False


@pytest.mark.parametrize(
    ("is_known", "rough"),
    [
        (KNOWN, Rough(cut=CUTS, ignore_every=3)),
        (UNKNOWN, Rough(cut=CUTS, ignore_every=3)),
        (UNKNOWN, Rough(cut=CUTS, ignore_every=3, etag="none", modified=True)),
        (KNOWN, Rough(cut=CUTS, signed=True, etag="new")),
        (UNKNOWN, Rough(cut=CUTS, signed=True, etag="new", linked="sha256")),
        (UNKNOWN, Rough(cut=CUTS, signed=True, etag="new", linked="id")),
        (UNKNOWN, Rough(cut=CUTS, signed=True, etag="new", linked="id", ignore_every=3)),
    ],
    ids=str,
)
async def test_a_file_that_comes_in_pieces_is_fetched_once(tmp_path: Path, is_known: bool, rough: Rough) -> None:
    with RoughServer(CONTENT, rough) as server:
        attempts = await fetch(server, tmp_path / "model.bin", sha256=server.sha256 if is_known else None)
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    assert server.ratio() == 1.0
    assert 5 <= attempts <= 40
    assert [path.name for path in tmp_path.iterdir()] == ["model.bin"]


THREE_EIGHTHS = MIB * 3 // 8


@pytest.mark.parametrize(
    "rough",
    [Rough(), Rough(block=32_768), Rough(if_range="refused"), Rough(etag="new"), Rough(cap=50_000)],
    ids=["plain", "from an earlier block", "200 to any If-Range", "a new ETag each time", "capped"],
)
async def test_d4_a_file_with_a_known_hash_ends_in_a_few_attempts(tmp_path: Path, rough: Rough) -> None:
    rough = msgspec.structs.replace(rough, cut=(THREE_EIGHTHS, THREE_EIGHTHS))
    with RoughServer(CONTENT, rough) as server:
        assert await fetch(server, tmp_path / "model.bin", sha256=server.sha256) <= 4
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


async def test_ranges_that_a_server_caps_are_fetched_in_one_attempt(tmp_path: Path) -> None:
    with RoughServer(CONTENT, Rough(cap=150_000)) as server:
        leave(tmp_path / "model.bin", server, CONTENT[:HALF])
        assert await fetch(server, tmp_path / "model.bin") == 1
    assert len(server.asked) == 4
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    assert server.ratio() == 0.5


@pytest.mark.parametrize("ignored", [(), (1,), (1, 2)])
async def test_far_into_a_file_an_ignored_range_is_asked_for_once_more(
    tmp_path: Path, ignored: tuple[int, ...]
) -> None:
    first = ASK_AGAIN_BEYOND + MIB
    with RoughServer(LARGE, Rough(ignored=ignored, rate=4e8)) as server:
        leave(tmp_path / "model.bin", server, LARGE[:first])
        assert await fetch(server, tmp_path / "model.bin") == 1
    assert ["range" in headers for headers in server.asked] == [True] * (1 if not ignored else 2)
    assert server.ratio() * len(LARGE) == len(LARGE) - first
    under_way = 4 * MIB  # in the sockets, when the first of the two is left
    assert server.again < (first + under_way if len(ignored) == 2 else first - MIB)
    assert (tmp_path / "model.bin").read_bytes() == LARGE


# A file that changes


@pytest.mark.parametrize(
    "rough",
    [
        Rough(change_after=HALF, cut=CUTS),
        Rough(change_after=HALF, cut=CUTS, etag="none", modified=False, signed=True, linked="sha256"),
        Rough(change_after=HALF, cut=CUTS, etag="new", signed=True, linked="id"),
        Rough(change_after=HALF, cut=CUTS, if_range="ignored"),
    ],
    ids=str,
)
async def test_a_file_that_changes_is_begun_again_and_the_new_one_is_fetched_once(tmp_path: Path, rough: Rough) -> None:
    with RoughServer(CONTENT, rough, changed=CHANGED) as server:
        await fetch(server, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CHANGED
    assert server.ratio() <= 1.0 + CUTS[1] / MIB  # one response with bytes of the old one is closed unread


@pytest.mark.parametrize("etag", ["fixed", "new"])
async def test_another_file_than_was_promised_ends_the_download_with_nothing(
    tmp_path: Path, etag: Literal["fixed", "new"]
) -> None:
    rough = Rough(change_after=HALF, cut=CUTS, etag=etag)
    with RoughServer(CONTENT, rough, changed=CHANGED) as server, pytest.raises(WrongContentError, match="sha256"):
        await fetch(server, tmp_path / "model.bin", sha256=server.sha256)
    assert list(tmp_path.iterdir()) == []
    assert server.sent < 3.1 * len(CHANGED)


async def test_a_file_that_nothing_identifies_never_comes_whole_in_pieces(tmp_path: Path) -> None:
    with RoughServer(CONTENT, Rough(cut=CUTS, etag="new")) as server, pytest.raises(AssertionError, match="not whole"):
        await fetch(server, tmp_path / "model.bin", most=10)
    assert not (tmp_path / "model.bin").exists()


# A whole file that nothing identifies


async def test_what_nothing_identifies_costs_no_kept_byte_until_it_is_longer(tmp_path: Path) -> None:
    place, part = tmp_path / "model.bin", tmp_path / "model.bin.part"
    with RoughServer(CONTENT, Rough(etag="none", cut=(HALF - 1, HALF - 1))) as server:
        leave(place, server, CONTENT[:HALF], etag='"lost"')
        with pytest.raises(AssertionError, match="not whole"):
            await fetch(server, place, most=2)
        assert part.read_bytes() == CONTENT[:HALF]
        assert {path.name for path in tmp_path.iterdir()} == {"model.bin.part", "model.bin.part.json"}
        server.rough = Rough(etag="none", cut=(HALF + 1, HALF + 1))
        with pytest.raises(AssertionError, match="not whole"):
            await fetch(server, place, most=1)
    assert list(tmp_path.iterdir()) == []


async def test_what_nothing_identifies_gets_the_name_if_it_comes_whole(tmp_path: Path) -> None:
    with RoughServer(CONTENT, Rough(etag="none")) as server:
        leave(tmp_path / "model.bin", server, CONTENT[:HALF], etag='"lost"')
        await fetch(server, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["model.bin"]
