"""One view of a cluster on a real server: workers as processes, shown and steered by commands, drained by SIGTERM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from adapters.nats import transitions
from adapters.nats.board import ClusterEvent, Node
from adapters.nats.cluster import Cluster
from adapters.nats.connection import connect
from adapters.nats.names import Name
from adapters.nats.permissions import Role, accounts, inbox, password_variable
from adapters.nats.view import ClusterAddress, open_view
from recovery.service import Recovery
from tests.cluster.servers import NatsServer
from tests.until import wait_until

ROOT = Path(__file__).parent.parent.parent

FARM = """
import time
from pathlib import Path
from recovery import Constant, Recovery, RetryPolicy

service = Recovery(policy=RetryPolicy(max_retries=3, backoff=Constant(60.0)), enable_logging=False)


@service.recoverable("render")
def render(frame: int, folder: str) -> int:
    place = Path(folder)
    (place / f"{frame}.began").touch()
    while not (place / f"{frame}.go").exists():
        time.sleep(0.02)
    return frame * 2


@service.recoverable("fails")
def fails() -> None:
    raise ConnectionResetError(104, "Connection reset by peer")
"""


@pytest.fixture
def farm(tmp_path: Path) -> Path:
    (tmp_path / "farm.py").write_text(FARM, encoding="utf-8")
    return tmp_path


def command(farm: Path, *words: str, url: str, prefix: str) -> list[str]:
    return [sys.executable, "-m", "adapters", *words[:1], "--cluster", url, "--prefix", prefix, *words[1:]]


def environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TZ": "UTC"}


def recovery(farm: Path, *words: str, url: str, prefix: str) -> subprocess.CompletedProcess[str]:
    words_ = command(farm, *words, url=url, prefix=prefix)
    return subprocess.run(words_, cwd=farm, env=environ(), capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def worker(farm: Path, *more: str, url: str, prefix: str) -> Iterator[subprocess.Popen[str]]:
    words = command(farm, "worker", "farm:service", *more, url=url, prefix=prefix)
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=farm, env=environ(), stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def submitted(url: str, prefix: str, calls: Sequence[tuple[str, tuple[Any, ...], str, str | None]]) -> None:
    service = Recovery(enable_logging=False)

    @service.recoverable("render")
    def render(frame: int, folder: str) -> None:
        """As ``FARM`` has it; the service forgets a function that nothing keeps."""

    @service.recoverable("fails")
    def fails() -> None:
        """The same."""

    async with Cluster(service, url, node="submitter", prefix=prefix) as cluster:
        for operation, args, key, affinity in calls:
            await cluster.submit(operation, *args, idempotency_key=key, affinity=affinity)
    del render, fails


async def states(url: str, prefix: str) -> dict[str, str]:
    async with open_view(ClusterAddress(url, prefix=prefix)) as cluster:
        status, _ = await cluster.status()
        return {call.call: call.state for call in status.calls}


@pytest.mark.anyio
async def test_nodes_and_events_come_back_from_the_servers(server: NatsServer, prefix: str) -> None:
    nodes = [Node(node=f"gpu {at}.x", since=1.0, seen=2.0 + at, operations=("render",)) for at in range(3)]
    events = [
        ClusterEvent(at=float(at), node="gpu-a", kind="GaveUp", operation="render", call=call, event=msgspec.Raw(b"{}"))
        for at in range(1200)
        for call in ("render/a", "render/b")
    ]
    async with connect(server.url, prefix=prefix) as link:
        assert await link.board.nodes() == []
        assert await link.board.events("render/a") == []
        for one in (*nodes, msgspec.structs.replace(nodes[0], seen=9.0)):
            await link.board.put(one)
        await link.board.publish(events)
        await link.board.publish([ClusterEvent(at=1.0, node="gpu-a", kind="CircuitOpened", operation="a b")])
        found = await link.board.nodes()
        assert [(one.node, one.seen) for one in found] == [("gpu 0.x", 9.0), ("gpu 1.x", 3.0), ("gpu 2.x", 4.0)]
        read = await link.board.events("render/a")
    assert [one.at for one in read] == [float(at) for at in range(1200)], "more than one page"
    assert {one.call for one in read} == {"render/a"}


def test_commands_show_and_steer_what_workers_run(server: NatsServer, prefix: str, farm: Path) -> None:
    at: dict[str, Any] = {"url": server.url, "prefix": prefix}
    calls = [
        ("render", (1, str(farm)), "one", None),
        ("render", (2, str(farm)), "bound", "gpu-x"),
        ("fails", (), "f", None),
    ]
    anyio.run(submitted, server.url, prefix, calls)
    with worker(farm, "--node", "gpu-a", "--concurrency", "2", **at) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"gpu-a runs calls of fails, render for {server.url}, 2 calls at a time\n"
        wait_until(lambda: (farm / "1.began").exists(), within=20.0)
        wait_until(lambda: anyio.run(states, server.url, prefix).get("fails/f") == "waiting", within=20.0)
        shown = recovery(farm, "status", **at)
        assert "attempt 1 runs on gpu-a" in shown.stdout
        assert "waits for gpu-x, which has never been seen" in shown.stdout
        assert "gpu-a  seen" in shown.stdout
        time.sleep(0.6)  # two batches of events
        why = recovery(farm, "why", "fails", **at)
        assert "Connection reset by peer" in why.stdout
        assert "story: " in why.stdout
        assert "waits before retry 1" in why.stdout or "waits" in why.stdout
        moved = recovery(farm, "move", "bound", "--to", "any", **at)
        assert (moved.returncode, moved.stderr) == (0, "")
        cancelled = recovery(farm, "cancel", "fails/f", **at)
        assert cancelled.stdout.startswith("call fails/f: cancelled")
        wait_until(lambda: (farm / "2.began").exists(), within=20.0)
        (farm / "1.go").touch()
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        (farm / "2.go").touch()
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert output == "gpu-a has stopped: 2 calls ended here, 1 call left to a later attempt\n"
    found = anyio.run(states, server.url, prefix)
    assert found == {"render/one": "succeeded", "render/bound": "succeeded", "fails/f": "cancelled"}
    gone = recovery(farm, "status", **at)
    assert "gpu-a  stopped" in gone.stdout


def test_a_second_signal_hands_the_running_call_back(server: NatsServer, prefix: str, farm: Path) -> None:
    at: dict[str, Any] = {"url": server.url, "prefix": prefix}
    anyio.run(submitted, server.url, prefix, [("render", (1, str(farm)), "one", None)])
    with worker(farm, "--only", "render", "--node", "gpu-a", "--json", **at) as process:
        wait_until(lambda: (farm / "1.began").exists(), within=20.0)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None, "it waits for the call"
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: anyio.run(states, server.url, prefix) == {"render/one": "queued"}, within=20.0)
        (farm / "1.go").touch()  # a plain body does not stop; its result does not count any more
        output, _ = process.communicate(timeout=30)
    lines = [msgspec.json.decode(line) for line in output.splitlines()]
    assert [line["format"] for line in lines] == ["worker/1", "worker-ended/1"]
    assert lines[0]["operations"] == ["render"]
    assert lines[1]["handed_back"] == 1
    assert process.returncode == 1
    assert anyio.run(states, server.url, prefix) == {"render/one": "queued"}


USERS: dict[str, Role] = {"admin": "setup", "gpu-a": "worker", "desk": "steerer", "screen": "viewer"}


@pytest.fixture
def closed_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that admits the users alone, with the streams of a cluster."""
    environ = {password_variable(user): f"pw-{user}" for user in USERS}
    folder = tmp_path / "nats"
    folder.mkdir()
    with NatsServer(folder, more=accounts(USERS), environ=environ) as server:
        anyio.run(made, server)
        yield server


