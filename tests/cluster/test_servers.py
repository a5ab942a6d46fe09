"""What the real servers keep when they are killed, stopped and started again; and that no test leaves one behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import psutil
import pytest
from nats.aio.client import Client
from nats.errors import Error
from nats.js.errors import APIError

from tests.cluster import guardian
from tests.cluster.servers import NatsCluster, NatsServer
from tests.cluster.streams import commit, new_call, scheduled, set_up, take
from tests.until import wait_until

pytestmark = pytest.mark.anyio

PARENT = """
import sys, time
from pathlib import Path
from tests.cluster.servers import NatsServer
server = NatsServer(Path(sys.argv[1]))
server.start()
server.wait_ready()
if sys.argv[2] == "stopped":
    server.stop()
print(server.pid, flush=True)
time.sleep(60)
"""


async def quiet(_: Exception) -> None:
    """Of a client whose server dies, errors are expected."""


@asynccontextmanager
async def connected(*urls: str) -> AsyncIterator[Client]:
    """A client that connects again as long as it takes."""
    client = await nats.connect(
        [*urls], error_cb=quiet, reconnect_time_wait=0.05, max_reconnect_attempts=-1, connect_timeout=1
    )
    try:
        yield client
    finally:
        await client.close()


async def committed(client: Client, prefix: str, key: str, within: float = 30.0) -> float:
    """Write a new call, again and again until the servers take it; returns the seconds that this took."""
    began = time.monotonic()
    while True:
        try:
            answer = await commit(client, *new_call(prefix, key), timeout=0.5)
        except Error:
            answer = {}
        if "seq" in answer or answer.get("error", {}).get("err_code") == 10071:  # it was written, the answer was lost
            return time.monotonic() - began
        assert time.monotonic() - began < within, f"not written within {within:.0f} s: {answer}"
        await asyncio.sleep(0.02)


async def keys(client: Client, prefix: str) -> set[str]:
    """The keys of the calls that the stream holds."""
    while True:
        try:
            info = await client.jetstream().stream_info(prefix, subjects_filter=f"{prefix}.call.>")
        except (Error, APIError):
            await asyncio.sleep(0.05)
            continue
        return {subject.rpartition(".")[2] for subject in info.state.subjects or {}}


async def test_a_killed_server_keeps_every_acknowledged_call(server: NatsServer, prefix: str):
    async with connected(server.url) as client:
        await set_up(client, prefix)
        written: set[str] = set()

        async def submit() -> None:
            for number in range(200):
                await committed(client, prefix, f"k{number}")
                written.add(f"k{number}")

        submitting = asyncio.create_task(submit())
        for _ in range(3):
            before = len(written)
            while len(written) < before + 40:
                await asyncio.sleep(0.002)
            await asyncio.to_thread(server.restart)
        await submitting
        assert await keys(client, prefix) == written == {f"k{number}" for number in range(200)}


async def test_a_schedule_of_a_killed_server_fires_after_its_restart(server: NatsServer, prefix: str):
    async with connected(server.url) as client:
        await set_up(client, prefix)
        await commit(client, scheduled(prefix, "k", 0.5))
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(0.6)  # it falls due meanwhile
        await asyncio.to_thread(server.restart)
        assert (await take(client, prefix)).subject == f"{prefix}.queue.normal.=.render.k"


async def test_a_stopped_server_goes_on_where_it_was(server: NatsServer, prefix: str):
    async with connected(server.url) as client:
        await set_up(client, prefix)
        server.stop()
        with pytest.raises(Error):
            await commit(client, *new_call(prefix, "a"), timeout=0.3)
        server.cont()
        await committed(client, prefix, "b")
        assert await keys(client, prefix) == {"a", "b"}  # what it got while it was stopped is written, too


async def test_three_servers_go_on_with_one_dead(three_servers: NatsCluster, prefix: str):
    async with connected(*three_servers.urls) as client:
        await set_up(client, prefix, replicas=3)
        leader = three_servers.leader(prefix)
        follower = next(one for one in three_servers if one is not leader)
        follower.kill()
        assert await committed(client, prefix, "follower-dead") < 5
        await asyncio.to_thread(follower.restart)
        await asyncio.to_thread(three_servers.wait_current)
        leader = three_servers.leader(prefix)
        leader.kill()
        began = time.monotonic()
        await committed(client, prefix, "elected")
        print(f"writes again {time.monotonic() - began:.1f} s after the leader of the stream was killed")
        assert three_servers.leader(prefix) is not leader
        assert await keys(client, prefix) == {"follower-dead", "elected"}
        await asyncio.to_thread(leader.restart)
        await asyncio.to_thread(three_servers.wait_current)
        await asyncio.to_thread(wait_until, lambda: leader.streams()[prefix]["state"]["messages"] == 6, within=20.0)


async def test_three_servers_go_on_with_the_leader_stopped(three_servers: NatsCluster, prefix: str):
    async with connected(*three_servers.urls) as client:
        await set_up(client, prefix, replicas=3)
        leader = three_servers.leader(prefix)
        leader.stop()
        began = time.monotonic()
        async with connected(*(one.url for one in three_servers.running)) as another:
            await committed(another, prefix, "k")
        print(f"writes again {time.monotonic() - began:.1f} s after the leader of the stream was stopped")
        leader.cont()
        await asyncio.to_thread(three_servers.wait_current)
        assert await keys(client, prefix) == {"k"}


async def test_memory_and_processor_time_are_those_of_the_server(server: NatsServer):
    assert 5e6 < server.memory() < 300e6
    assert server.cpu() >= 0.0
    assert "nats-server" in psutil.Process(server.pid).name()


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_killed_test_run_leaves_no_server_behind(state: str, tmp_path: Path):
    command = [sys.executable, "-c", PARENT, str(tmp_path), state]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent.parent) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        os.kill(parent.pid, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(pid))


def test_a_process_that_has_ended_is_forgotten(tmp_path: Path):
    process = guardian.start(["sh", "-c", "exit 3"])
    assert guardian.ended(process) == 3
    guardian.kill(process)
