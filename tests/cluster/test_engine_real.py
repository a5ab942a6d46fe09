"""JetStream is an engine: the suite of the port, on one server and on three."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from adapters.nats.connection import connect
from adapters.nats.link import Link
from adapters.nats.names import name_of
from adapters.nats.record import Change, Standing, Stored
from adapters.nats.transitions import moved, submitted, succeeded
from tests.adapters.nats.conformance import LEASE, EngineSuite
from tests.cluster.servers import NatsCluster, NatsServer


class RealServers:
    """Two connections to real servers."""

    def __init__(self, link: Link, other: Link) -> None:
        self.engine, self.other = link.engine, other.engine

    async def passes(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@asynccontextmanager
async def linked(url: str | list[str], prefix: str) -> AsyncIterator[RealServers]:
    made = connect(url, prefix=prefix, lease=LEASE), connect(url, prefix=prefix, lease=LEASE)
    async with made[0] as link, made[1] as other:
        yield RealServers(link, other)


class TestOneServer(EngineSuite):
    """The suite, on one server."""

    @pytest.fixture
    async def servers(self, server: NatsServer, prefix: str) -> AsyncIterator[RealServers]:
        async with linked(server.url, prefix) as servers:
            yield servers


class TestThreeServers(EngineSuite):
    """The suite, on three servers, which keep each message three times."""

    @pytest.fixture
    async def servers(self, three_servers: NatsCluster, prefix: str) -> AsyncIterator[RealServers]:
        async with linked(three_servers.urls, prefix) as servers:
            yield servers


@pytest.mark.anyio
async def test_arguments_and_checkpoints_that_were_dropped_do_not_come_back_when_the_server_is_killed(
    server: NatsServer, prefix: str
):
    new = submitted(name_of("render", "k"), b"[1]", 0.0)
    ended = submitted(name_of("render", "ended"), b"[1]", 0.0)
    async with connect(server.url, prefix=prefix) as link:
        first = await link.engine.write(msgspec.structs.replace(new, saved=b"3"), 0)
        change = moved(Stored(new.record, first), "gpu-b", 1.0)
        assert isinstance(change, Change)
        await link.engine.write(change, first)
        first = await link.engine.write(ended, 0)
        await link.engine.write(succeeded(ended.record, b"1", Standing(), 1.0), first)
        await asyncio.sleep(2.5)  # the servers delete what has a lifetime of a second
        await asyncio.to_thread(server.restart)
        while not link.is_connected:
            await asyncio.sleep(0.05)
        assert await link.engine.payload(new.record.call, "args") == b"[1]"
        assert await link.engine.payload(new.record.call, "saved") is None
        assert await link.engine.payload(ended.record.call, "args") is None
