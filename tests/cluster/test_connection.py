"""Connections to real servers: what they demand, what they refuse, and how they come back."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from nats.aio.client import Client

from adapters.nats.cluster import Cluster
from adapters.nats.connection import connect
from adapters.nats.errors import ClusterError, ForbiddenError, NotSentError, UnreachableError, UnreadableError
from adapters.nats.holding import claim
from adapters.nats.jetstream import MAX_RECORD
from adapters.nats.link import Link
from adapters.nats.names import Lane, name_of
from adapters.nats.permissions import Role, accounts, inbox, password_variable
from adapters.nats.record import CallRecord, Change, Standing
from adapters.nats.setup import streams
from adapters.nats.transitions import asked_to_cancel, submitted
from recovery import Recovery
from tests.cluster.certificates import make_certificates, trusting
from tests.cluster.proxy import Proxy
from tests.cluster.servers import NatsCluster, NatsServer, free_ports

pytestmark = pytest.mark.anyio

P = "cluster"
USERS: dict[str, Role] = {
    "admin": "setup",
    "gpu-a": "worker",
    "shop": "submitter",
    "desk": "steerer",
    "screen": "viewer",
}
LANE = Lane("render")
SECRET = "s3cret/%40word"


@pytest.fixture(scope="module")
def closed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server that admits the users alone."""
    environ = {password_variable(user): f"pw-{user}" for user in USERS}
    with NatsServer(tmp_path_factory.mktemp("nats"), more=accounts(USERS, P), environ=environ) as server:
        yield server


def as_user(server: NatsServer, user: str, prefix: str = P) -> Any:
    return connect(server.url, prefix=prefix, user=user, password=f"pw-{user}", inbox=inbox(user))


def new(key: str) -> Change:
    return submitted(name_of("render", key), b"[]", 0.0)


async def submit(link: Link, key: str) -> str:
    await link.engine.write(new(key), 0)
    return f"render/{key}"


# what cannot be connected to


async def test_a_connection_that_comes_as_it_is_given_up_is_closed(monkeypatch: pytest.MonkeyPatch):
    comes, calls = asyncio.get_running_loop().create_future(), list[str]()

    async def made(*_: Any, **options: Any) -> None:
        await comes
        calls.append("made")

    async def closed(_: Client) -> None:
        calls.append("closed")

    monkeypatch.setattr(Client, "connect", made)
    monkeypatch.setattr(Client, "close", closed)
    opening = asyncio.create_task(AsyncExitStack().enter_async_context(connect("nats://host")))
    await asyncio.sleep(0.01)
    comes.set_result(None)
    await asyncio.sleep(0)  # it is made; who waits for it has not gone on yet
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert calls == ["made", "closed"]


