"""The launcher's bricks: known by what they make, joined, resumed after a kill, and stopped by signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.demo.server import Stall
from adapters.launcher.arguments import InvalidRequestError, NotDoneError
from adapters.launcher.launcher import Launcher
from adapters.memory import MemoryStore
from events.errors import CallRejectedError
from events.operation_events import OperationResumed
from recovery import RetryPolicy, presets
from recovery.service import Recovery
from tests.adapters.downloads.targets import CONTENT, SHA256, Target
from tests.recorded_events import events_of
from tests.slow import few

pytestmark = pytest.mark.anyio


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


async def test_a_download_is_done_once_and_not_again_while_the_file_is_there(tmp_path: Path) -> None:
    async with Launcher(Recovery(store=MemoryStore()), tmp_path / "models") as launcher:
        with Target(tmp_path) as target:
            first = await launcher.download(target.url, to="a/model.bin", sha256=SHA256)
            second = await launcher.download(target.url, to="a/model.bin", sha256=SHA256)
    assert (tmp_path / "models/a/model.bin").read_bytes() == CONTENT
    assert (first.received, second.received, len(target.requests)) == (len(CONTENT), 0, 1)


async def test_equal_downloads_are_one_and_another_wish_for_the_file_is_named(tmp_path: Path) -> None:
    with Target(tmp_path, faults=[Stall(0.5, seconds=0.2)]) as target:
        async with Launcher(Recovery(store=MemoryStore()), tmp_path) as launcher, anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(launcher.download, target.url, "model.bin", SHA256)
            while launcher.service.calls.joining() < 2:
                await anyio.sleep(0.001)
            with pytest.raises(CallRejectedError, match=f"(?s)with other arguments.*{SHA256[:20]}.*{'0' * 20}"):
                await launcher.download(target.url, "model.bin", "0" * 64)
    assert len(target.requests) == 1


async def test_it_works_alone_without_being_entered(tmp_path: Path) -> None:
    launcher = Launcher(Recovery(store=MemoryStore()), tmp_path)
    with Target(tmp_path) as target:
        await launcher.download(target.url, "model.bin")
    await launcher.run(python("open('made', 'w')"))
    assert (tmp_path / "made").exists()


async def test_a_command_that_is_done_is_not_run_and_one_that_made_nothing_has_failed(tmp_path: Path) -> None:
    launcher = Launcher(Recovery(store=MemoryStore()), tmp_path, policy=RetryPolicy(max_retries=0))
    for _ in range(2):
        await launcher.run(python("print('x', file=open('made', 'a'))"), done="made")
    assert (tmp_path / "made").read_text() == "x\n"
    with pytest.raises(NotDoneError, match=r"python.* ended well, and other is not there"):
        await launcher.run(python("pass"), done="other")


async def test_a_registered_function_says_whether_a_command_is_done(tmp_path: Path) -> None:
    launcher = Launcher(Recovery(store=MemoryStore()), tmp_path)

    @launcher.register
    def is_made() -> bool:
        return (tmp_path / "made").exists()

    for _ in range(2):
        await launcher.run(python("print('x', file=open('made', 'a'))"), done=is_made)
    assert (tmp_path / "made").read_text() == "x\n"
    with pytest.raises(InvalidRequestError, match=r"is not registered: launcher.register\("):
        await launcher.run(python("pass"), done=lambda: True)


async def made() -> bool:
    return True


@pytest.mark.parametrize(
    ("argv", "options", "said"),
    [
        ([], {}, "needs a program"),
        ("git pull", {}, "must be a list of texts, not 'git pull'"),
        (["sleep", 1], {}, "word 1 of the command must be a text or a path, not a int"),
        (["git", "a\0b"], {}, "word 1 of the command has a null character"),
        (["cat", "\udcff"], {}, "word 1 of the command is not UTF-8"),
        (["true"], {"env": {"A": 5}}, "the value of A must be a text or a Secret, not a int"),
        (["true"], {"env": {"A=B": ""}}, "'A=B' is no name of a variable"),
        (["true"], {"silence": -1.0}, "silence must be greater than 0"),
        (["true"], {"done": ""}, "is the root itself"),
        (["true"], {"done": 5}, "must be a path or a function, not 5"),
    ],
)
async def test_a_command_that_cannot_be_run_is_refused(
    argv: Any, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    launcher = Launcher(service := Recovery(store=MemoryStore()), tmp_path)
    with pytest.raises(ValueError, match=said):
        await launcher.run(argv, **options)
    assert not service.calls.running()  # no call was begun


async def test_an_async_function_does_not_tell_whether_a_command_is_done(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="must be a plain function"):
        Launcher(Recovery(store=MemoryStore()), tmp_path).register(made)


async def test_a_service_has_one_launcher_which_is_entered_once(tmp_path: Path) -> None:
    service = Recovery(store=MemoryStore())
    async with Launcher(service, tmp_path) as launcher:
        with pytest.raises(ValueError, match="this service has a launcher already, for /"):
            Launcher(service, tmp_path)
        with pytest.raises(RuntimeError, match="is entered already"):
            await launcher.__aenter__()


async def test_another_value_of_a_variable_is_another_wish_and_is_not_shown(tmp_path: Path) -> None:
    wait = python("import os, time; open('began', 'w'); time.sleep(0.2); open('made', 'w').write(os.environ['KEY'])")
    async with Launcher(Recovery(store=MemoryStore()), tmp_path) as launcher, anyio.create_task_group() as group:
        for _ in range(2):  # equal ones are one
            group.start_soon(lambda: launcher.run(wait, env={"KEY": "first"}))
        while not (tmp_path / "began").exists():
            await anyio.sleep(0.005)
        with pytest.raises(CallRejectedError, match="another value of KEY; wait for its end"):
            await launcher.run(wait, env={"KEY": "second"})
    assert (tmp_path / "made").read_text() == "first"


async def test_what_looks_like_a_secret_in_a_command_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await Launcher(Recovery(store=MemoryStore()), tmp_path).run(["true", "https://me:hunter22hunter22@example.org/x"])
    assert "holds what looks like a secret" in caplog.text
    assert "hunter22" not in caplog.text


async def test_a_place_outside_the_root_is_refused(tmp_path: Path) -> None:
    launcher = Launcher(Recovery(store=MemoryStore()), tmp_path / "models")
    with pytest.raises(InvalidRequestError, match="outside"):
        await launcher.download("https://example.org/x", to="../x")


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"to": "."}, "'.' is the root itself"),
        ({"to": ""}, "'' is the root itself"),
        ({"to": "x" * 256}, "too long: a file or folder has at most 255 bytes"),
        ({"to": "\udc80"}, "cannot be journalled"),
        ({"to": "a/x.part"}, "as the partial files of downloads have it"),
        ({"size": "5"}, "size must be a number of bytes, not '5'"),
        ({"size": -1}, "size must be a number of bytes, not -1"),
        ({"sha256": b"a" * 64}, "sha256 must be 64 hex digits"),
        ({"source": None}, "a download needs a URL.*not None"),
        ({"source": ["https://example.org/x", 5]}, "a download needs a URL.*not 5"),
        ({"source": []}, "a download needs a URL"),
    ],
    ids=str,
)
async def test_a_download_that_cannot_be_made_is_refused(tmp_path: Path, wish: dict[str, Any], said: str) -> None:
    launcher = Launcher(Recovery(store=MemoryStore()), tmp_path / "models")
    with pytest.raises(InvalidRequestError, match=said):
        await launcher.download(**{"source": "https://example.org/x", "to": "x", **wish})
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("anyio_backend", few(["asyncio", "trio"], "asyncio"))
async def test_values_of_variables_are_not_journalled_and_a_resumed_call_waits_for_them(tmp_path: Path) -> None:
    store, made = MemoryStore(), tmp_path / "made"
    command = python("import os, sys, time; open('made', 'a').write(os.environ['KEY']); time.sleep(float(sys.argv[1]))")

    async def killed() -> None:
        service = presets.launcher(store=store)
        with anyio.CancelScope() as scope:
            async with Launcher(service, tmp_path) as launcher, anyio.create_task_group() as group:
                group.start_soon(lambda: launcher.run([*command, "0.3"], env={"KEY": "canary-value"}))
                while not (made.exists() and made.read_text()):
                    await anyio.sleep(0.005)
                assert service.journal is not None
                service.journal.seal()
                scope.cancel()

    await killed()
    assert "canary" not in repr(store.__dict__)
    service = presets.launcher(store=store)
    resumed = events_of(service, OperationResumed)
    async with Launcher(service, tmp_path) as launcher:
        service.resume()
        while not resumed:
            await anyio.sleep(0.005)
        await launcher.run([*command, "0.3"], env={"KEY": "canary-value"})
    assert made.read_text() == "canary-value" * 2


PROGRAM = """
    import sys
    from adapters.launcher import Launcher
    from adapters.sqlite import SQLiteStore
    from recovery import presets

    with Launcher.blocking(presets.launcher(store=SQLiteStore("journal.db")), ".") as launcher:
        launcher.resume()
        launcher.run([sys.executable, "-S", "-c", sys.argv[1]], name="work", done="done")
    print("finished")
