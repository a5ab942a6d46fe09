"""The heartbeat: a lease lives as long as its worker, and a worker that lost it learns so before it harms the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from adapters.nats import transitions
from adapters.nats.heartbeat import CUT_OFF, Callbacks, Heartbeat, Kept
from adapters.nats.holding import Holding
from adapters.nats.memory import MemoryEngine, MemoryServers
from adapters.nats.record import Stored
from recovery.testing import VirtualClock
from tests.adapters.nats.held import CALL, LANE, LEASE, held, servers, submit

pytestmark = pytest.mark.anyio


class Worker:
    """A heartbeat with a connection of its own, and what it tells."""

    def __init__(self, on: MemoryServers, clock: Callable[[], float]) -> None:
        self.engine: MemoryEngine = on.connect()
        self.told: list[tuple[Any, ...]] = []
        self.clock = clock
        self.kept: list[Kept] = []
        self.heartbeat = Heartbeat(
            LEASE,
            Callbacks(
                lambda *lost: self.told.append(("lost", *lost)),
                lambda *cancel: self.told.append(("cancel", *cancel)),
                lambda: self.told.append(("back",)),
            ),
            clock,
        )

    def keep(self, holding: Holding, *, is_required: bool = False) -> Kept:
        record, lease = holding.record, holding.delivery.lease
        kept = Kept(lease, record.call, holding.fence, record.token, is_required, self.clock())
        self.heartbeat.begin(kept)
        self.kept.append(kept)
        return kept

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.heartbeat.run(self.engine))
        await asyncio.sleep(0.01)
        yield
        task.cancel()
        for kept in self.kept:
            self.heartbeat.end(kept)
        await asyncio.wait([task])


async def test_a_kept_lease_does_not_end(clock: VirtualClock) -> None:
    engine = (on := servers(clock)).connect()
    worker = Worker(on, clock)
    await submit(engine)
    kept = worker.keep(await held(engine))
    async with worker.beating():
        for _ in range(100):
            await asyncio.sleep(LEASE / 10)
            assert await engine.take([LANE], 0.0) is None
            assert clock() - kept.confirmed <= LEASE / 3 + 0.01
    assert worker.told == []


async def test_a_lease_that_is_dropped_ends(clock: VirtualClock) -> None:
    engine = (on := servers(clock)).connect()
    worker = Worker(on, clock)
    await submit(engine)
    kept = worker.keep(await held(engine))
    async with worker.beating():
        worker.heartbeat.end(kept)
        await asyncio.sleep(LEASE + 0.1)
        assert await engine.take([LANE], 0.0) is not None


async def test_a_worker_that_stood_still_does_not_extend_the_lease_of_the_next(clock: VirtualClock) -> None:
    engine = (on := servers(clock)).connect()
    worker = Worker(on, clock)
    await submit(engine)
    first = await held(engine)
    worker.keep(first)
    async with worker.beating():
        clock.freeze(LEASE + 1)
        second = await held(engine, "b")
        worker.kept[0].lease = second.delivery.lease  # real servers extend the lease of the next by the old name
        clock.freeze(LEASE / 2)
        await asyncio.sleep(0.01)
        assert worker.told == [("lost", CALL, first.fence, "its lease was lost: it runs on b")]
        await asyncio.sleep(LEASE / 2)
        assert await engine.take([LANE], 0.0) is not None, "the lease of the next worker was extended"


async def test_a_worker_that_stood_still_goes_on_if_no_other_took_its_call(clock: VirtualClock) -> None:
    engine = (on := servers(clock)).connect()
    worker = Worker(on, clock)
    await submit(engine)
    worker.keep(await held(engine))
    async with worker.beating():
        clock.freeze(LEASE + 1)
        await asyncio.sleep(LEASE / 3)
        assert worker.told == []
        assert await engine.take([LANE], 0.0) is None


async def test_a_cancel_is_seen_at_once_and_told_once(clock: VirtualClock) -> None:
    engine = (on := servers(clock)).connect()
    worker = Worker(on, clock)
    await submit(engine)
    holding = await held(engine)
    worker.keep(holding)
    async with worker.beating():
        began = clock()
        await holding.apply(lambda record: transitions.asked_to_cancel(record, "no paper", clock()))
        await asyncio.sleep(0.01)
        assert worker.told == [("cancel", CALL, "no paper")]
        assert clock() - began < 0.1
        await asyncio.sleep(LEASE)
        assert worker.told == [("cancel", CALL, "no paper")]
        assert await engine.take([LANE], 0.0) is None, "its lease is kept until the body has ended"


async def test_what_a_worker_writes_itself_is_no_loss(clock: VirtualClock) -> None:
    engine = (on := servers(clock)).connect()
    worker = Worker(on, clock)
    await submit(engine)
    holding = await held(engine)
    worker.keep(holding)
    async with worker.beating():
        await holding.apply(lambda record: transitions.came_further(record, b"1", 1.0, clock()))
        await asyncio.sleep(LEASE)
        await holding.apply(lambda record: transitions.succeeded(record, b"1", record.standing, clock()))
        await asyncio.sleep(LEASE)
    assert worker.told == []


async def test_a_call_that_is_moved_is_lost(clock: VirtualClock) -> None:
    engine = (on := servers(clock)).connect()
    worker = Worker(on, clock)
    await submit(engine)
    holding = await held(engine)
    worker.keep(holding)
    async with worker.beating():
        change = transitions.moved(holding.stored, "b", clock())
        assert not isinstance(change, str)
        await engine.write(change, holding.stored.seq)
        await asyncio.sleep(0.01)
    assert worker.told == [("lost", CALL, holding.fence, "its lease was lost: it is queued")]


@pytest.mark.parametrize("knows", ["nothing", "what was before the claim"])
async def test_a_server_that_lags_behind_takes_no_call_away(clock: VirtualClock, knows: str) -> None:
    engine = (on := servers(clock)).connect()
    worker = Worker(on, clock)
    await submit(engine)
    before = await engine.read(CALL) if knows != "nothing" else None
    worker.keep(await held(engine))

    class Behind(MemoryEngine):
        is_behind = False

        async def read(self, call: str) -> Stored | None:
            if self.is_behind and call == CALL:
                self.is_behind = False
                return before
            return await super().read(call)

    worker.engine = behind = Behind(on)
    async with worker.beating():
        for _ in range(10):
            behind.is_behind = True
            await asyncio.sleep(LEASE / 2)
            assert not behind.is_behind
        assert await engine.take([LANE], 0.0) is None
    assert worker.told == []


async def test_a_call_whose_record_is_gone_is_lost(clock: VirtualClock) -> None:
    engine = (on := servers(clock)).connect()
    worker = Worker(on, clock)
    await submit(engine)
    holding = await held(engine)
    worker.keep(holding)
    async with worker.beating():
        on._records.clear()
        await asyncio.sleep(LEASE / 2)
    assert worker.told == [("lost", CALL, holding.fence, "its record is gone")]


@pytest.mark.parametrize("is_required", [False, True])
async def test_a_call_ends_with_its_lease_only_where_the_servers_are_required(
    clock: VirtualClock, is_required: bool
) -> None:
    engine = (on := servers(clock)).connect()
    worker = Worker(on, clock)
    await submit(engine)
    holding = await held(engine)
    kept = worker.keep(holding, is_required=is_required)
    async with worker.beating():
        await asyncio.sleep(LEASE)
        worker.engine.is_cut = True
        confirmed = kept.confirmed
        await asyncio.sleep(confirmed + LEASE - clock() - 0.01)
        assert worker.told == []
        await asyncio.sleep(0.02)
        assert worker.told == ([("lost", CALL, holding.fence, CUT_OFF)] if is_required else [])
        assert worker.heartbeat.is_cut_off


async def test_a_call_that_needs_the_servers_ends_once_a_suspended_machine_goes_on(clock: VirtualClock) -> None:
    engine = (on := servers(clock)).connect()
    suspended_for = 0.0
    worker = Worker(on, lambda: clock() + suspended_for)
    await submit(engine)
    worker.keep(await held(engine), is_required=True)
    async with worker.beating():
        worker.engine.is_cut = True
        suspended_for = LEASE  # the clock of the loop does not go on meanwhile
        await asyncio.sleep(LEASE / 20)
        assert [told[0] for told in worker.told] == ["lost"]


async def test_a_node_that_is_back_in_time_keeps_its_calls(clock: VirtualClock) -> None:
    engine = (on := servers(clock)).connect()
    worker = Worker(on, clock)
    await submit(engine)
    worker.keep(await held(engine), is_required=True)
    async with worker.beating():
        worker.engine.is_cut = True
        await asyncio.sleep(LEASE * 0.9)
        worker.engine.is_cut = False
        await asyncio.sleep(LEASE * 3)
        assert worker.told == [("back",)]
        assert await engine.take([LANE], 0.0) is None


async def test_a_node_says_once_that_it_is_cut_off_and_once_that_it_is_back(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(servers(clock), clock)
    with caplog.at_level(logging.INFO, "recovery.cluster"):
        async with worker.beating():
            for _ in range(2):
                worker.engine.is_cut = True
                await asyncio.sleep(LEASE * 3)
                worker.engine.is_cut = False
                await asyncio.sleep(LEASE)
                assert not worker.heartbeat.is_cut_off
    said = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert said == ["this node is cut off from its cluster", "this node reaches its cluster again"] * 2


async def test_an_error_of_a_callback_is_logged_and_other_leases_are_kept(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    engine = (on := servers(clock)).connect()
    worker = Worker(on, clock)

    def fail(*_: object) -> None:
        raise OSError("a callback of ours")

    worker.heartbeat = Heartbeat(LEASE, Callbacks(fail, fail, fail), clock)
    await submit(engine)
    await submit(engine, "two")
    one, two = await held(engine), await held(engine)
    worker.keep(one)
    worker.keep(two)
    async with worker.beating():
        await one.apply(lambda record: transitions.asked_to_cancel(record, "", clock()))
        await asyncio.sleep(LEASE * 3)
        assert await engine.take([LANE], 0.0) is None
    assert [record.getMessage() for record in caplog.records] == [
        "a worker was told of its call, and failed: OSError: a callback of ours"
    ]


async def test_an_error_of_the_servers_is_logged_once_and_the_lease_is_tried_again(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    engine = (on := servers(clock)).connect()
    worker = Worker(on, clock)

    class Broken(MemoryEngine):
        is_broken = True

        async def extend(self, lease: str) -> None:
            if self.is_broken:
                raise ValueError("no such consumer")
            await super().extend(lease)

    worker.engine = broken = Broken(on)
    await submit(engine)
    worker.keep(await held(engine))
    async with worker.beating():
        await asyncio.sleep(LEASE * 0.8)
        broken.is_broken = False
        await asyncio.sleep(LEASE)
        assert await engine.take([LANE], 0.0) is None
    assert [record.getMessage() for record in caplog.records] == [
        "a lease is not extended: ValueError: no such consumer"
    ]
