"""ComfyUI servers that a launcher starts: their command line, what they lack, and whose they are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.comfyui.client import Client
from adapters.comfyui.errors import NoAnswerError
from adapters.comfyui.server import confirm, import_failed, is_ours
from adapters.launcher import Launcher, RestartPolicy, Server
from adapters.launcher.arguments import InvalidRequestError
from adapters.launcher.checkpoint_words import note_words, saved_note
from adapters.launcher.comfyui_command import plan
from adapters.memory import MemoryStore
from adapters.processes.identity import is_living
from adapters.servers import run
from adapters.servers.probe import Probe
from events.operation_events import CheckpointSaved
from recovery import presets
from tests.adapters.comfyui.graphs import killer
from tests.adapters.comfyui.standin.child import Place
from tests.adapters.launcher.test_server import launcher_at, until
from tests.adapters.sqlite.test_kill import eventually
from tests.recorded_events import events_of

anyio_tests = pytest.mark.parametrize("anyio_backend", ["asyncio"])
HERE = sys.executable
URL = "http://127.0.0.1:{port}/system_stats"


def folder_of(root: Path, *files: str) -> Path:
    """The folder "ComfyUI" with *files*, which may be beside it."""
    for file in ("main.py", *files):
        path = root / "ComfyUI" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root / "ComfyUI"


# The command line


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ((), [HERE]),
        ((".venv/bin/python", "venv/bin/python"), ["ComfyUI/.venv/bin/python"]),
        (("venv/Scripts/python.exe",), ["ComfyUI/venv/Scripts/python.exe"]),
        ((".venv/bin/pip", "venv/bin/python"), ["ComfyUI/venv/bin/python"]),
        (("../python_embeded/python.exe",), ["python_embeded/python.exe", "-s"]),
    ],
)
def test_a_folder_is_run_by_its_own_interpreter(
    files: Sequence[str], words: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    folder_of(tmp_path, *files)
    [python, *others] = words
    planned = plan("ComfyUI", tmp_path)
    assert planned.argv == (str(tmp_path / python), *others, "main.py", "--port", "{port}")
    assert (planned.ready, planned.cwd) == (URL, "ComfyUI")
    assert str(tmp_path / python) in caplog.text


def test_an_interpreter_that_is_named_runs_it(tmp_path: Path) -> None:
    folder_of(tmp_path, ".venv/bin/python", "../other/python")
    assert plan("ComfyUI", tmp_path, python="other/python").argv[0] == str(tmp_path / "other/python")
    assert plan("ComfyUI", tmp_path, python="python3.12").argv[0] == "python3.12"
    with pytest.raises(InvalidRequestError, match="there is no such file"):
        plan("ComfyUI", tmp_path, python="absent/python")
    with pytest.raises(InvalidRequestError, match="goes with the folder"):
        plan(["comfy", "launch"], tmp_path, python="python3")


@pytest.mark.parametrize(
    ("words", "port", "argv"),
    [
        (["comfy"], "auto", ["comfy", "--port", "{port}"]),
        (["comfy", "-p{port}"], "auto", ["comfy", "-p{port}"]),
        (["comfy", "--port", "{port}", "-x"], "auto", ["comfy", "--port", "{port}", "-x"]),
        (["comfy", "--port", "8188", "-x", "8188"], 8188, ["comfy", "--port", "{port}", "-x", "8188"]),
        (["comfy", "--port=8188"], 8188, ["comfy", "--port={port}"]),
    ],
)
def test_a_command_is_told_its_port_once(words: list[str], port: Any, argv: list[str], tmp_path: Path) -> None:
    assert plan(words, tmp_path, port=port).argv == tuple(argv)


@pytest.mark.parametrize(
    ("options", "address"),
    [
        ([], "http://127.0.0.1:{port}"),
        (["--listen"], "http://127.0.0.1:{port}"),
        (["--listen", "--lowvram"], "http://127.0.0.1:{port}"),
        (["--listen", "0.0.0.0,::"], "http://127.0.0.1:{port}"),
        (["--listen=192.168.1.5"], "http://192.168.1.5:{port}"),
        (["--listen", "::1"], "http://[::1]:{port}"),
        (["--listen", "::"], "http://[::1]:{port}"),
        (["--tls-keyfile", "key.pem"], "https://127.0.0.1:{port}"),
    ],
)
def test_a_server_is_asked_where_it_listens(options: list[str], address: str, tmp_path: Path) -> None:
    folder_of(tmp_path)
    planned = plan("ComfyUI", tmp_path, extra=options)
    assert planned.ready == f"{address}/system_stats"
    assert planned.argv[1 : len(options) + 2] == ("main.py", *options)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("absent", r"/absent does not exist: give the folder of ComfyUI, the one with main.py in it"),
        ("file", r"/file is a file: give the folder"),
        ("portable", r"/portable has no main.py, .*; it is .*/portable/ComfyUI: give that"),
        ("empty", r"/empty has no main.py, so that it is not the folder of ComfyUI; give the folder of ComfyUI"),
        (["comfy", "--port", "8000"], r"say --port 8000: leave that out, and give port=8000"),
        ([], "a command needs a program"),
    ],
)
def test_what_is_no_comfyui_is_refused_with_a_cure(given: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    folder_of(tmp_path / "portable")
    with pytest.raises(InvalidRequestError, match=said):
        plan(given, tmp_path)


# What it says


@pytest.mark.parametrize(
    ("said", "argv", "is_so"),
    [
        (["main.py", "--port", "1"], ["python", "main.py", "--port", "1"], True),
        (["/data/main.py", "--port", "1"], ["python", "-s", "main.py", "--port", "1"], True),
        (["main.py", "--port", "2"], ["python", "main.py", "--port", "1"], False),
        (["main.py", "--port", "1", "--cpu"], ["python", "main.py", "--port", "1"], False),
        (["main.py"], ["python", "main.py", "--port", "1"], False),
        (["other.py", "--port", "1"], ["python", "main.py", "--port", "1"], False),
        (["/lib/comfy/__main__.py", "--port", "1"], ["python", "-m", "comfy", "--port", "1"], True),
        (["main.py", "--x", "--port", "1"], ["./run.sh", "1"], True),
        (["main.py", "--port", "2"], ["./run.sh", "--port", "1"], False),
        ([], ["python", "main.py", "--port", "1"], True),
    ],
)
def test_a_server_is_ours_if_it_was_started_with_our_words(said: list[str], argv: list[str], is_so: bool) -> None:
    assert is_ours(said, argv) is is_so


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("   0.1 seconds (IMPORT FAILED): /c/custom_nodes/Impact Pack", "Impact Pack"),
        ("[INFO]    0.1 seconds (IMPORT FAILED): C:\\c\\custom_nodes\\Impact\\", "Impact"),
        ("   0.0 seconds (PRESTARTUP FAILED): /c/custom_nodes/manager", "manager"),
        ("   0.1 seconds: /c/custom_nodes/websocket_image_save.py", ""),
        ("Cannot import /c/custom_nodes/x module for custom nodes: IMPORT FAILED", ""),
    ],
)
def test_a_custom_node_that_fails_to_load_is_named(line: str, name: str) -> None:
    assert import_failed(line) == name


# A server that runs


@asynccontextmanager
async def comfyui(launcher: Launcher, **options: Any) -> AsyncIterator[Server]:
    """The stand-in in the folder "comfyui" of *launcher*."""
    planned = plan("comfyui", launcher.root, python=sys.executable)
    policy = RestartPolicy(delay=0.0, max_restarts=9)
    hooks: dict[str, Any] = {"degraded_by": import_failed, "confirm": confirm, "every": 0.02, "restarts": policy}
    options = {"cwd": planned.cwd, "name": "comfyui", **hooks, **options}
    async with launcher.server(planned.argv, planned.ready, **options) as server:
        yield server


@pytest.mark.anyio
@anyio_tests
async def test_what_a_custom_node_lacks_is_told_until_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(tmp_path / "comfyui", options=["--import-failed", "impact", "--import-failed", "reactor"])
    launcher = launcher_at(tmp_path)
    saved = events_of(launcher.service, CheckpointSaved)
    async with launcher, comfyui(launcher) as server:
        await until(lambda: server.degraded == ("impact", "reactor"))
        await until(lambda: "comfyui goes on without impact, reactor, which could not be loaded" in caplog.text)
        place.configure()
        server.restart("the test wants it", ["--lowvram"])
        await until(lambda: server.starts == 2)
        await server.until_ready()
        assert server.degraded == ()
        async with Client(server.url) as client:
            assert (await client.stats()).argv == ("main.py", "--port", str(server.port), "--lowvram")
    words = [note_words(saved_note(one.data)) for one in saved if isinstance(one, CheckpointSaved)]
    ready = f"ready at {server.url}"
    assert [one for one in words if one][-1] == ready
    assert f"{ready}, without impact, reactor" in words


@pytest.mark.anyio
@anyio_tests
async def test_a_server_that_is_slow_is_busy_and_is_never_ended_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "Probe", partial(Probe, timeout=0.05))
    Place(tmp_path / "comfyui")
    async with launcher_at(tmp_path) as launcher, comfyui(launcher, ready_timeout=0.1) as server:
        pid, states = server.pid, set[str]()
        async with Client(server.url) as client:
            await client._change("/standin/block", {"seconds": 0.6})
        for _ in range(60):
            states.add(server.state)
            await anyio.sleep(0.01)
        await until(lambda: server.state == "ready")
        assert (states | {"ready"}, server.starts, server.pid) == ({"ready", "busy"}, 1, pid)


@pytest.mark.anyio
@pytest.mark.slow
@anyio_tests
@pytest.mark.parametrize(
    ("end", "said"),
    [
        ({"signal": 9}, "the OOM killer"),
        ({"signal": 11}, "used memory that is not its own"),
        ({"code": 3, "signal": 0}, "ended itself at once, with exit code 3"),
        ({"code": 137, "signal": 0}, "the OOM killer"),
        ({"signal": 2}, "as after Ctrl-C"),
    ],
)
async def test_a_server_that_dies_is_started_again_and_the_log_says_how(
    end: dict[str, int], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Place(tmp_path / "comfyui")
    async with launcher_at(tmp_path) as launcher, comfyui(launcher) as server:
        if "code" in end:
            async with Client(server.url) as client:
                with suppress(NoAnswerError):
                    await client.submit(killer(**end), "5b7e7ab1-91f5-5e4a-8b0c-2d5ff9c6d5a1", "c")
        else:
            os.kill(server.pid or 0, end["signal"])
        await until(lambda: server.starts == 2)
        await server.until_ready()
    assert said in caplog.text


@pytest.mark.anyio
@pytest.mark.slow
@anyio_tests
async def test_a_module_that_the_main_program_lacks_is_handed_to_the_hook(tmp_path: Path) -> None:
    place = Place(tmp_path / "comfyui", options=["--failed-starts", "9"])
    missing: list[str] = []

    async def install(module: str) -> bool:
        missing.append(module)
        place.configure()
        return True

    async with launcher_at(tmp_path) as launcher, comfyui(launcher, on_missing_module=install) as server:
        assert (missing, server.starts) == (["torchsde"], 2)


LAUNCHER = """
import sys
from pathlib import Path
import anyio
from tests.adapters.comfyui.test_server import comfyui, launcher_at
async def main():
    async with launcher_at(Path(sys.argv[1])) as launcher, comfyui(launcher) as server:
        while not server.degraded:
            await anyio.sleep(0.01)
        (launcher.root / "held").touch()
        await anyio.sleep(60)
anyio.run(main)
"""


@pytest.mark.anyio
@anyio_tests
@pytest.mark.parametrize("is_other", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_an_orphan_is_adopted_only_if_it_says_our_words_of_itself(
    is_other: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(tmp_path / "comfyui", options=["--import-failed", "impact"])
    if is_other:
        main = place.folder / "main.py"
        main.write_text(f"import sys\nsys.argv.append('--cpu')\n{main.read_text()}")
    killed = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(tmp_path)])
    try:
        eventually((tmp_path / "held").exists)
    finally:
        killed.kill()
        killed.wait(10)
    place.configure()
    async with Launcher(presets.launcher(store=MemoryStore()), tmp_path) as launcher, comfyui(launcher) as server:
        await until(lambda: server.is_ready)
        assert (place.starts, server.degraded) == ((2, ()) if is_other else (1, ("impact",)))
        pid = server.pid or 0
    assert ("was started as 'main.py --port" in caplog.text) is is_other
    assert not is_living(pid)
