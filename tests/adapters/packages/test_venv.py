"""Environments: made, found again, made again; never at the cost of packages or of a user's files.

``quick`` is an interpreter without ensurepip, as Debian's: with uv beside it, an environment is made in 0.1 s, not 3.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.launcher.arguments import InvalidRequestError
from adapters.launcher.launcher import Launcher
from adapters.memory import MemoryStore
from adapters.packages.begun_install import FOLDER
from adapters.packages.venv import LostPackagesError, Venv, VenvError, make_venv
from adapters.packages.venv_folder import MARKER, VenvFolder
from recovery import RetryPolicy, presets
from recovery.service import Recovery
from tests.slow import few
from tests.small_disk import small_disk
from tests.until import wait_until

pytestmark = pytest.mark.anyio

QUICK = """#!/bin/sh
echo "$@" >>'{calls}'
case "$*" in
*find_spec*) '{python}' "$@" | sed 's/True$/False/; s/^3[.][0-9]*[.]/{version}/' ;;
*) {before}; exec '{python}' "$@" ;;
esac
"""
"""An interpreter that finds no ensurepip, says what version it has, and does something before it makes anything."""

LAUNCHER = """
import sys
from pathlib import Path
import anyio
from adapters.packages.venv import make_venv
folder = Path(sys.argv[1])
anyio.run(lambda: make_venv("env", folder, sys.argv[2], logs=folder.parent / "logs", files="env"))
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def quick(tmp_path: Path, before: str = ":", version: str = "3.11.") -> str:
    program = tmp_path / "quick" / "python"
    program.parent.mkdir(exist_ok=True)
    program.write_text(QUICK.format(calls=tmp_path / "calls", python=sys.executable, before=before, version=version))
    program.chmod(0o755)
    return str(program)


def made_by(tmp_path: Path) -> list[str]:
    """The commands by which environments were made."""
    calls = tmp_path / "calls"
    return [one for one in calls.read_text().splitlines() if "-m venv" in one] if calls.exists() else []


async def make(tmp_path: Path, python: str | None = None, **settings: Any) -> Venv:
    return await make_venv("env", tmp_path / "env", python, logs=tmp_path / "logs", files="env", **settings)