async def made(server: NatsServer) -> None:
    async with connect(server.url, user="admin", password="pw-admin", inbox=inbox("admin")) as link:
        now = await link.engine.now()
        await link.engine.write(transitions.submitted(Name("render", "one"), b"[[],{}]", now, affinity="gpu-x"), 0)


def test_each_role_does_by_command_what_it_may(closed_server: NatsServer, farm: Path) -> None:
    def as_user(user: str, *words: str) -> subprocess.CompletedProcess[str]:
        url = closed_server.url.replace("://", f"://{user}:pw-{user}@")
        return recovery(farm, *words, "--inbox", inbox(user), url=url, prefix="recovery")

    seen = as_user("screen", "status")
    assert "waits for gpu-x, which has never been seen" in seen.stdout
    assert as_user("screen", "why", "one").returncode == 0
    refused = as_user("screen", "move", "one", "--to", "any")
    assert (refused.returncode, refused.stderr.count("\n"), "pw-screen" in refused.stderr) == (2, 1, False)
    moved = as_user("desk", "move", "one", "--to", "gpu-a")
    assert (moved.returncode, moved.stderr) == (0, "")
    url = closed_server.url.replace("://", "://gpu-a:pw-gpu-a@")
    more = ("--node", "gpu-a", "--inbox", inbox("gpu-a"))
    with worker(farm, *more, url=url, prefix="recovery") as process:
        assert process.stdout is not None
        assert "pw-gpu-a" not in process.stdout.readline()
        wait_until(lambda: "gpu-a  seen" in as_user("screen", "status").stdout, within=20.0)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert "gave up" in as_user("screen", "status").stdout, "its arguments do not fit; that is told"


def test_a_worker_without_a_server_or_a_module_says_so_in_one_sentence(farm: Path) -> None:
    at: dict[str, Any] = {"url": "nats://user:pa55@127.0.0.1:1", "prefix": "recovery"}
    words = command(farm, "worker", "farm:service", "--only", "nothing", **at)
    said = subprocess.run(words, cwd=farm, env=environ(), capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1
    assert "pa55" not in said.stderr
    wrong = recovery(farm, "worker", "nowhere:service", **at)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


def test_a_worker_that_connects_ends_at_a_signal_as_one_that_works(farm: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20.0)
        url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        with worker(farm, "--node", "gpu-a", url=url, prefix="recovery") as process:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGTERM)
                output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (0, "gpu-a has stopped: 0 calls ended here\n", "")
