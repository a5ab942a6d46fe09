"""Servers that a launcher holds: real small ones, with real signals."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from adapters.launcher import Launcher, RestartPolicy, Server
from adapters.memory import MemoryStore
from events.operation_events import OperationSucceeded
from recovery import presets
from tests.adapters.servers.small_servers import READY, get, small_server, starts
from tests.recorded_events import events_of

pytestmark = pytest.mark.anyio

QUICK = RestartPolicy(delay=0.01)


def launcher_at(folder: Path, store: MemoryStore | None = None) -> Launcher:
    return Launcher(presets.launcher(store=store or MemoryStore()), folder)


async def until_restarted(server: Server, starts: int) -> None:
    with anyio.fail_after(10):
        while server.starts < starts or not server.is_ready:
            await anyio.sleep(0.005)


async def test_a_block_begins_when_the_server_is_ready_and_ends_it(tmp_path: Path) -> None:
    launcher = launcher_at(tmp_path)
    ended = events_of(launcher.service, OperationSucceeded)
    async with launcher, launcher.server(small_server(tmp_path), READY, name="small") as server:
        assert await get(server.url) == 200
        assert (server.state, [(server.pid, server.port)]) == ("ready", starts(tmp_path))
        [call] = launcher.service.calls.running()
        assert (call.operation, call.key) == ("server", "small")
    assert server.state == "stopped"
    assert [one.operation for one in ended] == ["server"]
    with pytest.raises(OSError):
        await get(server.url)
