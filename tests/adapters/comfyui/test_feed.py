"""The websocket of a ComfyUI server: the stand-in in both dialects, on asyncio and trio."""

from __future__ import annotations

import base64
import hashlib
import json
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from adapters.comfyui.feed import Feed, FeedState
from adapters.comfyui.messages import Executed, Executing, Message, Started, Step, Succeeded
from adapters.servers.ports import free_port
from tests.adapters.comfyui import graphs
from tests.adapters.comfyui.conftest import Start
from tests.adapters.comfyui.odd_servers import Asked, OddServer, answer, odd_server, own_certificate

pytestmark = pytest.mark.anyio

ID = "00000000-0000-5000-8000-000000000001"


class Listener:
    """What a feed has told."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.messages: list[Message] = []
        self.states: list[FeedState] = []

    async def until(self, is_so: Callable[[], object]) -> None:
        with anyio.fail_after(10):
            while not is_so():
                await anyio.sleep(0.005)

    async def until_state(self, state: FeedState, times: int = 1) -> None:
        await self.until(lambda: self.states.count(state) >= times)


@asynccontextmanager
async def listening(url: str, timeout: float = 10.0) -> AsyncIterator[Listener]:
    """A feed that runs during the block. Its end must be prompt."""
    listener = Listener(Feed(url, timeout=timeout))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.feed.run, listener.messages.append, listener.states.append)
        yield listener
        began = anyio.current_time()
        tasks.cancel_scope.cancel()
    assert anyio.current_time() - began < 0.5


def frame(opcode: int, data: bytes, *, is_last: bool = True) -> bytes:
    size = len(data)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return bytes([opcode | (0x80 if is_last else 0)]) + length + data


def handshake(asked: Asked, *frames: bytes) -> bytes:
    (key,) = (one[19:] for one in asked.head.split("\r\n") if one.startswith("Sec-WebSocket-Key: "))
    proof = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
    head = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    return f"{head}{proof}\r\n\r\n".encode() + b"".join(frames)


def message(kind: str = "execution_start") -> bytes:
    return json.dumps({"type": kind, "data": {"prompt_id": ID}}).encode()


@asynccontextmanager
async def odd_feed(*frames: bytes) -> AsyncIterator[tuple[OddServer, Listener]]:
    """A server that sends *frames* after its handshake, and is gone."""
    async with odd_server(lambda asked: handshake(asked, *frames)) as server, listening(server.url) as listener:
        yield server, listener


@pytest.mark.parametrize("dialect", ["old", "new"])
async def test_a_run_is_told_without_its_pictures(standin: Start, dialect: str) -> None:
    server = standin(dialect=dialect)
    async with listening(server.url) as listener:
        await listener.until_state("open")
        prompt_id = str(uuid.uuid4())
        body = {"prompt": graphs.picture(1, 0.1), "prompt_id": prompt_id, "client_id": listener.feed.client_id}
        await anyio.to_thread.run_sync(server.ask, "POST", "/prompt", body)
        await listener.until(lambda: Executing(prompt_id, None) in listener.messages)
    kinds = [type(one) for one in listener.messages]
    assert kinds[0] is Started
    assert {Step, Executed, Succeeded} <= set(kinds)
    assert {one.prompt_id for one in listener.messages} == {prompt_id}


async def test_a_death_is_a_cut_and_then_a_refusal_and_a_new_server_gets_a_new_name(standin: Start) -> None:
    server = standin()
    async with listening(server.url) as listener:
        await listener.until_state("open")
        first = listener.feed.client_id
        server.kill(signal.SIGKILL)
        await listener.until_state("refused")
        await anyio.to_thread.run_sync(server.start)
        await listener.until_state("open", times=2)
        assert listener.feed.client_id != first
        body = {"prompt": graphs.picture(), "prompt_id": ID, "client_id": listener.feed.client_id}
        await anyio.to_thread.run_sync(server.ask, "POST", "/prompt", body)
        await listener.until(lambda: Succeeded(ID) in listener.messages)
    assert listener.states[:3] == ["open", "cut", "refused"]
    assert set(listener.states[2:-1]) == {"refused"}


async def test_the_name_of_a_refused_connection_is_kept() -> None:
    async with listening(f"http://127.0.0.1:{free_port('127.0.0.1')}") as listener:
        name = listener.feed.client_id
        await listener.until_state("refused", times=2)
        assert listener.feed.client_id == name


async def test_messages_in_pieces_are_put_together_and_pictures_passed_over() -> None:
    text = message()
    frames = [
        frame(1, text[:9], is_last=False),
        frame(9, b"ping"),
        frame(0, text[9:]),
        frame(2, b"\0\0\0\1", is_last=False),
        frame(0, text),
        frame(1, b"no message"),
        frame(1, message("execution_success")),
    ]
    async with odd_feed(*frames) as (_, listener):
        await listener.until_state("cut")
    assert listener.messages[:2] == [Started(ID), Succeeded(ID)]


@pytest.mark.parametrize(
    ("last", "state"),
    [(frame(8, b"\x03\xe9"), "closed"), (b"", "cut"), (b"\x81\x7f" + (2**27).to_bytes(8, "big"), "closed")],
    ids=["a close frame", "no close frame", "a message too big"],
)
async def test_how_a_connection_ends(last: bytes, state: FeedState) -> None:
    async with odd_feed(frame(1, message()), last) as (_, listener):
        await listener.until_state(state)
    assert listener.states[:2] == ["open", state]
    assert listener.messages[0] == Started(ID)


@pytest.mark.parametrize("said", [answer(502, b"<html>"), answer(403), answer(200), b"garbage\r\n\r\n", b"", None])
async def test_a_failed_handshake_is_no_sign_of_a_death(said: bytes | None) -> None:
    async with odd_server(said) as server, listening(server.url, timeout=0.05) as listener:
        await listener.until(lambda: len(server.asked) >= 2)
        assert not listener.states
    assert len({one.line for one in server.asked}) == len(server.asked)  # each time another name


async def test_connections_that_end_at_once_come_ever_more_slowly() -> None:
    began = anyio.current_time()
    async with odd_feed() as (server, listener):
        await listener.until(lambda: len(server.asked) >= 3)
        assert anyio.current_time() - began > 0.29  # the first wait is of 0.1 s, and the next one twice as long


async def test_a_path_and_credentials_are_sent_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    async with (
        odd_server(handshake) as server,
        listening(f"http://me:secret@127.0.0.1:{server.port}/comfy") as listener,
    ):
        name = listener.feed.client_id
        await listener.until_state("open")
    assert server.lines[0] == f"GET /comfy/ws?clientId={name} HTTP/1.1"
    assert "\r\nauthorization: basic bwu6c2vjcmv0" in server.asked[0].head.lower()
    assert "bWU6c2VjcmV0" not in caplog.text


async def test_messages_come_over_tls_too() -> None:
    async with (
        odd_server(lambda asked: handshake(asked, frame(1, message())), tls=own_certificate()) as server,
        listening(server.url.replace("http:", "https:")) as listener,
    ):
        await listener.until_state("cut")
    assert listener.messages[0] == Started(ID)


async def test_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "ws_proxy", "socks_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port('127.0.0.1')}")
    async with odd_feed() as (_, listener):
        await listener.until_state("open")


async def test_what_a_callback_raises_ends_the_feed() -> None:
    def fail(_: object) -> None:
        raise LookupError

    async with odd_server(handshake) as server:
        with pytest.raises(LookupError):
            await Feed(server.url).run(fail, fail)
