"""The files of a prompt: which of them must be there before it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.comfyui.serving import Serving
from tests.adapters.comfyui import graphs
from tests.adapters.comfyui.odd_servers import answer, odd_server
from tests.adapters.comfyui.standin.child import Place
from tests.adapters.comfyui.test_queue import held

pytestmark = pytest.mark.anyio


async def test_a_file_that_view_does_not_take_holds_up_no_queue(tmp_path: Path) -> None:
    """ComfyUI saves a..b_00001_.png, and answers 400 to who asks for it."""
    async with held(Place(tmp_path / "comfyui")) as comfy:
        with anyio.fail_after(20):
            result = await comfy.prompt(graphs.picture(1, prefix="a..b"))
            await comfy.prompt(graphs.picture(2))
        assert [file.filename for file in result.files] == ["a..b_00001_.png"]


async def test_files_that_cannot_be_asked_for_hold_up_no_other_prompt(tmp_path: Path) -> None:
    async with held(Place(tmp_path / "comfyui")) as comfy, anyio.create_task_group() as group:
        group.start_soon(comfy.prompt, graphs.picture(1, prefix="unreadable"))
        with anyio.fail_after(20):
            await comfy.prompt(graphs.picture(2))
        assert len(comfy.queue()) == 1
        group.cancel_scope.cancel()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_class_that_is_installed_meanwhile_is_known() -> None:
    """It may cost money."""
    installed: dict[str, Any] = {}
    said = lambda _: answer(200, {"system": {}} | installed)  # noqa: E731
    async with odd_server(said) as server, Serving("comfyui", None, server.url) as serving:
        assert await serving.info({"Late"}) == {"Late": {}}
        installed["Late"] = {"api_node": True}
        assert await serving.info({"Late"}) == installed
        asked = len(server.asked)
        assert await serving.info({"Late"}) == installed
        assert len(server.asked) == asked
