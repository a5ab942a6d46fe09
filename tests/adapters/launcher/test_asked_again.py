"""Resumed calls that wait for what the program gives with the call."""

from __future__ import annotations

import anyio
import pytest

from adapters.launcher.asked_again import AskedAgain

pytestmark = pytest.mark.anyio

NOTICE = 0.02


async def warnings_of(caplog: pytest.LogCaptureFixture, *, is_coming: bool) -> list[str]:
    """What is logged while the program needs 0.2 s to give what the call needs."""
    given = anyio.Event()

    async def program() -> None:
        await anyio.sleep(0.2)
        given.set()

    async with anyio.create_task_group() as group:
        group.start_soon(program)
        await AskedAgain(NOTICE).until(given.is_set, "cat", "a server", is_coming=lambda: is_coming)
    return caplog.messages


async def test_a_call_that_the_program_does_not_ask_for_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    assert await warnings_of(caplog, is_coming=False) == ["cat waits for the program to ask for it again: a server"]


async def test_a_call_whose_server_starts_is_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    assert await warnings_of(caplog, is_coming=True) == []
