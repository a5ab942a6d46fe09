"""docs/tutorial.md: its programs run as they stand, and its launcher does nothing twice though it is killed twice."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.adapters.packages.index import ALONE
from tests.application import MODELS, Application

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n# launcher.py\n(.*?)```", PAGE, re.DOTALL)
FRAGMENTS = re.findall(r"```python\n(?!# launcher.py)(.*?)```", PAGE, re.DOTALL)
LAUNCHER = PROGRAMS[-1]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Application]:
    with ExitStack() as stack:
        yield Application(tmp_path / "hosted", stack, seconds=0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def start(program: str, folder: Path, *words: str) -> subprocess.Popen[str]:
    (folder / "launcher.py").write_text(program, encoding="utf-8")
    env = {**os.environ, **ALONE, "PYTHONPATH": str(ROOT)}
    out = subprocess.PIPE
    return subprocess.Popen([sys.executable, "launcher.py", *words], cwd=folder, env=env, stdout=out, text=True)


def kill_when(program: subprocess.Popen[str], is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    with program:
        try:
            while not is_so():
                assert program.poll() is None, "the launcher has ended"
                assert time.monotonic() < end
                time.sleep(0.005)
        finally:
            program.kill()


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


def test_the_launcher_has_at_most_sixty_lines() -> None:
    assert LAUNCHER.count("\n") < 60


def test_the_launcher_killed_twice_does_nothing_twice(app: Application, folder: Path) -> None:
    notes, words = folder / "app/pictures/notes", (app.files.url, app.repository, app.index.url)
    app.models[MODELS[2]].rate = 1e6
    kill_when(start(LAUNCHER, folder, *words), (folder / "app/program").exists)
    assert not (folder / "app/models" / MODELS[2]).exists()
    app.models[MODELS[2]].rate = None
    kill_when(
        start(LAUNCHER, folder, *words), lambda: notes.exists() and "begins a lake" in notes.read_text().splitlines()
    )
    begun = app.begun()
    with start(LAUNCHER, folder, *words) as program:
        printed, _ = program.communicate(timeout=60)
    assert app.begun() == begun
    assert program.returncode == 0
    assert printed.splitlines() == [f"a {one} is in pictures/a {one}.txt" for one in ("tree", "lake", "hill")]
    assert notes.read_text().splitlines() == ["starts", "begins a tree", "begins a lake", "begins a hill"]
    assert app.git.asked_for("info/refs") == 1
    for name, model in app.models.items():
        assert (folder / "app/models" / name).read_bytes() == model.content
        sent = sum(request.sent for request in app.files.requests if request.path == f"/{name}")
        assert sent < 1.2 * len(model.content)
