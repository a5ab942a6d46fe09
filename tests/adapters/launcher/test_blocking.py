"""A launcher for plain code, and the signals that a program handles itself."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.launcher import Launcher, RestartPolicy, ServerGoneError
from adapters.memory import MemoryStore
from events.operation_events import GaveUp
from recovery import RetryPolicy, presets
from tests.adapters.servers.small_servers import READY, small_server, starts
from tests.recorded_events import events_of
from tests.until import wait_until

WORK = "import os, time; open('began', 'a').write(os.environ.get('KEY', 'x')); time.sleep(0.3); open('made', 'w')"
COMMAND = [sys.executable, "-S", "-c", WORK]


async def left(store: MemoryStore, root: Path, done: Any = "made") -> None:
    """Begin COMMAND in a process that dies."""
    service = presets.launcher(store=store)
    with anyio.CancelScope() as scope:
        async with Launcher(service, root) as launcher, anyio.create_task_group() as group:
            if callable(done):
                launcher.register(done)
            group.start_soon(lambda: launcher.run(COMMAND, env={"KEY": "a"}, done=done))
            while not (root / "began").exists():
                await anyio.sleep(0.005)
            assert service.journal is not None
            service.journal.seal()
            scope.cancel()


def test_resume_returns_although_a_command_waits_for_its_variables(tmp_path: Path) -> None:
    store = MemoryStore()
    anyio.run(left, store, tmp_path)
    returned = threading.Event()

    def run() -> None:
        with Launcher.blocking(presets.launcher(store=store), tmp_path) as launcher:
            launcher.resume()
            returned.set()
            launcher.run(COMMAND, env={"KEY": "b"}, done="made")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert returned.wait(5.0)
    thread.join(10.0)
    assert (tmp_path / "began").read_text() == "ab"


def test_a_command_that_no_program_asks_for_again_does_not_hold_the_end(tmp_path: Path) -> None:
    store = MemoryStore()
    anyio.run(left, store, tmp_path)
    service = presets.launcher(store=store)
    given_up = events_of(service, GaveUp)
    with Launcher.blocking(service, tmp_path) as launcher:
        launcher.resume()
        wait_until(service.calls.running)
    assert [one.operation for one in given_up] == ["command"]
    assert (tmp_path / "began").read_text() == "a"


def is_made() -> bool:
    return Path("made").exists()


@pytest.mark.slow
def test_a_resumed_command_waits_for_the_function_that_says_whether_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = MemoryStore()
    anyio.run(left, store, tmp_path, is_made)
    with Launcher.blocking(presets.launcher(store=store), tmp_path) as launcher:
        launcher.resume()
        threading.Event().wait(0.1)
        launcher.register(is_made)
        launcher.run(COMMAND, env={"KEY": "b"}, done=is_made)
    assert (tmp_path / "began").read_text() == "ab"


@pytest.mark.parametrize("has_failed", [False, True])
def test_calls_of_other_threads_end_before_the_launcher_does(has_failed: bool, tmp_path: Path) -> None:
    store = MemoryStore()
    service = presets.launcher(store=store)

    def body() -> None:
        with Launcher.blocking(service, tmp_path) as launcher:
            threading.Thread(target=quietly, args=(launcher.run, COMMAND), daemon=True).start()
            while not (tmp_path / "began").exists():
                threading.Event().wait(0.005)
            if has_failed:
                raise ArithmeticError

    if has_failed:
        with pytest.raises(ArithmeticError):
            body()
    else:
        body()
    with presets.launcher(store=store) as next_run:
        assert next_run.journal is not None
        pending = next_run.journal.pending(5.0).calls
    assert (len(pending), (tmp_path / "made").exists()) == ((1, False) if has_failed else (0, True))


def quietly(run: Any, *arguments: Any) -> None:
    """Run what may be cancelled."""
    with suppress(CancelledError):
        run(*arguments)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_signal_that_the_program_handles_stays_its_own(backend: str, tmp_path: Path) -> None:
    received: list[int] = []

    async def launch() -> tuple[object, object]:
        before = signal.getsignal(signal.SIGINT)
        async with Launcher(presets.launcher(store=MemoryStore()), tmp_path):
            await anyio.sleep(0.01)
            signal.raise_signal(signal.SIGTERM)
            await anyio.sleep(0.01)
        return before, signal.getsignal(signal.SIGINT)

    earlier = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        before, after = anyio.run(launch, backend=backend)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, earlier)
    assert (received, after) == ([signal.SIGTERM] * 2, before)


def test_a_server_of_plain_code_is_ended_with_its_block(tmp_path: Path) -> None:
    service = presets.launcher(store=MemoryStore())
    with (
        Launcher.blocking(service, tmp_path) as launcher,
        launcher.server(small_server(tmp_path), READY) as server,
    ):
        server.restart("for the test")
        server.until_ready()
        assert (server.starts, [(server.pid, server.port)]) == (2, starts(tmp_path)[1:])
    assert (server.state, server.error) == ("stopped", None)


def test_a_block_of_plain_code_whose_server_is_gone_says_so_at_its_end(tmp_path: Path) -> None:
    argv, never = small_server(tmp_path), RestartPolicy(max_restarts=0)
    with Launcher.blocking(presets.launcher(store=MemoryStore()), tmp_path, policy=RetryPolicy()) as launcher:
        with (
            pytest.raises(ServerGoneError, match="has no restarts") as raised,
            launcher.server(argv, READY, restarts=never) as server,
        ):
            os.kill(server.pid or 0, signal.SIGKILL)
            server.until_gone()
            assert (server.state, server.is_ready) == ("gone", False)
        assert server.error is raised.value
        with pytest.raises(FileNotFoundError), launcher.server(["no such program", "{port}"], READY):
            pass
