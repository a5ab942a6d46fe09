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


class RealFleet:
    """Two connections to real servers."""

    def __init__(self, link: Link, other: Link) -> None:
        self.engine, self.other = link.engine, other.engine

    async def passes(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@asynccontextmanager
async def linked(url: str | list[str], prefix: str) -> AsyncIterator[RealFleet]:
    made = connect(url, prefix=prefix, lease=LEASE), connect(url, prefix=prefix, lease=LEASE)
    async with made[0] as link, made[1] as other:
        yield RealFleet(link, other)


class TestOneServer(EngineSuite):
    """The suite, on one server."""

    @pytest.fixture
    async def fleet(self, server: NatsServer, prefix: str) -> AsyncIterator[RealFleet]:
        async with linked(server.url, prefix) as fleet:
            yield fleet


class TestThreeServers(EngineSuite):
    """The suite, on three servers, which keep each message three times."""

    @pytest.fixture
    async def fleet(self, three_servers: NatsCluster, prefix: str) -> AsyncIterator[RealFleet]:
        async with linked(three_servers.urls, prefix) as fleet:
            yield fleet
