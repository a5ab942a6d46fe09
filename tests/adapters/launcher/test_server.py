"""Servers that a launcher holds: real small ones, real ports and real signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.launcher import Launcher, PortTakenError, RestartPolicy, Server, ServerGoneError
from adapters.launcher.checkpoint_words import note_words, saved_note
from adapters.memory import MemoryStore
from adapters.servers.ports import free_port
from adapters.servers.probe import Answer, Kind
from events.errors import CallRejectedError
from events.operation_events import CheckpointSaved, GaveUp, OperationCancelled, OperationSucceeded
from events.question_events import QuestionAsked
from recovery import presets
from recovery.serialization.secret import Secret
from tests.adapters.processes.test_command import is_alive
from tests.adapters.servers.small_servers import READY, get, small_server, starts
from tests.recorded_events import events_of
from tests.slow import few

pytestmark = pytest.mark.anyio

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])
on_trio = pytest.mark.parametrize("anyio_backend", ["trio"])
QUICK = RestartPolicy(delay=0.01)
OFTEN: dict[str, Any] = {"every": 0.02, "restarts": QUICK}


def launcher_at(folder: Path, store: MemoryStore | None = None) -> Launcher:
    return Launcher(presets.launcher(store=store or MemoryStore()), folder)


@asynccontextmanager
async def held(
    folder: Path, argv: Sequence[str], store: MemoryStore | None = None, **options: Any
) -> AsyncIterator[Server]:
    """A server of a launcher of its own."""
    async with launcher_at(folder, store) as launcher, launcher.server(argv, READY, **options) as server:
        yield server


async def until(is_so: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not is_so():
            await anyio.sleep(0.005)


async def test_a_block_begins_when_the_server_is_ready_and_ends_it(tmp_path: Path) -> None:
    launcher = launcher_at(tmp_path)
    ended = events_of(launcher.service, OperationSucceeded, OperationCancelled, GaveUp)
    async with launcher, launcher.server(small_server(tmp_path), READY, name="small") as server:
        assert await get(server.url) == 200
        assert (server.state, [(server.pid, server.port)]) == ("ready", starts(tmp_path))
        [call] = launcher.service.calls.running()
        assert (call.operation, call.key) == ("server", "small")
    assert server.state == "stopped"
    assert [(type(one), one.operation) for one in ended] == [(OperationSucceeded, "server")]
    with pytest.raises(OSError):
        await get(server.url)


@on_trio
async def test_a_server_that_crashes_is_started_again_while_the_block_goes_on(tmp_path: Path) -> None:
    argv = small_server(tmp_path, crashes=1, exit=0, code="os._exit(3)")
    async with launcher_at(tmp_path) as launcher, launcher.server(argv, READY, **OFTEN) as server:
        os.kill(server.pid or 0, signal.SIGKILL)
        await until(lambda: server.starts == 3)
        await server.until_ready()
        with suppress(OSError):
            await get(f"{server.url}/code")
        await until(lambda: server.starts == 4)
        await server.until_ready()
        [call] = launcher.service.calls.running()
        assert (call.attempt, len({port for _, port in starts(tmp_path)})) == (4, 1)


# A crash loop


@on_asyncio
async def test_a_crash_loop_asks_with_the_last_lines_and_a_yes_begins_the_budget_again(tmp_path: Path) -> None:
    launcher = launcher_at(tmp_path)
    asked = events_of(launcher.service, QuestionAsked)
    argv = small_server(tmp_path, crashes=2)
    async with launcher, anyio.create_task_group() as group:

        async def answer() -> None:
            await until(lambda: asked)
            launcher.service.calls.answer("restart:small", True)

        group.start_soon(answer)
        policy = RestartPolicy(max_restarts=1, delay=0.0)
        async with launcher.server(argv, READY, restarts=policy, name="small") as server:
            assert server.starts == 3
    assert isinstance(asked[0], QuestionAsked)
    assert "small failed with exit code 1, and has used up its 1 restart within 600 s" in asked[0].text
    assert asked[0].text.endswith("/.recovery/logs/servers/small.log; it printed last:\n  it fell over, 2")
    assert (tmp_path / ".recovery/logs/servers/small.log").exists()


@on_asyncio
async def test_a_crash_loop_asks_with_the_very_last_line_first(tmp_path: Path) -> None:
    launcher = launcher_at(tmp_path)
    asked = events_of(launcher.service, QuestionAsked)
    argv = small_server(tmp_path, crashes=1, before="print('a long list,' * 100, '\\n', 'loading')")
    async with launcher, anyio.create_task_group() as group:

        async def answer() -> None:
            await until(lambda: asked)
            launcher.service.calls.answer("restart:small", True)

        group.start_soon(answer)
        async with launcher.server(argv, READY, restarts=RestartPolicy(max_restarts=0), name="small"):
            pass
    assert isinstance(asked[0], QuestionAsked)
    assert "; it printed last:\n  it fell over, 1\nand before that:\n  a long list," in asked[0].text


@on_asyncio
async def test_a_no_ends_the_block_and_says_why(tmp_path: Path) -> None:
    argv = small_server(tmp_path, before="print('no room')", code="sys.exit(5)")
    async with launcher_at(tmp_path) as launcher:
        asked = events_of(launcher.service, QuestionAsked)
        with pytest.raises(ServerGoneError, match=r"(?s)small failed with exit code 5.*\n  no room") as raised:
            async with launcher.server(argv, READY, restarts=RestartPolicy(max_restarts=0), name="small") as server:
                with suppress(OSError):
                    await get(f"{server.url}/code")
                await until(lambda: asked)
                assert server.state == "asking"
                launcher.service.calls.answer("restart:small", False)
                await anyio.sleep(10)
        assert (server.state, server.error) == ("gone", raised.value)
        async with launcher.server(argv, READY, restarts=RestartPolicy(max_restarts=0), name="small") as server:
            with suppress(OSError):
                await get(f"{server.url}/code")
            await until(launcher.service.calls.questions)  # the no was for that time
            assert server.state == "asking"
        assert server.state == "stopped"


@pytest.mark.slow
@on_asyncio
async def test_work_that_is_done_gives_the_restarts_back(tmp_path: Path) -> None:
    policy = RestartPolicy(max_restarts=1, delay=0.0)
    async with held(tmp_path, small_server(tmp_path), restarts=policy) as server:
        for number in (2, 3, 4):
            server.refill()
            os.kill(server.pid or 0, signal.SIGKILL)
            await until(lambda number=number: server.starts == number)
            await server.until_ready()


@on_asyncio
async def test_a_missing_module_is_named_and_no_restart_is_tried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    argv = small_server(tmp_path, before="os.path.exists('installed') or __import__('torchsde')")
    installed: list[str] = []

    async def install(module: str) -> bool:
        installed.append(module)
        raise OSError("pip cannot be started")

    async with launcher_at(tmp_path) as launcher:
        asked = events_of(launcher.service, QuestionAsked)
        async with anyio.create_task_group() as group:

            async def repair() -> None:
                await until(lambda: asked)
                (tmp_path / "installed").touch()
                launcher.service.calls.answer("restart:small")

            group.start_soon(repair)
            async with launcher.server(argv, READY, name="small", on_missing_module=install) as server:
                assert (server.starts, installed) == (2, ["torchsde"])
    assert "on_missing_module failed: OSError: pip cannot be started" in caplog.text
    assert isinstance(asked[0], QuestionAsked)
    assert "small needs the Python module torchsde, which is not installed" in asked[0].text


@pytest.mark.slow
@on_asyncio
async def test_a_missing_module_that_the_program_installs_asks_no_person(tmp_path: Path) -> None:
    argv = small_server(tmp_path, before="os.path.exists('installed') or __import__('torchsde')")

    async def install(module: str) -> bool:
        (tmp_path / "installed").write_text(module)
        return True

    restarts = RestartPolicy(max_restarts=0)
    async with held(tmp_path, argv, restarts=restarts, on_missing_module=install) as server:
        assert server.starts == 2


# Ports


@on_asyncio
async def test_a_port_that_another_process_holds_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = rf"small was not started: process {os.getpid()} \(.+\) holds its port {port}"
        async with launcher_at(tmp_path) as launcher:
            with pytest.raises(PortTakenError, match=said):
                async with launcher.server(small_server(tmp_path), READY, port=port, name="small"):
                    pass
    assert starts(tmp_path) == []


@on_asyncio
async def test_a_port_that_is_taken_between_two_runs_is_asked_about(tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    async with launcher_at(tmp_path) as launcher:
        calls, policy = launcher.service.calls, RestartPolicy(delay=0.2)
        async with launcher.server(small_server(tmp_path), READY, port=port, restarts=policy, name="small") as server:
            os.kill(server.pid or 0, signal.SIGKILL)
            await until(lambda: server.state == "restarting")
            with socket.create_server(("127.0.0.1", port)):
                await until(calls.questions)
            assert f"holds its port {port}" in calls.questions()[0].text
            calls.answer("restart:small", True)
            await server.until_ready()


@pytest.mark.slow
@on_asyncio
async def test_a_server_has_the_port_of_the_last_time_unless_that_is_taken(tmp_path: Path) -> None:
    async with launcher_at(tmp_path) as launcher:
        for _ in range(2):
            async with launcher.server(small_server(tmp_path), READY) as server:
                pass
        with socket.create_server(("127.0.0.1", server.port)):
            async with launcher.server(small_server(tmp_path), READY) as server:
                pass
    first, second, third = (port for _, port in starts(tmp_path))
    assert first == second != third


@on_asyncio
async def test_a_port_that_is_taken_during_the_start_is_left_and_uses_up_no_restart(tmp_path: Path) -> None:
    argv = small_server(tmp_path, before="while not os.path.exists('go'): time.sleep(0.01)")
    async with launcher_at(tmp_path) as launcher, anyio.create_task_group() as group:
        others: list[socket.socket] = []

        async def take() -> None:
            await until(lambda: starts(tmp_path))
            others.append(socket.create_server(("127.0.0.1", starts(tmp_path)[0][1])))
            (tmp_path / "go").touch()

        group.start_soon(take)
        async with launcher.server(argv, READY, restarts=RestartPolicy(max_restarts=0)) as server:
            others[0].close()
            assert [port for _, port in starts(tmp_path)].index(server.port) == 1


# How it is


@on_asyncio
async def test_a_server_is_ready_once_it_says_so_and_not_when_its_port_is_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    (tmp_path / "status").write_text("503")
    async with launcher_at(tmp_path) as launcher, anyio.create_task_group() as group:
        entered: list[bool] = []

        async def recover() -> None:
            asked = tmp_path / "asked"
            await until(lambda: asked.exists() and len(asked.read_text().splitlines()) >= 2)
            (tmp_path / "status").write_text("500" if entered else "204")

        group.start_soon(recover)
        async with launcher.server(small_server(tmp_path), READY):
            entered.append(True)
            await until(lambda: (tmp_path / "status").read_text() != "503")
    assert (tmp_path / "status").read_text() == "204"


@on_asyncio
async def test_a_busy_server_and_one_that_refuses_are_told_and_not_ended(tmp_path: Path) -> None:
    argv = small_server(tmp_path, code="server.close(); time.sleep(0.2); server = again()", before=AGAIN)
    launcher = launcher_at(tmp_path)
    saved = events_of(launcher.service, CheckpointSaved)
    async with launcher, launcher.server(argv, READY, **OFTEN) as server:
        (tmp_path / "status").write_text("503")
        await until(lambda: server.state == "busy")
        (tmp_path / "status").unlink()
        await until(lambda: server.state == "ready")
        async with anyio.create_task_group() as group:
            group.start_soon(get, f"{server.url}/code")
            await until(lambda: server.state == "refused")
        await until(lambda: server.state == "ready")
        assert server.starts == 1
        words = [note_words(saved_note(one.data)) for one in saved if isinstance(one, CheckpointSaved)]
        assert words == [
            f"{one} at {server.url}" for one in ("ready", "busy", "ready", "takes no connections", "ready")
        ]


AGAIN = """
def again():
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", int(port)))
    server.listen()
    return server
