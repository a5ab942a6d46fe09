"""Commands of a plan as real processes: what is waited for, and what ends with the launch."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest

from adapters.processes.command import GRACE, run_command
from tests.adapters.sqlite.test_kill import eventually

pytestmark = pytest.mark.anyio

LAUNCHER = """
import sys
from pathlib import Path
import anyio
from adapters.processes.command import run_command
folder = Path(sys.argv[1])
anyio.run(lambda: run_command("c", sys.argv[2:], cwd=folder, logs=folder / "logs"))
"""
HELPER = "nohup sleep 40 & echo $! >> helpers; echo x >> runs"
DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('deaf', 'w').write('x'); time.sleep(40)"
)


async def run(folder: Path, *argv: str, name: str = "c", grace: float = GRACE) -> None:
    await run_command(name, argv, cwd=folder, logs=folder / "logs", grace=grace)


def is_alive(pid: int) -> bool:
    try:
        return b") Z" not in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False


def pids_in(path: Path, number: int = 1) -> list[int]:
    """The process ids that commands have written to *path*, once there are that many."""
    eventually(lambda: path.exists() and path.read_text().count("\n") >= number)
    return [int(line) for line in path.read_text().split()]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder; the processes that its files ``helpers`` and ``leader`` name are killed at the end."""
    yield tmp_path
    for path in (tmp_path / "helpers", tmp_path / "leader"):
        for pid in path.read_text().split() if path.exists() else ():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


@contextmanager
def launcher(folder: Path, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that runs the command, killed with SIGKILL at the end."""
    process = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(folder), *argv])
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def recorded_leader(folder: Path) -> int:
    """The process of the command, once its lock names it."""
    [leader] = pids_in(folder / "leader")
    eventually(lambda: (folder / "logs" / "c.lock").read_text().startswith(f"{leader} "))
    return leader


# Waiting for a command


async def test_a_helper_that_a_command_left_running_is_not_waited_for(folder: Path) -> None:
    with anyio.fail_after(10):
        for _ in range(3):
            await run(folder, "sh", "-c", HELPER)
    assert (folder / "runs").read_text() == "x\n" * 3
    assert all(is_alive(pid) for pid in pids_in(folder / "helpers", 3))  # it was made to stay


async def test_a_command_of_a_killed_launcher_is_waited_for_by_its_process_id(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with launcher(folder, "sh", "-c", "echo $$ > leader; exec sleep 40"):
        leader = recorded_leader(folder)
    assert is_alive(leader)
    with anyio.move_on_after(0.3) as scope:
        await run(folder, "touch", "again")
    assert scope.cancelled_caught
    assert f"c waits for process {leader}, which runs it since an earlier launch was killed" in caplog.text
    assert not (folder / "again").exists()
    os.kill(leader, signal.SIGKILL)
    with anyio.fail_after(10):
        await run(folder, "touch", "again")
    assert (folder / "again").exists()


async def test_the_helper_of_a_command_of_a_killed_launcher_is_not_waited_for(folder: Path) -> None:
    with launcher(folder, "sh", "-c", f"{HELPER}; echo $$ > leader; exec sleep 40"):
        leader = recorded_leader(folder)
    os.kill(leader, signal.SIGKILL)
    with anyio.fail_after(10):
        await run(folder, "touch", "again")
    assert is_alive(pids_in(folder / "helpers")[0])


@pytest.mark.parametrize(
    ("recorded", "is_waited_for"),
    [(b"", True), (b"12", True), (b"%d 1\n" % os.getpid(), False)],
    ids=["killed before it wrote", "half written", "the id is another process's now"],
)
async def test_a_lock_says_which_process_it_means(
    folder: Path, recorded: bytes, is_waited_for: bool, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "logs").mkdir()
    with (folder / "logs" / "c.lock").open("wb") as held:
        held.write(recorded)
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        with anyio.move_on_after(0.3 if is_waited_for else 10.0) as scope:
            await run(folder, "true")
        assert scope.cancelled_caught == is_waited_for
    assert ("c waits for a process" in caplog.text) == is_waited_for


async def test_two_launchers_at_once_run_a_command_one_after_the_other(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with launcher(folder, "sh", "-c", "echo $$ > leader; sleep 0.5; echo first >> order"):
        pids_in(folder / "leader")
        with anyio.fail_after(10):
            await run(folder, "sh", "-c", "echo second >> order")
    assert (folder / "order").read_text() == "first\nsecond\n"
    assert "c waits for another launch" in caplog.text


# The end of a command


async def test_a_cancelled_command_ends_with_all_that_it_started(folder: Path) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run, folder, "sh", "-c", f"{HELPER}; echo $$ > leader; sleep 40")
        while not (folder / "leader").exists():
            await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert [pid for pid in pids_in(folder / "helpers") + pids_in(folder / "leader") if is_alive(pid)] == []


async def test_a_command_that_ignores_sigterm_is_killed(folder: Path) -> None:
    deaf = f'echo $$ > leader; exec "{sys.executable}" -S -c "{DEAF}"'
    async with anyio.create_task_group() as group:
        group.start_soon(partial(run, folder, "sh", "-c", deaf, grace=0.2))
        while not (folder / "deaf").exists():
            await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert not is_alive(pids_in(folder / "leader")[0])


async def test_a_failed_command_says_the_end_of_its_own_output(folder: Path) -> None:
    await run(folder, "echo", "of an earlier run")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        await run(folder, "sh", "-c", "echo no luck; exit 3")
    assert (caught.value.returncode, caught.value.stderr) == (3, "no luck\n")


# Its files


async def test_every_name_has_an_output_of_its_own(folder: Path) -> None:
    names = ["a b", "a_b", "a/b", "ä", "模" * 200, "模" * 199 + "型", "..", "x" * 200]
    for name in names:
        await run(folder, "echo", name, name=name)
    assert sorted(path.read_text() for path in (folder / "logs").glob("*.log")) == sorted(f"{name}\n" for name in names)


@pytest.mark.parametrize("kind", ["link", "pipe"])
async def test_no_output_goes_where_a_link_or_a_pipe_leads(
    folder: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "logs").mkdir()
    (folder / "outside").write_text("precious")
    path = folder / "logs" / "c.log"
    path.symlink_to(folder / "outside") if kind == "link" else os.mkfifo(path)
    with anyio.fail_after(10):
        await run(folder, "echo", "output")
    assert (folder / "outside").read_text() == "precious"
    assert f"the output of c cannot be kept: {path} is a" in caplog.text