"""
WORK = """
import os, subprocess, sys, time
open("pids", "a").write(f"{os.getpid()} ")
if os.path.exists("first"):
    open("done", "w")
else:
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"], start_new_session=True)
    open("pids", "a").write(f"{child.pid} ")
    open("first", "w")
    time.sleep(60)
"""


@pytest.mark.parametrize("number", few([signal.SIGTERM, signal.SIGINT], signal.SIGTERM))
def test_a_signal_ends_the_processes_and_the_next_run_goes_on(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    command = [sys.executable, "program.py", WORK]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    while not (tmp_path / "first").exists():
        time.sleep(0.01)
    begun = time.monotonic()
    first.send_signal(number)
    with first:
        first.wait(10.0)
    assert time.monotonic() - begun < 5.0
    assert first.returncode in (128 + number, -number)
    for pid in (tmp_path / "pids").read_text().split():
        assert not Path(f"/proc/{pid}").exists() or "(zombie)" in Path(f"/proc/{pid}/status").read_text()
    second = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=20)
    assert (second.stdout, second.returncode) == ("finished\n", 0), second.stderr


STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("first", "w")
time.sleep(60)
"""
ASYNC = """
    import sys
    import anyio
    from adapters.launcher import Launcher
    from adapters.sqlite import SQLiteStore
    from recovery import presets

    async def main():
        async with Launcher(presets.launcher(store=SQLiteStore("journal.db")), ".") as launcher:
            await launcher.run([sys.executable, "-S", "-c", sys.argv[1]])

    anyio.run(main)
"""


@pytest.mark.parametrize("program", few([PROGRAM, ASYNC], PROGRAM))
@pytest.mark.slow
def test_a_second_interruption_kills_what_does_not_end(program: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "program.py", STUBBORN]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as running:
        while not (tmp_path / "first").exists():
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(0.5)
        begun = time.monotonic()
        running.send_signal(signal.SIGINT)
        running.wait(10.0)
    assert time.monotonic() - begun < 2.0
    assert running.returncode in (130, -signal.SIGINT)
