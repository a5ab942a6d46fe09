"""What a client sees behind the proxy, as with a real network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error

from tests.cluster.proxy import Proxy
from tests.cluster.servers import NatsServer

pytestmark = pytest.mark.anyio

ONCE: dict[str, Any] = {
    "allow_reconnect": False,
    "max_reconnect_attempts": 1,
    "reconnect_time_wait": 0.01,
    "connect_timeout": 0.3,
}
"""A client that gives up: 0 attempts would mean for ever."""


async def quiet(_: Exception) -> None:
    """Errors are expected."""


@pytest.fixture
def proxy(server: NatsServer) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Client]:
    """A client behind ``proxy``, and one that answers it."""
    client = await nats.connect(
        proxy.url, error_cb=quiet, reconnect_time_wait=0.05, max_reconnect_attempts=-1, connect_timeout=1
    )
    yield client
    await client.close()


@pytest.fixture
async def echo(server: NatsServer, prefix: str) -> AsyncIterator[str]:
    """A subject on which a client beside the proxy answers with what it gets."""
    async with await nats.connect(server.url) as other:

        async def answer(message: Msg) -> None:
            await message.respond(message.data)

        await other.subscribe(prefix, cb=answer)
        await other.flush()
        yield prefix


async def until(is_so: Callable[[], object]) -> None:
    while not is_so():
        await asyncio.sleep(0.005)


async def test_what_goes_through_it_is_whole(client: Client, echo: str):
    for data in (b"", b"small", bytes(range(256)) * 4000):
        assert (await client.request(echo, data, timeout=5)).data == data


async def test_a_cut_ends_connections_and_refuses_new_ones(proxy: Proxy, client: Client, echo: str):
    proxy.cut()
    await asyncio.wait_for(until(lambda: client.is_reconnecting), 5)
    alone = Client()
    with pytest.raises((Error, OSError)):
        await alone.connect(proxy.url, error_cb=quiet, **ONCE)
    await alone.close()
    proxy.heal()
    await asyncio.wait_for(until(lambda: client.is_connected), 5)
    assert (await client.request(echo, b"again", timeout=5)).data == b"again"


async def test_a_silent_network_loses_nothing_once_it_heals(proxy: Proxy, client: Client, echo: str):
    proxy.cut("silent")
    asked = asyncio.create_task(client.request(echo, b"late", timeout=10))
    await asyncio.sleep(0.2)
    assert not asked.done()
    assert client.is_connected
    proxy.heal()
    assert (await asked).data == b"late"


async def test_a_new_client_of_a_silent_network_waits_and_gives_up(proxy: Proxy):
    proxy.cut("silent")
    alone = Client()
    with pytest.raises((Error, OSError)):
        await alone.connect(proxy.url, error_cb=quiet, **ONCE)
    await alone.close()


async def test_a_delay_takes_each_way_longer_and_keeps_the_order(proxy: Proxy, client: Client, echo: str):
    proxy.delay(0.1)
    began = time.monotonic()
    answers = await asyncio.gather(*(client.request(echo, b"%d" % number, timeout=5) for number in range(100)))
    assert [int(answer.data) for answer in answers] == [*range(100)]
    assert 0.2 <= time.monotonic() - began < 2
    proxy.delay(0.0)
    await client.request(echo, b"", timeout=5)
    began = time.monotonic()
    await client.request(echo, b"", timeout=5)
    assert time.monotonic() - began < 0.1


async def test_clients_of_a_server_that_dies_see_an_end(proxy: Proxy, client: Client, server: NatsServer, echo: str):
    await asyncio.to_thread(server.restart)
    await asyncio.wait_for(until(lambda: client.is_connected and proxy.connections == 1), 10)
    await client.flush()