"""


@on_asyncio
@pytest.mark.parametrize(("on_stuck", "number"), few([("notify", 1), ("restart", 2)], ("notify", 1)))
async def test_a_stuck_server_is_ended_only_if_that_is_wanted(
    on_stuck: Any, number: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    argv = small_server(tmp_path, before="number > 1 or time.sleep(0.6)")
    async with held(tmp_path, argv, on_stuck=on_stuck, ready_timeout=0.1, **OFTEN) as server:
        assert server.starts == number
    assert "it refuses connections, and printed nothing and did nothing for 0.1 s" in caplog.text


@on_asyncio
async def test_a_server_that_answers_another_status_is_waited_for_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "status").write_text("404")
    async with anyio.create_task_group() as group:

        async def mend() -> None:
            await until(lambda: "/health is asked, and it answers 404; it is waited for; only 2xx" in caplog.text)
            (tmp_path / "status").unlink()

        group.start_soon(mend)
        async with held(tmp_path, small_server(tmp_path), ready_timeout=0.1):
            pass


@on_asyncio
async def test_a_server_goes_on_without_what_a_line_names_and_a_hook_that_fails_stops_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[str] = []
    before = "number > 1 or print(*(f'no plug-in {one}' for one in 'aabcde'), sep=chr(10), flush=True)"
    argv = small_server(tmp_path, before=before, code="print('no plug-in f', flush=True)")

    def named(line: str) -> str:
        return line.removeprefix("no plug-in ") if line.startswith("no ") else ""

    def fails(line: str) -> None:
        lines.append(line)
        raise KeyError

    async with held(tmp_path, argv, on_output=fails, degraded_by=named, name="small", **OFTEN) as server:
        await until(lambda: server.degraded == tuple("abcde"))
        await until(lambda: "small goes on without a, b, c and 2 more, which could not be loaded" in caplog.text)
        await get(f"{server.url}/code")
        await until(lambda: "small goes on without f, which" in caplog.text)
        assert lines == ["no plug-in a"]
        os.kill(server.pid or 0, signal.SIGKILL)
        await until(lambda: server.starts == 2 and server.is_ready)
        assert server.degraded == ()


# Its end


@on_asyncio
async def test_that_the_launcher_ends_it_is_noted_before_the_signal(tmp_path: Path) -> None:
    note = "open('noted', 'w').write(open('.recovery/logs/servers/small.running').read())"
    argv = small_server(tmp_path, before=f"signal.signal(signal.SIGTERM, lambda *_: ({note}, os._exit(0)))")
    async with launcher_at(tmp_path) as launcher, launcher.server(argv, READY, name="small"):
        pass
    assert '"ending":"cancelled"' in (tmp_path / "noted").read_text()


@on_asyncio
async def test_each_end_by_the_launcher_is_told_before_the_signal_and_a_crash_is_not(tmp_path: Path) -> None:
    ends: list[tuple[int, bool]] = []
    worker = "number > 1 or os.spawnvp(os.P_NOWAIT, 'sleep', ['sleep', '40'])"
    handler = "signal.signal(signal.SIGTERM, lambda *_: os._exit(open('term', 'w').close()))"
    argv = small_server(tmp_path, before=f"{worker}; {handler}")

    def told(pid: int) -> None:
        ends.append((pid, is_alive(pid) and not (tmp_path / "term").exists()))

    async with held(tmp_path, argv, before_stop=told, **OFTEN) as server:
        os.kill(server.pid or 0, signal.SIGKILL)
        await until(lambda: server.starts == 2 and server.is_ready)
        assert ends == []
        server.restart("the test wants it")
        await server.until_ready()
        (tmp_path / "term").unlink()
    assert ends == [(pid, True) for pid, _ in starts(tmp_path)[1:]]


@on_asyncio
@pytest.mark.parametrize("name", few(["small", "server-small", "small.server"], "small"))
async def test_a_command_of_any_name_runs_beside_a_server(name: str, tmp_path: Path) -> None:
    async with launcher_at(tmp_path) as launcher, launcher.server(small_server(tmp_path), READY, name="small"):
        with anyio.fail_after(5):
            await launcher.run(["true"], name=name)


@pytest.mark.slow
@on_asyncio
async def test_a_restart_by_the_program_uses_up_no_restart(tmp_path: Path) -> None:
    async with held(tmp_path, small_server(tmp_path), restarts=RestartPolicy(max_restarts=0)) as server:
        server.restart("the context of the GPU is poisoned")
        assert not server.is_ready
        await server.until_ready()
        assert server.starts == 2


@pytest.mark.slow
@on_asyncio
async def test_what_a_crashed_server_left_running_is_ended(tmp_path: Path) -> None:
    worker = "number > 1 or open('worker', 'w').write(str(os.spawnvp(os.P_NOWAIT, 'sleep', ['sleep', '40'])))"
    async with held(tmp_path, small_server(tmp_path, before=worker), **OFTEN) as server:
        os.kill(server.pid or 0, signal.SIGKILL)
        await until(lambda: server.starts == 2)
        assert not is_alive(int((tmp_path / "worker").read_text()))


@pytest.mark.slow
@on_asyncio
async def test_an_error_of_the_block_ends_the_server_and_stays_as_it_is(tmp_path: Path) -> None:
    held: list[Server] = []
    async with launcher_at(tmp_path) as launcher:
        with pytest.raises(KeyError):
            async with launcher.server(small_server(tmp_path), READY) as server:
                held.append(server)
                raise KeyError
    assert held[0].state == "stopped"


@pytest.mark.slow
@on_asyncio
async def test_a_server_that_is_cancelled_by_its_id_ends_the_block(tmp_path: Path) -> None:
    async with launcher_at(tmp_path) as launcher:
        with pytest.raises(ServerGoneError, match="has ended for good"):
            async with launcher.server(small_server(tmp_path), READY) as server:
                [call] = launcher.service.calls.running()
                launcher.service.calls.cancel(call.call, "not needed")
                await anyio.sleep(10)
        with pytest.raises(OSError):
            await get(server.url)


@on_asyncio
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ready": "127.0.0.1:{port}"}, "ready must be an http or https URL"),
        ({"ready": "http://256.1.1.1:{port}/"}, "Invalid IPv4 address"),
        ({"ready": "http://[::1:{port}/"}, "is no URL"),
        ({"ready": "http://127.0.0.1:99{port}/"}, "ports are 1 to 65535"),
        ({"ready": "http://me:123@127.0.0.1:{port}/"}, "has a user name or a password"),
        ({"ready": "http://127.0.0.1:80/"}, "the URL must have {port} in it"),
        ({"argv": ["true"]}, "the server must be told its port"),
        ({"port": 70000}, 'port must be "auto" or 1 to 65535'),
        ({"argv": []}, "needs a program"),
        ({"cwd": "../x"}, "outside"),
        ({"cwd": "file"}, "true cannot run in file, which is no folder"),
        ({"on_stuck": "kill"}, "on_stuck must be one of"),
        ({"ready_timeout": 0}, "ready_timeout must be greater than 0"),
    ],
)
async def test_a_server_that_cannot_be_started_is_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    wanted = {"argv": ["true", "{port}"], "ready": READY, **options}
    with pytest.raises(ValueError, match=said):
        async with launcher_at(tmp_path).server(**wanted):
            pass


@pytest.mark.slow
@on_asyncio
async def test_a_second_server_of_a_name_is_refused(tmp_path: Path) -> None:
    async with launcher_at(tmp_path) as launcher, launcher.server(small_server(tmp_path), READY, name="small"):
        with pytest.raises(CallRejectedError, match="give this one another name="):
            async with launcher.server(small_server(tmp_path), READY, name="small"):
                pass


@pytest.mark.slow
@on_asyncio
async def test_the_answer_of_a_stranger_on_its_port_does_not_make_it_ready(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    argv = small_server(tmp_path, before="while number == 1 and not os.path.exists('go'): time.sleep(0.01)")
    async with launcher_at(tmp_path) as launcher, anyio.create_task_group() as group:

        async def take() -> None:
            await until(lambda: starts(tmp_path))
            other = [word.replace("{port}", str(starts(tmp_path)[0][1])) for word in small_server(tmp_path / "other")]
            with subprocess.Popen(other, cwd=tmp_path / "other") as stranger:
                try:
                    await anyio.sleep(0.3)
                    (tmp_path / "go").touch()
                    await until(lambda: len(starts(tmp_path)) == 2)
                finally:
                    stranger.kill()

        group.start_soon(take)
        async with launcher.server(argv, READY, restarts=RestartPolicy(max_restarts=0)) as server:
            assert (server.starts, server.port) == (2, starts(tmp_path)[1][1])


@pytest.mark.slow
@on_asyncio
async def test_secrets_of_a_server_are_asked_for_and_its_port_goes_into_its_variables(tmp_path: Path) -> None:
    argv = small_server(tmp_path, before="open('env', 'w').write(os.environ['MY_PORT'] + os.environ['MY_KEY'])")
    async with launcher_at(tmp_path) as launcher:
        launcher.service.calls.answer("secret:env:NO_SUCH_KEY", "hunter2")
        env = {"MY_PORT": "{port}:", "MY_KEY": Secret("env:NO_SUCH_KEY")}
        async with launcher.server(argv, READY, env=env) as server:
            assert (tmp_path / "env").read_text() == f"{server.port}:hunter2"
            [call] = launcher.service.calls.running()
            assert b"hunter2" not in (call.arguments or b"")


@on_asyncio
async def test_a_server_that_is_dead_is_not_said_to_live(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A probe may fail at its death, before that is noticed."""
    async with (
        launcher_at(tmp_path) as launcher,
        launcher.server(small_server(tmp_path), READY, name="small"),
    ):
        supervisor = launcher._servers["small"]
        pid, answer = supervisor.pid, Answer(Kind.NONE, "gives no whole answer")
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        supervisor.pid = dead.pid
        supervisor._stands(answer, is_first=False)
        assert "it lives" not in caplog.text
        supervisor.pid = pid
        supervisor._stands(Answer(Kind.READY, "answers 200"), is_first=False)
        supervisor._stands(answer, is_first=False)
        assert "small gives no whole answer; it lives" in caplog.text
