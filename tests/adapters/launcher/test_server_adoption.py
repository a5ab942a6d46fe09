"""Servers that an earlier run of the launcher left: adopted, ended, or stopped in an orderly way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import structs
from msgspec.json import encode

from adapters.launcher import Launcher, RestartPolicy, StoppedBySignal
from adapters.memory import MemoryStore
from adapters.processes.identity import identity_of
from adapters.processes.running import Running, hash_of
from adapters.processes.tree import VARIABLE
from adapters.servers.ports import free_port
from adapters.sqlite import SQLiteStore
from events.operation_events import GaveUp, OperationStarted
from recovery import presets
from tests.adapters.launcher.test_server import held
from tests.adapters.processes.test_command import is_alive
from tests.adapters.processes.test_orphans import has_begun
from tests.adapters.servers.small_servers import READY, get, small_server, starts
from tests.adapters.sqlite.test_kill import eventually
from tests.recorded_events import events_of
from tests.slow import few

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

LAUNCHER = """
import sys
from pathlib import Path
import anyio
from adapters.launcher import Launcher
from adapters.launcher import RestartPolicy
from adapters.sqlite import SQLiteStore
from recovery import presets
folder = Path(sys.argv[1])
async def main():
    async with Launcher(presets.launcher(store=SQLiteStore(folder / "journal.db")), folder) as launcher:
        launcher.resume()
        policy = RestartPolicy(max_restarts=0)
        async with launcher.server(sys.argv[3:], sys.argv[2], restarts=policy, name="small"):
            (folder / "held").touch()
            await anyio.sleep(60)
