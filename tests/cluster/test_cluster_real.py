"""Two nodes on a real server: what the machines in memory do, with real leases and real time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from adapters.nats import Cluster, RemoteCallError
from adapters.nats.connection import connect
from adapters.nats.names import Lane, Subjects
from recovery import Recovery, context
from tests.cluster.servers import NatsServer

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def node(
    server: NatsServer, prefix: str, name: str, body: Callable[..., Any], *, works: bool = True, **settings: Any
) -> AsyncIterator[Cluster]:
    """A node that runs calls of "render"."""
    service = Recovery(enable_logging=False)
    render = service.recoverable("render", **{"jitter": "none", "initial_delay": 0.1, **settings})(body)
    async with Cluster(service, server.url, node=name, prefix=prefix) as cluster:
        working = asyncio.create_task(cluster.work(["render"])) if works else None
        yield cluster
        await cluster.drain(0.0)
        if working is not None:
            await asyncio.wait_for(working, 10.0)
    del render


async def double(number: int) -> int:
    if context.attempt() == 1:
        context.checkpoint(number)
        raise ConnectionError("reset")
    assert context.saved() == number
    return 2 * number


async def test_calls_run_on_another_node_and_come_back(server: NatsServer, prefix: str) -> None:
    async with node(server, prefix, "a", double, works=False) as a, node(server, prefix, "b", double):
        handles = [await a.submit("render", number, idempotency_key=f"n {number}") for number in range(10)]
        assert [await handle.result(20.0) for handle in handles] == [2 * number for number in range(10)]
        assert (await handles[0].status()).node == "b"
        assert await (await a.submit("render", 3, idempotency_key="n 3")).result(5.0) == 6


async def test_a_long_retry_comes_when_it_is_due(server: NatsServer, prefix: str) -> None:
    began: list[float] = []

    async def render() -> None:
        began.append(time.monotonic())
        if context.attempt() == 1:
            raise ConnectionError("reset")

    async with node(server, prefix, "a", render, initial_delay=3.0) as a:
        handle = await a.submit("render")
        await handle.result(20.0)
        assert began[1] - began[0] == pytest.approx(3.0, abs=0.15)
        assert (await handle.status()).retries == 1


async def test_a_call_that_runs_is_handed_to_the_next_worker(server: NatsServer, prefix: str) -> None:
    fences: list[int] = []

    async def render() -> int:
        fences.append(context.fence())
        if len(fences) == 1:
            await asyncio.sleep(60.0)
        return len(fences)

    async with node(server, prefix, "b", render, works=False) as b:
        async with node(server, prefix, "a", render):
            handle = await b.submit("render")
            async with asyncio.timeout(10.0):
                while not fences:
                    await asyncio.sleep(0.02)
        async with node(server, prefix, "c", render):
            assert await handle.result(10.0) == 2
        assert fences[1] > fences[0]


async def test_a_call_that_runs_is_cancelled(server: NatsServer, prefix: str) -> None:
    async def render() -> None:
        await asyncio.sleep(60.0)

    async with node(server, prefix, "a", render) as a:
        handle = await a.submit("render")
        async with asyncio.timeout(10.0):
            while (await handle.status()).state != "running":
                await asyncio.sleep(0.02)
        await handle.cancel("enough")
        with pytest.raises(RemoteCallError, match="enough"):
            await handle.result(15.0)


async def test_what_a_newer_release_wrote_is_counted_by_the_cluster(server: NatsServer, prefix: str) -> None:
    async with node(server, prefix, "a", double) as a, connect(server.url, prefix=prefix) as link:
        handle = await a.submit("render", 1)
        await link.ask(Subjects(prefix).queue(Lane("render", "normal", ""), "render/newer"), b'{"leg":1,"colour":3}')
        assert await handle.result(20.0) == 2
        async with asyncio.timeout(10.0):
            while not a.refused["a queue message is of a newer release"]:
                await asyncio.sleep(0.1)
