"""Prompts that are joined, remembered, paused, cancelled, left, or of unknown outcome."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.launcher import Launcher, RestartPolicy, ServerGoneError
from adapters.memory import MemoryStore
from events.errors import CallCancelledError, StaysPendingError
from events.operation_events import OperationCancelled
from events.question_events import QuestionAsked
from recovery import presets
from tests.adapters.comfyui import graphs
from tests.adapters.comfyui.conftest import Start
from tests.adapters.comfyui.standin.child import Place
from tests.adapters.comfyui.test_queue import held, kill_server, launcher_at, on_asyncio, on_trio, until
from tests.recorded_events import events_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "comfyui")


@pytest.mark.slow
@on_trio
async def test_equal_prompts_join_and_are_remembered_while_their_files_are_there(place: Place) -> None:
    async with held(place) as comfy:
        results: list[Any] = []

        async def run(**options: Any) -> None:
            results.append(await comfy.prompt(graphs.picture(seconds=0.3), **options))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(run)
        await run()
        assert len({one.prompt_id for one in results}) == 1
        await run(name="another")
        (place.output / results[0].files[0].filename).unlink()
        await run()
        assert len({one.prompt_id for one in results}) == 3
        assert sum(place.successes().values()) == 3


@pytest.mark.slow
@on_asyncio
async def test_a_paused_queue_sends_nothing_and_priorities_decide_the_order(place: Place) -> None:
    async with held(place, window=1) as comfy:
        done: list[str] = []

        async def run(name: str, priority: Any) -> None:
            await comfy.prompt(graphs.picture(), name=name, priority=priority)
            done.append(name)

        comfy.pause("lunch")
        async with anyio.create_task_group() as group:
            for name, priority in (("a", "low"), ("b", "normal"), ("c", "high"), ("d", "normal")):
                group.start_soon(run, name, priority)
                await until(lambda name=name: name in [one.name for one in comfy.queue()])
            await until(lambda: len([one for one in comfy.queue() if one.progress.waits_for == "lunch"]) == 4)
            assert [one.name for one in comfy.queue()] == ["c", "b", "d", "a"]
            assert place.runs() == []
            comfy.unpause()
        assert done == ["c", "b", "d", "a"]


@on_asyncio
async def test_prompts_that_are_asked_for_at_once_run_in_their_order(place: Place) -> None:
    async with held(place, window=1) as comfy:
        done: list[int] = []

        async def run(number: int) -> None:
            await comfy.prompt(graphs.picture(number))
            done.append(number)

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(run, number)
        assert done == list(range(8))


@on_asyncio
@pytest.mark.parametrize("how", ["task", "name", "skip"])
async def test_a_cancelled_prompt_leaves_the_server_and_the_next_one_runs(place: Place, how: str) -> None:
    launcher = launcher_at(place.folder.parent)
    async with held(place, launcher) as comfy, anyio.create_task_group() as group:
        cancelled: list[Any] = events_of(launcher.service, OperationCancelled)
        scope = anyio.CancelScope()

        async def run() -> None:
            with scope:
                if how == "task":
                    await comfy.prompt(graphs.picture(1, seconds=60.0), name="long")
                else:
                    with pytest.raises(CallCancelledError):
                        await comfy.prompt(graphs.picture(1, seconds=60.0), name="long")

        group.start_soon(run)
        await until(lambda: [one.state for one in comfy.queue()] == ["running"])
        match how:
            case "task":
                scope.cancel()
            case "name":
                assert comfy.cancel("long")
            case "skip":
                assert comfy.skip() == "long"
        await comfy.prompt(graphs.picture(2))
        assert [one.key for one in cancelled] == ["long"]
    assert [one.ended for one in place.runs()] == ["error", "success"]


@pytest.mark.slow
@on_asyncio
async def test_what_a_block_leaves_goes_on_in_the_next_process(place: Place) -> None:
    store = MemoryStore()
    launcher = launcher_at(place.folder.parent, store)
    ends: list[Any] = []

    async def run(comfy: Any, seed: int) -> None:
        try:
            await comfy.prompt(graphs.picture(seed, seconds=0.4), name=str(seed))
        except Exception as error:
            ends.append(type(error))

    async with anyio.create_task_group() as group, held(place, launcher) as comfy:
        for seed in range(4):
            group.start_soon(run, comfy, seed)
        await until(lambda: place.successes())
    assert set(ends) == {StaysPendingError}
    left = len(ends)
    again = Launcher(presets.launcher(store=store), place.folder.parent)
    async with again:
        resumption = again.resume()
        async with again.comfyui(place.argv()):
            with anyio.fail_after(20):
                await resumption
        assert len(resumption.calls) == left
        assert all(one.error is None for one in resumption.calls)
    assert len(place.successes()) == 4  # one that ended with the block may have run once more


@on_asyncio
async def test_callers_get_the_error_of_a_server_that_is_gone(place: Place) -> None:
    launcher = launcher_at(place.folder.parent)
    async with launcher:
        asked: list[Any] = events_of(launcher.service, QuestionAsked)
        cancelled: list[Any] = events_of(launcher.service, OperationCancelled)
        with pytest.raises(ServerGoneError):
            policy = RestartPolicy(max_restarts=0)
            async with launcher.comfyui(place.argv(), restarts=policy) as comfy, anyio.create_task_group() as group:
                group.start_soon(comfy.prompt, graphs.picture(seconds=60.0))
                await until(lambda: [one.state for one in comfy.queue()] == ["running"])
                kill_server(comfy)
                await until(lambda: asked)
                launcher.service.calls.answer("restart:comfyui", False)
        assert not cancelled


@on_asyncio
@pytest.mark.parametrize("fault", [pytest.param("drop_before", marks=pytest.mark.slow), "drop_after", "drop_late"])
async def test_a_post_without_an_answer_is_looked_for_and_not_sent_twice(
    standin: Start, tmp_path: Path, fault: str
) -> None:
    server = standin()
    server.set(**{fault: 1})
    async with launcher_at(tmp_path) as launcher, launcher.comfyui(server.url) as comfy:
        result = await comfy.prompt(graphs.picture(seconds=0.2))
        assert len(result.files) == 1
    assert sorted(server.successes().values()) == [1]


@pytest.mark.slow
@on_trio
async def test_a_server_that_is_not_ours_may_restart(standin: Start, tmp_path: Path) -> None:
    server = standin("old")
    async with launcher_at(tmp_path) as launcher, launcher.comfyui(server.url) as comfy:
        results: list[Any] = []

        async def run(seed: int) -> None:
            results.append(await comfy.prompt(graphs.picture(seed, seconds=0.4)))

        async with anyio.create_task_group() as group:
            for seed in range(3):
                group.start_soon(run, seed)
            await until(lambda: len([one for one in comfy.queue() if one.state != "waiting"]) == 2)
            await until(lambda: server.runs())
            await anyio.to_thread.run_sync(server.restart)
    assert len(results) == 3
    assert sorted(server.successes().values()) == [1, 1, 1]


def test_plain_code_runs_prompts(place: Place) -> None:
    service = presets.launcher(store=MemoryStore())
    with Launcher.blocking(service, place.folder.parent) as launcher, launcher.comfyui(place.argv()) as comfy:
        result = comfy.prompt(graphs.picture())
        comfy.fetch(result.files[0], place.folder.parent)
        assert (place.folder.parent / result.files[0].filename).stat().st_size
        assert comfy.queue() == []
