"""The kinds of operations that install and run: which keys they have, and what is refused before anything begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.launcher.kinds.comfyui import ComfyUI
from adapters.launcher.kinds.git import Git
from adapters.launcher.kinds.packages import Packages
from adapters.launcher.kinds.prompt import Prompt
from adapters.launcher.kinds.server import Server
from adapters.launcher.kinds.steps import Steps
from adapters.launcher.kinds.venv import Venv
from tests.adapters.launcher.test_plan import command, download, load, operation, refusal

TOKEN = "ghp_" + "aBcDeFgHiJ" * 3 + "kLmNoP"


def git(name: str = "comfyui", /, **values: str) -> str:
    known = {"name": f'"{name}"', "kind": '"git"', "url": f'"https://example.org/{name}"', "destination": f'"{name}"'}
    return operation(known | values)


def venv(name: str = "env", /, **values: str) -> str:
    return operation({"name": f'"{name}"', "kind": '"venv"', "destination": f'"{name}"'} | values)


def packages(name: str = "torch", /, **values: str) -> str:
    known = {"name": f'"{name}"', "kind": '"packages"', "environment": '"env"', "requirements": '["torch>=2"]'}
    return operation(known | values)


def server(name: str = "server", /, **values: str) -> str:
    known = {
        "name": f'"{name}"',
        "kind": '"server"',
        "run": '["serve", "{port}"]',
        "ready": '"http://127.0.0.1:{port}/"',
    }
    return operation(known | values)


def steps(name: str = "move", /, **values: str) -> str:
    known = {"name": f'"{name}"', "kind": '"steps"', "steps": '[{ name = "a", run = ["true"], undo = ["false"] }]'}
    return operation(known | values)


def comfyui(name: str = "studio", /, **values: str) -> str:
    return operation({"name": f'"{name}"', "kind": '"comfyui"', "path": '"ComfyUI"'} | values)


def prompt(name: str = "portrait", /, **values: str) -> str:
    known = {"name": f'"{name}"', "kind": '"prompt"', "server": '"studio"', "workflow": '"portrait.json"'}
    return operation(known | values)


def test_each_kind_is_what_the_plan_says(tmp_path: Path) -> None:
    plan = load(
        tmp_path,
        git(ref='"v1"', depth="1", on_local_changes='"stash"'),
        venv(python='"3.12"', needs='["comfyui"]', destination='"comfyui/env"'),
        packages(environment='"comfyui/env"', files='["comfyui/requirements.txt"]', needs='["env"]', tool='"pip"'),
        server(port="8188", env='{ A = "{port}" }', max_restarts="1", hold="false"),
        steps(on_crash='"undo"', env='{ KEY = "env:KEY_OF_TEST" }'),
        comfyui(window="1", hold="false", python='"env/bin/python"'),
        prompt(outputs='["9"]', priority='"high"', needs='["move"]'),
    )
    clone, env, torch, serve, move, studio, portrait = plan.steps
    assert isinstance(clone, Git)
    assert (clone.ref, clone.depth, clone.on_local_changes) == ("v1", 1, "stash")
    assert isinstance(env, Venv)
    assert env.python == "3.12"
    assert isinstance(torch, Packages)
    assert (torch.tool, torch.protect) == ("pip", ("torch", "torchvision", "torchaudio"))
    assert isinstance(serve, Server)
    assert (serve.port, serve.max_restarts, serve.within, serve.hold) == (8188, 1, 600.0, False)
    assert isinstance(move, Steps)
    assert (move.on_crash, move.steps[0].undo) == ("undo", ("false",))
    assert isinstance(studio, ComfyUI)
    assert (studio.path, studio.window, studio.hold, studio.LASTS) == ("ComfyUI", 1, False, True)
    assert isinstance(portrait, Prompt)
    assert (portrait.outputs, portrait.priority, portrait.needs) == (("9",), "high", ("move", "studio"))


@pytest.mark.parametrize(
    ("parts", "key", "reason"),
    [
        # git
        ((git(url='"ftp://example.org/a"'),), "operation[0].url",
         "'ftp://example.org/a' has the scheme ftp; git may use https, http, ssh, git or a path"),
        ((git(url='"ext::sh -c id"'),), "operation[0].url",
         "'ext::sh -c id' names a helper program (helper::address), which is not run"),
        ((git(mirrors='["https://example.org/comfyui"]'),), "operation[0].mirrors[0]",
         "'https://example.org/comfyui' is named twice"),
        ((git(ref='"--force"'),), "operation[0].ref", ""),
        ((git(depth="0"),), "operation[0].depth", ""),
        ((git(on_local_changes='"drop"'),), "operation[0].on_local_changes",
         "must be 'ask', 'stash', 'reset' or 'keep', not 'drop'"),
        ((git(to='"a"'),), "operation[0].to", ""),
        ((git(ref_="1"),), "operation[0].ref_", "there is no such key; did you mean 'ref'?"),
        ((git(destination='"../a"'),), "operation[0].destination", ""),
        ((git(destination='"."'),), "operation[0].destination", "'.' is the plan's root itself"),
        # packages
        ((packages(requirements=""),), "operation[0].requirements",
         "names no package: give requirements, or files"),
        ((packages(requirements='["torch=2"]'),), "operation[0].requirements[0]", ""),
        ((packages(requirements='["requirements.txt"]'),), "operation[0].requirements[0]", ""),
        ((packages(protect='["torch==2"]'),), "operation[0].protect[0]",
         "'torch==2' is no name of a package: give the name alone, without a version, as 'torch'"),
        ((packages(indexes='["ftp://a/"]'),), "operation[0].indexes[0]", "'ftp://a/' is no http or https URL"),
        ((packages(environment='"/usr"'),), "operation[0].environment", ""),
        ((packages(files='["../requirements.txt"]'),), "operation[0].files[0]", ""),
        ((packages(tool='"conda"'),), "operation[0].tool", "must be 'auto', 'pip' or 'uv', not 'conda'"),
        # servers
        ((server(port="0"),), "operation[0].port", ""),
        ((server(port='"any"'),), "operation[0].port", "must be a whole number or 'auto', not 'any'"),
        ((server(ready='"http://127.0.0.1:8188/"'),), "operation[0].ready",
         "'http://127.0.0.1:8188/' has no {port}: with port = \"auto\" the port is known at the start alone"),
        ((server(run='["serve"]'),), "operation[0].run",
         'has no {port}, and env has none: with port = "auto" the server must be told its port'),
        ((server(ready='"ftp://a:{port}/"'),), "operation[0].ready", "'ftp://a:{port}/' is no http or https URL"),
        ((server(max_restart="1"),), "operation[0].max_restart", "there is no such key; did you mean 'max_restarts'?"),
        ((server(max_restarts="-1"),), "operation[0].max_restarts", "must be at least 0, not -1"),
        ((server(env=f'{{ A = "{TOKEN}" }}'),), "operation[0].env.A", ""),
        ((server(), command(env='{ A = "{server.url}" }')), "operation[1].env.A",
         "{server.url} is of a server that it does not need: add 'server' to needs"),
        ((server(), command(env='{ A = "{srver.port}" }', needs='["server"]')), "operation[1].env.A",
         "{srver.port}: there is no server 'srver'; did you mean 'server'?"),
        ((server(), command(run='["curl", "{server.url}"]', needs='["server"]')), "operation[1].run",
         '{server.url} is known in env alone: set env = { SERVER = "{server.url}" }, and let the program read that'),
        # ComfyUI and prompts
        ((comfyui(run='["comfy"]'),), "operation[0].path", "is given, and run as well: leave one of them out"),
        ((comfyui(path='""'),), "operation[0].path",
         "is missing: give the folder of ComfyUI, the program in run, or the address of a server in url"),
        ((comfyui(url='"http://127.0.0.1:8188"'),), "operation[0].path",
         "is given, and url as well: leave one of them out"),
        ((comfyui(path='""', url='"127.0.0.1:8188"'),), "operation[0].url",
         "the URL of ComfyUI is not http://HOST:PORT or https://HOST:PORT"),
        ((comfyui(path='""', url=f'"http://me:{TOKEN}@127.0.0.1"'),), "operation[0].url",
         'holds a password, and a plan is no place for one: write "env:NAME", the variable that holds the address'),
        ((comfyui(path='""', url='"env:http://a"'),), "operation[0].url", ""),
        ((comfyui(path='""', url='"env:COMFY"', port="8188"),), "operation[0].port",
         "goes with a server that the launch starts, and that in url is not one: leave it out"),
        ((comfyui(path='""', run='[""]'),), "operation[0].run", ""),
        ((comfyui(path='""', run='["comfy"]', python='"3.12"'),), "operation[0].python",
         "goes with path: it is the interpreter of the ComfyUI there"),
        ((comfyui(path='"../ComfyUI"'),), "operation[0].path", ""),
        ((comfyui(window="3"),), "operation[0].window", ""),
        ((comfyui(max_restarts="-1"),), "operation[0].max_restarts", "must be at least 0, not -1"),
        ((comfyui(env=f'{{ A = "{TOKEN}" }}'),), "operation[0].env.A", ""),
        ((comfyui(), prompt(server='"studoi"')), "operation[1].server",
         "there is no operation 'studoi' of kind 'comfyui'; did you mean 'studio'?"),
        ((server("studio"), prompt()), "operation[1].server",
         "there is no operation 'studio' of kind 'comfyui'"),
        ((comfyui(needs='["portrait"]'), prompt()), "operation[0].needs", ""),
        ((comfyui(), prompt(outputs="[]")), "operation[1].outputs", ""),
        ((comfyui(), prompt(workflow='"../a.json"')), "operation[1].workflow", ""),
        ((comfyui(), prompt(priority='"urgent"')), "operation[1].priority",
         "must be 'high', 'normal' or 'low', not 'urgent'"),
        ((comfyui(), prompt(graph='"a.json"')), "operation[1].graph", ""),
        # steps
        ((steps(steps="[]"),), "operation[0].steps", ""),
        ((steps(steps='[{ name = "a", run = ["true"], undone = ["x"] }]'),), "operation[0].steps[0].undone",
         "there is no such key; did you mean 'undo'?"),
        ((steps(steps='[{ name = "a", run = ["x"] }, { name = "a", run = ["y"] }]'),), "operation[0].steps[1].name",
         "'a' is steps[0] already"),
        ((steps(steps='[{ name = "result", run = ["x"] }]'),), "operation[0].steps[0].name",
         "'result' means something else here: give another name"),
        ((steps(steps='[{ name = "commands", run = ["x"] }]'),), "operation[0].steps[0].name", ""),
        ((steps(steps='[{ name = "a", run = ["x"], creates = "../a" }]'),), "operation[0].steps[0].creates", ""),
        ((server(), steps(needs='["server"]', env='{ A = "{server.url}" }')), "operation[1].env.A", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_kind_is_named_with_the_cure(
    tmp_path: Path, parts: tuple[str, ...], key: str, reason: str
) -> None:
    found = refusal(tmp_path, *parts)
    assert found == (key, reason or found[1])


IN_THE_FOLDER = "is in the folder that operation[0] makes: add 'comfyui' to needs"


@pytest.mark.parametrize(
    ("inner", "field", "reason"),
    [
        (download(destination='"comfyui/models/a"'), "destination", f"'comfyui/models/a' {IN_THE_FOLDER}"),
        (git("node", destination='"comfyui/nodes/node"'), "destination", f"'comfyui/nodes/node' {IN_THE_FOLDER}"),
        (venv(destination='"comfyui/env"'), "destination", f"'comfyui/env' {IN_THE_FOLDER}"),
        (command(cwd='"comfyui"'), "cwd", f"'comfyui' {IN_THE_FOLDER}"),
        (command(creates='"comfyui/made"'), "creates", f"'comfyui/made' {IN_THE_FOLDER}"),
        (packages(files='["comfyui/requirements.txt"]'), "files[0]", f"'comfyui/requirements.txt' {IN_THE_FOLDER}"),
        (packages(environment='"comfyui"'), "environment", f"'comfyui' {IN_THE_FOLDER}"),
        (git("again", destination='"comfyui"'), "destination",
         "'comfyui' is in the way of operation[0]'s destination"),
    ],
)  # fmt: skip
def test_what_is_in_a_folder_needs_the_operation_that_makes_it(
    tmp_path: Path, inner: str, field: str, reason: str
) -> None:
    assert refusal(tmp_path, git(), inner) == (f"operation[1].{field}", reason)
    if "in the folder" in reason:
        load(tmp_path, git(), command("between", needs='["comfyui"]'), f'{inner}needs = ["between"]\n')


def test_no_clone_goes_where_a_file_is_or_the_journal(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(tmp_path, git(destination='"file"')) == (
        "operation[0].destination",
        "'file' is a file that is there",
    )
    outer = tmp_path / "outer"
    outer.mkdir()
    found = refusal(outer, 'root = ".."', git(destination='"outer"'))
    assert found == ("operation[0].destination", "'outer' is where the plan and its journal are")


def test_a_password_in_an_index_is_refused_unseen(tmp_path: Path) -> None:
    key, reason = refusal(tmp_path, packages(indexes='["https://me:hunter2@example.org/simple"]'))
    assert (key, "hunter2" in reason, 'write "env:NAME"' in reason) == ("operation[0].indexes[0]", False, True)
    load(tmp_path, packages(indexes='["env:PIP_INDEX", "https://example.org/simple"]'))


@pytest.mark.parametrize(
    "url", ["git@example.org:a/b.git", "ssh://git@example.org/a", "git://example.org/a", "/srv/git/a", "http://a.org/b"]
)
def test_a_repository_may_be_at_each_address_of_git(tmp_path: Path, url: str) -> None:
    load(tmp_path, git(url=f'"{url}"'))
