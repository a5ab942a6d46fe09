"""A caller that waits long for a call that it joined says so: with a warning, unless the call was resumed."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from adapters.memory import MemoryStore
from recovery.service import Recovery
from recovery.testing import VirtualClock
from tests.recovery.resume.dead_process import SETTINGS, leave


async def body(_: str) -> str:
    await anyio.sleep(3600)
    return "done"


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(one.levelno, one.getMessage()) for one in caplog.records if "is joined for" in one.getMessage()]


def define(service: Recovery) -> Any:
    return service.recoverable("work", **SETTINGS)(body)


def test_a_join_of_a_call_of_this_process_warns_after_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Recovery(clock=clock, store=MemoryStore()) as service, anyio.create_task_group() as group:
            work = define(service)
            group.start_soon(work, "a")
            group.start_soon(work, "a")

    with caplog.at_level(logging.INFO, "recovery"):
        clock.run(main)
    [(level, text)] = told(caplog)
    assert (level, "is joined for 10 s now" in text) == (logging.WARNING, True)


def test_a_join_of_a_resumed_call_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    clock, store = VirtualClock(), MemoryStore()
    leave(store, "a")

    async def main() -> None:
        async with Recovery(clock=clock, store=store) as service:
            work = define(service)
            resumption = service.resume()
            while not resumption.loaded.is_open:
                await anyio.sleep(0.01)
            await anyio.sleep(1.0)
            assert await work("a") == "done"

    with caplog.at_level(logging.INFO, "recovery"):
        clock.run(main)
    assert [level for level, _ in told(caplog)] == [logging.INFO]
