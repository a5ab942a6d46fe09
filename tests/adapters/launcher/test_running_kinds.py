"""Plans with repositories, packages, servers and steps: what runs, what needs what, and what a killed launch leaves."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from adapters.processes.identity import is_living
from tests.adapters.cli.test_command import command, operation, recovery, touch, write_plan
from tests.adapters.cli.test_signals import running, stopped
from tests.adapters.comfyui.graphs import killer, picture
from tests.adapters.comfyui.standin.child import Place, Standin
from tests.adapters.git.servers import make_repository
from tests.adapters.packages.environments import installed, make_environment
from tests.adapters.packages.index import ALONE, Index
from tests.adapters.servers.small_servers import READY, small_server, starts
from tests.adapters.sqlite.test_kill import eventually
from tests.slow import few

NEVER = {"max_retries": 0}
ASKS = """
import os, urllib.request
urllib.request.urlopen(os.environ["SERVER"], timeout=5)
open("prompted", "a").write("x")
"""


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**ALONE, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def serve(folder: Path, name: str = "server", **more: Any) -> str:
    run = small_server(folder)
    return operation(name=name, kind="server", run=run, ready=READY, **more)


def asking(name: str = "prompts", **more: Any) -> str:
    run = (sys.executable, "-S", "-c", ASKS)
    return command(name, *run, env={"SERVER": "{server.url}"}, needs=["server"], **more)


@pytest.mark.slow
def test_a_launch_of_a_repository_packages_and_a_server_is_done_however_often_it_runs(
    tmp_path: Path, models: Path
) -> None:
    make_repository(tmp_path / "served")
    make_environment(models / "env", has_pip=True)
    with Index() as index:
        index.add("alib", "1.0")
        plan = write_plan(
            tmp_path,
            operation(name="node", kind="git", url=str(tmp_path / "served" / "plugin"), destination="node", ref="main"),
            operation(name="env", kind="venv", destination="env"),
            operation(name="libs", kind="packages", environment="env", requirements=["alib"], indexes=[index.url],
                      tool="uv", needs=["env"]),
            serve(models, hold=False, needs=["node", "libs"]),
            asking(),
        )  # fmt: skip
        ended, wheels = [], list[int]()
        for _ in range(2):
            ended.append(recovery("run", plan, "--json"))
            wheels.append(sum(".whl" in path for path in index.requests))
    assert [(one.code, set(one.outcomes.values())) for one in ended] == [(0, {"done"})] * 2
    assert (models / "node" / "node.py").read_text() == "commit 2\n"
    assert installed(models / "env") == {"alib": "1.0"}
    assert wheels[0] == wheels[1] > 0  # the second launch found it there
    assert ((models / "prompted").read_text(), len(starts(models))) == ("xx", 2)
    assert not any(is_living(pid) for pid, _ in starts(models))


@pytest.mark.slow
def test_a_repository_that_is_there_is_brought_to_the_version_of_the_plan(tmp_path: Path) -> None:
    make_repository(tmp_path / "served")
    for ref, said in (("v1", "first\n"), ("main", "commit 2\n")):
        clone = operation(name="node", kind="git", url=str(tmp_path / "served" / "plugin"), destination="n", ref=ref)
        ended = recovery("run", write_plan(tmp_path, clone))
        assert (ended.code, (tmp_path / "models" / "n" / "node.py").read_text()) == (0, said), ended.out
    other = operation(name="node", kind="git", url=str(tmp_path / "other"), destination="n", ref="main", retry=NEVER)
    ended = recovery("run", write_plan(tmp_path, other))
    assert (ended.code, "move it away" in ended.out) == (1, True)


def test_a_launch_with_a_server_lasts_until_it_is_stopped_and_the_server_ends_with_it(
    tmp_path: Path, models: Path
) -> None:
    plan = write_plan(tmp_path, serve(models), asking())
    with running("run", plan) as process:
        eventually(lambda: (models / "prompted").exists())
        ended = stopped(process, signal.SIGTERM)
    [(pid, port)] = starts(models)
    assert (ended.code, is_living(pid)) == (143, False)
    assert f"server: ready at http://127.0.0.1:{port}" in ended.out.splitlines()


def test_a_killed_launch_takes_its_server_over_and_does_nothing_twice(tmp_path: Path, models: Path) -> None:
    waits = command("waits", "sh", "-c", "[ -e go ] || sleep 40", needs=["prompts"], silence=1.0)
    parts = (serve(models, hold=False), asking(creates="prompted"), waits)
    plan = write_plan(tmp_path, '[launch]\norphans = "end"', *parts)
    with running("run", plan) as process:
        eventually(lambda: (tmp_path / ".recovery" / "logs" / "waits.log").exists())
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    [(pid, _)] = starts(models)
    assert is_living(pid)
    (models / "go").touch()
    ended = recovery("run", plan, "--json")
    assert (ended.code, set(ended.outcomes.values())) == (0, {"done"})
    assert (len(starts(models)), (models / "prompted").read_text()) == (1, "x")
    assert not is_living(pid)


FAR = operation(name="server", kind="comfyui", url="http://127.0.0.1:{port}", hold=False)
"""One that the launch does not start."""


@pytest.mark.slow
@pytest.mark.parametrize("instead", [touch("other"), FAR], ids=["another", "far"])
def test_a_server_that_the_plan_has_no_more_is_ended_by_the_next_launch(
    tmp_path: Path, models: Path, instead: str
) -> None:
    with running("run", write_plan(tmp_path, serve(models), asking())) as process:
        eventually(lambda: (models / "prompted").exists())
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    [(pid, _)] = starts(models)
    with Standin(tmp_path / "far") as far:
        assert recovery("run", write_plan(tmp_path, instead.replace("{port}", str(far.port)))).code == 0
    assert not is_living(pid)


CONNECTS = """
import os, socket, time
socket.create_connection(("127.0.0.1", int(open("starts").read().split()[-1]))).sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
open("reached", "w").close()
os.path.exists("go") or time.sleep(40)
"""


@pytest.mark.slow
def test_what_a_stopped_launch_left_waits_again_for_the_server_that_it_needs(tmp_path: Path, models: Path) -> None:
    slow = small_server(models, before="number == 1 or time.sleep(0.5)")
    server = operation(name="server", kind="server", run=slow, ready=READY, hold=False)
    uses = command("uses", sys.executable, "-S", "-c", CONNECTS, needs=["server"], retry=NEVER)
    plan = write_plan(tmp_path, server, uses)
    with running("run", plan) as process:
        eventually((models / "reached").exists)
        stopped(process, signal.SIGTERM)
    (models / "go").touch()
    ended = recovery("run", plan, "--json")
    assert (ended.code, set(ended.outcomes.values())) == (0, {"done"})


def test_what_needs_a_server_that_has_gone_is_skipped(tmp_path: Path, models: Path) -> None:
    (models / "status").write_text("503")  # it is never ready
    crashes = operation(name="server", kind="server", run=small_server(models, crashes=9), ready=READY, max_restarts=0)
    plan = write_plan(tmp_path, "[wait]\nanswer = 0.2", crashes, asking(), touch("other"))
    ended = recovery("run", plan)
    assert (ended.code, ended.out.splitlines()[-1]) == (1, "1 of 3 operations done; failed: server; skipped: prompts")
    assert f"answer it with: recovery answer {plan} restart:server yes" in ended.out


def test_steps_that_fail_are_undone_and_a_second_launch_does_them(tmp_path: Path, models: Path) -> None:
    (models / "settings").write_text("old")
    steps = [
        {"name": "move", "run": ["mv", "settings", "kept"], "undo": ["mv", "kept", "settings"], "creates": "kept"},
        {"name": "write", "run": ["cp", "new", "settings"], "undo": ["rm", "-f", "settings"]},
    ]
    plan = write_plan(tmp_path, operation(name="update", kind="steps", steps=steps, retry=NEVER), touch("after"))
    ended = recovery("run", plan, "--json")
    assert (ended.code, ended.outcomes) == (1, {"update": "failed", "after": "done"})
    assert {path.name for path in models.iterdir()} == {"settings", "after"}
    (models / "new").write_text("new")
    assert recovery("run", plan).code == 0
    assert [(models / name).read_text() for name in ("settings", "kept")] == ["new", "old"]


def test_steps_that_cannot_be_undone_wait_for_an_answer_as_long_as_the_plan_says(tmp_path: Path, models: Path) -> None:
    steps = [{"name": "a", "run": ["touch", "a"], "undo": ["false"]}, {"name": "b", "run": ["false"]}]
    ab = operation(name="ab", kind="steps", steps=steps, retry=NEVER)
    ended = recovery("run", write_plan(tmp_path, "[wait]\nanswer = 0", ab))
    assert (ended.code, "undoing step 'a' failed" in ended.out) == (1, True)


@pytest.mark.parametrize(
    ("on_crash", "then", "left"),
    few([("finish", "", {"a", "b"}), ("undo", "", set[str]()), ("finish", "c", {"a", "b", "c"}), ("undo", "c", {"c"})],
        ("finish", "c", {"a", "b", "c"})),
)  # fmt: skip
@pytest.mark.slow
def test_steps_of_a_killed_launch_are_finished_or_undone_with_the_commands_that_they_began_with(
    tmp_path: Path, models: Path, on_crash: str, then: str, left: set[str]
) -> None:
    slow = "touch begun; [ -e go ] || exec sleep 0.3; touch b"
    steps = [
        {"name": "a", "run": ["touch", "a"], "undo": ["rm", "a"]},
        {"name": "b", "run": ["sh", "-c", slow], "undo": ["rm", "-f", "b"]},
    ]
    plan = write_plan(tmp_path, operation(name="ab", kind="steps", steps=steps, on_crash=on_crash))
    with running("run", plan) as process:
        eventually(lambda: (models / "begun").exists())
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    (models / "go").touch()
    if then:
        other = [{"name": then, "run": ["touch", then]}]
        write_plan(tmp_path, operation(name="ab", kind="steps", steps=other, on_crash=on_crash))
    ended = recovery("run", plan, "--json")
    assert ended.outcomes == {"ab": "done" if left else "failed"}
    assert {path.name for path in models.iterdir()} - {"go", "begun"} == left


def studio(**more: Any) -> str:
    return operation(name="studio", kind="comfyui", path="ComfyUI", python=sys.executable, hold=False, **more)


def prompt(name: str, **more: Any) -> str:
    return operation(name=name, kind="prompt", server="studio", workflow=f"{name}.json", **more)


def test_a_prompt_of_a_plan_is_run_once_and_its_file_is_saved(tmp_path: Path, models: Path) -> None:
    stand = Place(models / "ComfyUI")
    graph = picture(1, prefix="one/a")
    graph["4"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "two/a"}}
    (models / "a.json").write_text(json.dumps(graph))
    address = command("address", "sh", "-c", "echo $AT > address", needs=["studio"], env={"AT": "{studio.port}"})
    plan = write_plan(tmp_path, studio(), prompt("a", save_to="saved"), address)
    ended = [recovery("run", plan, "--json") for _ in range(2)]
    assert [(one.code, set(one.outcomes.values())) for one in ended] == [(0, {"done"})] * 2, ended[0].out
    assert stand.files() == ["one/a_00001_.png", "two/a_00001_.png"]
    assert [(models / "saved" / path).read_bytes()[1:4] for path in stand.files()] == [b"PNG"] * 2
    assert (models / "address").read_text().strip().isdecimal()


def test_a_prompt_of_a_plan_runs_in_a_server_that_the_plan_does_not_start(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (models / "a.json").write_text(json.dumps(picture(1)))
    far = operation(name="studio", kind="comfyui", url="env:FAR", hold=False)
    plan = write_plan(tmp_path, far, prompt("a", save_to="saved"))
    ended = recovery("run", plan)
    assert (ended.code, "the variable FAR is not set" in ended.out) == (1, True), ended.out
    with Standin(models / "ComfyUI") as stand:
        monkeypatch.setenv("FAR", stand.url.replace("http://", "HTTP://me:hidden-words@"))
        ended = recovery("run", plan)
        assert (ended.code, "hidden-words" in ended.out) == (0, False), ended.out
        assert [one.name for one in (models / "saved").iterdir()] == stand.files()
        assert stand.process is not None
        assert stand.process.poll() is None


@pytest.mark.slow
def test_a_prompt_of_a_plan_outlives_its_server(tmp_path: Path, models: Path) -> None:
    stand = Place(models / "ComfyUI")
    (models / "b.json").write_text(json.dumps(killer(2, times=1)))
    ended = recovery("run", write_plan(tmp_path, studio(), prompt("b")), "--json")
    assert (ended.code, set(ended.outcomes.values()), len(stand.files())) == (0, {"done"}, 1), ended.out


DRAWN = {"version": 0.4, "nodes": [{"type": "Gone", "properties": {"cnr_id": "gone-pack"}}], "links": []}


def test_a_drawn_workflow_asks_for_what_the_server_lacks_and_then_says_how_to_export_it(
    tmp_path: Path, models: Path
) -> None:
    Place(models / "ComfyUI")
    (models / "a.json").write_text(json.dumps(DRAWN))
    plan = write_plan(tmp_path, "[wait]\nanswer = 0.2", studio(), prompt("a"))
    ended = recovery("run", plan)
    assert (ended.code, "a.json has nodes that the server does not have: Gone" in ended.out) == (1, True), ended.out
    assert f"answer it with: recovery answer {plan} node:Gone" in ended.out
    (models / "a.json").write_text(json.dumps({"nodes": [{"type": "SaveImage"}]}))
    ended = recovery("run", plan)
    assert (ended.code, "Workflow > Export (API)" in ended.out) == (1, True), ended.out
