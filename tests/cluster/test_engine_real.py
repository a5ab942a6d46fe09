"""JetStream is an engine: the suite of the port, on one server and on three."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from adapters.nats.connection import connect
from adapters.nats.link import Link
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
