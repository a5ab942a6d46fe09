"""A prompt that gives no sign of life: when a person is asked, and that nothing is ended without a yes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest

from adapters.comfyui.stuck import StuckWatch
from adapters.launcher.stuck import stuck_question
from adapters.processes.silence import SilenceWatch
from adapters.processes.tree import Tree
from tests.adapters.launcher.test_server import launcher_at, until
from tests.adapters.servers.small_servers import READY, get, small_server

pytestmark = pytest.mark.anyio

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class StillServer:
    """A server whose processes do nothing."""

    def __init__(self, clock: Clock) -> None:
        self.starts = 1
        self.is_running = True
        self.clock = clock
        self.watches = 0

    def watch_silence(self, allowed: float) -> SilenceWatch | None:
        self.watches += 1
        return SilenceWatch(allowed, Tree("no process has this mark"), self.clock) if self.is_running else None


@pytest.fixture(params=["ours", "another's"])
def watched(request: pytest.FixtureRequest) -> tuple[StuckWatch, Clock]:
    clock = Clock()
    server = StillServer(clock) if request.param == "ours" else None
    return StuckWatch(server, 60.0, clock), clock


def due_after(watch: StuckWatch, clock: Clock, running: str = "a", within: int = 300) -> int:
    """The seconds until it is due; 0 if it is not within *within*."""
    for second in range(1, within):
        clock.now += 1.0
        if watch.is_due(running):
            return second
    return 0


def test_a_prompt_is_stuck_after_a_silence_and_stays_so(watched: tuple[StuckWatch, Clock]) -> None:
    watch, clock = watched
    assert 54 <= due_after(watch, clock) <= 67
    clock.now += 1.0
    assert watch.is_due("a")


def test_a_message_is_a_sign_of_life(watched: tuple[StuckWatch, Clock]) -> None:
    watch, clock = watched
    for _ in range(9):
        assert due_after(watch, clock, within=50) == 0
        watch.sign()
    assert 54 <= due_after(watch, clock) <= 67
    watch.sign()
    assert not watch.is_due("a")


def test_another_prompt_begins_anew_and_none_is_never_stuck(watched: tuple[StuckWatch, Clock]) -> None:
    watch, clock = watched
    assert due_after(watch, clock, within=50) == 0
    assert due_after(watch, clock, "b", within=50) == 0
    assert due_after(watch, clock, "", within=200) == 0
    assert due_after(watch, clock, "b") >= 54


def test_a_frozen_machine_is_no_silence(watched: tuple[StuckWatch, Clock]) -> None:
    watch, clock = watched
    assert due_after(watch, clock, within=10) == 0
    clock.now += 3600.0
    assert not watch.is_due("a")


def test_a_restart_begins_anew() -> None:
    clock = Clock()
    server = StillServer(clock)
    watch = StuckWatch(server, 60.0, clock)
    assert due_after(watch, clock)
    server.starts, server.is_running = 2, False
    assert due_after(watch, clock, within=200) == 0
    server.is_running = True
    assert due_after(watch, clock) >= 54


def test_a_start_has_one_watch_for_all_its_prompts() -> None:
    """Each line of output is told to every watch of the start."""
    clock = Clock()
    server = StillServer(clock)
    watch = StuckWatch(server, 60.0, clock)
    for prompt in ("a", "b", "", "c"):
        assert due_after(watch, clock, prompt, within=50) == 0
    assert server.watches == 1
    server.starts = 2
    assert due_after(watch, clock, "c") >= 54
    assert server.watches == 2


def test_without_a_limit_nothing_is_stuck() -> None:
    clock = Clock()
    assert due_after(StuckWatch(None, None, clock), clock) == 0
    with pytest.raises(ValueError, match="stuck_after must be greater than 0"):
        StuckWatch(None, 0.0)


async def test_a_question_goes_away_with_a_sign_of_life_and_a_no_ends_nothing(tmp_path: Path) -> None:
    due, restarts = list[str](), list[str]()
    async with launcher_at(tmp_path) as launcher, anyio.create_task_group() as group:
        calls = launcher.service.calls

        async def watch() -> None:
            await launcher.watch_stuck(
                "comfyui", lambda: bool(due), due.clear, lambda: "comfyui is silent", restarts.append, 0.01
            )

        group.start_soon(watch)
        for answer in (None, False, True):
            due.append("silent")
            await until(lambda: [one.name for one in calls.questions()] == [stuck_question("comfyui")])
            assert "no to go on waiting. comfyui is silent" in calls.questions()[0].text
            if answer is None:
                due.clear()
            else:
                calls.answer(stuck_question("comfyui"), answer)
            await until(lambda: not calls.questions() and not due)
            await until(lambda: calls.answered(stuck_question("comfyui")) is None)
        await until(lambda: restarts)
        assert restarts == ["comfyui is silent; a person has answered stuck:comfyui with yes"]
        group.cancel_scope.cancel()


@on_asyncio
async def test_a_line_of_output_and_processor_time_are_signs_of_life(tmp_path: Path) -> None:
    code = "[print('x', flush=True) or time.sleep(0.05) for _ in range(12)]"
    async with (
        launcher_at(tmp_path) as launcher,
        launcher.server(small_server(tmp_path, code=code), READY, name="small") as server,
    ):
        watch = launcher._servers["small"].watch_silence(0.3)
        assert watch is not None
        os.kill(server.pid or 0, signal.SIGSTOP)
        await until(watch.is_over)
        assert server.state in ("ready", "busy")
        os.kill(server.pid or 0, signal.SIGCONT)
        async with anyio.create_task_group() as group:
            group.start_soon(get, f"{server.url}/code")
            await until(lambda: not watch.is_over() and watch.silent_for == 0.0)
