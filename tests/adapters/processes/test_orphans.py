"""Commands of other launchers, killed ones and living ones: what is waited for, and what is ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import structs
from msgspec.json import encode

from adapters.processes.identity import Identity, identity_of, process_of
from adapters.processes.running import Running
from adapters.processes.tree import VARIABLE
from recovery.journal.boot import boot_id
from tests.adapters.processes.test_command import HELPER, is_alive, pids_in, run
from tests.adapters.processes.test_command import folder as folder
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


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def launcher(folder: Path, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that runs the command, killed with SIGKILL at the end."""
    process = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(folder), *argv])
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def has_begun(pid: int) -> bool:
    """Whether the environment of a process can be read, which is empty while it begins, or the process is over."""
    try:
        return VARIABLE.encode() in Path(f"/proc/{pid}/environ").read_bytes() or not is_alive(pid)
    except OSError:
        return True


@contextmanager
def orphan(folder: Path, *argv: str, **changes: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A command as a killed launcher leaves it, but for *changes* to the file that names it."""
    mark = f"of {folder}".replace(":", "")
    process = subprocess.Popen(argv, cwd=folder, start_new_session=True, env={**os.environ, VARIABLE: mark})
    eventually(lambda: has_begun(process.pid))
    named = Running(mark=mark, argv="", launcher=1, process=identity_of(process.pid))
    (folder / "logs").mkdir()
    (folder / "logs" / "c.running").write_bytes(encode(structs.replace(named, **changes)) + b"\n")
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


async def test_a_command_of_a_killed_launcher_is_waited_for(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    order = "touch gone; sleep 0.2; echo first >> order"
    with launcher(folder, "sh", "-c", f"echo $$ > leader; until [ -e go ]; do sleep 0.01; done; {order}") as killed:
        [leader] = pids_in(folder / "leader")
        eventually(lambda: f'"pid":{leader},' in (folder / "logs" / "c.running").read_text())
    (folder / "go").touch()
    eventually(lambda: (folder / "gone").exists())
    with anyio.fail_after(10):
        await run(folder, "sh", "-c", "echo second >> order")
    assert (folder / "order").read_text() == "first\nsecond\n"
    [warning] = [record.message for record in caplog.records]
    assert re.fullmatch(
        rf"c waits for process {leader} \(of another command line\), which has run for \d+ s: "
        rf"its launcher \(process {killed.pid}\) was killed",
        warning,
    )


async def test_what_a_command_of_a_killed_launcher_has_done_is_not_done_again(folder: Path) -> None:
    async def is_done() -> bool:
        return (folder / "made").exists()

    with orphan(folder, "sh", "-c", "sleep 0.1; touch made"):
        await run(folder, "touch", "again", is_done=is_done)
    assert not (folder / "again").exists()


async def test_a_command_of_a_killed_launcher_is_ended_on_request(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with orphan(folder, "sh", "-c", f"{HELPER}; sleep 40") as left:
        pids = [left.pid, *pids_in(folder / "helpers")]
        await run(folder, "touch", "again", orphans="end")
        assert not any(map(is_alive, pids))
    assert (folder / "again").exists()
    assert f"c still runs as process {left.pid}" in caplog.text


async def test_a_cancelled_wait_ends_the_command_of_a_killed_launcher(folder: Path) -> None:
    with orphan(folder, "sleep", "40") as left:
        with anyio.move_on_after(0.05) as scope:
            await run(folder, "touch", "again")
        assert scope.cancelled_caught
        assert not is_alive(left.pid)
    assert not (folder / "again").exists()


async def test_the_helper_of_a_command_of_a_killed_launcher_is_not_waited_for(folder: Path) -> None:
    with orphan(folder, "sh", "-c", HELPER) as left:
        left.wait(10)
        with anyio.fail_after(10):
            await run(folder, "touch", "again")
        assert is_alive(pids_in(folder / "helpers")[0])


async def test_a_command_is_found_whose_launcher_was_killed_before_it_noted_the_process(folder: Path) -> None:
    with orphan(folder, "sleep", "40", process=None) as left:
        await run(folder, "true", orphans="end")
        assert not is_alive(left.pid)


async def test_what_a_killed_launcher_was_ending_is_ended(folder: Path) -> None:
    with orphan(folder, "sh", "-c", "setsid sleep 40 & echo $! > helpers", ending="cancelled") as left:
        left.wait(10)
        await run(folder, "true")
    assert not any(map(is_alive, pids_in(folder / "helpers")))


async def test_the_group_of_a_later_process_is_left_alone(folder: Path) -> None:
    with orphan(folder, "sleep", "40") as later:
        earlier = Running(
            mark="1", argv="", launcher=1, process=Identity(later.pid, 1.0, boot_id()), ending="cancelled"
        )
        (folder / "logs" / "c.running").write_bytes(encode(earlier) + b"\n")
        await run(folder, "true")
        assert is_alive(later.pid)


@pytest.mark.parametrize(
    ("change", "is_another"),
    [({"start": 1.0}, True), ({"boot": "another"}, True), ({}, False)],
    ids=["a later process", "another boot", "the same"],
)
def test_a_process_is_known_by_its_start_and_the_boot(change: dict[str, Any], is_another: bool) -> None:
    own = identity_of(os.getpid())
    assert own is not None
    assert (process_of(structs.replace(own, **change)) is None) == is_another


@pytest.mark.parametrize("content", [b"12", b'{"mark": 1}\n', b"\xff\n"])
async def test_a_file_that_names_nothing_is_replaced(
    folder: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "logs").mkdir()
    (folder / "logs" / "c.running").write_bytes(content)
    await run(folder, "true")
    assert "c.running cannot be read" in caplog.text
    assert not (folder / "logs" / "c.running").exists()


async def test_two_launchers_at_once_run_a_command_one_after_the_other(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with launcher(folder, "sh", "-c", "echo $$ > leader; sleep 0.3; echo first >> order") as other:
        pids_in(folder / "leader")
        with anyio.fail_after(10):
            await run(folder, "sh", "-c", "echo second >> order")
    assert (folder / "order").read_text() == "first\nsecond\n"
    assert f"c waits for another launch, process {other.pid}, which runs it now" in caplog.text
