"""What the list of prompts says at odd moments, and what a cancel or a skip then takes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.comfyui import prompt_run
from events.errors import CallCancelledError
from tests.adapters.comfyui import graphs
from tests.adapters.comfyui.conftest import Start
from tests.adapters.comfyui.standin.child import Place
from tests.adapters.comfyui.test_queue import held, kill_server, launcher_at, on_asyncio, on_trio, until

pytestmark = pytest.mark.anyio


def listed(comfy: Any) -> list[tuple[str, str]]:
    return [(one.name, one.state) for one in comfy.queue()]


async def ends(comfy: Any, graph: Any, name: str, found: list[str]) -> None:
    try:
        await comfy.prompt(graph, name=name)
    except CallCancelledError:
        found.append(f"{name} was cancelled")
    else:
        found.append(f"{name} is done")


@on_asyncio
async def test_a_skip_takes_out_the_prompt_that_runs_and_not_one_that_has_ended(tmp_path: Path) -> None:
    found: list[str] = []
    async with held(Place(tmp_path / "comfyui")) as comfy, anyio.create_task_group() as group:
        group.start_soon(
            ends, comfy, graphs.picture(1, prefix="unreadable"), "ended", found
        )  # its file does not answer
        await until(lambda: listed(comfy))
        group.start_soon(ends, comfy, graphs.picture(2, seconds=60.0), "long", found)
        await until(lambda: ("long", "running") in listed(comfy))
        assert ("ended", "sent") in listed(comfy)
        assert comfy.skip() == "long"
        await until(lambda: found == ["long was cancelled"])
        group.cancel_scope.cancel()


@on_trio
async def test_nothing_runs_while_the_server_is_started_again(tmp_path: Path) -> None:
    found: list[str] = []
    async with held(place := Place(tmp_path / "comfyui")) as comfy, anyio.create_task_group() as group:
        group.start_soon(ends, comfy, graphs.picture(1, seconds=0.5), "first", found)
        await until(lambda: listed(comfy) == [("first", "running")])
        place.configure("--start-seconds", "1")
        kill_server(comfy)
        assert comfy.server is not None
        await until(lambda: comfy.server.pid is None)
        assert listed(comfy) == [("first", "sent")]
        assert comfy.skip() == ""
        group.start_soon(ends, comfy, graphs.picture(2), "second", found)
        await until(lambda: ("second", "waiting") in listed(comfy))  # though it has not asked the server yet
        assert comfy.cancel("second")
        await until(lambda: found)
        assert comfy.server.state == "starting"
    assert found == ["second was cancelled", "first is done"]


@on_asyncio
async def test_a_server_lists_and_cancels_no_prompt_of_another(standin: Start, tmp_path: Path) -> None:
    url, launcher, found = standin().url, launcher_at(tmp_path), list[str]()
    async with (
        launcher,
        launcher.comfyui(url, name="one") as one,
        launcher.comfyui(url, name="one/two") as two,
        anyio.create_task_group() as group,
    ):
        group.start_soon(ends, one, graphs.paid(), "cat", found)
        await until(lambda: listed(one) == [("cat", "asking")])
        assert listed(two) == []
        assert not two.cancel("cat")
        assert one.cancel("cat")
        await until(lambda: found == ["cat was cancelled"])


@on_asyncio
async def test_a_graph_that_is_changed_after_it_was_asked_for_runs_as_it_was(standin: Start, tmp_path: Path) -> None:
    graph, found = graphs.picture(), dict[str, str]()
    async with launcher_at(tmp_path) as launcher, launcher.comfyui(standin().url) as comfy:

        async def run(prefix: str) -> None:
            graph["3"]["inputs"]["filename_prefix"] = prefix
            found[prefix] = (await comfy.prompt(graph)).files[0].filename

        async with anyio.create_task_group() as group:
            for prefix in ("a", "b"):
                group.start_soon(run, prefix)
    assert found == {"a": "a_00001_.png", "b": "b_00001_.png"}


@on_asyncio
async def test_models_are_unloaded_for_files_that_are_gone_and_not_for_those_made_anew(
    standin: Start, tmp_path: Path
) -> None:
    server = standin()
    async with launcher_at(tmp_path) as launcher, launcher.comfyui(server.url) as comfy:
        first = await comfy.prompt(graphs.picture(1))
        await comfy.prompt(graphs.picture(2))
        (server.output / first.files[0].filename).unlink()
        again = await comfy.prompt(graphs.picture(1))
        assert again.files != first.files
        await anyio.to_thread.run_sync(server.restart)
        assert await comfy.prompt(graphs.picture(1)) == again
        await comfy.prompt(graphs.hungry())  # it fails until the models are unloaded
        assert [one.ended for one in server.runs()[-2:]] == ["error", "success"]


@on_asyncio
async def test_a_prompt_that_is_cancelled_while_a_model_loads_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_run, "GRACE", 0.1)
    graph, found = graphs.busy(1.5), list[str]()
    graph["4"] = graphs.node("Sleep", image=["2", 0], seconds=60.0, steps=1)
    graph["3"]["inputs"]["images"] = ["4", 0]
    async with held(place := Place(tmp_path / "comfyui")) as comfy, anyio.create_task_group() as group:
        group.start_soon(ends, comfy, graph, "loads", found)
        await until(place.runs)
        assert comfy.cancel("loads")
        await until(lambda: found == ["loads was cancelled"], within=1.0)
        with anyio.fail_after(20):
            await comfy.prompt(graphs.picture(2))
    assert [one.ended for one in place.runs()] == ["error", "success"]


@on_asyncio
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": 7}, ValueError),
        ({"name": "\ud83d"}, ValueError),
        ({"on_memory": "--lowvram"}, TypeError),
        ({"on_memory": [1]}, TypeError),
    ],
)
async def test_what_no_journal_and_no_command_takes_is_refused(
    standin: Start, tmp_path: Path, options: Any, error: type[Exception]
) -> None:
    async with launcher_at(tmp_path) as launcher, launcher.comfyui(standin().url) as comfy:
        with pytest.raises(error, match=next(iter(options))):
            await comfy.prompt(graphs.picture(), **options)


@on_asyncio
@pytest.mark.slow
async def test_a_cancelled_prompt_stays_cancelled_though_its_block_ends(tmp_path: Path) -> None:
    launcher, place, found = launcher_at(tmp_path), Place(tmp_path / "comfyui"), list[str]()
    async with launcher, anyio.create_task_group() as group:
        async with launcher.comfyui(place.argv()) as comfy:
            group.start_soon(ends, comfy, graphs.busy(4.0), "loads", found)
            await until(place.runs)
            assert comfy.cancel("loads")
            await anyio.sleep(0.1)
        await until(lambda: found == ["loads was cancelled"])
