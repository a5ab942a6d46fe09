"""These tests need Debian's package ``prometheus``: ``make metrics`` runs them, ``make test`` does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Whether this folder is left out: unless it, or a file in it, was named."""
    named = [Path(config.invocation_params.dir, argument.partition("::")[0]) for argument in config.args]
    return None if any(path.is_relative_to(HERE) for path in named) else True


def program(name: str) -> str:
    """The path of *name*, "prometheus" or "promtool"; without it the test fails, and says what is missing."""
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"{name} is not installed: apt-get install prometheus", pytrace=False)
    return path


@pytest.fixture(scope="session")
def promtool() -> str:
    return program("promtool")


@pytest.fixture(scope="session")
def prometheus() -> str:
    return program("prometheus")
