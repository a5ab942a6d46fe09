"""Streams of events: coalesced for all, bounded in number, a snapshot at each beginning, and no place for stallers."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import anyio
import msgspec
import pytest

from adapters.web.access import Access
from adapters.web.asgi import page
from adapters.web.state import CallLine, PageState
from adapters.web.streams import Streams, changes
from tests.adapters.web.serving import TOKEN, Served, serving
from tests.adapters.web.test_access import Noted
from tests.until import wait_until

EMPTY = PageState(at=1.0, headline="no calls", source="test", is_live=True)


def line(call: str, **about: object) -> CallLine:
    return msgspec.convert({"call": call, "name": call, "operation": "fetch", "state": "running", **about}, CallLine)


def state(*lines: CallLine, **about: object) -> PageState:
    return msgspec.structs.replace(EMPTY, calls={one.call: one for one in lines}, **about)


class Scene:
    """What the page shows, changed by the test; counts how often it is read."""

    def __init__(self) -> None:
        self.state = EMPTY
        self.reads = 0

    def read(self) -> PageState:
        self.reads += 1
        return msgspec.structs.replace(self.state, at=float(self.reads))


def test_a_change_has_the_lines_that_changed_and_no_others():
    before = state(line("a"), line("b"), line("c"))
    after = state(line("a"), line("b", state="waiting"), line("d"), headline="1 call waits", circuits={"f": "open"})
    assert changes(before, after) == {
        "at": 1.0,
        "headline": "1 call waits",
        "calls": {"b": line("b", state="waiting"), "d": line("d")},
        "gone": ["c"],
        "circuits": {"f": "open"},
    }


def test_the_time_alone_is_no_change():
    assert changes(EMPTY, msgspec.structs.replace(EMPTY, at=2.0)) == {}


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Served, Scene, Streams]]:
    scene = Scene()
    streams = Streams(scene.read, every=0.02, most=8, stalled_after=0.5, heartbeat=0.1)
    with serving(page(Noted(), Access(TOKEN), streams=streams), send_buffer=4096) as server:
        yield server, scene, streams


@pytest.fixture
def served(running: tuple[Served, Scene, Streams]) -> Served:
    running[1].state = EMPTY
    wait_until(lambda: running[2].open == 0)
    wait_until(lambda: running[0].ask("/state").json()["calls"] == {})  # a state may be as old as an update
    return running[0]


@pytest.fixture
def scene(running: tuple[Served, Scene, Streams]) -> Scene:
    return running[1]


@pytest.fixture
def streams(running: tuple[Served, Scene, Streams]) -> Streams:
    return running[2]


def test_a_stream_begins_with_the_whole_state_and_goes_on_with_changes(served: Served, scene: Scene):
    scene.state = state(line("a"))
    stream = served.stream()
    assert b"text/event-stream" in stream.head()
    name, first = stream.event()
    assert name == "state"
    assert list(first["calls"] or stream.event()[1]["calls"]) == ["a"]
    scene.state = state(line("a"), line("b"))
    name, change = stream.event()
    assert (name, list(change["calls"]), change["gone"]) == ("change", ["b"], [])
    assert "circuits" not in change
    again = served.stream()
    assert list(again.event()[1]["calls"]) == ["a", "b"]
    again.close()
    stream.close()


def test_a_state_has_the_time_at_which_it_is_sent_not_read(served: Served):
    stream = served.stream()
    for at in (stream.event()[1]["at"], served.ask("/state").json()["at"]):
        assert abs(at - time.time()) < 5.0
    stream.close()


def test_all_streams_share_one_reading_and_without_a_stream_nothing_is_read(
    served: Served, scene: Scene, streams: Streams
):
    readers = [served.stream() for _ in range(8)]
    for reader in readers:
        reader.event()
    scene.state = state(line("a"))
    changes = [reader.event()[1] for reader in readers]
    assert len({change["at"] for change in changes}) == 1
    for reader in readers:
        reader.close()
    wait_until(lambda: streams.open == 0)
    before = scene.reads
    served.ask("/nothing")
    assert scene.reads == before


def test_more_streams_than_allowed_are_refused_until_one_ends(served: Served, streams: Streams):
    readers = [served.stream() for _ in range(8)]
    wait_until(lambda: streams.open == 8)
    assert served.ask("/events").status == served.ask("/events", method="HEAD").status == 503
    assert served.ask("/state").status == 200
    readers[0].close()
    wait_until(lambda: streams.open == 7)
    readers[0] = served.stream()
    assert readers[0].event()[0] == "state"
    for reader in readers:
        reader.close()


def test_a_request_for_the_head_of_a_stream_begins_none(served: Served, streams: Streams):
    assert served.ask("/events", method="HEAD").status == 200
    assert streams.open == 0


def test_a_reader_that_takes_nothing_is_dropped_and_others_go_on(served: Served, scene: Scene, streams: Streams):
    scene.state = state(*(line(f"call-{number}", said="x" * 2000) for number in range(200)))
    with ExitStack() as ends:
        for _ in range(3):
            stalled = socket.socket()
            ends.callback(stalled.close)
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stalled.connect(("127.0.0.1", served.port))
            head = f"GET /events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN.value}\r\n\r\n"
            stalled.sendall(head.encode())
        wait_until(lambda: streams.open == 3)
        reader = served.stream()
        while len(reader.event()[1]["calls"]) < 200:
            pass
        wait_until(lambda: streams.open == 1)
        scene.state = state(line("new"))
        assert list(reader.event()[1]["calls"]) == ["new"]
        reader.close()


def test_two_hundred_stalled_readers_do_not_keep_the_page_from_others():
    scene = Scene()
    streams = Streams(scene.read, every=0.02, most=64, stalled_after=5.0)
    with serving(page(Noted(), Access(TOKEN), streams=streams)) as server, ExitStack() as ends:
        for _ in range(200):
            ends.callback(server.stream().close)
        wait_until(lambda: streams.open == 64)
        assert server.ask("/state").json()["headline"] == "no calls"
        assert server.ask("/events").status == 503


@pytest.mark.anyio
async def test_a_reader_that_was_slow_gets_the_whole_state_and_not_what_it_missed(anyio_backend_name: str):
    scene, taken, may_go_on = Scene(), [], anyio.Event()
    streams = Streams(scene.read, every=0.005)

    async def send(message: Any) -> None:
        if body := message.get("body"):
            taken.append(body)
            if len(taken) == 2:
                await may_go_on.wait()
            if len(taken) == 3:
                group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(streams.serve, anyio.sleep_forever, send, [])
        while scene.reads < 2:
            await anyio.sleep(0.001)
        for number in range(4):
            scene.state = state(line(f"call-{number}"))
            seen = (await streams.frame()).number
            assert await streams.frame(seen - 1)
            await anyio.sleep(0.006)
        may_go_on.set()
        with anyio.fail_after(5):
            await anyio.sleep_forever()
    assert [body.partition(b"\n")[0] for body in taken] == [b"event: state", b"event: change", b"event: state"]
    assert b"call-3" in taken[-1]


def test_a_quiet_stream_gets_a_comment_now_and_then(served: Served):
    stream = served.stream()
    stream.event()
    assert b":\n\n" in stream.until(b":\n\n")
    stream.close()
