"""Commands of a plan as real processes: what is waited for, and what ends with the launch."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from adapters.processes.command import kill_all, run_command
from adapters.processes.tree import VARIABLE
from events.evidence import Category
from recovery.redact import unhide
from recovery.serialization.secret import Secret
from recovery.subscribers.classification import classify
from tests.adapters.sqlite.test_kill import eventually
from tests.slow import few
from tests.small_disk import small_disk

pytestmark = pytest.mark.anyio

HELPER = "nohup sleep 40 & echo $! >> helpers; echo x >> runs"
DEAF_CHILD = "sh -c 'trap \"\" TERM; echo $$ >> helpers; touch deaf; while :; do sleep 0.2; done'"


async def run(folder: Path, *argv: str, name: str = "c", **settings: Any) -> None:
    await run_command(name, argv, cwd=folder, logs=folder / "logs", **settings)


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


def is_written(path: Path) -> bool:
    return path.exists() and path.read_text().endswith("\n")


async def run_until(is_so: Callable[[], object], folder: Path, *argv: str, **settings: Any) -> None:
    """Run a command, and cancel it as soon as *is_so*."""
    async with anyio.create_task_group() as group:
        group.start_soon(partial(run, folder, *argv, **settings))
        while not is_so():
            await anyio.sleep(0.01)
        group.cancel_scope.cancel()


# The end of a command


async def test_a_helper_that_a_command_left_running_is_not_waited_for(folder: Path) -> None:
    with anyio.fail_after(10):
        for _ in range(3):
            await run(folder, "sh", "-c", HELPER)
    assert (folder / "runs").read_text() == "x\n" * 3
    assert all(is_alive(pid) for pid in pids_in(folder / "helpers", 3))  # it was made to stay


async def test_a_cancelled_command_ends_with_all_that_it_started(folder: Path) -> None:
    leader = folder / "leader"
    await run_until(lambda: is_written(leader), folder, "sh", "-c", f"{HELPER}; echo $$ > leader; sleep 40")
    assert not any(map(is_alive, pids_in(folder / "helpers") + pids_in(leader)))
    assert (folder / "logs" / "c.log").read_text() == "[ended by the launcher: cancelled]\n"
    assert [path.name for path in (folder / "logs").iterdir()] == ["c.log"]


@pytest.mark.parametrize(
    "leave",
    [
        "setsid sh -c 'echo $$ >> helpers; exec sleep 40' &",
        "(setsid sh -c 'echo $$ >> helpers; exec sleep 40' &) &",
        "env -i PATH=$PATH setsid sh -c 'echo $$ >> helpers; exec sleep 40' &",
    ],
    ids=["a session of its own", "no parent either", "no mark in its environment"],
)
async def test_a_cancelled_command_ends_with_what_has_left_its_group(folder: Path, leave: str) -> None:
    helpers = folder / "helpers"
    await run_until(lambda: is_written(helpers), folder, "sh", "-c", f"{leave} sleep 40")
    assert not any(map(is_alive, pids_in(helpers)))


async def test_a_shell_does_not_go_on_when_what_it_waits_for_is_ended(folder: Path) -> None:
    await run_until((folder / "ready").exists, folder, "sh", "-c", "touch ready; sleep 40; touch went_on")
    assert not (folder / "went_on").exists()


async def test_a_command_that_ignores_sigterm_is_killed(folder: Path) -> None:
    deaf = folder / "deaf"
    await run_until(deaf.exists, folder, "sh", "-c", f"{DEAF_CHILD} & sleep 40", grace=0.1)
    assert not is_alive(pids_in(folder / "helpers")[0])


@pytest.mark.parametrize("anyio_backend", few(["asyncio", "trio"], "asyncio"))
async def test_each_process_gets_sigterm_once(folder: Path) -> None:
    trap = "trap 'echo x >> terms' TERM; touch ready; while :; do sleep 0.01; done"
    await run_until((folder / "ready").exists, folder, "sh", "-c", trap, grace=0.2)
    assert (folder / "terms").read_text() == "x\n"


async def test_every_command_can_be_killed_within_its_grace(folder: Path) -> None:
    with anyio.fail_after(2):
        async with anyio.create_task_group() as group:
            group.start_soon(partial(run, folder, "sh", "-c", f"exec {DEAF_CHILD}", grace=40))
            while not (folder / "deaf").exists():
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.05)
            kill_all()
    assert not is_alive(pids_in(folder / "helpers")[0])


async def test_a_failed_command_says_the_end_of_its_own_output(folder: Path) -> None:
    await run(folder, "echo", "of an earlier run")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        await run(folder, "sh", "-c", "echo no luck; exit 3")
    assert (caught.value.returncode, caught.value.stderr) == (3, "no luck\n")


async def test_an_error_before_a_progress_bar_is_recognized(folder: Path) -> None:
    program = (
        "import sys\nprint('\\x1b[31mERROR: No matching distribution found for x\\x1b[0m')\n"
        "for i in range(4000): print(f'\\x1b[2K {i / 40:.1f}% |#####|', end='\\r')\n"
        "for i in range(400): print(f'{i / 4:.1f}% |##########|')\nsys.exit(1)"
    )
    with pytest.raises(subprocess.CalledProcessError) as caught:
        await run(folder, sys.executable, "-S", "-c", program)
    meaning = classify(caught.value)
    assert (meaning.category, meaning.rule) == (Category.PERMANENT, "pip-missing")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_that_is_cancelled_at_any_step_leaves_no_process(folder: Path) -> None:
    for steps in range(0, 30, 6):
        task = asyncio.create_task(run(folder, "sh", "-c", "setsid sleep 40 & sleep 40", name=f"{steps}", grace=0))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert [one for one in psutil.process_iter(["cwd", "status"]) if one.info["cwd"] == str(folder)] == []


# Its environment


async def test_a_secret_of_the_environment_is_in_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_LAUNCHER", "opensesame42")
    env = {"A": Secret("env:OF_THE_LAUNCHER"), "MY_TOKEN": "plainsesame42", "B": "visible"}
    try:
        await run(folder, "sh", "-c", "echo $A $MY_TOKEN $B; echo $A $MY_TOKEN $B > seen", env=env)
    finally:
        unhide("opensesame42")
        unhide("plainsesame42")
    assert (folder / "seen").read_text() == "opensesame42 plainsesame42 visible\n"
    assert (folder / "logs" / "c.log").read_text() == "*** *** visible\n"


async def test_the_marks_of_commands_within_commands_add_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "outer")
    await run(folder, "sh", "-c", f"echo ${VARIABLE} > mark")
    assert re.fullmatch(r"outer:\w{32}\n", (folder / "mark").read_text())


@pytest.mark.parametrize(
    ("argv", "settings", "message"),
    [
        ("ls -l", {}, "argv must be a list of texts"),
        ([], {}, "argv must name a program"),
        (["true"], {"silence": 0}, "silence must be greater than 0"),
        (["true"], {"grace": -1}, "grace must be at least 0"),
        (["true"], {"orphans": "kill"}, "orphans must be one of 'wait', 'end', 'adopt', not 'kill'"),
    ],
)
async def test_a_wrong_setting_is_refused(folder: Path, argv: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        await run_command("c", argv, cwd=folder, logs=folder / "logs", **settings)
    assert not (folder / "logs").exists()


# Its files


async def test_commands_of_one_name_may_have_files_of_their_own(folder: Path) -> None:
    async with anyio.create_task_group() as group:
        for files in "ab":
            other = "b" if files == "a" else "a"
            meet = f"touch {files}; until [ -e {other} ]; do sleep 0.01; done"
            group.start_soon(partial(run, folder, "sh", "-c", meet, files=files))
    assert sorted(path.name for path in (folder / "logs").iterdir()) == ["a.log", "b.log"]


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


async def test_a_command_that_fills_the_disk_of_its_log_is_said_to_have_done_so() -> None:
    with small_disk("1m") as disk:
        with pytest.raises(subprocess.CalledProcessError) as raised:
            await run(disk, "dd", "if=/dev/zero", "of=big", "bs=4k")
        assert classify(raised.value).rule == "disk-full"
