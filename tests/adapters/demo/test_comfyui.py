"""The look-alike of ComfyUI says what ComfyUI says, as far as its clients read it."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from adapters.servers.ports import free_port

MAIN = "import adapters.demo.comfyui\n\nadapters.demo.comfyui.STEP = 0.01\nadapters.demo.comfyui.serve()\n"
GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "cat"}},
}
CRASH = {**GRAPH, "3": {"class_type": "Crash", "inputs": {}}}


class LookAlike:
    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port("127.0.0.1")
        (folder / "main.py").write_text(MAIN)
        root = Path(__file__).parents[3]
        argv = [sys.executable, "main.py", "--port", str(self.port)]
        self.process = subprocess.Popen(argv, cwd=folder, env={"PYTHONPATH": str(root)}, stdout=subprocess.DEVNULL)
        end = time.monotonic() + 20.0
        while self.ask("/system_stats", must=False) is None:
            assert time.monotonic() < end
            time.sleep(0.01)

    def ask(self, path: str, body: object = None, *, must: bool = True, status: int = 200) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10.0)
        try:
            connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            data = response.read()
        except OSError:
            assert not must
            return None
        finally:
            connection.close()
        assert response.status == status
        return json.loads(data) if data.startswith(b"{") else data

    def until_finished(self, prompt: str) -> dict[str, Any]:
        end = time.monotonic() + 20.0
        while prompt not in (found := self.ask(f"/history/{prompt}")):
            assert time.monotonic() < end
            time.sleep(0.01)
        entry: dict[str, Any] = found[prompt]
        return entry


@pytest.fixture
def comfy(tmp_path: Path) -> Iterator[LookAlike]:
    made = LookAlike(tmp_path)
    yield made
    made.process.kill()
    made.process.wait()


def test_a_prompt_runs_and_tells_its_client_alone_how_it_goes_on(comfy: LookAlike):
    assert comfy.ask("/system_stats")["system"]["argv"] == ["main.py", "--port", str(comfy.port)]
    url = f"ws://127.0.0.1:{comfy.port}/ws?clientId="
    with connect(url + "me", proxy=None) as mine, connect(url + "other", proxy=None) as others:
        accepted = comfy.ask("/prompt", {"prompt": GRAPH, "prompt_id": "a", "client_id": "me"})
        assert accepted == {"prompt_id": "a", "number": 0, "node_errors": {}}
        entry = comfy.until_finished("a")
        kinds = [json.loads(mine.recv(5.0))["type"] for _ in range(16)]
        with pytest.raises(TimeoutError):
            others.recv(0.01)
    assert kinds == [
        "execution_start", "executing", *["progress"] * 10, "executing", "executed", "execution_success", "executing",
    ]  # fmt: skip
    assert entry["status"]["status_str"] == "success"
    [file] = entry["outputs"]["2"]["images"]
    assert file == {"filename": "cat_00001_.png", "subfolder": "", "type": "output"}
    assert comfy.ask(f"/view?filename={file['filename']}&type=output").startswith(b"\x89PNG")
    comfy.ask("/view?filename=dog.png", status=404)
    comfy.ask("/api/jobs/a", status=404)


def test_what_waits_can_be_deleted_and_what_runs_interrupted(comfy: LookAlike):
    for prompt in ("a", "b", "c"):
        comfy.ask("/prompt", {"prompt": GRAPH, "prompt_id": prompt})
    comfy.ask("/queue", {"delete": ["b"]})
    comfy.ask("/interrupt", {"prompt_id": "c"})  # it waits: nothing happens
    assert comfy.until_finished("c")["status"]["status_str"] == "success"
    assert comfy.ask("/history/b") == {}
    comfy.ask("/prompt", {"prompt": GRAPH, "prompt_id": "d"})
    while not comfy.ask("/queue")["queue_running"]:
        time.sleep(0.001)
    comfy.ask("/interrupt", {"prompt_id": "d"})
    status = comfy.until_finished("d")["status"]
    assert (status["status_str"], status["messages"][-1][0]) == ("error", "execution_interrupted")


def test_a_node_that_it_does_not_have_is_refused(comfy: LookAlike):
    graph = {"1": {"class_type": "Absent", "inputs": {}}}
    error = comfy.ask("/prompt", {"prompt": graph, "prompt_id": "a"}, status=400)["error"]
    assert error["type"] == "invalid_prompt"
    assert "Absent" in error["message"]
    assert set(comfy.ask("/object_info/SaveImage")) == {"SaveImage"}


def test_a_crash_loses_the_queue_and_the_history(comfy: LookAlike):
    assert (comfy.folder / "pid").read_text() == f"{comfy.process.pid}\n"
    comfy.ask("/prompt", {"prompt": CRASH, "prompt_id": "a"}, must=False)
    assert comfy.process.wait(10.0) == -signal.SIGKILL
