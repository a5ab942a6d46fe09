"""The servers in memory are an engine."""

from __future__ import annotations

import pytest

from adapters.nats.memory import MemoryServers
from tests.adapters.nats.conformance import LEASE, EngineSuite


class InMemory:
    """Servers in memory, and their time."""

    def __init__(self) -> None:
        self.time = 1_000_000.0
        servers = MemoryServers(lambda: self.time, LEASE)
        self.engine, self.other = servers.connect(), servers.connect()

    async def passes(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class TestMemoryEngine(EngineSuite):
    """The suite, on servers in memory."""

    @pytest.fixture
    def servers(self) -> InMemory:
        return InMemory()
