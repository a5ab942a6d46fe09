"""Steps that call bricks: after a crash the calls of the bricks resume by themselves, beside the steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.launcher import Launcher, Steps, StepsUndoneError
from adapters.launcher.saga import OnCrash
from adapters.memory import MemoryStore
from tests.adapters.launcher.sites import process
from tests.slow import few

pytestmark = pytest.mark.anyio


def declare(launcher: Launcher, on_crash: OnCrash, die: Callable[[], Any] | None = None) -> Steps:
    """Steps of which one runs a command, in which its process dies."""
    update = launcher.steps("update", on_crash=on_crash)

    @update.step(undo=lambda: None, done=lambda: True)
    async def fetch() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(launcher.run, ["sleep", "5" if on_crash == "undo" else "0.15"])
            while not any(one.operation == "command" for one in launcher.service.calls.running()):
                await anyio.sleep(0.001)
            if die is not None:
                await die()

    return update


async def died(store: MemoryStore, root: Path, on_crash: OnCrash) -> None:
    async with process(store, root) as (launcher, die):
        update = declare(launcher, on_crash, die)
        launcher.resume()
        await update.run("site")


@pytest.mark.parametrize("on_crash", ["undo", "finish"])
@pytest.mark.parametrize("anyio_backend", few(["asyncio", "trio"], "asyncio"))
async def test_a_step_is_undone_or_finished_once_the_command_that_it_ran_is_over(
    on_crash: OnCrash, tmp_path: Path
) -> None:
    await died(store := MemoryStore(), tmp_path, on_crash)
    async with process(store, tmp_path) as (launcher, _):
        update = declare(launcher, on_crash)
        launcher.resume()
        try:
            await update.run("site")
        except StepsUndoneError:
            assert on_crash == "undo"
        journal = launcher.service.journal
        assert journal is not None
        states = []
        for left in journal.pending().calls:
            record = await launcher.service.calls.afind(left.call)
            states += [record.state] if record is not None and record.operation == "command" else []
    assert states == ["cancelled" if on_crash == "undo" else "succeeded"]
