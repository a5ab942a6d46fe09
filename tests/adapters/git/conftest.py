"""What tests of git have: a repository on servers, quick launchers, and no settings of this computer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from adapters.launcher.launcher import Launcher
from adapters.memory import MemoryStore
from events.evidence import Category
from recovery import Constant, RetryPolicy, Strategy
from recovery.service import Recovery
from tests.adapters.git.servers import make_repository

MakeLauncher: TypeAlias = Callable[..., Launcher]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def plain_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


class Served:
    """A folder of repositories for servers, and the commits of the one that is named ``plugin``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commits = make_repository(folder)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(tmp_path_factory.mktemp("served"))


@pytest.fixture
def make_launcher(tmp_path: Path) -> MakeLauncher:
    """Makes a launcher with ``root`` as its root, whose retries wait for answers alone."""

    def make(**options: Any) -> Launcher:
        service = Recovery(store=MemoryStore())
        asks = Strategy(wait_for=(service.calls.question_of,), backoff=Constant(0.0))
        at_once = RetryPolicy(max_retries=8, backoff=Constant(0.0), per_category={Category.AUTH: asks})
        return Launcher(service, tmp_path / "root", **{"policy": at_once, **options})

    return make
