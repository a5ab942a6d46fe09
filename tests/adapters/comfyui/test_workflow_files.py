"""Workflow files in a launcher: a graph is returned, and what a drawn one needs is asked for, against the stand-in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.comfyui.errors import InvalidGraphError, MissingModelError, MissingNodeError
from adapters.launcher.arguments import InvalidRequestError
from adapters.launcher.launcher import Launcher
from adapters.memory import MemoryStore
from recovery import presets
from tests.adapters.comfyui.conftest import Start
from tests.adapters.comfyui.graphs import picture
from tests.adapters.comfyui.odd_servers import answer, odd_server
from tests.adapters.comfyui.standin.child import Place
from tests.adapters.launcher.test_updates import asked
from tests.slow import few

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def launched(folder: Path) -> Launcher:
    return Launcher(presets.launcher(store=MemoryStore()), folder)


def drawn(*nodes: dict[str, Any]) -> str:
    return json.dumps({"version": 0.4, "nodes": nodes})


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", few(["asyncio", "trio"], "asyncio"))
async def test_what_a_drawn_workflow_needs_is_asked_for_one_after_another(tmp_path: Path, standin: Start) -> None:
    server, file = standin(), tmp_path / "a.json"
    file.write_text(drawn({"type": "Gone"}, {"type": "CheckpointLoaderSimple", "widgets_values": ["gone.ckpt"]}))
    async with launched(tmp_path) as launcher, anyio.create_task_group() as group:
        calls = launcher.service.calls

        async def ask() -> None:
            with pytest.raises(InvalidGraphError, match=r"a.json is of the format .* Workflow > Export \(API\)"):
                await launcher.workflow("a.json", server.url)

        group.start_soon(ask)
        await asked(launcher, "node:Gone")
        file.write_text(drawn({"type": "CheckpointLoaderSimple", "widgets_values": ["gone.ckpt"]}))
        calls.answer("node:Gone")
        await asked(launcher, "model:gone.ckpt")
        server.model("gone.ckpt")
        calls.answer("model:gone.ckpt")


async def test_a_yes_restarts_the_server_that_lacks_a_node_of_a_workflow(tmp_path: Path) -> None:
    place = Place(tmp_path / "comfyui")
    (tmp_path / "a.json").write_text(drawn({"type": "Gone"}))
    async with (
        launched(tmp_path) as launcher,
        launcher.comfyui(place.argv()) as comfy,
        anyio.create_task_group() as group,
    ):

        async def ask() -> None:
            with anyio.fail_after(30), pytest.raises(InvalidGraphError, match=r"Workflow > Export \(API\)"):
                await launcher.workflow("a.json", comfy)

        group.start_soon(ask)
        await asked(launcher, "node:Gone")
        place.node_class("Gone")
        launcher.service.calls.answer("node:Gone", True)
    assert place.starts == 2


async def test_a_workflow_that_is_exported_meanwhile_is_a_graph(tmp_path: Path, standin: Start) -> None:
    server, file = standin(), tmp_path / "a.json"
    file.write_text(drawn({"type": "Gone"}))
    graphs: list[dict[str, Any]] = []
    async with launched(tmp_path) as launcher, anyio.create_task_group() as group:

        async def ask() -> None:
            graphs.append(await launcher.workflow("a.json", server.url))

        group.start_soon(ask)
        await asked(launcher, "node:Gone")
        file.write_text(json.dumps(picture()))
        launcher.service.calls.answer("node:Gone")
    assert graphs == [picture()]


async def test_a_gateway_that_hides_what_the_server_has_leaves_the_hint_how_to_export(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(drawn({"type": "Gone"}))
    async with launched(tmp_path) as launcher, odd_server(answer(403, b"")) as server:
        with pytest.raises(InvalidGraphError, match=r"Workflow > Export \(API\).* answers 403 to GET /object_info"):
            await launcher.workflow("a.json", server.url)


async def test_a_question_about_a_workflow_is_open_again_while_the_thing_is_not_there(
    tmp_path: Path, standin: Start
) -> None:
    server = standin()
    model = {"name": "gone.ckpt", "directory": "checkpoints", "url": "https://example.org/gone.ckpt"}
    node = {"type": "CheckpointLoaderSimple", "widgets_values": ["gone.ckpt"], "properties": {"models": [model]}}
    (tmp_path / "a.json").write_text(drawn(node))
    async with launched(tmp_path) as launcher, anyio.create_task_group() as group:

        async def ask() -> None:
            with pytest.raises(MissingModelError, match=r"names models that the server does not have: gone\.ckpt"):
                await launcher.workflow("a.json", server.url)

        group.start_soon(ask)
        await asked(launcher, "model:gone.ckpt")
        (question,) = launcher.service.calls.questions()
        assert question.text == "Put gone.ckpt into models/checkpoints of ComfyUI. Then answer yes."
        assert question.link == "https://example.org/gone.ckpt"
        launcher.service.calls.answer("model:gone.ckpt", True)
        with anyio.fail_after(10):
            while not launcher.service.calls.waiting() or launcher.service.calls.waiting()[0].attempt < 2:
                await anyio.sleep(0.005)
        await asked(launcher, "model:gone.ckpt")
        launcher.service.calls.answer("model:gone.ckpt", False)


async def test_a_graph_needs_no_server_and_what_is_none_is_refused(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    (tmp_path / "a.json").write_text(json.dumps(picture()))
    (tmp_path / "b.json").write_text("[]")
    async with launched(tmp_path) as launcher:
        assert await launcher.workflow("a.json", nowhere) == picture()
        with pytest.raises(InvalidGraphError, match=r"b\.json is no workflow to run: .* a list"):
            await launcher.workflow("b.json", nowhere)
        with pytest.raises(InvalidGraphError, match=r"the workflow c\.json cannot be read"):
            await launcher.workflow("c.json", nowhere)
        with pytest.raises(InvalidRequestError):
            await launcher.workflow("../a.json", nowhere)


async def test_a_no_ends_the_search_for_a_node(tmp_path: Path, standin: Start) -> None:
    server = standin()
    (tmp_path / "a.json").write_text(drawn({"type": "Gone", "properties": {"cnr_id": "gone-pack"}}))
    async with launched(tmp_path) as launcher, anyio.create_task_group() as group:

        async def ask() -> None:
            with pytest.raises(MissingNodeError, match="Gone"):
                await launcher.workflow("a.json", server.url)

        group.start_soon(ask)
        await asked(launcher, "node:Gone")
        (question,) = launcher.service.calls.questions()
        assert question.text.startswith("Install the pack gone-pack, which has Gone")
        launcher.service.calls.answer("node:Gone", False)
