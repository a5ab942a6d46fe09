"""Prompts that are cancelled while sent, whose disk is full, or whose server dies before their files are fetched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.comfyui.answers import OutputFile
from adapters.comfyui.client import Client
from adapters.comfyui.errors import PromptFailedError
from adapters.launcher.kinds.held_servers import Servers
from adapters.launcher.kinds.prompt import Prompt
from tests.adapters.comfyui import graphs
from tests.adapters.comfyui.conftest import Start
from tests.adapters.comfyui.standin.child import Place
from tests.adapters.comfyui.test_queue import held, kill_server, launcher_at, on_asyncio, on_trio, until

pytestmark = pytest.mark.anyio


@on_trio
@pytest.mark.slow
@pytest.mark.parametrize("fault", ["hang_before", "hang_after"])
async def test_a_prompt_that_is_cancelled_while_it_is_sent_does_not_run(
    standin: Start, tmp_path: Path, fault: str
) -> None:
    server = standin()
    async with launcher_at(tmp_path) as launcher, launcher.comfyui(server.url) as comfy:
        server.set(**{fault: 0.8})
        with anyio.move_on_after(0.4) as scope:
            await comfy.prompt(graphs.picture(1, seconds=60.0))
        assert scope.cancelled_caught
        server.set(**{fault: 0.0})
        await anyio.sleep(0.6)  # by now the server has taken it
        with anyio.fail_after(10):
            await comfy.prompt(graphs.picture(2))
    assert [one.ended for one in server.runs() if one.ended != "success"] in ([], ["error"])


@on_asyncio
@pytest.mark.slow
async def test_a_death_on_a_full_disk_ends_no_queue(tmp_path: Path) -> None:
    place = Place(tmp_path / "comfyui")
    async with held(place) as comfy, anyio.create_task_group() as group:
        results: list[Any] = []

        async def run() -> None:
            results.append(await comfy.prompt(graphs.picture(seconds=0.5)))

        group.start_soon(run)
        await until(lambda: [one.state for one in comfy.queue()] == ["running"])
        [folder] = {one.parent for one in tmp_path.rglob("comfyui") if one.parent != tmp_path}
        shutil.rmtree(folder / "comfyui")
        (folder / "comfyui").write_text("nothing can be written below this")
        kill_server(comfy)
        await until(lambda: results)
    assert list(place.successes().values()) == [1]


@on_asyncio
async def test_a_wanted_node_that_puts_out_nothing_is_not_done(tmp_path: Path) -> None:
    async with held(Place(tmp_path / "comfyui")) as comfy:
        with pytest.raises(PromptFailedError, match=r"EmptyImage \(node 1\) put out nothing"):
            await comfy.prompt(graphs.picture(), outputs=["1", "3"])
        assert (await comfy.prompt(graphs.picture(), outputs=["3"])).files


@on_asyncio
async def test_a_plan_fetches_files_once_a_server_that_died_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, servers, fetch, deaths = Place(tmp_path / "comfyui"), Servers(lambda _: None), Client.fetch, list[int]()
    (tmp_path / "a.json").write_text(json.dumps(graphs.picture(1)))
    launcher = launcher_at(tmp_path)
    async with held(place, launcher) as comfy:

        async def die_first(self: Client, file: OutputFile, path: Path) -> None:
            if not deaths:
                deaths.append(1)
                kill_server(comfy)
            await fetch(self, file, path)

        monkeypatch.setattr(Client, "fetch", die_first)
        servers.take("studio", comfy)
        step = Prompt(name="a", server="studio", workflow="a.json", save_to="saved")
        await step.execute(launcher, servers)
    assert [one.name for one in (tmp_path / "saved").iterdir()] == place.files()
    assert len(place.runs()) == len(deaths) == 1
