"""Calls whose worker has died or stands still, and what their records say."""

from __future__ import annotations

import asyncio
import math

import msgspec
import pytest

from adapters.nats.board import MemoryBoard, Node
from adapters.nats.errors import RemoteCallError
from adapters.nats.names import name_of
from adapters.nats.record import CallRecord
from adapters.nats.standing import leased_call, standing_of
from adapters.nats.steering import is_abandoned
from adapters.nats.transitions import submitted
from recovery import Recovery, context, leased
from recovery.testing import VirtualClock
from tests.adapters.nats.machines import LEASE, Machines, until


def test_a_record_of_a_call_whose_worker_died_without_a_failure_can_be_read() -> None:
    record = submitted(name_of("render", "one"), b"[[],{}]", 5.0).record
    standing = standing_of(leased.after_death(leased_call(record)), 6.0)
    record = msgspec.structs.replace(record, standing=standing)
    assert msgspec.json.decode(msgspec.json.encode(record), type=CallRecord) == record
    assert standing.has_failed


class Fails:
    """Defines "render", whose first attempt fails after *seconds*; each notes its fence and its number."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.attempts: list[tuple[int, int]] = []

    def __call__(self, service: Recovery) -> object:
        @service.recoverable("render", initial_delay=1.0, jitter="none")
        async def render() -> int:
            self.attempts.append((context.fence(), context.attempt()))
            if len(self.attempts) == 1:
                await asyncio.sleep(self.seconds)
                raise ConnectionError("reset")
            return context.attempt()

        return render


@pytest.mark.anyio
@pytest.mark.parametrize("seconds", [LEASE - 0.5, LEASE + 5.0])
async def test_a_worker_that_is_cut_off_begins_no_attempt_after_its_lease(
    clock: VirtualClock, machines: Machines, seconds: float
) -> None:
    renders = Fails(seconds)
    async with machines.machine("a", renders, "render") as a:
        handle = await a.cluster.submit("render")
        await until(lambda: renders.attempts)
        a.cut()
        await asyncio.sleep(2 * LEASE)
        assert len(renders.attempts) == 1
        a.cut(False)
        await until(lambda: machines.record(handle.call).is_over, 10_000.0)  # a real thread reads what is kept
        assert await handle.result(20.0) == 2
        (first, _), (second, _) = renders.attempts
        assert second > first, "the call was handed back, and claimed again"


@pytest.mark.anyio
async def test_a_call_that_another_worker_has_is_not_handed_back(clock: VirtualClock, machines: Machines) -> None:
    renders = Fails(LEASE + 20.0)
    async with machines.machine("a", renders, "render") as a, machines.machine("b", renders) as b:
        handle = await b.cluster.submit("render")
        await until(lambda: renders.attempts)
        a.cut()
        b.work("render")
        assert await handle.result(2 * LEASE) == 2
        await asyncio.sleep(LEASE)
        a.cut(False)
        await asyncio.sleep(LEASE)
        assert (machines.record(handle.call).node, len(renders.attempts)) == ("b", 2)


class Late(MemoryBoard):
    """Tells of nodes at first as they were long ago."""

    is_late = True

    async def nodes(self) -> list[Node]:
        found = await super().nodes()
        if self.is_late:
            self.is_late = False
            return [msgspec.structs.replace(one, seen=one.seen - 10 * LEASE) for one in found]
        return found


@pytest.mark.anyio
async def test_a_node_is_not_taken_for_gone_by_the_word_of_a_server_that_lags_behind(
    clock: VirtualClock, machines: Machines
) -> None:
    renders = Fails(math.inf)
    async with machines.machine("a", renders, "render") as a:
        handle = await a.cluster.submit("render")
        await until(lambda: renders.attempts)
        await asyncio.sleep(3 * LEASE)
        record, late = machines.record(handle.call), Late()
        for one in await machines.servers.board.nodes():
            await late.put(one)
        assert not await is_abandoned(machines.servers.connect(), late, record)
        a.cut()
        await asyncio.sleep(3 * LEASE)
        assert await is_abandoned(machines.servers.connect(), late, record)


@pytest.mark.anyio
@pytest.mark.parametrize("seconds", [1.0, 2 * LEASE])
async def test_a_call_of_a_dead_node_that_alone_may_run_it_is_cancelled(
    clock: VirtualClock, machines: Machines, seconds: float
) -> None:
    renders = Fails(math.inf)
    async with machines.machine("a", renders, "render") as a, machines.machine("b", renders, "render") as b:
        handle = await b.cluster.submit("render", affinity="a")
        await until(lambda: renders.attempts)
        a.cut()
        await asyncio.sleep(seconds)
        assert await handle.cancel("not needed")
        with pytest.raises(RemoteCallError, match="not needed"):
            await handle.result(2 * LEASE)
        a.cut(False)
        await until(lambda: "CallHandedBack" in a.kinds())
    assert machines.record(handle.call).state == "cancelled"
    assert len(renders.attempts) == 1
