"""Prompts of a launcher, before a real stand-in: they survive the death of the server, and of the launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.comfyui.comfy import Comfy
from adapters.launcher import Launcher, RestartPolicy
from adapters.memory import MemoryStore
from recovery import presets
from tests.adapters.comfyui import graphs
from tests.adapters.comfyui.standin.child import Place
from tests.until import wait_until

pytestmark = pytest.mark.anyio

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])
on_trio = pytest.mark.parametrize("anyio_backend", ["trio"])
OFTEN = RestartPolicy(max_restarts=20, delay=0.01)


def launcher_at(folder: Path, store: Any = None) -> Launcher:
    return Launcher(presets.launcher(store=store or MemoryStore()), folder)


@asynccontextmanager
async def held(place: Place, launcher: Launcher | None = None, **options: Any) -> AsyncIterator[Comfy]:
    """The server of *place*, of a launcher of its own."""
    launcher = launcher or launcher_at(place.folder.parent)
    async with launcher, launcher.comfyui(place.argv(), restarts=OFTEN, **options) as comfy:
        yield comfy


async def until(is_so: Callable[[], object], within: float = 10.0) -> None:
    with anyio.fail_after(within):
        while not is_so():
            await anyio.sleep(0.01)


def kill_server(comfy: Comfy) -> None:
    assert comfy.server is not None
    assert comfy.server.pid is not None
    os.kill(comfy.server.pid, signal.SIGKILL)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "comfyui")


async def test_prompts_end_with_their_files(place: Place) -> None:
    async with held(place) as comfy:
        one = await comfy.prompt(graphs.picture(1))
        two = await comfy.prompt(graphs.picture(2, seconds=0.2))
        assert [file.filename for file in one.files + two.files] == place.files()
        assert one.prompt_id != two.prompt_id
    assert sorted(place.successes().values()) == [1, 1]


@on_asyncio
@pytest.mark.slow
async def test_lost_prompts_keep_their_place_and_the_suspected_one_comes_last(place: Place) -> None:
    async with held(place) as comfy, anyio.create_task_group() as group:
        done: list[int] = []

        async def run(seed: int) -> None:
            await comfy.prompt(graphs.picture(seed, seconds=0.5), name=f"p{seed}")
            done.append(seed)

        for seed in range(6):
            group.start_soon(run, seed)
        await until(lambda: [one.name for one in comfy.queue() if one.state != "waiting"] == ["p0", "p1"])
        await until(lambda: [one.name for one in comfy.queue() if one.state == "running"] == ["p0"])
        kill_server(comfy)
    assert done == [1, 2, 3, 4, 5, 0]


async def test_a_prompt_is_sent_again_when_its_server_has_died(place: Place) -> None:
    async with held(place) as comfy, anyio.create_task_group() as group:
        results = []

        async def run(seed: int) -> None:
            results.append(await comfy.prompt(graphs.picture(seed, seconds=0.3)))

        for seed in range(3):
            group.start_soon(run, seed)
        await until(lambda: place.runs() and sum(one.state != "waiting" for one in comfy.queue()) == 2)
        kill_server(comfy)
    assert len(results) == 3
    assert sorted(place.successes().values()) == [1, 1, 1]


def program(folder: Path, seconds: float, *seeds: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "tests.adapters.comfyui.prompting", str(folder), str(seconds), *map(str, seeds)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
@on_asyncio
async def test_prompts_go_on_when_the_launcher_was_killed(place: Place) -> None:
    folder = place.folder.parent
    first = program(folder, 0.7, 1, 2, 3)
    await anyio.to_thread.run_sync(wait_until, lambda: place.successes(), 30.0)
    first.kill()
    said, _ = first.communicate()
    second = program(folder, 0.7, 1, 2, 3)
    out, _ = await anyio.to_thread.run_sync(second.communicate)
    assert second.returncode == 0, out
    assert sorted(place.successes().values()) == [1, 1, 1], said + out
    assert len(place.files()) == 3