def by_hand(tmp_path: Path, *packages: str, has_pip: bool = True) -> VenvFolder:
    """An environment that another program has made."""
    folder = VenvFolder(tmp_path / "env")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder.path], check=True)
    (site,) = folder.path.glob("lib/python*/site-packages")
    for name in (*packages, *(["pip"] if has_pip else [])):
        (site / name).mkdir()
        (site / name / "__init__.py").touch()
    return folder


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_an_environment_is_made_once_and_then_found(tmp_path: Path) -> None:
    python = quick(tmp_path)
    first = await make(tmp_path, python)
    assert await make(tmp_path, python) == first
    assert len(made_by(tmp_path)) == 1
    said = subprocess.run([first.python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True)
    assert said.stdout.strip() == str(tmp_path / "env")


@pytest.mark.slow
async def test_a_real_environment_has_a_pip_that_runs_in_a_long_path_with_spaces(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with spaces" / ("long" * 30)  # longer than a line `#!` may be
    made = await make_venv("env", folder, logs=tmp_path / "logs", files="env")
    said = subprocess.run([folder / "bin" / "pip", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("pip ")
    assert Path(made.python).is_relative_to(folder)


@pytest.mark.parametrize(
    "content", few(["", "bin/python", "lib/python3.11/site-packages/pip/__init__.py", "pyvenv.cfg"], "bin/python")
)
async def test_what_a_launcher_left_half_made_is_deleted_and_made_again(tmp_path: Path, content: str) -> None:
    folder = VenvFolder(tmp_path / "env")
    folder.begin()
    if content:
        (folder.path / content).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / content).write_text("broken")
    made = await make(tmp_path, quick(tmp_path))
    assert Path(made.python).exists()
    assert len(made_by(tmp_path)) == 1
    assert not folder.packages()


async def test_what_works_but_was_not_finished_is_made_again(tmp_path: Path) -> None:
    folder = by_hand(tmp_path, "setuptools-half")
    (folder.path / MARKER).write_text('{"is_complete": false}')
    await make(tmp_path, quick(tmp_path))
    assert len(made_by(tmp_path)) == 1


async def test_a_broken_environment_without_packages_is_made_again(tmp_path: Path) -> None:
    folder = by_hand(tmp_path)
    folder.python.unlink()
    assert (await make(tmp_path, quick(tmp_path))).version == sys.version.split()[0]
    assert len(made_by(tmp_path)) == 1


async def test_an_environment_of_another_program_is_adopted_if_it_works(tmp_path: Path) -> None:
    folder = by_hand(tmp_path, "torch")
    made = await make(tmp_path, quick(tmp_path))
    assert (made.python, made_by(tmp_path), folder.packages()) == (str(folder.python), [], ["torch"])
    assert (folder.path / MARKER).exists()


async def test_a_folder_with_other_files_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "thesis.txt").write_text("years of work")
    with pytest.raises(VenvError, match=r"is no environment, and has files \(thesis.txt\); nothing is deleted"):
        await make(tmp_path, quick(tmp_path))
    assert [one.name for one in (tmp_path / "env").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("is_ours", [True, False])
async def test_a_broken_environment_with_files_of_the_user_is_never_touched(tmp_path: Path, is_ours: bool) -> None:
    folder = by_hand(tmp_path)
    (folder.path / "bin" / "python").unlink()
    (folder.path / "thesis.txt").write_text("years of work")
    if is_ours:
        (folder.path / MARKER).write_text('{"is_complete": false}')
    with pytest.raises(VenvError, match=r"has files that are not of an environment \(thesis.txt\); nothing is deleted"):
        await make(tmp_path, quick(tmp_path))
    assert (folder.path / "thesis.txt").exists()


@pytest.mark.parametrize("reason", ["gone", "version"])
async def test_packages_are_not_lost_without_a_question(tmp_path: Path, reason: str) -> None:
    folder = by_hand(tmp_path, "torch")
    (folder.path / FOLDER).mkdir()  # of an install
    if reason == "gone":
        for one in folder.path.glob("bin/python*"):
            one.unlink()
        (folder.path / "bin" / "python").symlink_to("/nowhere/python3")
    python = quick(tmp_path, version="3.11." if reason == "gone" else "3.99.")
    what = "its Python is gone" if reason == "gone" else r"has Python 3\.11\.\d+, and .* was asked for"
    with pytest.raises(LostPackagesError, match=what) as caught:
        await make(tmp_path, python)
    assert caught.value.remedy is not None
    assert (caught.value.remedy.question, caught.value.remedy.choices) == ("venv:env", ("remake", "keep"))
    assert folder.packages() == ["torch"]
    if reason == "gone":
        with pytest.raises(VenvError, match="and is kept, as a person said"):
            await make(tmp_path, python, answer=lambda: "keep")
    else:
        await make(tmp_path, python, answer=lambda: "keep")
    assert folder.packages() == ["torch"]
    reopened: list[str] = []
    await make(tmp_path, python, answer=lambda: "remake", reopen=reopened.append)
    assert (folder.packages(), reopened) == ([], ["env was made again"])


async def test_pip_that_a_killed_upgrade_removed_is_put_back_beside_the_packages(tmp_path: Path) -> None:
    folder = by_hand(tmp_path, "torch", has_pip=False)
    (folder.path / "bin" / "python").unlink()
    wrapper = f"#!/bin/sh\ncase \"$*\" in *'-m ensurepip'*) mkdir {folder.path}/lib/python3.11/site-packages/pip; touch"
    wrapper += (
        f' {folder.path}/lib/python3.11/site-packages/pip/__init__.py;; *) exec {folder.path}/bin/python3 "$@";; esac\n'
    )
    (folder.path / "bin" / "python3").unlink()
    (folder.path / "bin" / "python3").symlink_to(Path(sys.executable).resolve())
    (folder.path / "bin" / "python").write_text(wrapper)
    (folder.path / "bin" / "python").chmod(0o755)
    await make(tmp_path)
    assert folder.packages() == ["torch"]


async def test_without_ensurepip_and_uv_the_cure_is_named(tmp_path: Path) -> None:
    alone = tmp_path / "bin" / "python"  # no uv is beside it
    alone.parent.mkdir()
    alone.symlink_to(Path(sys.executable).resolve())
    argv = [alone, "-c", LAUNCHER, tmp_path / "env", quick(tmp_path)]
    path = os.pathsep.join(["/usr/bin", "/bin"])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False).stderr
    assert re.search(r"has no ensurepip.*; install python3-venv \(Debian, Ubuntu\), or uv", said)
    assert not (tmp_path / "env").exists()


@pytest.mark.parametrize("python", ["3.99", "/nowhere/python", "python3.99"])
async def test_an_interpreter_that_is_missing_is_named(tmp_path: Path, python: str) -> None:
    with pytest.raises(VenvError, match=f"there is no Python '{python}' here; install it, or name another"):
        await make(tmp_path, python)
    assert not (tmp_path / "env").exists()


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        ("Error: [Errno 13] Permission denied: '/srv/env'", "let this user write to"),
        ("Error: [Errno 2] No such file or directory: '/usr/lib/python3.11/venv'", "may lack a file: install it again"),
        ("Error: [WinError 267] The directory name is invalid: 'C:\\\\x'", "Windows cannot use"),
    ],
)
async def test_what_venv_says_comes_with_a_cure(tmp_path: Path, said: str, cure: str) -> None:
    python = quick(tmp_path, before=f'echo "{said}" >&2; exit 1')
    with pytest.raises(VenvError, match=cure) as caught:
        await make(tmp_path, python)
    assert said.replace("\\\\", "\\")[:40] in str(caught.value)


