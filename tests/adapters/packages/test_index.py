"""The index of the tests is one that pip and uv install from, and its faults reach them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.packages.index import ALONE, Fault, Index

PIP = (sys.executable, "-m", "pip", "install")
UV = (sys.executable, "-m", "uv", "pip", "install")
tools = pytest.mark.parametrize("tool", [PIP, UV], ids=["pip", "uv"])


@pytest.fixture
def index() -> Iterator[Index]:
    with Index() as one:
        yield one


def install(tool: tuple[str, ...], index: Index, folder: Path, *packages: str) -> subprocess.CompletedProcess[str]:
    argv = [*tool, "--target", str(folder), "--index-url", index.url, *packages]
    return subprocess.run(argv, env={**os.environ, **ALONE}, capture_output=True, text=True, check=False)


@tools
def test_wheels_and_sdists_are_installed_from_the_index(tool: tuple[str, ...], index: Index, tmp_path: Path):
    index.add("app", "1.0", requires=["My.Library>=2"])
    index.add("my-library", "2.0", kind="sdist")
    assert install(tool, index, tmp_path, "app").returncode == 0
    assert {"app", "my_library"} <= {one.name for one in tmp_path.iterdir()}
    assert index.requests[0] == "/simple/app/"


def test_a_fault_lasts_for_so_many_requests(index: Index, tmp_path: Path):
    index.faults[index.add("app", "1.0", size=50_000)] = Fault(cut=20_000, is_reset=True, times=1)
    assert install(UV, index, tmp_path, "app").returncode == 0
    assert index.asked("/files/app") > 1
