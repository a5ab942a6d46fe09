"""Which of several URLs is tried, and when the next one is."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.demo.server import Answer, Fault, FileServer, Hosted, Reset, Stall, free_port
from adapters.downloads import (
    DestinationBusyError,
    Downloaded,
    StalePartialFileError,
    Trickle,
    TrickleError,
    WrongContentError,
    download,
)
from adapters.downloads.mirrors import GoodHosts, download_from, is_failover, order
from adapters.downloads.refusals import AccessError
from adapters.downloads.sidecar import held_by
from recovery.service import Recovery
from tests.adapters.downloads.targets import CONTENT, SHA256

REQUEST = httpx2.Request("GET", "http://a/")
OTHER = Hosted(b"another file")
MISSING = Answer(404)
ETAG = '"of both"'


def cut(length: int) -> Answer:
    """The first *length* bytes of the whole file; the connection is closed then."""
    return Answer(200, {"Content-Length": str(len(CONTENT)), "ETag": ETAG}, CONTENT[:length])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # nothing here depends on the loop; the tests of ``download`` run on both


def status(number: int) -> httpx2.HTTPStatusError:
    return httpx2.HTTPStatusError(str(number), request=REQUEST, response=httpx2.Response(number, request=REQUEST))


class Mirrors:
    """Real servers of one file, and what downloads from them remember. The faults of each server come first."""

    def __init__(self, folder: Path, *faults: list[Fault], rate: float | None = None) -> None:
        self.hosted = [Hosted(CONTENT, faults=of_one, rate=rate) for of_one in faults]
        self.servers = [FileServer({"/model.bin": one, "/other": OTHER}) for one in self.hosted]
        self.urls = [f"{server.url}/model.bin" for server in self.servers]
        self.folder, self.memory, self.rounds = folder, GoodHosts(), 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for server in self.servers:
            self._stack.enter_context(server)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def round(self, *, place: str = "", **options: Any) -> Downloaded:
        """Download one more file of the same hosts, or the one at *place*, in one round."""
        self.rounds += 1
        to = self.folder / (place or f"model {self.rounds}.bin")
        async with httpx2.AsyncClient(timeout=0.4) as client:
            return await download_from(
                self.urls,
                lambda url: download(client, url, to, **{"sha256": SHA256} | options),
                memory=self.memory,
                held=partial(held_by, to),
            )

    @property
    def statuses(self) -> list[list[int]]:
        """The statuses that each server has answered with."""
        return [[request.status for request in server.requests] for server in self.servers]

    def asked(self) -> list[int]:
        """The servers that were asked since this was called last, by number."""
        asked = [number for number, server in enumerate(self.servers) for _ in server.requests]
        for server in self.servers:
            server.requests.clear()
        return asked


# When the next URL is tried


@pytest.mark.anyio
@pytest.mark.parametrize("fault", [Reset(0.5), Stall(0.5, 0.6), Answer(502), Answer(503), Answer(504)])
async def test_after_a_failure_of_the_host_the_next_one_serves_the_rest(tmp_path: Path, fault: Fault) -> None:
    with Mirrors(tmp_path, [fault], []) as mirrors:
        arrived = await mirrors.round()
        sent = mirrors.servers[1].requests[0].sent
    assert (tmp_path / "model 1.bin").read_bytes() == CONTENT
    assert sent == len(CONTENT) - arrived.start
    assert (arrived.start > 0) is not isinstance(fault, Answer)


@pytest.mark.anyio
async def test_a_trickle_and_a_host_that_is_not_there_lead_to_the_next_one_too(tmp_path: Path) -> None:
    with Mirrors(tmp_path, [], [], rate=2e6) as mirrors:
        mirrors.hosted[1].rate = None
        mirrors.urls.insert(1, f"http://127.0.0.1:{free_port()}/model.bin")
        arrived = await mirrors.round(trickle=Trickle(least=480_000, window=0.1))
    assert 0 < arrived.start < 480_000
    assert len(mirrors.asked()) == 2


@pytest.mark.anyio
@pytest.mark.parametrize("number", [401, 403, 404, 410, 429, 500])
async def test_a_refusal_by_the_first_host_is_not_hidden_by_a_mirror(tmp_path: Path, number: int) -> None:
    with Mirrors(tmp_path, [Answer(number)], []) as mirrors:
        with pytest.raises((httpx2.HTTPStatusError, AccessError), match=str(number)):
            await mirrors.round()
        assert mirrors.asked() == [0]


@pytest.mark.anyio
async def test_wrong_content_of_the_first_host_is_not_hidden_by_a_mirror(tmp_path: Path) -> None:
    with Mirrors(tmp_path, [], []) as mirrors:
        mirrors.hosted[0].content = b"another model"
        with pytest.raises(WrongContentError):
            await mirrors.round()
        assert mirrors.asked() == [0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *[(error("x"), True) for error in (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ReadTimeout)],
        *[(error("x"), True) for error in (httpx2.ReadError, httpx2.RemoteProtocolError, TrickleError)],
        *[(error("x"), False) for error in (httpx2.LocalProtocolError, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)],
        *[(error("x"), False) for error in (WrongContentError, DestinationBusyError, OSError, ValueError)],
        *[(status(number), number in (502, 503, 504)) for number in (400, 404, 408, 429, 500, 501, 502, 503, 504, 507)],
    ],
    ids=repr,
)
def test_only_a_host_that_fails_is_left(error: Exception, expected: bool) -> None:
    assert is_failover(error) is expected


# A mirror makes nothing worse


@pytest.mark.anyio
async def test_a_mirror_that_lacks_the_file_does_not_end_the_call(tmp_path: Path) -> None:
    with Mirrors(tmp_path, [Answer(503)], [MISSING], []) as mirrors:
        with pytest.raises(httpx2.HTTPStatusError, match="503") as caught:
            await mirrors.round()
        assert mirrors.asked() == [0, 1]
    assert "404" in caught.value.__notes__[0]


@pytest.mark.anyio
async def test_after_the_refusal_of_a_remembered_mirror_the_first_host_decides(tmp_path: Path) -> None:
    with Mirrors(tmp_path, [Answer(503)], [], []) as mirrors:
        await mirrors.round()
        mirrors.asked()
        mirrors.hosted[1].faults.append(MISSING)
        await mirrors.round()
        assert mirrors.asked() == [0, 1]
        await mirrors.round()
        assert mirrors.asked() == [0]


@pytest.mark.anyio
@pytest.mark.parametrize("is_there", [True, False])
async def test_without_a_hash_a_mirror_costs_no_byte_of_the_host_that_goes_on(tmp_path: Path, is_there: bool) -> None:
    with Mirrors(tmp_path, [cut(400_000)], [cut(400_000)] * 9) as mirrors:
        mirrors.hosted[0].etag = ETAG
        if not is_there:
            mirrors.urls[1] = f"http://127.0.0.1:{free_port()}/model.bin"
        with pytest.raises(httpx2.TransportError):
            await mirrors.round(sha256=None, place="model.bin")
        arrived = await mirrors.round(sha256=None, place="model.bin")
        assert (arrived.start, mirrors.asked()) == (400_000, [0, 0])
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


@pytest.mark.anyio
async def test_after_a_mirror_with_another_content_the_first_host_goes_on_alone(tmp_path: Path) -> None:
    with Mirrors(tmp_path, [cut(400_000)] * 2, []) as mirrors:
        mirrors.hosted[0].etag = ETAG
        mirrors.hosted[1].content = bytes(len(CONTENT))
        with pytest.raises(StalePartialFileError):
            await mirrors.round(place="model.bin")
        with pytest.raises(httpx2.TransportError):
            await mirrors.round(place="model.bin")
        await mirrors.round(place="model.bin")
        assert mirrors.asked() == [0, 0, 0, 1]
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


@pytest.mark.anyio
async def test_without_a_hash_a_host_that_gives_nothing_more_gives_way_to_a_mirror(tmp_path: Path) -> None:
    with Mirrors(tmp_path, [cut(400_000), Answer(503), Answer(503)], [Answer(503), cut(800_000)]) as mirrors:
        mirrors.hosted[1].etag = ETAG
        for _ in range(3):
            with pytest.raises(httpx2.HTTPError):
                await mirrors.round(sha256=None, place="model.bin")
        await mirrors.round(sha256=None, place="model.bin")
        assert mirrors.statuses == [[200, 503, 503], [503, 200, 206]]
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


@pytest.mark.anyio
@pytest.mark.parametrize("error", [OSError("No space"), DestinationBusyError("busy"), StalePartialFileError("stale")])
async def test_an_error_that_is_not_the_hosts_is_raised_at_once(error: Exception) -> None:
    async def fail(url: str) -> None:
        raise httpx2.ConnectError("refused") if url == "http://a/" else error

    with pytest.raises(type(error), match=str(error)):
        await download_from(["http://a/", "http://b/", "http://c/"], fail, memory=GoodHosts())


@pytest.mark.anyio
async def test_of_several_failures_that_of_a_host_that_was_reached_is_raised() -> None:
    asked: list[str] = []

    async def fail(url: str) -> None:
        asked.append(url)
        raise status(503) if url == "http://b/" else httpx2.ConnectError(f"{url}?token=abc123 refused")

    with pytest.raises(httpx2.HTTPStatusError, match="503") as caught:
        await download_from(["http://a/", "http://b/", "http://c/", "http://b/"], fail, memory=GoodHosts())
    assert asked == ["http://a/", "http://b/", "http://c/"]
    assert caught.value.__notes__ == [f"{host}:80: ConnectError: http://{host}/?token=*** refused" for host in "ac"]


# What is remembered


@pytest.mark.anyio
async def test_the_good_host_comes_first_until_it_fails(tmp_path: Path) -> None:
    with Mirrors(tmp_path, [Answer(503)], []) as mirrors:
        await mirrors.round()
        assert mirrors.asked() == [0, 1]
        await mirrors.round()
        assert mirrors.asked() == [1]
        for hosted in mirrors.hosted:
            hosted.faults.append(Answer(502))
        with pytest.raises(httpx2.HTTPStatusError):
            await mirrors.round()
        assert mirrors.asked() == [0, 1]
        await mirrors.round()
        assert mirrors.asked() == [0]


def test_each_group_of_hosts_is_remembered_by_itself() -> None:
    memory = GoodHosts()
    memory.note(["http://a/1", "http://b/1"], "b:80", is_good=True)
    assert memory.good(["http://b/2", "http://A/2"]) == "b:80"
    assert memory.good(["http://a/2"]) is memory.good(["http://a/2", "http://c/2"]) is None


def test_the_groups_that_are_remembered_are_bounded() -> None:
    memory = GoodHosts()
    for number in range(2000):
        memory.note([f"http://{number}/"], f"{number}:80", is_good=True)
    assert [memory.good([f"http://{number}/"]) is None for number in (0, 900, 1000, 1999)] == [True, True, False, False]


@given(hosts=st.lists(st.sampled_from("abc"), max_size=6), good=st.sampled_from(["a:80", "b:80", "z:80", None]))
def test_each_url_is_tried_once_the_good_host_first_and_the_rest_as_given(hosts: list[str], good: str | None) -> None:
    urls = [f"http://{host}/{number % 2}" for number, host in enumerate(hosts)]
    tried = order(urls, good)
    first = [url for url in tried if f"{url[7]}:80" == good]
    assert tried[: len(first)] == first
    for part in (first, tried[len(first) :]):
        assert part == [url for url in dict.fromkeys(urls) if url in part]
    assert sorted(tried) == sorted(set(urls))


@pytest.mark.anyio
async def test_without_a_url_there_is_nothing_to_download() -> None:
    with pytest.raises(ValueError, match="no URL"):
        await download_from([], download, memory=GoodHosts())


# In a recoverable call


@pytest.mark.anyio
async def test_the_retry_policy_waits_only_after_a_round_in_which_no_host_served(tmp_path: Path) -> None:
    waits = 0
    with Mirrors(tmp_path, [Answer(503)] * 2, [Answer(503), Reset(0.5)]) as mirrors:

        def count(_: object) -> None:
            nonlocal waits
            waits += 1

        fetch = Recovery().recoverable("fetch", initial_delay=0.001, before_retry=count)(mirrors.round)
        await fetch()
        assert mirrors.statuses == [[503, 503, 200], [503, 200]]
    assert waits == 2
