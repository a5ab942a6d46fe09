"""Silent commands: what counts as silence, and what becomes of them."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import anyio
import pytest

from adapters.processes.command import SilentCommandError, run_command
from adapters.processes.silence import SilenceWatch
from adapters.processes.tree import Tree
from events.evidence import Category
from recovery.subscribers.classification import classify
from tests.adapters.processes.test_command import is_alive, pids_in

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def run(folder: Path, *argv: str, silence: float) -> None:
    await run_command("c", argv, cwd=folder, logs=folder / "logs", silence=silence, grace=0.2)


async def test_a_silent_command_is_ended_with_all_its_processes(tmp_path: Path) -> None:
    with anyio.fail_after(5), pytest.raises(SilentCommandError) as caught:
        await run(tmp_path, "sh", "-c", "echo hello; setsid sleep 40 & echo $! > pids; sleep 40", silence=0.2)
    assert not any(map(is_alive, pids_in(tmp_path / "pids")))
    assert str(caught.value) == "c printed nothing and did nothing for 0.2 s, and was ended"
    assert classify(caught.value).category is Category.TRANSIENT
    assert (tmp_path / "logs" / "c.log").read_text().startswith("hello\n[ended by the launcher: silent for 0.2 s]\n")
    assert "hello" in pickle.loads(pickle.dumps(caught.value)).output


@pytest.mark.slow
async def test_a_command_that_prints_is_not_silent(tmp_path: Path) -> None:
    await run(tmp_path, "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo; sleep 0.08; done", silence=0.3)


@pytest.mark.slow
async def test_a_command_that_computes_is_not_silent(tmp_path: Path) -> None:
    program = "import time\nend = time.monotonic() + 0.6\nwhile time.monotonic() < end: pass"
    await run(tmp_path, "sh", "-c", f'setsid {sys.executable} -S -c "{program}" & sleep 0.6', silence=0.3)


def test_time_in_which_everything_stood_still_is_no_silence() -> None:
    now = 0.0
    watch = SilenceWatch(10.0, Tree("no process has this mark"), lambda: now)
    now = 500.0  # as after a container was frozen
    assert not watch.is_over()
    for _ in range(8):
        now += 1.0
        assert not watch.is_over() or now == 508.0
    assert watch.is_over() is False  # asked again too soon
    now += 1.0
    assert watch.is_over()
