"""What a block leaves while its server does not answer: it stays pending, and is taken out if that was under way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from adapters.comfyui import comfy as comfies
from adapters.comfyui import reconcile
from adapters.comfyui.comfy import Comfy
from adapters.comfyui.errors import PromptRefusedError, ServerBusyError
from adapters.comfyui.result import PromptResult
from adapters.comfyui.serving import Serving
from adapters.launcher import Launcher
from adapters.memory import MemoryStore
from events.errors import StaysPendingError
from recovery import presets
from tests.adapters.comfyui import graphs
from tests.adapters.comfyui.conftest import Start
from tests.adapters.comfyui.test_queue import launcher_at, on_asyncio, until

pytestmark = pytest.mark.anyio


async def ends(comfy: Comfy, graph: Any, found: list[Any]) -> None:
    try:
        found.append(await comfy.prompt(graph, name="one"))
    except Exception as error:
        found.append(error)


async def test_a_prompt_whose_post_has_no_answer_outlives_its_block(
    standin: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comfies, "LEAVE_TIMEOUT", 0.2)
    monkeypatch.setattr(reconcile, "GRACE", 0.2)
    server, store, found = standin(), MemoryStore(), list[Any]()
    server.set(hang_after=30)
    async with (
        launcher_at(tmp_path, store) as launcher,
        anyio.create_task_group() as group,
        launcher.comfyui(server.url) as comfy,
    ):
        group.start_soon(ends, comfy, graphs.picture(1), found)
        await until(server.runs)
    assert isinstance(found[0], StaysPendingError), found
    again = Launcher(presets.launcher(store=store), tmp_path)
    async with again:
        resumption = again.resume()
        async with again.comfyui(server.url):
            with anyio.fail_after(10):
                await resumption
    assert [one.error for one in resumption.calls] == [None]
    assert len(server.runs()) == 1


@on_asyncio
async def test_a_caller_does_not_wait_for_remembered_files_longer_than_the_block(
    standin: Start, tmp_path: Path
) -> None:
    server, found = standin(), list[Any]()
    with anyio.fail_after(10):
        async with (
            launcher_at(tmp_path) as launcher,
            anyio.create_task_group() as group,
            launcher.comfyui(server.url) as comfy,
        ):
            await ends(comfy, graphs.picture(1), found)
            server.set(unavailable=10**6)
            group.start_soon(ends, comfy, graphs.picture(1), found)
            await anyio.sleep(0.1)
    assert isinstance(found[1], StaysPendingError), found


@on_asyncio
async def test_a_prompt_that_cannot_be_taken_out_ends_all_the_same(
    standin: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(_: Serving, prompt_id: str) -> None:
        raise ServerBusyError(prompt_id)

    monkeypatch.setattr(comfies, "LEAVE_TIMEOUT", 0.2)
    monkeypatch.setattr(Serving, "remove", busy)
    graph, server, store, found = graphs.picture(1, 1.0), standin(), MemoryStore(), list[Any]()
    async with (
        launcher_at(tmp_path, store) as launcher,
        anyio.create_task_group() as group,
        launcher.comfyui(server.url) as comfy,
    ):
        group.start_soon(ends, comfy, graph, found)
        await until(server.runs)
        await until(lambda: [one.state for one in comfy.queue()] == ["running"])
        [run] = comfy._queue.runs.values()  # as a process leaves it that is killed while it cancels
        await run.notes.commit(posted=msgspec.structs.replace(run.record.posted, is_deleted=True))
        await comfy.leave()
    again = Launcher(presets.launcher(store=store), tmp_path)
    with anyio.fail_after(10):
        async with again, again.comfyui(server.url) as comfy:
            await ends(comfy, graph, found)
    assert [type(one) for one in found] == [StaysPendingError, PromptResult], found


@on_asyncio
@pytest.mark.parametrize("seconds", [0.0, 60.0])
async def test_a_part_that_an_earlier_block_could_not_take_out_is_no_result(
    standin: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    async def busy(_: Serving, prompt_id: str) -> None:
        raise ServerBusyError(prompt_id)

    monkeypatch.setattr(comfies, "LEAVE_TIMEOUT", 0.2)
    graph = graphs.picture(1, seconds) | {"4": graphs.node("SaveImage", images=["1", 0])}
    server, store, found = standin(), MemoryStore(), list[Any]()
    async with (
        launcher_at(tmp_path, store) as launcher,
        anyio.create_task_group() as group,
        launcher.comfyui(server.url) as comfy,
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Serving, "remove", busy)
            group.start_soon(ends, comfy, graph, found)
            await until(server.successes if seconds == 0.0 else server.runs)
            await anyio.sleep(0.1)  # a look finds it
            comfy._queue.look_soon()
            await anyio.sleep(0.1)
            await comfy.leave()
    again = Launcher(presets.launcher(store=store), tmp_path)
    with anyio.fail_after(10):
        async with again, again.comfyui(server.url) as comfy:
            await ends(comfy, graph, found)
    assert [type(one) for one in found] == [StaysPendingError, PromptRefusedError], found
