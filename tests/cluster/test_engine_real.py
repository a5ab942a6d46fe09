"""JetStream is an engine: the suite of the port, on one server and on three."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from adapters.nats.connection import connect
from adapters.nats.link import Link
from tests.adapters.nats.conformance import LEASE, EngineSuite
from tests.cluster.servers import NatsCluster, NatsServer


class RealFleet:
    """Two connections to real servers."""

    def __init__(self, link: Link, other: Link) -> None:
        self.engine, self.other = link.engine, other.engine

    async def passes(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class TestOneServer(EngineSuite):
    """The suite, on one server."""

    @pytest.fixture
    async def fleet(self, server: NatsServer, prefix: str) -> AsyncIterator[RealFleet]:
        async with connect(server.url, prefix=prefix, lease=LEASE) as link:
            async with connect(server.url, prefix=prefix, lease=LEASE) as other:
                yield RealFleet(link, other)


class TestThreeServers(EngineSuite):
    """The suite, on three servers, which keep each message three times."""

    @pytest.fixture
    async def fleet(self, three_servers: NatsCluster, prefix: str) -> AsyncIterator[RealFleet]:
        async with connect(three_servers.urls, prefix=prefix, lease=LEASE) as link:
            async with connect(three_servers.urls, prefix=prefix, lease=LEASE) as other:
                yield RealFleet(link, other)