async def test_a_connection_that_is_cancelled_at_any_step_ends():
    """Where nats-py has just been connected, asyncio drops the cancellation, and nats-py tries for ever."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:

        async def opened() -> None:
            async with connect(f"nats://127.0.0.1:{silent.getsockname()[1]}"):
                pass

        for steps in range(30):
            opening = asyncio.create_task(opened())
            for _ in range(steps):
                await asyncio.sleep(0)
            opening.cancel()
            await asyncio.wait([opening], timeout=5.0)
            assert opening.cancelled(), f"it goes on when it is cancelled after {steps} steps of the loop"


async def test_an_address_where_nothing_listens_is_an_error_with_the_cure():
    [port] = free_ports(1)
    with pytest.raises(UnreachableError, match=rf"no server answers at 127.0.0.1:{port} .*nats-server -js"):
        async with connect(f"nats://127.0.0.1:{port}", within=1.0):
            pass


@pytest.mark.parametrize(
    "url", ["http://host", "nats://", "nats://host:port", "nats://:secret@", "nats://shop:[secret@host"]
)
async def test_what_is_no_address_is_an_error_that_does_not_repeat_it(url: str):
    with pytest.raises(ClusterError, match="nats://host:4222") as caught:
        async with connect(url):
            pass
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["nats://shop:12/34@host", "nats://shop:12?34@host", "nats://12#34@host"])
async def test_a_password_that_is_not_quoted_is_an_error_that_does_not_repeat_it(url: str):
    with pytest.raises(ClusterError, match="in a password %2F for /") as caught:
        async with connect(url, within=0.2):
            pass
    assert "12" not in str(caught.value)


async def test_a_wrong_password_is_an_error_at_once_and_is_not_shown(
    closed_server: NatsServer, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    url = closed_server.url.replace("nats://", f"nats://shop:{SECRET.replace('/', '%2F')}@")
    began = time.monotonic()
    with pytest.raises(ClusterError, match="refuses the user") as caught:
        async with connect(url, prefix=P):
            pass
    assert time.monotonic() - began < 5.0
    shown = [caplog.text, str(caught.value), repr(caught.value), repr(caught.value.__cause__)]
    assert not [one for one in shown if "s3cret" in one]


async def test_a_server_without_jetstream_is_an_error_with_the_cure(tmp_path: Path):
    port, monitoring = free_ports(2)
    text = f"listen: 127.0.0.1:{port}\nhttp: 127.0.0.1:{monitoring}\n"
    server = NatsServer(tmp_path, config=text, ports=(port, monitoring))
    server.start()
    try:
        server.wait_until(lambda: server.get("varz"))
        with pytest.raises(ClusterError, match=r"JetStream.*nats-server -js"):
            async with connect(server.url):
                pass
    finally:
        server.kill()


def test_under_trio_it_says_that_it_needs_asyncio():
    async def main() -> None:
        async with connect("nats://127.0.0.1:1"):
            pass

    with pytest.raises(ClusterError, match="needs asyncio, and this program runs on trio"):
        anyio.run(main, backend="trio")


# users


async def test_a_user_and_password_in_the_address_are_used_and_not_shown(closed_server: NatsServer):
    async with as_user(closed_server, "admin"):
        pass
    url = closed_server.url.replace("nats://", "nats://shop:pw-shop@")
    async with connect(url, prefix=P, inbox=inbox("shop")) as link:
        assert "pw-shop" not in repr(link) + repr(link.connection) + repr(vars(link)) + repr(
            link.connection.server_pool
        )
        assert await link.engine.read("render/none") is None


async def test_a_token_admits(tmp_path: Path):
    with NatsServer(tmp_path, more='authorization { token: "t0ken" }') as server:
        async with connect(server.url, token="t0ken") as link:
            assert link.is_connected
        async with connect(server.url.replace("nats://", "nats://t0ken@")) as link:
            assert link.is_connected


async def test_tls_is_trusted_as_its_authority_says(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    made = make_certificates(tmp_path / "made")
    files = (Path(__file__).parent / "files" / "tls.conf").read_text(encoding="utf-8").replace("/etc/nats", str(made))
    with NatsServer(tmp_path / "server", more=f"tls {{\n{files}}}", scheme="tls") as server:
        async with connect(server.url, tls=trusting(made, as_client=True)) as link:
            await submit(link, "k")
        assert caplog.records == []  # asyncio has nothing to say of how it was closed
        with pytest.raises(UnreachableError, match=r"certificate.*pass tls, a context.*--tls FOLDER") as caught:
            async with connect(server.url, within=3.0):
                pass
        assert "nats-server -js" not in str(caught.value)


async def test_the_streams_that_are_missing_are_made_by_a_user_who_may(closed_server: NatsServer):
    with pytest.raises(ClusterError, match=r"stream other cannot be made.*may not do that.*role setup"):
        async with as_user(closed_server, "shop", "other"):
            pass


async def test_each_role_connects_to_streams_that_are_there_and_does_its_work(closed_server: NatsServer):
    async with as_user(closed_server, "admin"):
        pass
    async with AsyncExitStack() as stack:
        users = [as_user(closed_server, user) for user in ("shop", "gpu-a", "screen", "desk")]
        shop, gpu, screen, desk = [await stack.enter_async_context(user) for user in users]
        call = await submit(shop, "k")
        delivery = await gpu.engine.take([LANE], 5.0)
        assert delivery is not None
        holding = await claim(gpu.engine, delivery, "gpu-a", lambda record, now: record.standing)
        assert holding is not None
        for link in (shop, gpu, screen, desk):
            stored = await link.engine.read(call)
            assert stored == holding.stored
            assert [one async for one in link.engine.calls()] == [stored]
            assert await link.engine.payload(call, "args") == b"[]"
            assert abs(await link.engine.now() - time.time()) < 5.0
        async with screen.engine.watch(call) as changes:
            await asyncio.sleep(0.1)
            change = asked_to_cancel(holding.record, "no more", 0.0)
            assert isinstance(change, Change)
            await desk.engine.write(change, holding.stored.seq)
            await asyncio.wait_for(changes.next(5.0), 2.0)
        other = await submit(shop, "other")
        cancelled = asked_to_cancel(new("other").record, "no more", 0.0)
        stored = await shop.engine.read(other)
        assert isinstance(cancelled, Change)
        assert stored is not None
        await shop.engine.write(cancelled, stored.seq)


async def test_what_a_role_may_not_do_is_one_error_that_names_the_roles_that_may(
    closed_server: NatsServer, caplog: pytest.LogCaptureFixture
):
    async with as_user(closed_server, "admin") as admin, as_user(closed_server, "screen") as screen:
        call = await submit(admin, "seen")
        began = time.monotonic()
        stored = await screen.engine.read(call)
        assert stored is not None
        assert caplog.records == []
        change = asked_to_cancel(stored.record, "", 0.0)
        assert isinstance(change, Change)
        with pytest.raises(ForbiddenError, match=r"do not let this user publish to .*: it needs the role submitter or"):
            await screen.engine.write(change, stored.seq)
        assert time.monotonic() - began < 4.0
        assert len(caplog.records) <= 1
        assert "<" not in caplog.text
    async with as_user(closed_server, "shop") as shop:
        with pytest.raises(ForbiddenError, match="it needs the role worker or setup"):
            await shop.engine.take([LANE], 1.0)


async def test_a_cluster_that_a_viewer_opens_is_one_error_with_the_cure(closed_server: NatsServer):
    async with as_user(closed_server, "admin"):
        pass
    options = {"prefix": P, "user": "screen", "password": "pw-screen"}
    with pytest.raises(ForbiddenError, match=r"the role viewer.*submitter or worker.*recovery status --cluster"):
        async with Cluster(Recovery(), closed_server.url, node="screen", **options):
            pass


@pytest.mark.parametrize("wrong", ["_INBOX", "_INBOX_admin"])
async def test_an_inbox_that_is_not_permitted_is_an_error_with_the_cure(closed_server: NatsServer, wrong: str):
    with pytest.raises(ForbiddenError, match=rf"answers that begin with {wrong}: .*inbox=.*--inbox NAME"):
        async with connect(closed_server.url, prefix=P, user="shop", password="pw-shop", inbox=wrong):
            pass


# streams that are there


async def test_a_prefix_that_is_none_makes_no_stream(server: NatsServer, prefix: str):
    before = set(server.streams())
    with pytest.raises(ValueError, match="is no prefix of a cluster"):
        async with connect(server.url, prefix=f"{prefix}-events"):
            pass
    assert set(server.streams()) == before


async def test_a_stream_with_other_settings_is_made_to_fit(server: NatsServer, prefix: str):
    async with connect(server.url, prefix=prefix) as link:
        js = link.connection.jetstream()
        info = await js.stream_info(prefix)
        await js.update_stream(info.config, allow_direct=False)
    async with connect(server.url, prefix=prefix) as link:
        assert (await link.connection.jetstream().stream_info(prefix)).config.allow_direct
        await submit(link, "k")


async def test_a_stream_that_cannot_be_made_to_fit_is_one_clear_error(server: NatsServer, prefix: str):
    async with connect(server.url, prefix=f"{prefix}x") as link:
        wanted = {**streams(prefix)[0], "retention": "limits", "allow_msg_schedules": False, "discard": "new"}
        await link.ask(f"$JS.API.STREAM.CREATE.{prefix}", msgspec.json.encode(wanted))
    with pytest.raises(
        ClusterError, match=rf"the stream {prefix} does not fit \(retention must be 'workqueue'.*cannot be"
    ):
        async with connect(server.url, prefix=prefix):
            pass


async def test_many_that_connect_to_new_servers_at_once_agree(server: NatsServer, prefix: str):
    async def one() -> None:
        async with connect(server.url, prefix=prefix) as link:
            assert await link.engine.read("render/none") is None

    await asyncio.gather(*(one() for _ in range(8)))


async def test_three_servers_keep_each_message_three_times(three_servers: NatsCluster, prefix: str):
    async with connect(three_servers.urls, prefix=prefix) as link:
        for name in (prefix, f"{prefix}-events", f"KV_{prefix}-shared", f"KV_{prefix}-nodes"):
            assert (await link.connection.jetstream().stream_info(name)).config.num_replicas == 3


async def test_so_many_replicas_as_there_are_no_servers_are_an_error(server: NatsServer, prefix: str):
    with pytest.raises(ClusterError, match="cannot be made"):
        async with connect(server.url, prefix=prefix, replicas=3):
            pass


async def test_the_buckets_are_those_that_nats_py_knows(server: NatsServer, prefix: str):
    async with connect(server.url, prefix=prefix) as link:
        bucket = await link.connection.jetstream().key_value(f"{prefix}-nodes")
        await bucket.put("a", b"1")
        assert (await bucket.get("a")).value == b"1"


# what cannot be read


async def test_what_a_newer_release_wrote_is_counted_and_left_to_others(server: NatsServer, prefix: str, caplog: Any):
    async with connect(server.url, prefix=prefix) as link:
        engine = link.engine
        for key, data in (("field", b'{"leg":1,"colour":3}'), ("noise", b"\x00\xff")):
            await link.ask(f"{prefix}.queue.{LANE.tokens}.{key}", data)
        record = new("format").record
        newer = {**msgspec.json.decode(msgspec.json.encode(record)), "format": 99}
        await link.ask(f"{prefix}.call.render.format", msgspec.json.encode(newer))
        await link.ask(f"{prefix}.call.render.huge", b'{"call":"%s"}' % (b"x" * MAX_RECORD))
        await link.ask(f"{prefix}.queue.{LANE.tokens}.format", b'{"leg":1}')
        delivery = await engine.take([LANE], 1.0)
        assert delivery is not None
        assert delivery.call == "render/format"
        assert await claim(engine, delivery, "gpu-a", lambda record, now: Standing()) is None
        with pytest.raises(UnreadableError):
            await engine.read("render/huge")
        assert [one async for one in engine.calls()] == []
        assert await engine.take([LANE], 0.5) is None
        assert await taken(engine) == "render/format"
        assert engine.refused["a queue message is of a newer release"] in (3, 4)  # type: ignore[attr-defined]
        assert caplog.text.count("a queue message is of a newer release") == 1


async def taken(engine: Any) -> str:
    """The call of the next message, within two looks for what was put back."""
    delivery = await engine.take([LANE], 8.0)
    return "" if delivery is None else str(delivery.call)


# parted


async def test_a_cut_connection_comes_back_and_those_that_watch_read_again(server: NatsServer, prefix: str):
    with Proxy(server.port) as proxy:
        async with connect(proxy.url, prefix=prefix) as link, connect(server.url, prefix=prefix) as other:
            call = await submit(link, "k")
            async with link.engine.watch(call) as changes:
                taking = asyncio.create_task(link.engine.take([Lane("render", "high")], 20.0))
                await asyncio.sleep(0.2)
                proxy.cut()
                await asyncio.sleep(0.2)
                assert not link.is_connected
                with pytest.raises(NotSentError):
                    await link.ask("x", within=0.1)
                await other.engine.write(submitted(name_of("render", "urgent"), b"[]", 0.0, priority="high"), 0)
                proxy.heal()
                await asyncio.wait_for(changes.next(10.0), 5.0)
                delivery = await asyncio.wait_for(taking, 5.0)
                assert delivery is not None
                assert delivery.call == "render/urgent"
                assert await link.engine.read(call) is not None


async def test_a_blocked_loop_gives_back_no_message_that_another_worker_has(server: NatsServer, prefix: str):
    lease = 2.0

    async def other() -> None:
        async with connect(server.url, prefix=prefix, lease=lease) as link:
            engine = link.engine
            await engine.write(submitted(name_of("render", "one"), b"[[],{}]", await engine.now()), 0)
            delivery = await engine.take([LANE], 2 * lease)
            assert delivery is not None
            while not is_over.is_set():
                await engine.extend(delivery.lease)
                await asyncio.sleep(lease / 4)

    is_over = threading.Event()
    async with connect(server.url, prefix=prefix, lease=lease) as link:
        assert await link.engine.take([LANE], 0.5) is None  # and asks on, for a while
        running = asyncio.create_task(asyncio.to_thread(asyncio.run, other()))
        await asyncio.sleep(0.0)
        time.sleep(2 * lease)  # as a body that blocks its loop does
        taken = await link.engine.take([LANE], 2 * lease)
        is_over.set()
        await running
        assert taken is None
        assert await link.engine.take([LANE], 3 * lease) is not None  # the other one has died


async def test_a_silent_server_is_an_error_within_seconds_and_nothing_is_written_twice(server: NatsServer, prefix: str):
    with Proxy(server.port) as proxy:
        async with connect(proxy.url, prefix=prefix) as link:
            proxy.cut("silent")
            writing = asyncio.create_task(submit(link, "k"))
            with pytest.raises(UnreachableError):
                await asyncio.wait_for(writing, 10.0)
            proxy.heal()
            await asyncio.sleep(0.5)
            stored = await link.engine.read("render/k")
            assert stored is not None
            assert stored.record == new("k").record
            delivery = await link.engine.take([LANE], 5.0)
            assert delivery is not None
            assert await link.engine.take([LANE], 0.2) is None


async def test_a_server_that_was_killed_has_all_that_it_has_confirmed(server: NatsServer, prefix: str):
    async with connect(server.url, prefix=prefix, lease=2.0) as link:
        calls = {await submit(link, f"{n}") for n in range(20)}
        server.kill()
        writing = asyncio.create_task(surely(link, "late"))
        await asyncio.sleep(0.2)
        server.restart()
        calls.add(await writing)
        assert {one.record.call async for one in link.engine.calls()} == calls
        assert {await taken(link.engine) for _ in calls} == calls


async def test_writes_go_on_when_the_leader_of_three_dies(three_servers: NatsCluster, prefix: str):
    async with connect(three_servers.urls, prefix=prefix) as link:
        await submit(link, "first")
        three_servers.leader(prefix).kill()
        async with asyncio.timeout(40.0):
            confirmed = {await surely(link, f"{n}") for n in range(10)}
        listed = {one.record.call async for one in link.engine.calls()}
        assert listed == {"render/first", *confirmed}


async def surely(link: Link, key: str) -> str:
    """Submit a call, and find out whether it was written where that is unknown."""
    while True:
        try:
            return await submit(link, key)
        except UnreachableError:
            if await found(link, f"render/{key}") is not None:
                return f"render/{key}"


async def found(link: Link, call: str) -> CallRecord | None:
    """The record of *call*, once a server says whether there is one."""
    while True:
        try:
            stored = await link.engine.read(call)
        except UnreachableError:
            continue
        return None if stored is None else stored.record


async def test_a_call_starts_within_a_tenth_of_a_second_on_a_free_worker(server: NatsServer, prefix: str):
    lanes = [Lane("render", priority, node) for priority in ("high", "normal", "low") for node in ("gpu-a", "")]  # type: ignore[arg-type]
    async with connect(server.url, prefix=prefix) as link, connect(server.url, prefix=prefix) as shop:
        await link.engine.take(lanes, 0.01)
        waits = []
        for n in range(20):
            taking = asyncio.create_task(link.engine.take(lanes, 5.0))
            came: list[float] = []
            taking.add_done_callback(lambda _, came=came: came.append(time.monotonic()))  # type: ignore[misc]
            await asyncio.sleep(0.02)
            began = time.monotonic()
            await submit(shop, f"{n}")
            delivery = await taking
            await asyncio.sleep(0)
            waits.append(came[0] - began)
            assert delivery is not None
            await link.engine.ack(delivery)
        assert sorted(waits)[len(waits) // 2] < 0.1
