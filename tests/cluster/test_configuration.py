"""The configuration files of the documentation, on real servers: three of them, with TLS and accounts."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.errors import Error

from adapters.nats.errors import ClusterError
from adapters.nats.permissions import Role, accounts, inbox, password_variable
from adapters.nats.view import ClusterAddress, open_view
from tests.cluster.certificates import make_certificates, trusting
from tests.cluster.servers import NatsServer, free_ports
from tests.cluster.streams import commit, new_call, set_up

pytestmark = pytest.mark.anyio

FILES = Path(__file__).parent / "files"
USERS: dict[str, Role] = {"admin": "setup", "gpu": "worker", "shop": "submitter", "desk": "steerer", "screen": "viewer"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def documented(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[NatsServer]]:
    """Three servers with the files of the documentation; only addresses and folders differ."""
    ports, monitoring, routes = (free_ports(9)[at::3] for at in range(3))
    environ = {password_variable(user): f"pw-{user}" for user in USERS}
    servers = []
    for at, letter in enumerate("abc"):
        folder = tmp_path_factory.mktemp(f"nats-{letter}")
        text = (FILES / "node.conf").read_text(encoding="utf-8").replace('"nats-a"', f'"nats-{letter}"')
        for own, port in (
            ("0.0.0.0:4222", ports[at]),
            ("127.0.0.1:8222", monitoring[at]),
            ("0.0.0.0:6222", routes[at]),
        ):
            text = text.replace(own, f"127.0.0.1:{port}")
        for other, port in zip("abc", routes, strict=True):
            text = text.replace(f"nats-{other}:6222", f"127.0.0.1:{port}")
        text = text.replace("/var/lib/nats", str(folder / "store"))
        server = NatsServer(folder, config=text, ports=(ports[at], monitoring[at]), environ=environ, scheme="tls")
        tls = (FILES / "tls.conf").read_text(encoding="utf-8").replace("/etc/nats", str(certificates))
        (folder / "tls.conf").write_text(tls, encoding="utf-8")
        (folder / "accounts.conf").write_text(accounts(USERS), encoding="utf-8")
        server.start()
        servers.append(server)
    try:
        for server in servers:
            server.wait_ready()
            server.wait_until(lambda server=server: server.get("jsz").get("meta_cluster", {}).get("leader"))
        yield servers
    finally:
        for server in servers:
            server.kill()


async def quiet(_: Exception) -> None:
    """Errors are expected."""


async def connect(client: Client, server: NatsServer, user: str, context: ssl.SSLContext) -> None:
    await client.connect(
        server.url,
        user=user,
        password=f"pw-{user}",
        inbox_prefix=inbox(user).encode(),
        tls=context,
        allow_reconnect=False,
        max_reconnect_attempts=1,
        reconnect_time_wait=0.01,
        error_cb=quiet,
        connect_timeout=3,
    )


async def test_a_cluster_of_the_documentation_takes_a_call(documented: list[NatsServer], certificates: Path):
    context = trusting(certificates, as_client=True)
    admin, shop = Client(), Client()
    async with (
        AsyncExitStack() as stack
    ):  # of what is connected: the end of what is not would take the place of its error
        await connect(admin, documented[0], "admin", context)
        stack.push_async_callback(admin.close)
        await set_up(admin, "recovery", replicas=3)
        await connect(shop, documented[2], "shop", context)
        stack.push_async_callback(shop.close)
        assert (await commit(shop, *new_call("recovery", "k")))["count"] == 3


async def test_a_command_shows_the_certificate_of_a_folder(documented: list[NatsServer], certificates: Path):
    url = documented[0].url.replace("tls://", "tls://admin:pw-admin@")
    async with open_view(ClusterAddress(url, tls=str(certificates))) as view:
        status, _ = await view.status()
    assert status.nodes == ()


def test_a_folder_without_certificates_is_named(tmp_path: Path):
    with pytest.raises(ClusterError, match=r"put ca\.pem, client\.pem and client\.key there"):
        ClusterAddress("tls://nats-a:4222", tls=str(tmp_path)).trusted()


async def test_a_client_without_a_certificate_is_refused(documented: list[NatsServer], certificates: Path):
    assert not await is_admitted(documented[0], trusting(certificates))


async def test_a_client_that_trusts_other_authorities_refuses_the_server(documented: list[NatsServer]):
    assert not await is_admitted(documented[0], ssl.create_default_context())


async def is_admitted(server: NatsServer, context: ssl.SSLContext) -> bool:
    client = Client()
    try:
        await connect(client, server, "shop", context)
    except (Error, OSError):
        return False
    finally:
        with suppress(TimeoutError):  # nats-py waits for ever for the end of a connection that never was
            await asyncio.wait_for(client.close(), 0.5)
    return True
