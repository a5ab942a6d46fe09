"""The index of the tests is one that pip and uv install from; what they print about its faults has its rule."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recovery.policies.error_messages import match_error_message
from tests.adapters.packages.index import ALONE, Fault, Index, refused_url
from tests.slow import few

PIP = (sys.executable, "-m", "pip", "install")
UV = (sys.executable, "-m", "uv", "pip", "install")
tools = pytest.mark.parametrize("tool", [pytest.param(PIP, marks=pytest.mark.slow), UV], ids=["pip", "uv"])


@pytest.fixture
def index() -> Iterator[Index]:
    with Index() as one:
        yield one


def install(
    tool: tuple[str, ...], index: Index, folder: Path, *packages: str, **env: str
) -> subprocess.CompletedProcess[str]:
    argv = [*tool, "--target", str(folder), "--index-url", index.url, *packages]
    return subprocess.run(
        argv, env={**os.environ, **ALONE, "COLUMNS": "80", **env}, capture_output=True, text=True, check=False
    )


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


FAULTS: dict[str, tuple[str, dict[str, Any], Fault | None, str, str]] = {
    # what is installed, what else its package has, the fault of its file, and the rules for pip and for uv
    "conflict": ("app", {"requires": ["library>3"]}, None, "pip-missing", "pip-conflict"),
    "python": ("app", {"requires_python": ">=3.99"}, None, "pip-python", "pip-python"),
    "403": ("app", {}, Fault(status=403), "index-refused", "index-refused"),
    "404": ("app", {}, Fault(status=404), "pip-missing", "pip-missing"),
    "503": ("app", {}, Fault(status=503), "index-server", "index-server"),
    "reset": ("app", {"size": 50_000}, Fault(cut=20_000, is_reset=True), "pip-network", "uv-network"),
    "hash": ("app", {"sha256": "0" * 64}, None, "pip-hash", "pip-hash"),
    "build": ("app", {"kind": "broken sdist"}, None, "pip-build", "pip-build"),
    "missing": ("nonsuch", {}, None, "pip-missing", "pip-missing"),
}
CASES = [(tool, fault) for fault in FAULTS for tool in ("pip", "uv")]


@pytest.mark.parametrize(("tool", "fault"), few(CASES, ("uv", "403"), ("uv", "hash"), ("uv", "build")))
def test_what_a_tool_prints_about_a_fault_has_its_rule(tool: str, fault: str, index: Index, tmp_path: Path):
    wanted, package, of_file, *rules = FAULTS[fault]
    index.add("library", "2.0")
    file = index.add("app", "1.0", **package)
    if of_file is not None:
        index.faults[file] = of_file
    said = install(PIP if tool == "pip" else UV, index, tmp_path, wanted, PIP_RETRIES="0", UV_HTTP_RETRIES="0")
    assert said.returncode != 0
    rule = match_error_message(said.stderr)
    assert rule is not None, said.stderr
    assert rule.name == rules[tool == "uv"], said.stderr


@pytest.mark.slow
@tools
def test_an_index_that_refuses_connections_is_no_missing_package(tool: tuple[str, ...], index: Index, tmp_path: Path):
    index.url = refused_url()
    said = install(tool, index, tmp_path, "app", PIP_RETRIES="1", UV_HTTP_RETRIES="0")
    rule = match_error_message(said.stderr)
    assert rule is not None
    assert rule.name in ("pip-network", "uv-network")


@pytest.mark.parametrize("status", few([403, 503], 403))
@pytest.mark.slow
def test_pip_tells_in_its_log_alone_that_an_index_refuses_a_page(status: int, index: Index, tmp_path: Path):
    index.add("app", "1.0")
    index.faults["app"] = Fault(status=status)
    said = install(PIP, index, tmp_path, "app", PIP_RETRIES="0", PIP_LOG=str(tmp_path / "log"))
    (missing, rule) = (match_error_message(one) for one in (said.stderr, (tmp_path / "log").read_text()))
    assert missing is not None
    assert missing.name == "pip-missing"
    assert rule is not None
    assert rule.name == ("index-refused" if status == 403 else "index-server")
