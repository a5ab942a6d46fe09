"""What thousands of prompts that wait cost: nothing with each message and each look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from adapters.comfyui.queue import PromptQueue
from adapters.comfyui.serving import Serving
from adapters.comfyui.suspects import Suspects
from adapters.comfyui.turns import InServer, Waiting, may_post


class Run:
    """A prompt that counts how often it is asked whether the server has it."""

    asked = 0

    def __init__(self, key: str) -> None:
        self.key = key

    @property
    def is_in_server(self) -> bool:
        Run.asked += 1
        return False


@pytest.mark.anyio
async def test_those_that_wait_are_not_asked_whether_the_server_has_them(tmp_path: Path) -> None:
    queue = PromptQueue(Serving("comfyui", None, "http://127.0.0.1:1"), Suspects(tmp_path / "suspects"))
    for number in range(100):
        queue.enter(cast(Any, Run(str(number))))
    before = Run.asked
    assert queue.in_server() == []
    assert Run.asked == before


def test_those_that_wait_are_not_gone_through_without_room() -> None:
    def waiting() -> Iterator[Waiting]:
        raise AssertionError
        yield

    assert may_post(waiting(), [InServer("a"), InServer("b")]) == ()
    assert may_post(waiting(), [], is_paused=True) == ()
    assert may_post(waiting(), [InServer("a", is_suspected=True)]) == ()
