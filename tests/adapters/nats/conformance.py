"""What every ``Engine`` does: one suite, for the servers in memory and for real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol

import pytest
from msgspec.structs import replace

from adapters.nats.engine import Delivery, Engine
from adapters.nats.errors import StaleError, TooLargeError
from adapters.nats.names import Lane, Name, name_of
from adapters.nats.record import MAX_CHECKPOINT, MAX_PAYLOAD, CallRecord, Change, Standing
from adapters.nats.transitions import asked_to_cancel, came_further, moved, postponed, retried_now, submitted, succeeded

LEASE = 1.0
ANY, HIGH, ONLY_A = Lane("render"), Lane("render", "high"), Lane("render", "normal", "gpu-a")


class Servers(Protocol):
    """Servers under test, with two connections to them."""

    engine: Engine
    other: Engine

    def passes(self, seconds: float) -> Awaitable[None]:
        """Let time pass."""
        ...


def call(key: str = "one", *, lane: Lane = ANY, args: bytes = b"[]", now: float = 0.0) -> Change:
    return submitted(name_of("render", key), args, now, priority=lane.priority, affinity=lane.node)


def to(record: CallRecord, change: Change | str) -> Change:
    assert isinstance(change, Change), change
    assert change.record.call == record.call
    return change


async def put(engine: Engine, change: Change) -> tuple[CallRecord, int]:
    return change.record, await engine.write(change, 0)


async def waiting(servers: Servers, after: float) -> tuple[CallRecord, int]:
    """A call whose next attempt is so many seconds away."""
    record, seq = await put(servers.engine, call())
    delivery = await got(servers.engine)
    change = to(record, postponed(record, Standing(), after, "busy", await servers.engine.now()))
    seq = await servers.engine.write(change, seq)
    await servers.engine.ack(delivery)
    return change.record, seq


async def got(engine: Engine, *lanes: Lane, timeout: float = 3.0) -> Delivery:
    delivery = await engine.take(lanes or [ANY], timeout)
    assert delivery is not None
    return delivery


class EngineSuite:
    """The laws of an engine; a subclass has the fixture ``servers``."""

    pytestmark = pytest.mark.anyio

    async def test_a_written_record_is_read_with_its_place(self, servers: Servers) -> None:
        record, seq = await put(servers.engine, call())
        for engine in (servers.engine, servers.other):
            stored = await engine.read(record.call)
            assert stored is not None
            assert (stored.record, stored.seq) == (record, seq)

    async def test_a_call_that_was_never_written_has_no_record(self, servers: Servers) -> None:
        assert await servers.engine.read("render/none") is None
        assert await servers.engine.payload("render/none", "args") is None

    async def test_each_change_of_a_record_gets_a_greater_place(self, servers: Servers) -> None:
        record, first = await put(servers.engine, call())
        second = await servers.engine.write(came_further(record, b"x", 1.0, 0.0), first)
        third = await servers.other.write(came_further(record, None, 2.0, 0.0), second)
        stored = await servers.engine.read(record.call)
        assert first < second < third
        assert stored is not None
        assert stored.seq == third

    async def test_a_write_on_a_stale_place_writes_nothing_at_all(self, servers: Servers) -> None:
        record, seq = await put(servers.engine, call())
        delivery = await got(servers.engine)
        await servers.engine.write(came_further(record, b"new", 1.0, 0.0), seq)
        await servers.engine.ack(delivery)
        late = Change(record=record, saved=b"late", is_queued=True)
        with pytest.raises(StaleError):
            await servers.other.write(late, seq)
        assert await servers.engine.payload(record.call, "saved") == b"new"
        assert await servers.engine.take([ANY], 0) is None

    async def test_a_key_that_is_taken_makes_no_second_call(self, servers: Servers) -> None:
        record, _ = await put(servers.engine, call(args=b"[1]"))
        with pytest.raises(StaleError):
            await servers.other.write(call(args=b"[2]"), 0)
        assert await servers.other.payload(record.call, "args") == b"[1]"

    async def test_of_many_writers_of_one_place_exactly_one_writes(self, servers: Servers) -> None:
        record, seq = await put(servers.engine, call())
        changes = [came_further(record, None, float(n), 0.0) for n in range(1, 9)]
        writing = (servers.engine.write(change, seq) for change in changes)
        results = await asyncio.gather(*writing, return_exceptions=True)
        assert [type(one) for one in results].count(int) == 1
        assert [type(one) for one in results].count(StaleError) == 7

    async def test_a_checkpoint_stays_until_it_is_dropped(self, servers: Servers) -> None:
        record, seq = await put(servers.engine, call())
        seq = await servers.engine.write(came_further(record, b"half", 1.0, 0.0), seq)
        seq = await servers.engine.write(came_further(record, None, 2.0, 0.0), seq)
        assert await servers.other.payload(record.call, "saved") == b"half"
        await servers.engine.write(Change(record=record, saved=b""), seq)
        assert await servers.other.payload(record.call, "saved") is None

    async def test_the_end_keeps_the_result_and_drops_the_rest(self, servers: Servers) -> None:
        record, seq = await put(servers.engine, call())
        seq = await servers.engine.write(came_further(record, b"half", 1.0, 0.0), seq)
        await servers.engine.write(succeeded(record, b"done", Standing(), await servers.engine.now()), seq)
        found = [await servers.other.payload(record.call, kind) for kind in ("args", "saved", "result")]
        assert found == [None, None, b"done"]
        stored = await servers.other.read(record.call)
        assert stored is not None
        assert stored.record.is_over

    async def test_the_largest_payloads_are_taken_and_larger_ones_refused(self, servers: Servers) -> None:
        record, seq = await put(servers.engine, call(args=b"a" * MAX_PAYLOAD))
        seq = await servers.engine.write(came_further(record, b"s" * MAX_CHECKPOINT, 1.0, 0.0), seq)
        assert len(await servers.other.payload(record.call, "args") or b"") == MAX_PAYLOAD
        for change in (
            call("two", args=b"a" * (MAX_PAYLOAD + 1)),
            came_further(record, b"s" * (MAX_CHECKPOINT + 1), 1.0, 0.0),
            succeeded(record, b"r" * (MAX_PAYLOAD + 1), Standing(), 1.0),
        ):
            with pytest.raises(TooLargeError):
                await servers.engine.write(change, seq if change.args is None else 0)
        assert await servers.engine.read("render/two") is None

    async def test_a_message_is_delivered_to_one_alone(self, servers: Servers) -> None:
        await put(servers.engine, call())
        delivery = await got(servers.other)
        assert (delivery.call, delivery.leg, delivery.lane) == ("render/one", 1, ANY)
        assert await servers.engine.take([ANY], 0) is None
        await servers.other.ack(delivery)
        await servers.passes(LEASE + 0.5)
        assert await servers.engine.take([ANY], 0) is None

    async def test_a_lease_that_ends_gives_the_message_to_another(self, servers: Servers) -> None:
        await put(servers.engine, call())
        await got(servers.other)
        await servers.passes(LEASE + 0.3)
        assert (await got(servers.engine)).call == "render/one"

    async def test_a_lease_that_is_extended_by_another_connection_lasts(self, servers: Servers) -> None:
        await put(servers.engine, call())
        delivery = await got(servers.engine)
        for _ in range(3):
            await servers.passes(LEASE * 0.6)
            await servers.other.extend(delivery.lease)
            assert await servers.other.take([ANY], 0) is None

    async def test_what_is_put_back_comes_at_once(self, servers: Servers) -> None:
        await put(servers.engine, call())
        await servers.engine.put_back(await got(servers.engine))
        assert (await got(servers.other)).leg == 1

    async def test_what_is_put_back_for_a_time_comes_after_it(self, servers: Servers) -> None:
        await put(servers.engine, call())
        await servers.engine.put_back(await got(servers.engine), 0.5)
        assert await servers.other.take([ANY], 0) is None
        await servers.passes(0.6)
        assert (await got(servers.other)).leg == 1

    async def test_the_first_lane_that_has_a_message_is_served(self, servers: Servers) -> None:
        await put(servers.engine, call("low"))
        await put(servers.engine, call("high", lane=HIGH))
        assert [(await got(servers.engine, HIGH, ANY)).call for _ in "12"] == ["render/high", "render/low"]

    async def test_a_call_that_is_bound_to_a_node_is_no_other_ones(self, servers: Servers) -> None:
        await put(servers.engine, call(lane=ONLY_A))
        assert await servers.engine.take([ANY, HIGH, Lane("render", "normal", "gpu-b")], 0) is None
        assert (await got(servers.engine, ANY, ONLY_A)).lane == ONLY_A

    async def test_one_that_waits_gets_what_is_submitted_then(self, servers: Servers) -> None:
        taking = asyncio.create_task(servers.engine.take([HIGH, ANY], 3.0))
        await asyncio.sleep(0.1)
        await put(servers.other, call())
        assert (await taking) is not None

    async def test_two_that_wait_get_one_message_each(self, servers: Servers) -> None:
        taking = [asyncio.create_task(taken(servers.engine, HIGH, ANY)) for _ in "12"]
        await asyncio.sleep(0.1)
        await put(servers.other, call("one"))
        await put(servers.other, call("two"))
        assert {one.call for one in await asyncio.gather(*taking)} == {"render/one", "render/two"}

    async def test_more_messages_than_are_wanted_wait_out_no_lease(self, servers: Servers) -> None:
        taking = asyncio.create_task(taken(servers.engine, HIGH, ANY))
        await asyncio.sleep(0.1)
        await asyncio.gather(put(servers.other, call("one")), put(servers.other, call("two", lane=HIGH)))
        first = await taking
        second = await asyncio.wait_for(taken(servers.other, HIGH, ANY), LEASE / 2)
        assert {first.call, second.call} == {"render/one", "render/two"}

    async def test_one_that_is_cancelled_while_it_waits_keeps_no_message(self, servers: Servers) -> None:
        taking = asyncio.create_task(servers.engine.take([ANY], 3.0))
        await asyncio.sleep(0.1)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        await put(servers.other, call())
        assert (await asyncio.wait_for(taken(servers.other, ANY), LEASE / 2)).call == "render/one"

    async def test_none_comes_within_the_time(self, servers: Servers) -> None:
        assert await servers.engine.take([ANY], 0.05) is None

    async def test_a_newer_message_replaces_one_that_is_under_a_lease(self, servers: Servers) -> None:
        record, seq = await put(servers.engine, call())
        old = await got(servers.engine)
        await servers.other.write(to(record, newer(record, seq)), seq)
        new = await got(servers.other)
        assert (old.leg, new.leg) == (1, 2)
        await servers.engine.ack(old)
        await servers.other.put_back(new)
        assert (await got(servers.other)).leg == 2

    async def test_a_message_for_later_comes_when_it_is_due(self, servers: Servers) -> None:
        record, _ = await waiting(servers, 1.3)
        assert await servers.engine.take([ANY], 0) is None
        await servers.passes(0.6)
        assert await servers.engine.take([ANY], 0) is None
        await servers.passes(0.8)
        assert (await got(servers.engine)).leg == record.leg

    async def test_a_message_for_later_that_is_due_already_comes_now(self, servers: Servers) -> None:
        record, _ = await waiting(servers, 0.0)
        await servers.passes(0.5)
        assert (await got(servers.engine)).leg == record.leg

    async def test_a_message_for_later_that_is_called_off_never_comes(self, servers: Servers) -> None:
        record, seq = await waiting(servers, 0.8)
        await servers.engine.write(to(record, asked_to_cancel(record, "no more", 0.0)), seq)
        await servers.passes(1.5)
        delivery = await servers.engine.take([ANY], 0)
        assert delivery is None or delivery.leg == 0

    async def test_a_message_for_later_that_comes_now_comes_once(self, servers: Servers) -> None:
        record, seq = await waiting(servers, 0.8)
        change = to(record, retried_now(record, 0.0))
        await servers.engine.write(change, seq)
        delivery = await got(servers.engine)
        assert delivery.leg == change.record.leg
        await servers.engine.ack(delivery)
        await servers.passes(1.5)
        assert await servers.engine.take([ANY], 0) is None

    async def test_a_call_that_moves_waits_in_its_new_lane_alone(self, servers: Servers) -> None:
        record, seq = await put(servers.engine, call(lane=ONLY_A))
        stored = await servers.engine.read(record.call)
        assert stored is not None
        await servers.engine.write(to(record, moved(stored, "", 0.0)), seq)
        assert (await got(servers.engine, ANY)).leg == 2
        await servers.passes(2.5)
        assert await servers.engine.take([ONLY_A], 0) is None

    async def test_a_change_wakes_those_that_watch_the_call(self, servers: Servers) -> None:
        record, seq = await put(servers.engine, call())
        async with servers.other.watch(record.call) as changes:
            waits = asyncio.create_task(asyncio.wait_for(changes.next(5.0), 3.0))
            await asyncio.sleep(0.1)
            assert not waits.done()
            await servers.engine.write(came_further(record, None, 1.0, 0.0), seq)
            await waits

    async def test_all_calls_are_listed_the_longest_unchanged_first(self, servers: Servers) -> None:
        made = [await put(servers.engine, call(f"{n}")) for n in range(3)]
        await servers.engine.write(came_further(made[0][0], None, 1.0, 0.0), made[0][1])
        listed = [one.record.call async for one in servers.other.calls()]
        assert listed == ["render/1", "render/2", "render/0"]

    async def test_no_calls_are_an_empty_list(self, servers: Servers) -> None:
        assert [one async for one in servers.engine.calls()] == []

    async def test_names_of_any_letters_reach_the_servers_and_come_back(self, servers: Servers) -> None:
        name = Name("späte operation.*>", "a/b [c]: ✓")
        record, _ = await put(servers.engine, submitted(name, b"[]", 0.0))
        assert (await got(servers.engine, Lane("späte operation.*>"))).call == record.call
        assert [one.record async for one in servers.engine.calls()] == [record]

    async def test_connections_agree_on_the_time(self, servers: Servers) -> None:
        assert abs(await servers.engine.now() - await servers.other.now()) < 0.2


def newer(record: CallRecord, seq: int) -> Change:
    """The same call, with a newer message in the same queue."""
    return Change(record=replace(record, leg=record.leg + 1, updated=float(seq)), is_queued=True)


async def taken(engine: Engine, *lanes: Lane) -> Delivery:
    return await got(engine, *lanes)
