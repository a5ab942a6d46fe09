"""docs/tutorial/launcher.md: its programs run; killed twice, its launcher does nothing twice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.adapters.packages.index import ALONE
from tests.application import MODELS, Application
from tests.slow import few

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "tutorial" / "launcher.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n# launcher.py\n(.*?)```", PAGE, re.DOTALL)
FRAGMENTS = re.findall(r"```python\n(?!# launcher.py)(.*?)```", PAGE, re.DOTALL)
LAUNCHER = PROGRAMS[-1]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Application]:
    with ExitStack() as stack:
        yield Application(tmp_path / "hosted", stack, seconds=0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "here"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)  # a server that a failed test has left ends then


def start(program: str, folder: Path, *words: str, python: str = sys.executable) -> subprocess.Popen[str]:
    (folder / "launcher.py").write_text(program, encoding="utf-8")
    path = os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)])
    env = {**os.environ, **ALONE, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "PATH": path}
    out = subprocess.PIPE
    return subprocess.Popen([python, "launcher.py", *words], cwd=folder, env=env, stdout=out, text=True)


def without_ensurepip(folder: Path) -> str:
    """A Python without ensurepip, as Debian's: with uv on PATH, it makes an environment in 0.1 s and not in 3."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "without.pth").write_text("import sys; sys.modules['ensurepip'] = None\n")
    return str(folder / "bin/python")


def kill_when(program: subprocess.Popen[str], is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    with program:
        try:
            while not is_so():
                assert program.poll() is None, "the launcher has ended"
                assert time.monotonic() < end
                time.sleep(0.005)
        finally:
            program.kill()


@pytest.mark.slow
def test_the_first_step_prints_what_the_page_shows(app: Application, folder: Path) -> None:
    [console] = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    shown = ""
    for line in re.findall(r"^\$ .*$", console, re.MULTILINE):
        with start(PROGRAMS[0], folder, app.files.url) as program:
            shown += f"{line}\n{program.communicate(timeout=30)[0]}"
    assert shown == console


def test_each_step_is_a_part_of_the_launcher() -> None:
    missing = [line for part in FRAGMENTS for line in part.splitlines() if line not in LAUNCHER.splitlines()]
    assert len(FRAGMENTS) == 4
    assert missing == []


def test_the_launcher_has_at_most_fifty_lines() -> None:
    assert LAUNCHER.count("\n") < 50


@pytest.mark.parametrize("tool", few(["uv", "pip"], "uv"))
def test_the_launcher_killed_twice_does_nothing_twice(
    tool: str, app: Application, folder: Path, tmp_path: Path
) -> None:
    python = sys.executable if tool == "pip" else without_ensurepip(tmp_path / "python")
    launch = partial(start, LAUNCHER, folder, app.files.url, app.repository, app.index.url, python=python)
    notes = folder / "app/pictures/notes"
    slow, part = app.models[MODELS[2]], folder / "app/models" / f"{MODELS[2]}.part"
    slow.rate = 1e6
    kill_when(launch(), lambda: (folder / "app/program").exists() and Path(f"{part}.json").exists())
    kept, slow.rate = part.stat().st_size, None
    kill_when(launch(), lambda: notes.exists() and "begins a lake" in notes.read_text().splitlines())
    begun = app.begun()
    with launch() as program:
        printed, _ = program.communicate(timeout=60)
    assert app.begun() == begun
    assert program.returncode == 0
    assert printed.splitlines() == [f"a {one} is in pictures/a {one}.txt" for one in ("tree", "lake", "hill")]
    assert notes.read_text().splitlines() == ["starts", "begins a tree", "begins a lake", "begins a hill"]
    assert app.git.asked_for("info/refs") == 1
    assert [one.start for one in app.files.requests if one.path == f"/{MODELS[2]}"] == [0, kept]
    for name, model in app.models.items():
        assert (folder / "app/models" / name).read_bytes() == model.content
