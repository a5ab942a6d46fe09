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

from adapters.demo.painter import MODELS, SLOW
from adapters.demo.practice import PracticeServer
from tests.adapters.packages.index import ALONE
from tests.slow import few

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "tutorial" / "launcher.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n# launcher.py\n(.*?)```", PAGE, re.DOTALL)
LAUNCHER = PROGRAMS[-1]


class Served:
    """The practice server, and how often each thing was asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.said: list[str] = []
        self.server = stack.enter_context(PracticeServer(folder, 0, self.said.append, seconds=0.2))

    def asked_for(self, path: str) -> int:
        return sum(path in line for line in self.said)

    def begun(self) -> dict[str, int]:
        parts = [*(f"/models/{name}" for name in MODELS), "/painter.git/info/refs", ".whl"]
        return {part: self.asked_for(part) for part in parts}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with ExitStack() as stack:
        yield Served(tmp_path / "served", stack)


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


def test_the_launcher_has_at_most_fifty_lines() -> None:
    assert LAUNCHER.count("\n") < 50


@pytest.mark.parametrize("tool", few(["uv", "pip"], "uv"))
def test_the_launcher_killed_twice_does_nothing_twice(tool: str, served: Served, folder: Path, tmp_path: Path) -> None:
    python = sys.executable if tool == "pip" else without_ensurepip(tmp_path / "python")
    launch = partial(start, LAUNCHER, folder, served.server.url, python=python)
    notes = folder / "app/pictures/notes"
    slow, part = served.server.files[f"/models/{SLOW}"], folder / "app/models" / f"{SLOW}.part"
    slow.rate = 1e6
    kill_when(launch(), lambda: (folder / "app/program").exists() and Path(f"{part}.json").exists())
    kept, slow.rate = part.stat().st_size, None
    kill_when(launch(), lambda: notes.exists() and "begins a lake" in notes.read_text().splitlines())
    begun = served.begun()
    with launch() as program:
        printed, _ = program.communicate(timeout=60)
    assert served.begun() == begun
    assert program.returncode == 0
    assert printed.splitlines() == [f"a {one} is in pictures/a {one}.txt" for one in ("tree", "lake", "hill")]
    assert notes.read_text().splitlines() == ["starts", "begins a tree", "begins a lake", "begins a hill"]
    assert served.asked_for("/painter.git/info/refs") == 1
    assert [one.start for one in served.server.requests if one.path == f"/models/{SLOW}"] == [0, kept]
    for name in MODELS:
        assert (folder / "app/models" / name).read_bytes() == served.server.files[f"/models/{name}"].content
