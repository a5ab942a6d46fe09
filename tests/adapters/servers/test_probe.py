"""What the answers of a server mean: real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from adapters.servers.probe import Kind, Probe

pytestmark = pytest.mark.anyio


@contextmanager
def port_of(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on which *serve* takes the first connection."""

    def take() -> None:
        with suppress(OSError), listening.accept()[0] as client:
            client.recv(65536)
            serve(client)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        thread = threading.Thread(target=take)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def trickle(client: socket.socket) -> None:
    for _ in range(500):
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.01)


async def test_an_answer_that_has_no_end_is_none() -> None:
    with port_of(trickle) as port:
        async with Probe(timeout=0.1) as probe:
            answer = await probe.ask(f"http://127.0.0.1:{port}/")
    assert answer == (Kind.NONE, "does not answer in time")


async def test_https_that_a_server_does_not_speak_is_no_refused_connection() -> None:
    with port_of(lambda client: client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        async with Probe() as probe:
            answer = await probe.ask(f"https://127.0.0.1:{port}/")
    assert answer.kind is Kind.NONE
    assert "does not speak TLS" in answer.said


async def test_a_full_queue_of_connections_is_no_refused_connection() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(full.getsockname())
        async with Probe(timeout=0.1) as probe:
            answer = await probe.ask(f"http://127.0.0.1:{full.getsockname()[1]}/")
    assert answer.kind is Kind.NONE
