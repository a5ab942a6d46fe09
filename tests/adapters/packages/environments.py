"""Environments for tests: made in some 50 ms, with the pip of this one if it is wanted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.adapters.packages.index import ALONE


def make_environment(path: Path, *, has_pip: bool = False) -> Path:
    """An environment at *path*."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(path)], check=True)
    if has_pip:
        pip = distribution("pip")
        info = f"pip-{pip.version}.dist-info"
        for folder in ("pip", info):
            shutil.copytree(str(pip.locate_file(folder)), packages_of(path) / folder, copy_function=_link)
    return path


def packages_of(environment: Path) -> Path:
    """The folder of its packages."""
    (found,) = environment.glob("lib/python*/site-packages")
    return found


def installed(environment: Path) -> dict[str, str]:
    """The versions of its packages by name, but for pip: of those that can be imported and have metadata."""
    folders = [one.name.removesuffix(".dist-info") for one in packages_of(environment).glob("*.dist-info")]
    versions = dict(one.split("-") for one in folders)
    return {
        name: version
        for name, version in versions.items()
        if (packages_of(environment) / name / "__init__.py").read_text() == f"__version__ = {version!r}\n"
    }


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pip and uv of a test see no settings of this machine."""
    for name, value in ALONE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
