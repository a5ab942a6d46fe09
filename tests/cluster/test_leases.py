"""Leases and outcomes with real servers and processes: stopped, cut off and killed, a call has one recorded outcome."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.nats.cluster import Cluster
from adapters.nats.engine import Engine
from recovery.service import Recovery
from tests.cluster import guardian
from tests.cluster.holder import Bodies, linked
from tests.cluster.proxy import Proxy
from tests.cluster.servers import NatsServer

pytestmark = pytest.mark.anyio

LEASE = 2.0


class Holders:
    """Workers on one server, and the calls that this process submits."""

    def __init__(self, server: NatsServer, prefix: str, folder: Path, lease: float = LEASE) -> None:
        self.server, self.prefix, self.folder, self.lease = server, prefix, folder, lease
        self.workers: list[subprocess.Popen[bytes]] = []
        self.engine: Engine
        self.cluster: Cluster

    async def start(self, node: str, url: str | None = None) -> subprocess.Popen[bytes]:
        """Start the worker of *node*, and wait until it works."""
        works = len(self.said("works", node))
        with (self.folder / f"{node}.log").open("ab") as log:
            worker = guardian.start(
                [
                    sys.executable,
                    "-m",
                    "tests.cluster.holder",
                    url or self.server.url,
                    self.prefix,
                    node,
                    str(self.folder),
                    str(self.lease),
                ],
                stdout=log,
                stderr=log,
            )
        self.workers.append(worker)
        await self.until(lambda: len(self.said("works", node)) > works)
        return worker

    def said(self, what: str, node: str) -> list[dict[str, Any]]:
        """What the bodies of *node* said that begins with *what*."""
        file = self.folder / "said"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        found = [json.loads(line) for line in lines]
        return [one for one in found if one["what"].startswith(what) and one["node"] == node]

    async def until(self, is_so: Callable[[], object], within: float = 15.0) -> None:
        """Wait until *is_so* returns something true."""
        end = time.monotonic() + within
        while not is_so():
            assert time.monotonic() < end, self.story()
            await asyncio.sleep(0.02)

    async def until_said(self, what: str, node: str, within: float = 15.0) -> dict[str, Any]:
        """Wait until a body of *node* says *what*."""
        await self.until(lambda: self.said(what, node), within)
        return self.said(what, node)[0]

    def story(self) -> str:
        """What the bodies and the workers said."""
        return "\n".join(
            f"{file.name}: {file.read_text(encoding='utf-8', errors='replace')}"
            for file in [self.folder / "said", *self.folder.glob("*.log")]
            if file.exists()
        )

    def may_end(self, node: str) -> None:
        """Let the bodies of *node* return."""
        (self.folder / f"end-{node}").touch()

    async def stored(self, call: str) -> Any:
        """The record of *call*, and its place."""
        found = await self.engine.read(call)
        assert found is not None
        return found


@asynccontextmanager
async def holders(server: NatsServer, prefix: str, folder: Path, lease: float = LEASE) -> AsyncIterator[Holders]:
    """A holders whose workers are killed in the end."""
    made = Holders(server, prefix, folder, lease)
    service = Recovery()
    bodies = Bodies(folder, "test")
    bodies.define(service)
    try:
        async with (
            linked(server.url, prefix, lease) as link,
            Cluster(service, node="test", connect=lambda: linked(server.url, prefix, lease)) as cluster,
        ):
            made.engine, made.cluster = link.engine, cluster
            yield made
    finally:
        for worker in made.workers:
            guardian.kill(worker)


@pytest.fixture
def proxy(server: NatsServer) -> Iterator[Proxy]:
    with Proxy(server.port) as made:
        yield made


@pytest.mark.parametrize("operation", ["hold", "hold_plainly"])
async def test_a_worker_that_was_stopped_beyond_its_lease_has_lost_its_call(
    server: NatsServer, prefix: str, tmp_path: Path, operation: str
) -> None:
    async with holders(server, prefix, tmp_path) as made:
        first = await made.start("a")
        handle = await made.cluster.submit(operation, "one")
        began = await made.until_said("begins", "a")
        first.send_signal(signal.SIGSTOP)
        await made.start("b")
        taken = await made.until_said("begins", "b")
        assert taken["fence"] > began["fence"]
        await asyncio.sleep(0.3)  # its checkpoint is written
        first.send_signal(signal.SIGCONT)
        await made.until_said("is cancelled", "a")
        if operation == "hold_plainly":  # it returns its result all the same
            await made.until_said("is superseded", "a")
        await asyncio.sleep(0.5)  # in which "a" would write what it has
        running = await made.stored(handle.call)
        assert (running.record.state, running.record.node, running.record.fence) == ("running", "b", taken["fence"])
        assert await made.engine.payload(handle.call, "saved") == b'"b"'
        made.may_end("b")
        assert await handle.result(10.0) == "b"
        ended = await made.stored(handle.call)
        await asyncio.sleep(LEASE)
        assert await made.stored(handle.call) == ended, made.story()
        assert len(made.said("begins", "a") + made.said("begins", "b")) == 2


@pytest.mark.parametrize("how", ["cut", "silent"])
async def test_a_node_that_is_cut_off_ends_its_call_and_delivers_the_outcome_when_it_is_back(
    server: NatsServer, proxy: Proxy, prefix: str, tmp_path: Path, how: Any
) -> None:
    async with holders(server, prefix, tmp_path) as made:
        await made.start("a", proxy.url)
        handle = await made.cluster.submit("hold", "one")
        await made.until_said("begins", "a")
        proxy.cut(how)
        made.may_end("a")
        await made.until_said("holds its outcome", "a", 20.0)
        assert (await made.stored(handle.call)).record.state == "running"
        proxy.heal()
        assert await handle.result(20.0) == "a"
        assert made.said("is superseded", "a") == []


async def test_an_outcome_that_comes_back_after_another_node_took_the_call_is_superseded(
    server: NatsServer, proxy: Proxy, prefix: str, tmp_path: Path
) -> None:
    async with holders(server, prefix, tmp_path) as made:
        await made.start("a", proxy.url)
        handle = await made.cluster.submit("hold", "one")
        began = await made.until_said("begins", "a")
        proxy.cut()
        await made.start("b")
        await made.until_said("begins", "b")
        assert made.said("is cancelled", "a") == [], "a body that may go on without the servers was stopped"
        made.may_end("a")
        await made.until_said("holds its outcome", "a", 20.0)
        made.may_end("b")
        assert await handle.result(10.0) == "b"
        ended = await made.stored(handle.call)
        proxy.heal()
        said = await made.until_said("is superseded", "a", 20.0)
        assert "it succeeded on b" in said["what"]
        assert await made.stored(handle.call) == ended
        why = [sys.executable, "-m", "adapters", "why", str(tmp_path / "a.db"), f"{handle.call}@{began['fence']}"]
        found = await anyio.run_process(why, check=False)
        assert b"it succeeded on b" in found.stdout, found


async def test_a_call_that_needs_its_cluster_is_cancelled_when_its_lease_ends(
    server: NatsServer, proxy: Proxy, prefix: str, tmp_path: Path
) -> None:
    async with holders(server, prefix, tmp_path) as made:
        await made.start("a", proxy.url)
        handle = await made.cluster.submit("hold_connected", "one")
        await made.until_said("begins", "a")
        cut = time.time()
        proxy.cut()
        cancelled = await made.until_said("is cancelled", "a")
        assert LEASE / 2 < cancelled["at"] - cut < LEASE + 0.5
        await made.start("b")
        await made.until_said("begins", "b")
        made.may_end("b")
        assert await handle.result(10.0) == "b"


async def test_a_process_that_is_killed_while_cut_off_delivers_its_outcome_after_a_restart(
    server: NatsServer, proxy: Proxy, prefix: str, tmp_path: Path
) -> None:
    async with holders(server, prefix, tmp_path, lease=20.0) as made:
        worker = await made.start("a", proxy.url)
        handle = await made.cluster.submit("hold", "one")
        await made.until_said("begins", "a")
        proxy.cut()
        made.may_end("a")
        await made.until_said("holds its outcome", "a", 20.0)
        guardian.kill(worker)
        proxy.heal()
        await made.start("a", proxy.url)
        assert await handle.result(15.0) == "a"
        assert len(made.said("begins", "a")) == 1, "it ran again: its outcome was not delivered"
