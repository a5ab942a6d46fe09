"""What follows from the answer to each question of a prompt, and what asks it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.comfyui import prompt_run, reconcile, refusals
from adapters.comfyui.comfy import Comfy
from adapters.comfyui.errors import (
    MissingNodeError,
    OutcomeUnknownError,
    PromptInterruptedError,
    PromptQuarantinedError,
)
from adapters.comfyui.result import PromptResult
from adapters.launcher import Launcher
from tests.adapters.comfyui import graphs
from tests.adapters.comfyui.conftest import Start
from tests.adapters.comfyui.standin.child import Place, Standin
from tests.adapters.comfyui.test_prompt_questions import answering
from tests.adapters.comfyui.test_queue import held, launcher_at, until

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

SOON = 0.3


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "comfyui")


@pytest.mark.slow
async def test_a_missing_node_is_asked_for_and_a_yes_restarts_the_server(place: Place) -> None:
    launcher = launcher_at(place.folder.parent)

    def install(_question: str) -> bool:
        place.node_class("LateNode")
        return True

    async with held(place, launcher) as comfy:
        asked, end = await answering(launcher, lambda: comfy.prompt(graphs.through("LateNode")), install)
    assert asked == ["node:LateNode"]
    assert isinstance(end[0], PromptResult), end
    assert place.starts == 2
    assert sum(place.successes().values()) == 1


async def test_a_no_to_a_missing_node_ends_the_prompt(standin: Start, tmp_path: Path) -> None:
    server, launcher = standin(), launcher_at(tmp_path)
    async with launcher, launcher.comfyui(server.url) as comfy:
        asked, end = await answering(launcher, lambda: comfy.prompt(graphs.unknown_class()), lambda _: False)
    assert asked == ["node:AbsentNode"]
    assert isinstance(end[0], MissingNodeError), end


@pytest.mark.slow
@pytest.mark.parametrize("is_yes", [True, False])
async def test_a_context_that_breaks_again_is_asked_about(place: Place, is_yes: bool) -> None:
    launcher = launcher_at(place.folder.parent)
    async with held(place, launcher) as comfy:
        call = lambda: comfy.prompt(graphs.poisoned(times=2), name="bad")  # noqa: E731
        asked, end = await answering(launcher, call, lambda _: is_yes)
        assert isinstance((await comfy.prompt(graphs.picture(7))), PromptResult)
    assert asked == ["context:bad"]
    assert isinstance(end[0], PromptResult) is is_yes, end
    assert place.starts == 3  # it was restarted before the question too: all that it runs would fail


async def test_an_expired_login_is_tried_again_and_consent_is_not_asked_twice(
    standin: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "LOGIN_AFTER", 0.05)
    server, launcher = standin(), launcher_at(tmp_path)
    server.set(login=1)
    async with launcher, launcher.comfyui(server.url) as comfy:
        asked, end = await answering(launcher, lambda: comfy.prompt(graphs.paid(), name="cat"))
    assert asked == ["pay:cat"]
    assert isinstance(end[0], PromptResult), end
    assert len(server.charges()) == 1
    assert len(server.runs()) == 2


async def test_an_account_is_asked_for_and_a_yes_runs_the_prompt(
    standin: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "LOGIN_AFTER", 0.05)
    server, launcher = standin(), launcher_at(tmp_path)
    server.set(login=4)
    async with launcher, launcher.comfyui(server.url) as comfy:
        asked, end = await answering(launcher, lambda: comfy.prompt(graphs.paid(), name="cat"))
    assert asked == ["pay:cat", "account:cat", "account:cat"]  # the first yes was wrong
    assert isinstance(end[0], PromptResult), end
    assert len(server.charges()) == 1


@pytest.mark.slow
async def test_a_yes_runs_a_quarantined_prompt_again_alone(place: Place) -> None:
    launcher = launcher_at(place.folder.parent)
    async with held(place, launcher) as comfy:
        asked, end = await answering(launcher, lambda: comfy.prompt(graphs.killer(times=3), name="killer"))
    assert asked == ["run-again:killer"]
    assert isinstance(end[0], PromptResult), end
    assert [one.ended for one in place.runs()] == ["", "", "", "success"]
    assert '"deaths":{}' in (launcher.logs / "comfyui" / "comfyui.json").read_text()


@pytest.mark.slow
async def test_a_no_ends_a_quarantined_prompt(place: Place) -> None:
    launcher = launcher_at(place.folder.parent)
    async with held(place, launcher) as comfy:
        call = lambda: comfy.prompt(graphs.killer(), name="killer")  # noqa: E731
        _, end = await answering(launcher, call, lambda _: False)
        again, end_again = await answering(launcher, call, lambda _: False)
    assert isinstance(end[0], PromptQuarantinedError), end
    assert isinstance(end_again[0], PromptQuarantinedError), end_again
    assert again == ["run-again:killer"]  # asked anew, and not run before
    assert len(place.runs()) == 2


async def deleted(
    server: Standin, launcher: Launcher, comfy: Comfy, call: Callable[[], Awaitable[PromptResult]], is_yes: bool
) -> tuple[list[str], list[Any]]:
    """What follows once another client has deleted the prompt of *call*, which waits in the server behind another."""
    found: list[Any] = []
    async with anyio.create_task_group() as group:
        group.start_soon(comfy.prompt, graphs.picture(99, seconds=0.8))
        await until(lambda: server.runs())

        async def run() -> None:
            found.extend(await answering(launcher, call, lambda name: is_yes or name.startswith("pay:")))

        group.start_soon(run)
        pending: list[str] = []
        with anyio.fail_after(10):
            while not pending:
                pending = [one[1] for one in server.ask("GET", "/queue")[1]["queue_pending"]]
                await anyio.sleep(0.01)
        server.ask("POST", "/queue", {"delete": pending})
    return found[0], found[1]


@pytest.mark.slow
@pytest.mark.parametrize("is_yes", [True, False])
async def test_a_prompt_that_another_client_deleted_is_asked_about(
    standin: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_yes: bool
) -> None:
    monkeypatch.setattr(prompt_run, "UNKNOWN_AFTER", SOON)
    server, launcher = standin(), launcher_at(tmp_path)
    async with launcher, launcher.comfyui(server.url) as comfy:
        call = lambda: comfy.prompt(graphs.picture(1), name="b")  # noqa: E731
        asked, end = await deleted(server, launcher, comfy, call, is_yes)
    assert asked == ["resubmit:b"]
    assert isinstance(end[0], PromptResult if is_yes else OutcomeUnknownError), end
    assert len(server.runs()) == 1 + is_yes


@pytest.mark.slow
@pytest.mark.parametrize("is_paid", [True, False])
async def test_a_program_may_resubmit_what_costs_nothing(
    standin: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_paid: bool
) -> None:
    monkeypatch.setattr(prompt_run, "UNKNOWN_AFTER", SOON)
    server, launcher = standin(), launcher_at(tmp_path)
    async with launcher, launcher.comfyui(server.url) as comfy:
        graph = graphs.paid() if is_paid else graphs.picture(1)
        call = lambda: comfy.prompt(graph, name="b", on_unknown="resubmit")  # noqa: E731
        asked, end = await deleted(server, launcher, comfy, call, True)
    assert asked == (["pay:b", "resubmit:b"] if is_paid else [])
    assert isinstance(end[0], PromptResult), end
    assert len(server.runs()) == 2
    assert len(server.charges()) == is_paid


@pytest.mark.parametrize("is_yes", [pytest.param(True, marks=pytest.mark.slow), False])
async def test_a_prompt_that_another_client_interrupted_is_asked_about(
    standin: Start, tmp_path: Path, is_yes: bool
) -> None:
    server, launcher = standin(), launcher_at(tmp_path)

    async with launcher, launcher.comfyui(server.url) as comfy, anyio.create_task_group() as group:

        async def interrupt() -> None:
            await until(lambda: [one.state for one in comfy.queue()] == ["running"])
            server.ask("POST", "/interrupt", {})

        group.start_soon(interrupt)
        call = lambda: comfy.prompt(graphs.picture(1, seconds=0.8), name="b")  # noqa: E731
        asked, end = await answering(launcher, call, lambda _: is_yes)
    assert asked == ["resubmit:b"]
    assert isinstance(end[0], PromptResult if is_yes else PromptInterruptedError), end
    assert [one.ended for one in server.runs()] == ["error", "success"][: 1 + is_yes]


async def test_a_prompt_that_its_server_never_answers_is_asked_about(
    standin: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "GRACE", 0.1)
    server, launcher = standin(), launcher_at(tmp_path)
    server.set(drop_before=3)
    async with launcher, launcher.comfyui(server.url) as comfy:
        asked, end = await answering(launcher, lambda: comfy.prompt(graphs.picture(1), name="b"))
    assert asked == ["resubmit:b"]
    assert isinstance(end[0], PromptResult), end
