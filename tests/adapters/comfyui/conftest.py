"""Fixtures of ComfyUI servers: a stand-in of a test's own, and one that a module shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.comfyui.standin.child import Dialect, Standin
from tests.adapters.comfyui.standin.real import HOW_TO, RealServer, real_server
from tests.until import wait_until

Start = Callable[..., Standin]


@pytest.fixture(params=["asyncio", pytest.param("trio", marks=pytest.mark.slow)])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[Start]:
    """Starts stand-ins that end with the test: ``standin(dialect="old", options=[...])``."""
    with ExitStack() as stack:

        def start(dialect: Dialect = "new", *, name: str = "comfyui", **options: Any) -> Standin:
            return stack.enter_context(Standin(tmp_path / name, dialect, **options))

        yield start


@pytest.fixture(
    scope="module",
    params=[
        "old",
        pytest.param("middle", marks=pytest.mark.slow),
        "new",
        pytest.param("real", marks=pytest.mark.comfyui),
    ],
)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standin]:
    """A server for all tests of a module, with an empty queue: the stand-in in each dialect, or a real one."""
    folder = tmp_path_factory.mktemp("comfyui")
    server: Standin | None = real_server(folder) if request.param == "real" else Standin(folder, request.param)
    if server is None:
        pytest.skip(HOW_TO)
    with server:
        yield server


@pytest.fixture
def idle(served: Standin) -> Standin:
    """That server, once it has run what the tests before left to it."""
    if served.ask("GET", "/prompt")[1]["exec_info"]["queue_remaining"]:
        served.ask("POST", "/queue", {"clear": True})
        served.ask("POST", "/interrupt", {})
    within = 120.0 if isinstance(served, RealServer) else 10.0
    wait_until(lambda: served.ask("GET", "/prompt")[1]["exec_info"]["queue_remaining"] == 0, within)
    return served
