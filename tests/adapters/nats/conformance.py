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


class Fleet(Protocol):
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


async def waiting(fleet: Fleet, after: float) -> tuple[CallRecord, int]:
    """A call whose next attempt is so many seconds away."""
    record, seq = await put(fleet.engine, call())
    delivery = await got(fleet.engine)
    change = to(record, postponed(record, Standing(), after, "busy", await fleet.engine.now()))
    seq = await fleet.engine.write(change, seq)
    await fleet.engine.ack(delivery)
    return change.record, seq


async def got(engine: Engine, *lanes: Lane, timeout: float = 3.0) -> Delivery:
    delivery = await engine.take(lanes or [ANY], timeout)
    assert delivery is not None
    return delivery


class EngineSuite:
    """The laws of an engine; a subclass has the fixture ``fleet``."""

    pytestmark = pytest.mark.anyio

    async def test_a_written_record_is_read_with_its_place(self, fleet: Fleet) -> None:
        record, seq = await put(fleet.engine, call())
        for engine in (fleet.engine, fleet.other):
            stored = await engine.read(record.call)
            assert stored is not None
            assert (stored.record, stored.seq) == (record, seq)

    async def test_a_call_that_was_never_written_has_no_record(self, fleet: Fleet) -> None:
        assert await fleet.engine.read("render/none") is None
        assert await fleet.engine.payload("render/none", "args") is None

    async def test_each_change_of_a_record_gets_a_greater_place(self, fleet: Fleet) -> None:
        record, first = await put(fleet.engine, call())
        second = await fleet.engine.write(came_further(record, b"x", 1.0, 0.0), first)
        third = await fleet.other.write(came_further(record, None, 2.0, 0.0), second)
        stored = await fleet.engine.read(record.call)
        assert first < second < third
        assert stored is not None
        assert stored.seq == third

    async def test_a_write_on_a_stale_place_writes_nothing_at_all(self, fleet: Fleet) -> None:
        record, seq = await put(fleet.engine, call())
        delivery = await got(fleet.engine)
        await fleet.engine.write(came_further(record, b"new", 1.0, 0.0), seq)
        await fleet.engine.ack(delivery)
        late = Change(record=record, saved=b"late", is_queued=True)
        with pytest.raises(StaleError):
            await fleet.other.write(late, seq)
        assert await fleet.engine.payload(record.call, "saved") == b"new"
        assert await fleet.engine.take([ANY], 0) is None

    async def test_a_key_that_is_taken_makes_no_second_call(self, fleet: Fleet) -> None:
        record, _ = await put(fleet.engine, call(args=b"[1]"))
        with pytest.raises(StaleError):
            await fleet.other.write(call(args=b"[2]"), 0)
        assert await fleet.other.payload(record.call, "args") == b"[1]"

    async def test_of_many_writers_of_one_place_exactly_one_writes(self, fleet: Fleet) -> None:
        record, seq = await put(fleet.engine, call())
        changes = [came_further(record, None, float(n), 0.0) for n in range(1, 9)]
        writing = (fleet.engine.write(change, seq) for change in changes)
        results = await asyncio.gather(*writing, return_exceptions=True)
        assert [type(one) for one in results].count(int) == 1
        assert [type(one) for one in results].count(StaleError) == 7

    async def test_a_checkpoint_stays_until_it_is_dropped(self, fleet: Fleet) -> None:
        record, seq = await put(fleet.engine, call())
        seq = await fleet.engine.write(came_further(record, b"half", 1.0, 0.0), seq)
        seq = await fleet.engine.write(came_further(record, None, 2.0, 0.0), seq)
        assert await fleet.other.payload(record.call, "saved") == b"half"
        await fleet.engine.write(Change(record=record, saved=b""), seq)
        assert await fleet.other.payload(record.call, "saved") is None

    async def test_the_end_keeps_the_result_and_drops_the_rest(self, fleet: Fleet) -> None:
        record, seq = await put(fleet.engine, call())
        seq = await fleet.engine.write(came_further(record, b"half", 1.0, 0.0), seq)
        await fleet.engine.write(succeeded(record, b"done", Standing(), await fleet.engine.now()), seq)
        found = [await fleet.other.payload(record.call, kind) for kind in ("args", "saved", "result")]
        assert found == [None, None, b"done"]
        stored = await fleet.other.read(record.call)
        assert stored is not None
        assert stored.record.is_over

    async def test_the_largest_payloads_are_taken_and_larger_ones_refused(self, fleet: Fleet) -> None:
        record, seq = await put(fleet.engine, call(args=b"a" * MAX_PAYLOAD))
        seq = await fleet.engine.write(came_further(record, b"s" * MAX_CHECKPOINT, 1.0, 0.0), seq)
        assert len(await fleet.other.payload(record.call, "args") or b"") == MAX_PAYLOAD
        for change in (
            call("two", args=b"a" * (MAX_PAYLOAD + 1)),
            came_further(record, b"s" * (MAX_CHECKPOINT + 1), 1.0, 0.0),
            succeeded(record, b"r" * (MAX_PAYLOAD + 1), Standing(), 1.0),
        ):
            with pytest.raises(TooLargeError):
                await fleet.engine.write(change, seq if change.args is None else 0)
        assert await fleet.engine.read("render/two") is None

    async def test_a_message_is_delivered_to_one_alone(self, fleet: Fleet) -> None:
        await put(fleet.engine, call())
        delivery = await got(fleet.other)
        assert (delivery.call, delivery.leg, delivery.lane) == ("render/one", 1, ANY)
        assert await fleet.engine.take([ANY], 0) is None
        await fleet.other.ack(delivery)
        await fleet.passes(LEASE + 0.5)
        assert await fleet.engine.take([ANY], 0) is None

    async def test_a_lease_that_ends_gives_the_message_to_another(self, fleet: Fleet) -> None:
        await put(fleet.engine, call())
        await got(fleet.other)
        await fleet.passes(LEASE + 0.3)
        assert (await got(fleet.engine)).call == "render/one"

    async def test_a_lease_that_is_extended_by_another_connection_lasts(self, fleet: Fleet) -> None:
        await put(fleet.engine, call())
        delivery = await got(fleet.engine)
        for _ in range(3):
            await fleet.passes(LEASE * 0.6)
            await fleet.other.extend(delivery.lease)
            assert await fleet.other.take([ANY], 0) is None

    async def test_what_is_put_back_comes_at_once(self, fleet: Fleet) -> None:
        await put(fleet.engine, call())
        await fleet.engine.put_back(await got(fleet.engine))
        assert (await got(fleet.other)).leg == 1

    async def test_what_is_put_back_for_a_time_comes_after_it(self, fleet: Fleet) -> None:
        await put(fleet.engine, call())
        await fleet.engine.put_back(await got(fleet.engine), 0.5)
        assert await fleet.other.take([ANY], 0) is None
        await fleet.passes(0.6)
        assert (await got(fleet.other)).leg == 1

    async def test_the_first_lane_that_has_a_message_is_served(self, fleet: Fleet) -> None:
        await put(fleet.engine, call("low"))
        await put(fleet.engine, call("high", lane=HIGH))
        assert [(await got(fleet.engine, HIGH, ANY)).call for _ in "12"] == ["render/high", "render/low"]

    async def test_a_call_that_is_bound_to_a_node_is_no_other_ones(self, fleet: Fleet) -> None:
        await put(fleet.engine, call(lane=ONLY_A))
        assert await fleet.engine.take([ANY, HIGH, Lane("render", "normal", "gpu-b")], 0) is None
        assert (await got(fleet.engine, ANY, ONLY_A)).lane == ONLY_A

    async def test_one_that_waits_gets_what_is_submitted_then(self, fleet: Fleet) -> None:
        taking = asyncio.create_task(fleet.engine.take([HIGH, ANY], 3.0))
        await asyncio.sleep(0.1)
        await put(fleet.other, call())
        assert (await taking) is not None

    async def test_two_that_wait_get_one_message_each(self, fleet: Fleet) -> None:
        taking = [asyncio.create_task(taken(fleet.engine, HIGH, ANY)) for _ in "12"]
        await asyncio.sleep(0.1)
        await put(fleet.other, call("one"))
        await put(fleet.other, call("two"))
        assert {one.call for one in await asyncio.gather(*taking)} == {"render/one", "render/two"}

    async def test_more_messages_than_are_wanted_wait_out_no_lease(self, fleet: Fleet) -> None:
        taking = asyncio.create_task(taken(fleet.engine, HIGH, ANY))
        await asyncio.sleep(0.1)
        await asyncio.gather(put(fleet.other, call("one")), put(fleet.other, call("two", lane=HIGH)))
        first = await taking
        second = await asyncio.wait_for(taken(fleet.other, HIGH, ANY), LEASE / 2)
        assert {first.call, second.call} == {"render/one", "render/two"}

    async def test_one_that_is_cancelled_while_it_waits_keeps_no_message(self, fleet: Fleet) -> None:
        taking = asyncio.create_task(fleet.engine.take([ANY], 3.0))
        await asyncio.sleep(0.1)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        await put(fleet.other, call())
        assert (await asyncio.wait_for(taken(fleet.other, ANY), LEASE / 2)).call == "render/one"

    async def test_none_comes_within_the_time(self, fleet: Fleet) -> None:
        assert await fleet.engine.take([ANY], 0.05) is None

    async def test_a_newer_message_replaces_one_that_is_under_a_lease(self, fleet: Fleet) -> None:
        record, seq = await put(fleet.engine, call())
        old = await got(fleet.engine)
        await fleet.other.write(to(record, newer(record, seq)), seq)
        new = await got(fleet.other)
        assert (old.leg, new.leg) == (1, 2)
        await fleet.engine.ack(old)
        await fleet.other.put_back(new)
        assert (await got(fleet.other)).leg == 2

    async def test_a_message_for_later_comes_when_it_is_due(self, fleet: Fleet) -> None:
        record, _ = await waiting(fleet, 1.3)
        assert await fleet.engine.take([ANY], 0) is None
        await fleet.passes(0.6)
        assert await fleet.engine.take([ANY], 0) is None
        await fleet.passes(0.8)
        assert (await got(fleet.engine)).leg == record.leg

    async def test_a_message_for_later_that_is_due_already_comes_now(self, fleet: Fleet) -> None:
        record, _ = await waiting(fleet, 0.0)
        await fleet.passes(0.5)
        assert (await got(fleet.engine)).leg == record.leg

    async def test_a_message_for_later_that_is_called_off_never_comes(self, fleet: Fleet) -> None:
        record, seq = await waiting(fleet, 0.8)
        await fleet.engine.write(to(record, asked_to_cancel(record, "no more", 0.0)), seq)
        await fleet.passes(1.5)
        delivery = await fleet.engine.take([ANY], 0)
        assert delivery is None or delivery.leg == 0

    async def test_a_message_for_later_that_comes_now_comes_once(self, fleet: Fleet) -> None:
        record, seq = await waiting(fleet, 0.8)
        change = to(record, retried_now(record, 0.0))
        await fleet.engine.write(change, seq)
        delivery = await got(fleet.engine)
        assert delivery.leg == change.record.leg
        await fleet.engine.ack(delivery)
        await fleet.passes(1.5)
        assert await fleet.engine.take([ANY], 0) is None

    async def test_a_call_that_moves_waits_in_its_new_lane_alone(self, fleet: Fleet) -> None:
        record, seq = await put(fleet.engine, call(lane=ONLY_A))
        stored = await fleet.engine.read(record.call)
        assert stored is not None
        await fleet.engine.write(to(record, moved(stored, "", 0.0)), seq)
        assert (await got(fleet.engine, ANY)).leg == 2
        await fleet.passes(2.5)
        assert await fleet.engine.take([ONLY_A], 0) is None

    async def test_a_change_wakes_those_that_watch_the_call(self, fleet: Fleet) -> None:
        record, seq = await put(fleet.engine, call())
        async with fleet.other.watch(record.call) as changes:
            waits = asyncio.create_task(asyncio.wait_for(changes.next(5.0), 3.0))
            await asyncio.sleep(0.1)
            assert not waits.done()
            await fleet.engine.write(came_further(record, None, 1.0, 0.0), seq)
            await waits

    async def test_all_calls_are_listed_the_longest_unchanged_first(self, fleet: Fleet) -> None:
        made = [await put(fleet.engine, call(f"{n}")) for n in range(3)]
        await fleet.engine.write(came_further(made[0][0], None, 1.0, 0.0), made[0][1])
        listed = [one.record.call async for one in fleet.other.calls()]
        assert listed == ["render/1", "render/2", "render/0"]

    async def test_no_calls_are_an_empty_list(self, fleet: Fleet) -> None:
        assert [one async for one in fleet.engine.calls()] == []

    async def test_names_of_any_letters_reach_the_servers_and_come_back(self, fleet: Fleet) -> None:
        name = Name("späte operation.*>", "a/b [c]: ✓")
        record, _ = await put(fleet.engine, submitted(name, b"[]", 0.0))
        assert (await got(fleet.engine, Lane("späte operation.*>"))).call == record.call
        assert [one.record async for one in fleet.engine.calls()] == [record]

    async def test_connections_agree_on_the_time(self, fleet: Fleet) -> None:
        assert abs(await fleet.engine.now() - await fleet.other.now()) < 0.2


def newer(record: CallRecord, seq: int) -> Change:
    """The same call, with a newer message in the same queue."""
    return Change(record=replace(record, leg=record.leg + 1, updated=float(seq)), is_queued=True)


async def taken(engine: Engine, *lanes: Lane) -> Delivery:
    return await got(engine, *lanes)
