"""Prompts of other clients in the server of a launcher."""

from __future__ import annotations

import uuid
from pathlib import Path

import anyio
import pytest

from adapters.comfyui import names
from adapters.comfyui.client import Client
from adapters.comfyui.graph import check, digest
from tests.adapters.comfyui import graphs
from tests.adapters.comfyui.standin.child import Place
from tests.adapters.comfyui.test_queue import held

pytestmark = pytest.mark.anyio


@pytest.mark.slow
async def test_a_suspected_prompt_waits_for_those_of_others_and_no_longer(tmp_path: Path) -> None:
    place = Place(tmp_path / "comfyui")
    other, suspected = str(uuid.uuid4()), graphs.picture(1)
    with anyio.fail_after(20):
        async with held(place) as comfy, anyio.create_task_group() as group:
            comfy._queue.suspects.died(names.key_of(comfy.name, digest(check(suspected)), 0), "1@2@3")
            group.start_soon(comfy.prompt, graphs.picture(2, seconds=0.5))
            while not place.runs():
                await anyio.sleep(0.01)
            async with Client(comfy.url) as client:
                await client.submit(graphs.picture(3, seconds=1.5), other, "another")
            group.start_soon(comfy.prompt, suspected)
    runs = place.runs()
    assert [one.ended for one in runs] == ["success"] * 3
    assert runs[1].prompt_id == other