anyio.run(main)
"""


async def test_the_server_of_a_killed_launcher_lives_on_and_is_adopted(tmp_path: Path) -> None:
    argv = small_server(tmp_path)
    killed = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(tmp_path), READY, *argv])
    try:
        eventually((tmp_path / "held").exists)
    finally:
        killed.kill()
        killed.wait(10)
    [(pid, port)] = starts(tmp_path)
    service = presets.launcher(store=SQLiteStore(tmp_path / "journal.db"))
    begun = events_of(service, OperationStarted)
    async with Launcher(service, tmp_path) as launcher:
        launcher.resume()
        async with launcher.server(argv, READY, name="small") as server:
            assert (server.pid, server.port, await get(server.url)) == (pid, port, 200)
        assert not is_alive(pid)
    assert (len(begun), len(starts(tmp_path))) == (1, 1)


@contextmanager
def orphan(folder: Path, argv: Sequence[str], **changes: Any) -> Iterator[int]:
    """A server as a killed launcher leaves it, but for *changes* to the file that names it."""
    port, mark = free_port("127.0.0.1"), uuid.uuid4().hex
    words = [word.replace("{port}", str(port)) for word in argv]
    process = subprocess.Popen(words, cwd=folder, start_new_session=True, env={**os.environ, VARIABLE: mark})
    eventually(lambda: has_begun(process.pid) and starts(folder))
    named = Running(mark=mark, argv=hash_of(words), launcher=1, process=identity_of(process.pid))
    logs = folder / ".recovery/logs/servers"
    logs.mkdir(parents=True)
    (logs / "small.running").write_bytes(encode(structs.replace(named, **changes)) + b"\n")
    (logs / "small.port").write_text(str(port))
    try:
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@pytest.mark.parametrize(
    ("faults", "changes"),
    few([({"other": "--lowvram"}, {}), ({}, {"ending": "cancelled"})], ({"other": "--lowvram"}, {})),
)
async def test_a_server_is_ended_before_another_starts(
    faults: dict[str, str], changes: dict[str, str], tmp_path: Path
) -> None:
    with orphan(tmp_path, small_server(tmp_path), **changes) as pid:
        async with held(tmp_path, small_server(tmp_path, **faults), name="small") as server:
            assert not is_alive(pid)
            assert (server.pid, len(starts(tmp_path))) == (starts(tmp_path)[1][0], 2)


@pytest.mark.slow
async def test_an_adopted_server_that_crashes_is_started_again(tmp_path: Path) -> None:
    with orphan(tmp_path, small_server(tmp_path)) as pid:
        async with Launcher(presets.launcher(store=MemoryStore()), tmp_path) as launcher:
            policy = RestartPolicy(delay=0.0)
            async with launcher.server(small_server(tmp_path), READY, restarts=policy, name="small") as server:
                assert server.pid == pid
                os.kill(pid, signal.SIGKILL)
                while server.starts == 1:
                    await anyio.sleep(0.005)
                await server.until_ready()
                assert server.port == starts(tmp_path)[0][1]


async def test_a_signal_ends_the_server_and_the_next_run_goes_on_with_the_call(tmp_path: Path) -> None:
    store = MemoryStore()
    with pytest.raises(StoppedBySignal):
        async with held(tmp_path, small_server(tmp_path), store, name="small"):
            os.kill(os.getpid(), signal.SIGTERM)
            await anyio.sleep(10)
    assert not is_alive(starts(tmp_path)[0][0])
    service = presets.launcher(store=store)
    async with Launcher(service, tmp_path) as launcher:
        launcher.resume()
        async with launcher.server(small_server(tmp_path, other="--lowvram"), READY, name="small"):
            pass
    assert len(starts(tmp_path)) == 2


KILLED_BEFORE_THE_SIGNAL = LAUNCHER.replace(
    'name="small"', 'name="small", before_stop=lambda pid: os.kill(os.getpid(), signal.SIGKILL)'
).replace("anyio.sleep(60)", "anyio.sleep(0)").replace("import sys", "import os, signal, sys")  # fmt: skip


@pytest.mark.slow
async def test_a_kill_between_the_note_of_an_end_and_the_signal_lets_the_next_run_end_it(tmp_path: Path) -> None:
    argv, told = small_server(tmp_path), list[int]()
    launch = [sys.executable, "-c", KILLED_BEFORE_THE_SIGNAL, str(tmp_path), READY, *argv]
    assert subprocess.run(launch, timeout=20).returncode == -signal.SIGKILL
    [(pid, _)] = starts(tmp_path)
    assert is_alive(pid)
    async with held(tmp_path, argv, name="small", before_stop=told.append) as server:
        assert (told, server.pid != pid, is_alive(pid)) == ([pid], True, False)


@pytest.mark.slow
async def test_no_server_is_started_that_the_program_does_not_ask_for_again(tmp_path: Path) -> None:
    store = MemoryStore()
    with pytest.raises(StoppedBySignal):
        async with held(tmp_path, small_server(tmp_path), store, name="small"):
            os.kill(os.getpid(), signal.SIGTERM)
            await anyio.sleep(10)
    service = presets.launcher(store=store)
    gave_up = events_of(service, GaveUp)
    async with Launcher(service, tmp_path) as launcher:
        launcher.resume()
    assert ([one.operation for one in gave_up], len(starts(tmp_path))) == (["server"], 1)


@pytest.mark.slow
async def test_a_crash_loop_that_asked_is_tried_again_by_the_next_run(tmp_path: Path) -> None:
    argv = small_server(tmp_path, before="os.path.exists('repaired') or sys.exit(1)")
    killed = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(tmp_path), READY, *argv], stderr=subprocess.PIPE)
    assert killed.stderr is not None
    with killed.stderr as said:
        try:
            eventually(lambda: b"waits for an answer" in said.readline())
        finally:
            killed.kill()
            killed.wait(10)
    (tmp_path / "repaired").touch()
    service = presets.launcher(store=SQLiteStore(tmp_path / "journal.db"))
    async with Launcher(service, tmp_path) as launcher:
        launcher.resume()
        async with launcher.server(argv, READY, name="small") as server:
            assert (server.starts, len(starts(tmp_path))) == (1, 2)
