"""Prompts that wait for a person, or that the server or a node refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.comfyui.errors import PromptFailedError, PromptQuarantinedError, PromptRefusedError
from adapters.comfyui.result import PromptResult
from adapters.launcher import Launcher
from events.question_events import QuestionAsked
from tests.adapters.comfyui import graphs
from tests.adapters.comfyui.standin.child import Place
from tests.adapters.comfyui.test_queue import held, launcher_at, on_asyncio, on_trio, until
from tests.recorded_events import events_of
from tests.slow import few

pytestmark = pytest.mark.anyio


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "comfyui")


async def answering(
    launcher: Launcher, call: Callable[[], Awaitable[PromptResult]], answer: Callable[[str], Any] = lambda _: True
) -> tuple[list[str], list[Any]]:
    """What was asked while *call* ran, each question answered, and how it ended."""
    asked: list[Any] = events_of(launcher.service, QuestionAsked)
    end: list[Any] = []

    async def run() -> None:
        try:
            end.append(await call())
        except Exception as error:
            end.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        done = 0
        with anyio.fail_after(30):
            while not end:
                await anyio.sleep(0.01)
                if len(asked) > done:
                    launcher.service.calls.answer(asked[done].name, answer(asked[done].name))
                    done += 1
    return [one.name for one in asked], end


@pytest.mark.slow
@on_asyncio
async def test_a_prompt_that_kills_the_server_twice_is_quarantined(place: Place) -> None:
    launcher = launcher_at(place.folder.parent)
    async with held(place, launcher) as comfy:
        asked: list[Any] = events_of(launcher.service, QuestionAsked)
        results: list[Any] = []

        async def run(graph: Any, name: str) -> None:
            try:
                results.append(await comfy.prompt(graph, name=name))
            except PromptQuarantinedError as error:
                results.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(run, graphs.killer(), "killer")
            for seed in range(3):
                group.start_soon(run, graphs.picture(seed, seconds=0.05), f"picture {seed}")
            await until(lambda: len(results) == 3 and asked, 40.0)
            assert [one.name for one in asked] == ["run-again:killer"]
            assert "the server died 2 times while it ran" in asked[0].text
            launcher.service.calls.answer("run-again:killer", False)
    assert len(results) == 4
    assert [type(one).__name__ for one in results] == ["PromptResult"] * 3 + ["PromptQuarantinedError"]
    assert len(place.files()) == 3


@on_trio
async def test_nodes_that_cost_money_need_a_yes(place: Place) -> None:
    launcher = launcher_at(place.folder.parent)
    async with held(place, launcher) as comfy:
        asked, end = await answering(launcher, lambda: comfy.prompt(graphs.paid(), name="cat"))
        assert asked == ["pay:cat"]
        assert isinstance(end[0], PromptResult)
        with pytest.raises(PromptRefusedError, match="cost money"):
            await comfy.prompt(graphs.paid(2), paid="refuse")
    assert len(place.charges()) == 1


@on_asyncio
async def test_a_missing_model_is_asked_for_and_a_yes_sends_the_prompt(place: Place) -> None:
    launcher = launcher_at(place.folder.parent)
    place.model("other.safetensors")

    def download(_question: str) -> bool:
        place.model("absent.safetensors")
        return True

    async with held(place, launcher) as comfy:
        asked, end = await answering(launcher, lambda: comfy.prompt(graphs.checkpoint("absent.safetensors")), download)
    assert asked == ["model:absent.safetensors"]
    assert isinstance(end[0], PromptResult), end


@on_asyncio
async def test_a_part_of_a_prompt_is_refused_unless_it_is_enough(place: Place) -> None:
    async with held(place) as comfy:
        with pytest.raises(PromptRefusedError, match="only a part"):
            await comfy.prompt(graphs.picture(seconds=1.0) | {"4": graphs.partial()["4"]})
        assert len((await comfy.prompt(graphs.partial(1), partial=True)).files) == 1
    assert len(place.successes()) == 1


@on_asyncio
async def test_a_node_that_fails_ends_its_prompt(place: Place) -> None:
    async with held(place) as comfy:
        with pytest.raises(PromptFailedError, match="the size must be even"):
            await comfy.prompt(graphs.failing())


@on_asyncio
@pytest.mark.parametrize(
    ("until_what", "starts", "asks"),
    few([("free", 1, 0), ("restart", 2, 0), ("lowvram", 3, 0), ("never", 3, 1)], ("lowvram", 3, 0)),
)
async def test_a_full_memory_is_relieved_step_by_step(place: Place, until_what: str, starts: int, asks: int) -> None:
    launcher = launcher_at(place.folder.parent)
    async with held(place, launcher) as comfy:
        asked, end = await answering(
            launcher,
            lambda: comfy.prompt(graphs.hungry(until_what), name="big", on_memory=["--lowvram"]),
            lambda _: False,
        )
        assert asked == ["memory:big"] * asks
        assert isinstance(end[0], PromptResult) is not bool(asks), end
    assert place.starts == starts


@on_trio
async def test_a_broken_context_restarts_the_server_first(place: Place) -> None:
    async with held(place) as comfy:
        await comfy.prompt(graphs.poisoned())
    assert place.starts == 2
