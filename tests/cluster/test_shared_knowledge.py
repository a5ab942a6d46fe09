"""Nodes that learn from each other over a real server: circuits, one probe, pauses, budgets, deaths."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.nats.cluster import Cluster
from adapters.nats.connection import connect
from adapters.nats.errors import UnreachableError
from adapters.nats.knowledge.bucket import SharedBucket
from adapters.nats.knowledge.entries import MAX_ENTRY, Opened, Probing, Recovered, key_of, to_bytes
from adapters.nats.knowledge.replica import Stored
from adapters.nats.knowledge.shared import SharedKnowledge
from adapters.nats.link import Link
from adapters.nats.permissions import Role, accounts, password_variable
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.errors import CallRejectedError
from events.operation import Operation
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.budget import RetryBudget
from recovery.policies.circuit_states import HalfOpen, Open
from recovery.service import Recovery
from tests.cluster.servers import NatsCluster, NatsServer
from tests.recorded_events import events_of
from tests.recovery.http_errors import answered

pytestmark = pytest.mark.anyio

PART = ("download", "host")
BREAKER = BreakerPolicy(failure_threshold=2, counts="attempts", break_duration=1.0)
BUDGET = RetryBudget(reserve=3.0, ratio=0.0, per_second=0.0)


class Host:
    """A server of downloads: *answers* says what it does when it is asked."""

    def __init__(self, answers: Callable[[], object]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, float]] = []


class Node:
    """One node: its service, its connection, what it shares, and a function that asks the host."""

    def __init__(self, name: str, host: Host, link: Link, **settings: Any) -> None:
        self.name, self.link = name, link
        self.service = Recovery(enable_logging=False)
        self.shared = SharedKnowledge(self.service, link, name)
        settings = {"breaker": BREAKER, "when_open": "wait", "max_retries": 5, "initial_delay": 0.01, **settings}

        @self.service.recoverable("download", key=lambda host: host, **settings)
        async def download(_: str) -> None:
            host.asked.append((name, time.monotonic()))
            await asyncio.sleep(0.05)
            host.answers()

        self.download = download

    def open_circuit(self) -> None:
        for _ in range(2):
            Operation("download", self.service.bus, key="host").start().fail(ConnectionRefusedError("down"))

    @property
    def circuit(self) -> object:
        return self.service.circuits.states().get(PART)


@asynccontextmanager
async def node(
    name: str, host: Host, server: NatsServer | NatsCluster, prefix: str, **settings: Any
) -> AsyncIterator[Node]:
    servers = [server.url] if isinstance(server, NatsServer) else server.urls
    async with connect(servers, prefix=prefix, replicas=settings.pop("replicas", None)) as link:
        made = Node(name, host, link, **settings)
        async with made.shared:
            yield made


async def until(is_so: Callable[[], object], within: float = 8.0) -> float:
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < within, "it did not happen in time"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


def down() -> None:
    raise ConnectionRefusedError("down")


@pytest.mark.parametrize("failures", [1, 2])
async def test_a_cluster_is_opened_while_its_servers_elect_a_leader(
    server: NatsServer, prefix: str, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    left, since = [None] * failures, SharedBucket.since

    async def elects(bucket: SharedBucket, revision: int) -> list[Stored]:
        if left:
            left.pop()
            raise UnreachableError("the servers do not read the bucket")
        return await since(bucket, revision)

    monkeypatch.setattr(SharedBucket, "since", elects)
    async with Cluster(Recovery(enable_logging=False), server.url, node="gpu-a", prefix=prefix):
        assert not left
    left.append(None)
    with pytest.raises(UnreachableError):
        async with Cluster(Recovery(enable_logging=False), server.url, node="gpu-a", prefix=prefix, timeout=0.1):
            pass


async def test_a_circuit_that_one_node_opens_rejects_calls_of_another(server: NatsServer, prefix: str) -> None:
    host = Host(down)
    breaker = BreakerPolicy(failure_threshold=2, counts="attempts", break_duration=30.0)
    async with (
        node("gpu-a", host, server, prefix, breaker=breaker) as a,
        node("gpu-b", host, server, prefix, breaker=breaker, when_open="reject") as b,
    ):
        opened = events_of(a.service, CircuitOpened)
        a.open_circuit()
        assert await until(lambda: b.circuit) < 2.0
        with pytest.raises(CallRejectedError, match="seen by gpu-a"):
            await b.download("host")
        assert not host.asked
        assert isinstance(a.circuit, Open)
        assert isinstance(b.circuit, Open)
        assert abs(a.circuit.until - b.circuit.until) < 0.1  # two services of one process have one clock
        await asyncio.sleep(0.2)
        assert len(opened) == 1  # nothing came back


async def test_what_one_node_learns_is_told_at_once(server: NatsServer, prefix: str) -> None:
    host = Host(down)
    async with node("gpu-a", host, server, prefix) as a, node("gpu-b", host, server, prefix) as b:
        await asyncio.sleep(0.5)  # a sweep has just been: the next one is seconds away
        a.open_circuit()
        assert await until(lambda: b.circuit) < 1.0


async def test_one_node_probes_and_calls_of_all_go_on(server: NatsServer, prefix: str) -> None:
    host = Host(lambda: None)
    async with node("gpu-a", host, server, prefix) as a, node("gpu-b", host, server, prefix) as b:
        closed = [events_of(one.service, CircuitClosed) for one in (a, b)]
        probed = [events_of(one.service, CircuitHalfOpened) for one in (a, b)]
        a.open_circuit()
        await until(lambda: b.circuit)
        began = time.monotonic()
        await asyncio.wait_for(asyncio.gather(*(one.download("host") for one in (a, b) for _ in range(5))), 8.0)
        assert len(host.asked) == 10
        (_, first), (_, second), *_ = host.asked
        assert first - began >= 0.8
        assert second - first >= 0.05  # it began once the probe had succeeded
        await until(lambda: a.circuit is None and b.circuit is None)
        assert [len(events) for events in closed] == [1, 1]
        assert sorted(event.node != "" for events in probed for event in events) in ([False, True], [False])  # type: ignore[attr-defined]


async def test_a_failed_probe_lengthens_the_break_on_all(server: NatsServer, prefix: str) -> None:
    host = Host(down)
    async with node("gpu-a", host, server, prefix) as a, node("gpu-b", host, server, prefix) as b:
        a.open_circuit()
        await until(lambda: b.circuit)
        calls = [asyncio.create_task(one.download("host")) for one in (a, b) for _ in range(3)]
        await until(lambda: all(isinstance(one.circuit, Open) and one.circuit.times == 2 for one in (a, b)))
        assert len(host.asked) == 1
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


async def test_one_answer_429_pauses_every_node_until_the_same_moment(server: NatsServer, prefix: str) -> None:
    end: list[float] = []

    def limited() -> None:
        if not end:
            end.append(time.monotonic() + 2.0)
            raise answered(429, Retry_After="2")

    host = Host(limited)
    async with node("gpu-a", host, server, prefix) as a, node("gpu-b", host, server, prefix) as b:
        first = asyncio.create_task(a.download("host"))
        await until(lambda: end)
        await asyncio.sleep(0.3)
        await asyncio.wait_for(asyncio.gather(first, *(b.download("host") for _ in range(5))), 10.0)
        assert len(host.asked) == 7
        assert [name for name, at in host.asked if at < end[0]] == ["gpu-a"]


async def test_what_one_node_spends_of_a_budget_is_missing_on_another(server: NatsServer, prefix: str) -> None:
    host = Host(down)
    more = {"breaker": None, "budget": BUDGET, "max_retries": 2}
    async with node("gpu-a", host, server, prefix, **more) as a, node("gpu-b", host, server, prefix, **more) as b:
        with pytest.raises(ConnectionRefusedError):
            await a.download("host")
        await asyncio.sleep(1.2)
        with pytest.raises(ConnectionRefusedError) as caught:
            await b.download("host")
        assert [name for name, _ in host.asked] == ["gpu-a"] * 3 + ["gpu-b"] * 2
        assert "retry budget exhausted" in str(caught.value.__notes__)
        async with node("gpu-c", host, server, prefix, **more) as c:
            await asyncio.sleep(1.0)
            with pytest.raises(ConnectionRefusedError):
                await c.download("host")
        assert [name for name, _ in host.asked].count("gpu-c") == 1


async def test_knowledge_outlives_a_kill_of_the_server(server: NatsServer, prefix: str) -> None:
    host = Host(down)
    breaker = BreakerPolicy(failure_threshold=2, counts="attempts", break_duration=60.0)
    async with node("gpu-a", host, server, prefix, breaker=breaker) as a:
        a.open_circuit()
        bucket = SharedBucket(a.link)
        for _ in range(200):
            if await bucket.since(0):
                break
            await asyncio.sleep(0.01)
        server.kill()
        Operation("download", a.service.bus, key="other").start().fail(ConnectionRefusedError("down"))
        Operation("download", a.service.bus, key="other").start().fail(ConnectionRefusedError("down"))
        await asyncio.sleep(0.7)
        await asyncio.to_thread(server.restart)
        async with node("gpu-b", host, server, prefix, breaker=breaker) as b:
            assert isinstance(b.circuit, Open)
            await until(
                lambda: ("download", "other") in b.service.circuits.states()
            )  # it is told once the server is back


async def test_a_node_that_was_away_reads_what_it_missed(server: NatsServer, prefix: str) -> None:
    host = Host(down)
    breaker = BreakerPolicy(failure_threshold=2, counts="attempts", break_duration=60.0)
    async with node("gpu-a", host, server, prefix, breaker=breaker) as a:
        a.open_circuit()
        await until(lambda: a.shared._replica.entry("circuit.download.host"))
        async with node("gpu-b", host, server, prefix, breaker=breaker) as b:
            assert isinstance(b.circuit, Open)
        async with node("gpu-b", host, server, prefix, breaker=breaker) as b:
            a.service.circuits.force("download", "auto", key="host")  # a person's wish is of one process
            await asyncio.sleep(0.3)
            assert isinstance(b.circuit, Open)


async def test_a_probe_of_a_dead_node_is_released(server: NatsServer, prefix: str) -> None:
    host = Host(lambda: None)
    async with node("gpu-a", host, server, prefix) as a:
        bucket = SharedBucket(a.link)
        now = (await bucket.state()).time
        probe = Probing(operation="download", key="host", node="gpu-x", run="gone", until=now + 1.5)
        assert await bucket.write(key_of(probe), to_bytes(probe), expected=0, lifetime=60)
        await until(lambda: isinstance(a.circuit, HalfOpen))
        began = time.monotonic()
        await asyncio.wait_for(a.download("host"), 10.0)
        assert time.monotonic() - began > 1.0
        await until(lambda: a.circuit is None)


async def test_a_right_to_probe_that_no_call_uses_is_given_back(server: NatsServer, prefix: str) -> None:
    host = Host(lambda: None)
    async with node("gpu-a", host, server, prefix) as a:
        bucket = SharedBucket(a.link)
        a.open_circuit()
        await asyncio.sleep(1.2)
        assert a.shared._ask("download", "host") > 0.0
        await until(lambda: isinstance(a.shared._replica.entry("circuit.download.host"), Probing))
        assert a.shared._ask("download", "host") == 0.0
        await until(lambda: isinstance(a.shared._replica.entry("circuit.download.host"), Opened))
        assert len(await bucket.since(0)) == 1


async def test_entries_of_another_form_are_refused_and_counted(server: NatsServer, prefix: str) -> None:
    async with node("gpu-a", Host(down), server, prefix) as a:
        bucket = SharedBucket(a.link)
        await bucket.write("circuit.download.host", b'{"type":"opened","until":1e999}', expected=0, lifetime=60)
        await until(lambda: a.shared._replica.refused == 1)
        assert a.circuit is None


async def test_an_error_that_is_not_foreseen_is_logged_once_and_the_others_are_told(
    server: NatsServer, prefix: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("unforeseen")

    async with node("gpu-a", Host(down), server, prefix) as a, node("gpu-b", Host(down), server, prefix) as b:
        with monkeypatch.context() as broken:
            broken.setattr(a.shared._replica, "offer", fail)
            broken.setattr(a.shared._replica, "forget", fail)
            a.open_circuit()
            await until(lambda: a.shared.refused)
            await asyncio.sleep(4.0)  # a sweep is due
        for _ in range(2):
            Operation("download", a.service.bus, key="other").start().fail(ConnectionRefusedError("down"))
        await until(lambda: ("download", "other") in b.service.circuits.states())
        assert caplog.text.count("unforeseen") == 1


async def test_a_node_that_is_cut_off_probes_by_itself_and_tells_later(server: NatsServer, prefix: str) -> None:
    host = Host(lambda: None)
    async with node("gpu-a", host, server, prefix) as a, node("gpu-b", host, server, prefix) as b:
        a.open_circuit()
        await until(lambda: b.circuit)
        server.kill()
        began = time.monotonic()
        await asyncio.wait_for(a.download("host"), 5.0)
        assert time.monotonic() - began < 3.0
        assert a.circuit is None
        assert isinstance(b.circuit, Open | HalfOpen)
        await asyncio.to_thread(server.restart)
        await until(lambda: b.circuit is None)
        assert [name for name, _ in host.asked] == ["gpu-a"]


async def test_what_is_too_long_to_be_told_is_probed_all_the_same(server: NatsServer, prefix: str) -> None:
    async with node("gpu-a", Host(lambda: None), server, prefix) as a:
        await probed(a, "h" * MAX_ENTRY)
        assert a.shared.dropped


async def test_a_circuit_that_opens_again_for_a_moment_is_probed(server: NatsServer, prefix: str) -> None:
    breaker = BreakerPolicy(failure_threshold=2, counts="attempts", break_duration=0.001)
    async with node("gpu-a", Host(lambda: None), server, prefix, breaker=breaker) as a:
        for _ in range(2):
            await probed(a, "host")
            await until(lambda: isinstance(a.shared._replica.entry("circuit.download.host"), Recovered))


async def test_a_node_that_may_not_tell_probes_by_itself(tmp_path: Path) -> None:
    users: dict[str, Role] = {"admin": "setup", "shop": "submitter"}
    environ = {password_variable(user): "pw" for user in users}
    with NatsServer(tmp_path, more=accounts(users, "c"), environ=environ) as server:
        async with connect(server.url, prefix="c", user="admin", password="pw"):
            pass
        async with connect(server.url, prefix="c", user="shop", password="pw") as link:
            shop = Node("shop", Host(lambda: None), link)
            async with shop.shared:
                await probed(shop, "host")
                assert shop.shared.refused


async def probed(one: Node, key: str) -> None:
    """Let a call of *key* wait for the circuit, and close it."""
    for _ in range(2):
        Operation("download", one.service.bus, key=key).start().fail(ConnectionRefusedError("down"))
    await asyncio.wait_for(one.download(key), 8.0)
    assert ("download", key) not in one.service.circuits.states()


async def test_nodes_learn_from_each_other_though_the_leader_dies(three_servers: NatsCluster, prefix: str) -> None:
    host = Host(down)
    settings = {"breaker": BreakerPolicy(failure_threshold=2, counts="attempts", break_duration=60.0), "replicas": 3}
    async with (
        node("gpu-a", host, three_servers, prefix, **settings) as a,
        node("gpu-b", host, three_servers, prefix, **settings) as b,
    ):
        a.open_circuit()
        await until(lambda: b.circuit)
        three_servers.leader(f"KV_{prefix}-shared").kill()
        for _ in range(2):
            Operation("download", a.service.bus, key="other").start().fail(ConnectionRefusedError("down"))
        await until(lambda: ("download", "other") in b.service.circuits.states(), within=25.0)
        assert isinstance(b.circuit, Open)
