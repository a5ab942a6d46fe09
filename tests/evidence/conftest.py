"""These tests need the dependency group ``evidence``: ``make evidence`` runs them, ``make test`` does not."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Whether this folder is left out: unless it, or a file in it, was named."""
    named = [Path(config.invocation_params.dir, argument.partition("::")[0]) for argument in config.args]
    return None if any(path.is_relative_to(HERE) for path in named) else True
