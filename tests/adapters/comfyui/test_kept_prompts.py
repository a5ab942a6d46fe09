"""What is kept of a prompt when its server dies or hangs, or its block ends; and what very many prompts cost."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import anyio
import pytest

from adapters.comfyui import reconcile
from adapters.comfyui.result import PromptResult
from adapters.launcher import Launcher
from adapters.memory import MemoryStore
from events.errors import StaysPendingError
from recovery import presets
from tests.adapters.comfyui import graphs
from tests.adapters.comfyui.conftest import Start
from tests.adapters.comfyui.standin.child import Place, Standin
from tests.adapters.comfyui.test_prompt_questions import answering
from tests.adapters.comfyui.test_queue import held, kill_server, launcher_at, until

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


def release_all(url: str) -> None:
    """Let the node that is stuck go on."""
    urlopen(Request(f"{url}/standin/release", method="POST")).close()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "comfyui")


@pytest.mark.slow
async def test_outputs_that_were_there_before_a_death_need_no_second_run(place: Place) -> None:
    graph = graphs.picture() | {
        "8": graphs.node("Sleep", image=["1", 0], seconds=60.0, steps=1),
        "9": graphs.node("SaveImage", images=["8", 0], filename_prefix="late"),
    }
    async with held(place) as comfy, anyio.create_task_group() as group:
        results: list[PromptResult] = []

        async def run() -> None:
            results.append(await comfy.prompt(graph, outputs=["3"]))

        group.start_soon(run)
        await until(lambda: comfy._queue.in_server() and comfy._queue.in_server()[0].record.outputs)
        kill_server(comfy)
    assert [file.filename for file in results[0].files] == place.files()
    assert list(results[0].outputs) == ["3"]
    assert len(place.runs()) == 1


@pytest.mark.slow
async def test_consent_is_asked_anew_once_a_paid_run_was_lost(place: Place) -> None:
    graph = graphs.paid()
    graph["2"] = graphs.node("Sleep", image=["1", 0], seconds=0.6, steps=1)
    graph["3"]["inputs"]["images"] = ["2", 0]
    launcher = launcher_at(place.folder.parent)
    async with held(place, launcher) as comfy, anyio.create_task_group() as group:

        async def kill() -> None:
            await until(lambda: place.charges() and [one.state for one in comfy.queue()] == ["running"])
            kill_server(comfy)

        group.start_soon(kill)
        asked, end = await answering(launcher, lambda: comfy.prompt(graph, name="cat"))
    assert asked == ["pay:cat", "pay:cat"]
    assert isinstance(end[0], PromptResult), end
    assert len(place.charges()) == 2


@pytest.mark.parametrize("is_used_by_others", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_consent_is_asked_anew_where_a_paid_run_may_have_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_used_by_others: bool
) -> None:
    monkeypatch.setattr(reconcile, "GRACE", 0.2)
    launcher = launcher_at(tmp_path)
    with Standin(tmp_path / "comfyui") as server:
        server.set(die_after=9)  # no look has found it, and no message has told of it
        async with launcher, launcher.comfyui(server.url) as comfy, anyio.create_task_group() as group:

            async def start_again() -> None:
                await until(lambda: server.process is not None and server.process.poll() is not None)
                await anyio.to_thread.run_sync(server.start)
                if is_used_by_others:  # its queue is no sign of a new process then
                    server.ask("POST", "/prompt", {"prompt": graphs.picture(9, seconds=1.5)})

            group.start_soon(start_again)
            asked, end = await answering(launcher, lambda: comfy.prompt(graphs.paid(), name="cat"))
    assert asked == ["pay:cat", "pay:cat"]
    assert isinstance(end[0], PromptResult), end


async def test_consent_is_asked_anew_once_what_was_paid_for_is_unloaded(standin: Start, tmp_path: Path) -> None:
    graph, server, launcher = graphs.hungry(), standin(), launcher_at(tmp_path)
    graph["1"] = graphs.paid()["1"]
    async with launcher, launcher.comfyui(server.url) as comfy:
        asked, end = await answering(launcher, lambda: comfy.prompt(graph, name="cat"))
    assert asked == ["pay:cat"] * len(server.charges())
    assert len(asked) == 2
    assert isinstance(end[0], PromptResult), end


@pytest.mark.slow
async def test_a_yes_restarts_a_stuck_server_and_that_is_no_death_of_the_prompt(place: Place) -> None:
    launcher = launcher_at(place.folder.parent)
    answers = iter([False, True])
    starts: list[int] = []

    def answer(_: str) -> bool:
        starts.append(place.starts)
        return next(answers)

    async with held(place, launcher, stuck_after=0.6) as comfy, anyio.create_task_group() as group:

        async def release() -> None:
            comfy._queue._interval = 5.0  # each look costs the server a little processor time
            await until(lambda: len(place.runs()) == 2, 30.0)
            await anyio.to_thread.run_sync(release_all, comfy.url)

        group.start_soon(release)
        asked, end = await answering(launcher, lambda: comfy.prompt(graphs.stuck(60.0), name="slow"), answer)
    assert asked == ["stuck:comfyui"] * 2
    assert isinstance(end[0], PromptResult), end
    assert starts == [1, 1]  # a no waits
    assert place.starts == 2
    assert launcher.logs.joinpath("comfyui", "comfyui.json").read_text().startswith('{"deaths":{},"stops":["')


async def test_a_prompt_that_ends_with_its_block_is_not_run_again(place: Place) -> None:
    store = MemoryStore()
    launcher = launcher_at(place.folder.parent, store)
    ends: list[Any] = []

    async def run(comfy: Any) -> None:
        try:
            ends.append(await comfy.prompt(graphs.picture(1, seconds=0.1), name="one"))
        except StaysPendingError as error:
            ends.append(error)

    async with anyio.create_task_group() as group, held(place, launcher) as comfy:
        comfy._queue._interval = 60.0  # no look, and no messages
        comfy._queue._take = comfy._queue._stands = lambda _: None  # type: ignore[method-assign]
        group.start_soon(run, comfy)
        await until(lambda: place.successes())
        await anyio.sleep(0.05)
    again = Launcher(presets.launcher(store=store), place.folder.parent)
    async with again, again.comfyui(place.argv()) as comfy:
        result = await comfy.prompt(graphs.picture(1, seconds=0.1), name="one")
    assert len(result.files) == 1
    assert len(place.runs()) == 1, ends


@pytest.mark.slow
async def test_a_prompt_that_was_left_is_not_warned_of_while_its_server_starts(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    launcher = launcher_at(place.folder.parent, store)

    async def leave(comfy: Any) -> None:
        with pytest.raises(StaysPendingError):
            await comfy.prompt(graphs.picture(1, seconds=60.0), name="one")

    async with anyio.create_task_group() as group, held(place, launcher) as comfy:
        group.start_soon(leave, comfy)
        await until(lambda: place.runs())
    place.configure("--start-seconds", "6")
    again = Launcher(presets.launcher(store=store), place.folder.parent)
    async with again:
        again.resume()
        async with again.comfyui(place.argv()) as comfy:
            await until(lambda: comfy.queue())
            assert comfy.cancel("one")
    assert [line for line in caplog.messages if "waits for the program" in line] == []


async def test_without_its_extra_the_block_says_so_before_anything_starts(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "adapters.comfyui.feed", raising=False)
    for name in [one for one in sys.modules if one.partition(".")[0] == "websockets"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "websockets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'launcher-recovery\[comfyui\]'"):
        async with held(place):
            pass
    assert not (place.folder / "counts.json").exists()


def asked_of(server: Standin) -> int:
    requests: int = server.ask("POST", "/standin/asked")[1]["requests"]
    return requests


@pytest.mark.slow
async def test_two_thousand_prompts_that_wait_cost_little(standin: Start, tmp_path: Path) -> None:
    server, launcher, most = standin(), launcher_at(tmp_path), 2000
    ends: list[Any] = []
    async with anyio.create_task_group() as group, launcher, launcher.comfyui(server.url) as comfy:

        async def run(seed: int) -> None:
            try:
                ends.append(await comfy.prompt(graphs.picture(seed, seconds=60.0)))
            except StaysPendingError as error:
                ends.append(error)

        for seed in range(most):
            group.start_soon(run, seed)
        await until(lambda: len(comfy._queue.waiting()) == most - 2, 60.0)
        queued = asked_of(server)
        assert queued < 100
        used = time.process_time()
        await anyio.sleep(2.0)
        assert time.process_time() - used < 1.0
        assert asked_of(server) - queued < 20
    assert len(ends) == most
