"""Commands of other launchers, killed ones and living ones: what is waited for, and what is ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import structs
from msgspec.json import decode, encode

from adapters.processes.identity import identity_of, process_of
from adapters.processes.running import Running
from tests.adapters.processes.test_command import DEAF_CHILD, HELPER, is_alive, pids_in, run
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


def recorded_leader(folder: Path) -> int:
    """The process of the command, once the file that names what runs names it."""
    [leader] = pids_in(folder / "leader")
    eventually(lambda: f'"pid":{leader},' in (folder / "logs" / "c.running").read_text())
    return leader


async def test_a_command_of_a_killed_launcher_is_waited_for(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    order = "touch gone; sleep 0.3; echo first >> order"
    with launcher(folder, "sh", "-c", f"echo $$ > leader; until [ -e go ]; do sleep 0.01; done; {order}") as killed:
        leader = recorded_leader(folder)
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


async def test_a_command_of_a_killed_launcher_is_ended_on_request(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with launcher(folder, "sh", "-c", f"{HELPER}; echo $$ > leader; exec sleep 40"):
        pids = [recorded_leader(folder), *pids_in(folder / "helpers")]
    await run(folder, "touch", "again", orphans="end")
    assert (folder / "again").exists()
    assert not any(map(is_alive, pids))
    assert "was killed; it is ended" in caplog.text


async def test_a_cancelled_wait_ends_the_command_of_a_killed_launcher(folder: Path) -> None:
    with launcher(folder, "sh", "-c", "echo $$ > leader; exec sleep 40"):
        leader = recorded_leader(folder)
    with anyio.move_on_after(0.1) as scope:
        await run(folder, "touch", "again")
    assert scope.cancelled_caught
    assert not is_alive(leader)
    assert not (folder / "again").exists()


async def test_the_helper_of_a_command_of_a_killed_launcher_is_not_waited_for(folder: Path) -> None:
    with launcher(folder, "sh", "-c", f"{HELPER}; echo $$ > leader; exec sleep 40"):
        leader = recorded_leader(folder)
    os.kill(leader, signal.SIGKILL)
    with anyio.fail_after(10):
        await run(folder, "touch", "again")
    assert is_alive(pids_in(folder / "helpers")[0])


async def test_a_command_is_found_whose_launcher_was_killed_before_it_noted_the_process(folder: Path) -> None:
    with launcher(folder, "sh", "-c", "echo $$ > leader; exec sleep 40"):
        leader = recorded_leader(folder)
    path = folder / "logs" / "c.running"
    path.write_bytes(encode(structs.replace(decode(path.read_bytes(), type=Running), process=None)) + b"\n")
    await run(folder, "true", orphans="end")
    assert not is_alive(leader)


async def test_what_a_killed_launcher_was_ending_is_ended(folder: Path) -> None:
    with launcher(folder, "sh", "-c", f"setsid {DEAF_CHILD} & echo $$ > leader; exec {DEAF_CHILD}") as process:
        leader = recorded_leader(folder)
        eventually(lambda: (folder / "deaf").exists())
        process.send_signal(signal.SIGINT)
        eventually(lambda: '"ending":"cancelled"' in (folder / "logs" / "c.running").read_text())
    assert is_alive(leader)
    with anyio.fail_after(10):
        await run(folder, "true", grace=0.05)
    assert not any(map(is_alive, [leader, *pids_in(folder / "helpers", 2)]))


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
    with launcher(folder, "sh", "-c", "echo $$ > leader; sleep 0.5; echo first >> order") as other:
        pids_in(folder / "leader")
        with anyio.fail_after(10):
            await run(folder, "sh", "-c", "echo second >> order")
    assert (folder / "order").read_text() == "first\nsecond\n"
    assert f"c waits for another launch, process {other.pid}, which runs it now" in caplog.text
