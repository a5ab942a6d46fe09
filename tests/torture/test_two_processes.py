"""Two processes that ask for equal calls, in short: one round of each case of ``make torture processes``."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.slow import few
from tests.torture.fork_server import ForkServer
from tests.torture.two_processes import CASES, ONCE, run_case

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")


@pytest.fixture(scope="module")
def fork_server() -> Iterator[ForkServer]:
    with ForkServer() as fork_server:
        yield fork_server


@pytest.mark.parametrize("name", few([name for name in CASES if name not in ONCE], "killed"))
def test_d16_of_two_processes_one_runs_an_equal_call_in_tasks(name: str, fork_server: ForkServer) -> None:
    run_case(fork_server, name, "asyncio", 0)


@pytest.mark.parametrize(
    "name",
    few(
        ["killed", "both resume", "dies later", "killed and adopted", *ONCE],
        "killed and adopted",
        "busy",
        "forked",
    ),
)
def test_d16_of_two_processes_one_runs_an_equal_call_in_threads(name: str, fork_server: ForkServer) -> None:
    run_case(fork_server, name, "plain", 1)
