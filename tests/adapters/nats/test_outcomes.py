"""Outcomes that could not be written: each is delivered exactly once, or is known not to be the outcome of its call."""

from __future__ import annotations

import asyncio
import time

import pytest

from adapters.memory import MemoryStore
from adapters.nats import transitions
from adapters.nats.errors import ChangeRefusedError, ClusterError, TooLargeError, UnreachableError
from adapters.nats.memory import MemoryEngine, MemoryServers
from adapters.nats.outcomes import Ends, Outcomes
from adapters.nats.record import KEPT, CallRecord, Change, Stored
from events.lease_events import OutcomeDelivered, OutcomeHeld, OutcomeSuperseded
from recovery import leased
from recovery.service import Recovery
from recovery.testing import VirtualClock
from tests.adapters.nats.held import CALL, LANE, LEASE, held, servers, submit
from tests.recorded_events import events_of, names

pytestmark = pytest.mark.anyio


@pytest.fixture
def cluster(clock: VirtualClock) -> MemoryServers:
    return servers(clock)


def succeeds(record: CallRecord, now: float) -> Change:
    return transitions.succeeded(record, b'"done"', record.standing, now)


def waits(record: CallRecord, now: float) -> Change | str:
    return transitions.postponed(record, record.standing, 60.0, "a retry", now)


def hands_back(record: CallRecord, now: float) -> Change | str:
    return transitions.handed_back(record, now)


async def stored(engine: MemoryEngine) -> Stored:
    found = await engine.read(CALL)
    assert found is not None
    return found


async def kept_while_cut_off(cluster: MemoryServers, service: Recovery, ends: Ends = succeeds) -> Outcomes:
    """An outcome of a leg that ended while its node was cut off; the node is back."""
    engine = cluster.connect()
    outcomes = Outcomes(service, engine)
    await submit(engine)
    holding = await held(engine)
    engine.is_cut = True
    assert await outcomes.finish(holding, ends) is None
    assert await outcomes.deliver() >= 1, "it was delivered without servers"
    engine.is_cut = False
    return outcomes


async def test_an_outcome_is_written_at_once_while_the_servers_answer(cluster: MemoryServers) -> None:
    service, engine = Recovery(), cluster.connect()
    await submit(engine)
    record = await Outcomes(service, engine).finish(await held(engine), succeeds)
    assert record is not None
    assert record.state == "succeeded"
    assert leased.held(service) == []


async def test_an_outcome_of_a_node_that_was_cut_off_is_delivered_when_it_is_back(cluster: MemoryServers) -> None:
    service = Recovery()
    events = events_of(service, OutcomeHeld, OutcomeDelivered, OutcomeSuperseded)
    outcomes = await kept_while_cut_off(cluster, service)
    assert await outcomes.deliver() == 0
    engine = cluster.connect()
    assert (await stored(engine)).record.state == "succeeded"
    assert await engine.payload(CALL, "result") == b'"done"'
    assert names(events) == ["OutcomeHeld", "OutcomeDelivered"]
    seq = (await stored(engine)).seq
    await outcomes.deliver()
    assert (await stored(engine)).seq == seq, "it was written twice"


async def test_an_outcome_that_was_written_though_no_answer_came_is_not_written_twice(cluster: MemoryServers) -> None:
    class Deaf(MemoryEngine):
        async def write(self, change: Change, expected: int) -> int:
            await super().write(change, expected)
            raise UnreachableError("the answer was lost")

    service, engine = Recovery(), cluster.connect()
    await submit(engine)
    holding = await held(engine)
    holding._engine = deaf = Deaf(cluster)
    outcomes = Outcomes(service, deaf)
    assert await outcomes.finish(holding, succeeds) is None
    seq = (await stored(engine)).seq
    assert await outcomes.deliver() == 0
    assert (await stored(engine)).seq == seq
    assert leased.held(service) == []


@pytest.mark.parametrize("has_ended", [False, True])
async def test_an_outcome_is_superseded_where_another_worker_has_the_call(
    cluster: MemoryServers, clock: VirtualClock, has_ended: bool
) -> None:
    service = Recovery()
    events = events_of(service, OutcomeSuperseded)
    outcomes = await kept_while_cut_off(cluster, service)
    clock.freeze(LEASE)
    engine = cluster.connect()
    other = await held(engine, "b")
    if has_ended:
        await other.apply(lambda record: transitions.gave_up(record, record.standing, "", "", ("", ""), clock()))
    before = await stored(engine)
    assert await outcomes.deliver() == 0
    assert await stored(engine) == before, "the outcome of a stale claim was written"
    [event] = events
    assert isinstance(event, OutcomeSuperseded)
    stands = "it was given up on b" if has_ended else "it runs on b"
    assert event.reason == (
        f"its lease was lost while this node was cut off, and {stands} (fence {other.fence}, this one had 1)"
    )