async def test_a_full_disk_is_waited_for(tmp_path: Path) -> None:
    with small_disk("1m") as disk:
        (disk / "filler").write_bytes(b"x" * 1020 * 1024)
        launcher = Launcher(presets.launcher(store=MemoryStore()), disk, logs=tmp_path / "logs")
        async with launcher, anyio.create_task_group() as group:
            group.start_soon(launcher.venv, "env", quick(tmp_path))
            with anyio.fail_after(10):
                while not (waiting := launcher.service.calls.waiting()):
                    await anyio.sleep(0.01)
            assert waiting[0].until[0].startswith("room for")
            (disk / "filler").unlink()
            launcher.service.calls.retry_now(waiting[0].call)
        assert VenvFolder(disk / "env").python.exists()


@pytest.mark.parametrize("order", few(["one after another", "at once"], "one after another"))
async def test_the_orphan_of_a_killed_launcher_is_ended_and_the_environment_made_again(
    tmp_path: Path, order: str
) -> None:
    python = quick(tmp_path, before="mkdir -p ../env/bin; touch begun; [ -e fast ] || sleep 60")
    argv = [sys.executable, "-c", LAUNCHER, str(tmp_path / "env"), python]
    killed = subprocess.Popen(argv, cwd=tmp_path)
    wait_until(lambda: (tmp_path / "begun").exists())
    if order == "one after another":
        killed.kill()
        killed.wait()
        (tmp_path / "fast").touch()
        await make(tmp_path, python)
    else:
        async with anyio.create_task_group() as group:
            group.start_soon(make, tmp_path, python)
            await anyio.sleep(0.2)
            assert len(made_by(tmp_path)) == 1  # the second waits
            (tmp_path / "fast").touch()
            killed.send_signal(signal.SIGKILL)
            killed.wait()
    assert len(made_by(tmp_path)) == 2
    assert not subprocess.run(["pgrep", "-f", f"{tmp_path}.*sleep"], capture_output=True, check=False).stdout


@pytest.mark.slow
async def test_two_launchers_at_once_make_one_environment(tmp_path: Path) -> None:
    python = quick(tmp_path, before="sleep 0.2")
    argv = [sys.executable, "-c", LAUNCHER, str(tmp_path / "env"), python]
    other = subprocess.Popen(argv)
    wait_until(lambda: made_by(tmp_path))
    await make(tmp_path, python)
    assert (other.wait(20), len(made_by(tmp_path))) == (0, 1)


async def test_the_brick_asks_and_goes_on_with_the_answer(tmp_path: Path) -> None:
    folder = by_hand(tmp_path, "torch")
    (folder.path / "bin" / "python").unlink()
    (folder.path / "bin" / "python").symlink_to("/nowhere/python3")
    python = quick(tmp_path)
    async with Launcher(presets.launcher(store=MemoryStore()), tmp_path) as launcher:
        service = launcher.service
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: launcher.venv("env", python, name="comfy"))
            with anyio.fail_after(10):
                while not (asked := service.calls.questions()):
                    await anyio.sleep(0.01)
            assert (asked[0].name, asked[0].choices) == ("venv:comfy", ("remake", "keep"))
            service.calls.answer("venv:comfy", "remake")
        assert (await launcher.venv("env", python, name="comfy")).python == str(folder.python)
        assert service.calls.answered("venv:comfy") is None
    assert not folder.packages()


async def test_the_brick_refuses_the_root_and_what_is_outside(tmp_path: Path) -> None:
    launcher = Launcher(Recovery(store=MemoryStore()), tmp_path, policy=RetryPolicy(max_retries=0))
    for path in (".", "../env", os.fspath(tmp_path)):
        with pytest.raises(InvalidRequestError):
            await launcher.venv(path)


async def test_a_path_that_no_environment_can_have_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, said in (("file", r"file is a file; choose another path"), ("a:b", "divides the paths of PATH")):
        with pytest.raises(VenvError, match=said):
            await make_venv("env", tmp_path / path, quick(tmp_path), logs=tmp_path / "logs", files="env")
    assert not (tmp_path / "a:b").exists()
