"""Real nats-servers: ``make cluster`` runs these tests, ``make test`` does not."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.servers import MissingError, NatsCluster, NatsServer, logs_of_a_failure, program

HERE = Path(__file__).parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Whether this folder is left out: unless it, or a file in it, was named."""
    return None if is_named(config) else True


def pytest_configure(config: pytest.Config) -> None:
    """nats-py leaves sockets open where it fails to connect, and servers die here."""
    if is_named(config):
        config.addinivalue_line("filterwarnings", "ignore::pytest.PytestUnraisableExceptionWarning")


def is_named(config: pytest.Config) -> bool:
    named = [Path(config.invocation_params.dir, argument.partition("::")[0]) for argument in config.args]
    return any(path.is_relative_to(HERE) for path in named)


@pytest.fixture(scope="session", autouse=True)
def needs_a_server() -> None:
    """Without nats-server, or its client, the whole run fails and says what is missing."""
    try:
        program()
        import nats  # noqa: F401 - whether it is there
    except (MissingError, ModuleNotFoundError) as missing:
        pytest.exit(f"tests/cluster: {missing}", 1)


@pytest.fixture
def anyio_backend() -> str:
    """nats-py needs asyncio."""
    return "asyncio"


@pytest.fixture
def prefix() -> str:
    """The first token of the subjects of one test: tests share servers, and no stream."""
    return f"t{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One server, for the tests of a module; tests take ``server``."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="module")
def cluster_of_three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    """Three servers, for the tests of a module; tests take ``three_servers``."""
    with NatsCluster(tmp_path_factory.mktemp("nats")) as servers:
        yield servers


@pytest.fixture
def server(one_server: NatsServer) -> NatsServer:
    """One server that runs, whatever the test before did to it."""
    if not one_server.is_running:
        one_server.restart()
    return one_server


@pytest.fixture
def three_servers(cluster_of_three: NatsCluster) -> NatsCluster:
    """Three servers that run and are up to date, whatever the test before did to them."""
    for server in cluster_of_three:
        if not server.is_running:
            server.restart()
    cluster_of_three.wait_ready()
    cluster_of_three.wait_current()
    return cluster_of_three


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """An error of a test has the end of its servers' logs."""
    given = getattr(item, "funcargs", {}).values()
    servers = {server for one in given if isinstance(one, NatsServer | NatsCluster) for server in one.servers}
    with logs_of_a_failure(servers):
        yield