@pytest.mark.parametrize("ends", [succeeds, waits, hands_back])
async def test_an_outcome_of_a_worker_that_stood_still_is_superseded_and_a_retry_is_not(
    cluster: MemoryServers, clock: VirtualClock, ends: Ends
) -> None:
    service, engine = Recovery(), cluster.connect()
    events = events_of(service, OutcomeHeld, OutcomeSuperseded)
    await submit(engine)
    first = await held(engine)
    clock.freeze(LEASE)
    await held(engine, "b")
    before = await stored(engine)
    assert await Outcomes(service, engine).finish(first, ends) is None
    assert await stored(engine) == before
    assert names(events) == (["OutcomeHeld", "OutcomeSuperseded"] if ends is succeeds else [])
    assert leased.held(service) == []


async def test_an_outcome_waits_for_a_server_that_knows_its_claim(cluster: MemoryServers) -> None:
    service, engine = Recovery(), cluster.connect()
    events = events_of(service, OutcomeDelivered, OutcomeSuperseded)
    await submit(engine)
    before = await stored(engine)
    outcomes, holding = Outcomes(service, engine), await held(engine)
    engine.is_cut = True
    assert await outcomes.finish(holding, succeeds) is None

    class Behind(MemoryEngine):
        async def read(self, call: str) -> Stored | None:
            return before

    assert await Outcomes(service, Behind(cluster)).deliver() == 1
    engine.is_cut = False
    assert await outcomes.deliver() == 0
    assert names(events) == ["OutcomeDelivered"]


async def test_an_outcome_of_a_record_that_is_gone_is_superseded(cluster: MemoryServers, clock: VirtualClock) -> None:
    service = Recovery()
    events = events_of(service, OutcomeSuperseded)
    outcomes = await kept_while_cut_off(cluster, service)
    cluster._records.clear()
    await asyncio.sleep(KEPT)
    assert await outcomes.deliver() == 0
    assert names(events) == ["OutcomeSuperseded"]


async def test_an_outcome_of_another_cluster_is_kept_for_that(cluster: MemoryServers, clock: VirtualClock) -> None:
    service = Recovery()
    events = events_of(service, OutcomeSuperseded, OutcomeDelivered)
    outcomes = await kept_while_cut_off(cluster, service)
    assert await Outcomes(service, servers(clock).connect()).deliver() == 1
    assert await outcomes.deliver() == 0
    assert names(events) == ["OutcomeDelivered"]


async def test_an_outcome_whose_call_is_another_one_here_holds_up_no_other(
    cluster: MemoryServers, clock: VirtualClock
) -> None:
    service, engine = Recovery(), cluster.connect()
    for number in range(3):
        await submit(engine, f"before {number}")
        await held(engine)
    await kept_while_cut_off(cluster, service)
    anew = servers(clock)
    await submit(anew.connect())
    await submit(anew.connect(), "two")
    await held(anew.connect())
    other = await held(here := anew.connect())
    outcomes = Outcomes(service, here)
    here.is_cut = True
    assert await outcomes.finish(other, succeeds) is None
    here.is_cut = False
    assert await outcomes.deliver() == 1
    assert [one.record.state for one in anew.records()] == ["running", "succeeded"]
    clock.freeze(KEPT)
    assert await outcomes.deliver() == 0


@pytest.mark.parametrize("step", ["before the write", "after the write", "after it is settled"])
async def test_a_process_may_be_killed_between_any_two_steps_of_a_delivery(cluster: MemoryServers, step: str) -> None:
    store = MemoryStore()
    with Recovery(store=store) as dying:
        outcomes = await kept_while_cut_off(cluster, dying)
        assert dying.journal is not None
        dying.journal.receipt().wait()
        if step != "after it is settled":
            dying.journal.seal()
        if step != "before the write":
            await outcomes.deliver()
    engine = cluster.connect()
    before = await stored(engine)
    with Recovery(store=store) as service:
        events = events_of(service, OutcomeDelivered, OutcomeSuperseded)
        assert await Outcomes(service, engine).deliver() == 0
        assert names(events) == ([] if step == "after it is settled" else ["OutcomeDelivered"])
    assert (await stored(engine)).record.state == "succeeded"
    assert ((await stored(engine)).seq == before.seq) == (step != "before the write")


async def test_what_a_person_said_while_the_node_was_cut_off_holds(cluster: MemoryServers, clock: VirtualClock) -> None:
    outcomes = await kept_while_cut_off(cluster, Recovery(), waits)
    engine = cluster.connect()
    running = await stored(engine)
    change = transitions.paused(running.record, clock())
    assert isinstance(change, Change)
    await engine.write(change, running.seq)
    assert await outcomes.deliver() == 0
    waiting = await stored(engine)
    assert (waiting.record.state, waiting.record.is_paused) == ("waiting", True)
    assert cluster.scheduled() == []
    change = transitions.unpaused(waiting.record, clock())
    assert isinstance(change, Change)
    await engine.write(change, waiting.seq)
    assert cluster.scheduled() == [(CALL, 3)]


