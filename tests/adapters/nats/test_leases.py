"""The thread that keeps the leases of a process, whatever the other threads block. Real time: leases of 0.3 s."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from adapters.nats import transitions
from adapters.nats.errors import ClusterError, UnreachableError
from adapters.nats.holding import Holding
from adapters.nats.leases import Leases
from adapters.nats.memory import MemoryEngine, MemoryServers
from tests.adapters.nats.held import CALL, LANE, held, submit
from tests.forked import forked
from tests.until import wait_until

LEASE = 0.15


class Link:
    """A connection in memory."""

    def __init__(self, engine: MemoryEngine) -> None:
        self.engine = engine


@pytest.fixture
def servers() -> MemoryServers:
    return MemoryServers(time.time, LEASE)


@pytest.fixture
def told() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def leases(servers: MemoryServers, told: list[tuple[Any, ...]]) -> Iterator[Leases]:
    made = Leases(
        connecting(servers),
        LEASE,
        on_lost=lambda *lost: told.append(("lost", *lost)),
        on_cancel=lambda *cancel: told.append(("cancel", *cancel)),
        on_back=lambda: told.append(("back",)),
    )
    made.start()
    yield made
    made.close()


def connecting(servers: MemoryServers) -> Callable[[], Any]:
    @asynccontextmanager
    async def connect() -> AsyncIterator[Link]:
        yield Link(servers.connect())

    return connect


def claimed(servers: MemoryServers, node: str = "a") -> Holding:
    async def main() -> Holding:
        if not servers.records():
            await submit(servers.connect())
        return await held(servers.connect(), node)

    return anyio.run(main)


def is_delivered_again(servers: MemoryServers) -> bool:
    return servers.next([LANE]) is not None


def keep(leases: Leases, holding: Holding) -> None:
    leases.keep(holding.delivery.lease, CALL, holding.fence, holding.record.token)


def test_a_lease_is_kept_while_the_thread_of_its_worker_is_blocked(servers: MemoryServers, leases: Leases) -> None:
    holding = claimed(servers)
    keep(leases, holding)
    first = leases.confirmed(CALL, holding.fence)
    wait_until(lambda: leases.confirmed(CALL, holding.fence) > first + LEASE)
    assert not is_delivered_again(servers)
    leases.drop(CALL, holding.fence)
    wait_until(lambda: is_delivered_again(servers))
    with pytest.raises(LookupError):
        leases.confirmed(CALL, holding.fence)


def test_the_thread_ends_with_the_cluster_and_keeps_nothing_then(servers: MemoryServers, leases: Leases) -> None:
    holding = claimed(servers)
    keep(leases, holding)
    leases.close()
    assert "recovery-leases" not in [thread.name for thread in threading.enumerate()]
    leases.drop(CALL, holding.fence)
    with pytest.raises(ClusterError, match="the cluster is closed: the lease of render/one is not kept"):
        keep(leases, holding)


def test_a_lease_that_is_given_before_the_thread_runs_is_kept(servers: MemoryServers) -> None:
    leases = Leases(connecting(servers), LEASE, on_lost=print, on_cancel=print)
    holding = claimed(servers)
    keep(leases, holding)
    leases.start()
    first = leases.confirmed(CALL, holding.fence)
    wait_until(lambda: leases.confirmed(CALL, holding.fence) > first)
    leases.close()


def test_two_claims_of_one_call_are_kept_apart(
    servers: MemoryServers, leases: Leases, told: list[tuple[Any, ...]]
) -> None:
    old = claimed(servers)
    wait_until(lambda: servers.next([LANE]) is not None)  # its lease has ended
    servers.keep(f"{2}", 0.0)
    new = claimed(servers)
    keep(leases, old)
    keep(leases, new)
    wait_until(lambda: told)
    assert told == [("lost", CALL, old.fence, "its lease was lost: it runs on a")]
    with pytest.raises(LookupError):  # so no attempt begins under it
        leases.confirmed(CALL, old.fence)
    leases.drop(CALL, old.fence)
    first = leases.confirmed(CALL, new.fence)
    wait_until(lambda: leases.confirmed(CALL, new.fence) > first + LEASE)


def test_servers_that_cannot_be_reached_at_first_are_tried_again(
    servers: MemoryServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.nats.leases.RECONNECT", 0.01)
    tries: list[int] = []
    back: list[bool] = []

    @asynccontextmanager
    async def connect() -> AsyncIterator[Link]:
        tries.append(1)
        if len(tries) < 3:
            raise UnreachableError("no server answers")
        yield Link(servers.connect())

    leases = Leases(connect, LEASE, on_lost=print, on_cancel=print, on_back=lambda: back.append(leases.is_cut_off))
    leases.start()
    wait_until(lambda: back)
    assert back == [False]
    leases.close()


def test_a_forked_child_is_told_that_it_keeps_no_leases(servers: MemoryServers, leases: Leases) -> None:
    holding = claimed(servers)

    def child(say: Callable[[str], object]) -> None:
        with pytest.raises(ClusterError) as refused:
            keep(leases, holding)
        leases.close()
        say(str(refused.value))

    with forked(child) as process:
        assert process.next_line().endswith("open a cluster of its own here")


def test_a_cancel_is_told_from_another_connection(
    servers: MemoryServers, leases: Leases, told: list[tuple[Any, ...]]
) -> None:
    holding = claimed(servers)
    keep(leases, holding)

    async def cancel() -> None:
        change = transitions.asked_to_cancel(holding.record, "no paper", 0.0)
        assert not isinstance(change, str)
        await servers.connect().write(change, holding.stored.seq)

    anyio.run(cancel)
    wait_until(lambda: told)
    assert told == [("cancel", CALL, "no paper")]