@pytest.mark.parametrize(("ends", "state"), [(waits, "cancelled"), (hands_back, "cancelled"), (succeeds, "succeeded")])
async def test_a_cancel_while_the_node_was_cut_off_ends_what_is_not_over(
    cluster: MemoryServers, clock: VirtualClock, ends: Ends, state: str
) -> None:
    outcomes = await kept_while_cut_off(cluster, Recovery(), ends)
    engine = cluster.connect()
    running = await stored(engine)
    change = transitions.asked_to_cancel(running.record, "no paper", clock())
    assert isinstance(change, Change)
    await engine.write(change, running.seq)
    assert await outcomes.deliver() == 0
    assert (await stored(engine)).record.state == state


@pytest.mark.parametrize("ends", [waits, hands_back])
async def test_a_call_that_was_unpaused_while_the_node_was_cut_off_goes_on(
    cluster: MemoryServers, clock: VirtualClock, ends: Ends
) -> None:
    engine = cluster.connect()
    outcomes = Outcomes(Recovery(), engine)
    await submit(engine)
    holding = await held(engine)
    await holding.apply(lambda record: transitions.paused(record, clock()))
    engine.is_cut = True
    assert await outcomes.finish(holding, ends) is None
    engine.is_cut = False
    running = await stored(engine)
    change = transitions.unpaused(running.record, clock())
    assert isinstance(change, Change)
    await engine.write(change, running.seq)
    assert await outcomes.deliver() == 0
    clock.freeze(60.0)
    delivery = await engine.take([LANE], 0.0)
    assert delivery is not None, "a call without a message"
    assert delivery.leg == (await stored(engine)).record.leg


async def test_an_outcome_that_the_servers_refuse_is_kept_until_they_take_it(cluster: MemoryServers) -> None:
    class Full(MemoryEngine):
        is_full = False

        async def write(self, change: Change, expected: int) -> int:
            if self.is_full:
                raise ClusterError("the servers refuse recovery.call.render.one: resource limits exceeded for account")
            return await super().write(change, expected)

    service, engine = Recovery(), Full(cluster)
    outcomes = Outcomes(service, engine)
    await submit(engine)
    holding = await held(engine)
    engine.is_full = True
    assert await outcomes.finish(holding, succeeds) is None
    assert await outcomes.deliver() == 1
    engine.is_full = False
    assert await outcomes.deliver() == 0
    assert (await stored(engine)).record.state == "succeeded"


async def test_an_outcome_that_the_servers_find_too_large_is_superseded(cluster: MemoryServers) -> None:
    class Small(MemoryEngine):
        async def write(self, change: Change, expected: int) -> int:
            raise TooLargeError("the result of render/one has 9 bytes, and 8 are allowed")

    service = Recovery()
    events = events_of(service, OutcomeSuperseded)
    await kept_while_cut_off(cluster, service)
    assert await Outcomes(service, Small(cluster)).deliver() == 0
    [event] = events
    assert isinstance(event, OutcomeSuperseded)
    assert event.reason == "the result of render/one has 9 bytes, and 8 are allowed"


async def test_an_outcome_that_cannot_be_read_is_left_and_hinders_no_other(
    cluster: MemoryServers, caplog: pytest.LogCaptureFixture
) -> None:
    service = Recovery()
    leased.hold(service, "render/newer", 3, b'{"format":2}', operation="render")
    outcomes = await kept_while_cut_off(cluster, service)
    assert await outcomes.deliver() == 1
    assert await outcomes.deliver() == 1
    assert [one.call for one in leased.held(service)] == ["render/newer"]
    [said] = [record.getMessage() for record in caplog.records if record.name == "recovery.cluster"]
    assert said.startswith("the outcome of render/newer is not delivered: ValidationError: ")


async def test_what_a_transition_refuses_is_not_kept(cluster: MemoryServers) -> None:
    service, engine = Recovery(), cluster.connect()
    await submit(engine)
    holding = await held(engine)
    for is_cut in False, True:
        engine.is_cut = is_cut
        with pytest.raises(ChangeRefusedError, match="render/one: not now"):
            await Outcomes(service, engine).finish(holding, lambda *_: "not now")
    assert leased.held(service) == []


@pytest.mark.parametrize(("every", "wakes"), [(0.01, False), (3600.0, True)])
def test_outcomes_are_delivered_every_few_seconds_and_at_once_after_wake(every: float, wakes: bool) -> None:
    async def main() -> None:
        service, engine = Recovery(), MemoryServers(time.time).connect()
        outcomes = Outcomes(service, engine, every)
        running = asyncio.create_task(outcomes.run())
        await asyncio.sleep(0.05)
        await submit(engine)
        holding = await held(engine)
        engine.is_cut = True
        await outcomes.finish(holding, succeeds)
        engine.is_cut = False
        if wakes:
            outcomes.wake()
        async with asyncio.timeout(10.0):
            while leased.held(service):
                await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(main())
