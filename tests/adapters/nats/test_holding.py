"""What a worker holds: written under its fence or refused, found again after silence, and let go once."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from adapters.nats import transitions as to
from adapters.nats.engine import Delivery
from adapters.nats.errors import ChangeRefusedError, LeaseLostError, UnreachableError
from adapters.nats.holding import Holding, claim
from adapters.nats.memory import MemoryEngine, MemoryServers
from adapters.nats.names import Lane, name_of
from adapters.nats.record import KEPT, CallRecord, Change, Standing, Stored
from tests.adapters.nats.steps import FaultyEngine, run

NAME = name_of("render", "order-17")
LANE = Lane("render")
NOW = 1_000_000.0


def died(record: CallRecord, now: float) -> Standing | Change:
    return Standing(attempt=record.standing.attempt + 1, deaths=record.standing.deaths + 1, has_failed=True)


def came_further(record: CallRecord) -> Change | str:
    return to.came_further(record, b"3", 3.0, NOW)


def waits(record: CallRecord) -> Change | str:
    return to.postponed(record, record.standing, 60.0, "a retry", NOW)


def hands_back(record: CallRecord) -> Change | str:
    return to.handed_back(record, NOW)


def succeeds(record: CallRecord) -> Change:
    return to.succeeded(record, b"1", record.standing, NOW)


def fails(record: CallRecord) -> Change | str:
    return to.gave_up(record, record.standing, "no retries", "permanent", ("OSError", "no space"), NOW)


class World:
    """Servers in memory with one call, and what happens to it."""

    def __init__(self) -> None:
        self.now = NOW
        self.servers = MemoryServers(lambda: self.now)
        self.engine = FaultyEngine(self.servers.connect())
        self.submit()

    def submit(self, lane: Lane = LANE) -> None:
        change = to.submitted(NAME, b"[]", self.now, priority=lane.priority, affinity=lane.node)
        run(self.engine.write(change, 0))

    def take(self, lane: Lane = LANE) -> Delivery:
        delivery = run(self.engine.take([lane], 0.0))
        assert delivery is not None
        return delivery

    def claim(self, node: str = "a") -> Holding:
        holding = run(claim(self.engine, self.take(), node, died))
        assert holding is not None
        return holding

    def taken_over(self) -> Holding:
        """Another worker claims the call after the lease of its holder has ended."""
        self.now += self.servers.lease + 1.0
        return self.claim("b")

    def person(self, transition: Callable[[CallRecord, float], Change | str]) -> None:
        stored = self.stored
        change = transition(stored.record, self.now)
        assert isinstance(change, Change)
        run(self.engine.write(change, stored.seq))

    def apply_unheard(self, holding: Holding, transition: to.Transition) -> None:
        """*holding* writes, and hears no answer."""
        self.engine.cut = ("after", 0)
        with pytest.raises(UnreachableError):
            run(holding.apply(transition))
        self.engine.heal()

    @property
    def stored(self) -> Stored:
        [stored] = self.servers.records()
        return stored

    @property
    def record(self) -> CallRecord:
        return self.stored.record


def test_a_holder_writes_what_persons_said_meanwhile():
    world = World()
    holding = world.claim()
    world.person(to.paused)
    assert run(holding.apply(waits)).is_paused
    assert world.servers.scheduled() == []


@pytest.mark.parametrize("transition", [came_further, waits, hands_back, succeeds, fails])
def test_a_holder_whose_call_was_claimed_again_is_refused(transition: to.Transition):
    world = World()
    holding = world.claim()
    successor = world.taken_over()
    with pytest.raises(LeaseLostError, match="not held by this worker any more: it runs on b"):
        run(holding.apply(transition))
    with pytest.raises(LeaseLostError):
        run(holding.check())
    assert run(successor.check()).node == "b"


def test_a_holder_whose_call_was_moved_is_refused():
    world = World()
    holding = world.claim()
    stored = world.stored
    change = to.moved(stored, "b", world.now)
    assert isinstance(change, Change)
    run(world.engine.write(change, stored.seq))
    with pytest.raises(LeaseLostError, match="it is queued"):
        run(holding.apply(succeeds))


def test_a_message_stays_when_its_former_holder_lets_it_go():
    world = World()
    holding = world.claim()
    world.taken_over()
    run(holding.end())
    assert world.servers.queued() == [(NAME.call, 1)]


def test_a_message_is_gone_when_its_holder_has_ended_the_call():
    world = World()
    holding = world.claim()
    run(holding.apply(succeeds))
    run(holding.end())
    assert world.servers.queued() == []


@pytest.mark.parametrize("transition", [came_further, waits, hands_back, succeeds, fails])
def test_what_was_written_without_an_answer_is_not_written_twice(transition: to.Transition):
    world = World()
    holding = world.claim()
    world.apply_unheard(holding, transition)
    written = world.record
    assert run(holding.apply(transition)) == world.record == written


def test_an_end_is_written_although_a_checkpoint_had_no_answer():
    world = World()
    holding = world.claim()
    world.apply_unheard(holding, came_further)
    assert run(holding.apply(succeeds)).state == "succeeded"
    assert world.record.state == "succeeded"
    assert world.record.standing.done == 3.0


@pytest.mark.parametrize(("first", "second"), [(hands_back, succeeds), (succeeds, fails), (waits, came_further)])
def test_another_end_than_the_one_written_without_an_answer_is_refused(first: to.Transition, second: to.Transition):
    world = World()
    holding = world.claim()
    world.apply_unheard(holding, first)
    written = world.record
    with pytest.raises(LeaseLostError):
        run(holding.apply(second))
    assert world.record == written
    assert run(holding.apply(first)) == written


def test_an_end_of_a_lease_without_an_answer_is_found_after_a_person_has_changed_it():
    world = World()
    holding = world.claim()
    world.apply_unheard(holding, waits)
    world.person(to.retried_now)
    assert run(holding.apply(waits)).state == "queued"
    assert world.record.leg == 3


def test_a_call_that_was_let_go_takes_nothing_more_of_its_worker():
    world = World()
    holding = world.claim()
    run(holding.apply(waits))
    with pytest.raises(LeaseLostError, match="was let go by this worker: it is waiting"):
        run(holding.apply(succeeds))
    assert world.record.state == "waiting"


def test_a_change_that_says_no_is_refused():
    world = World()
    holding = world.claim()
    with pytest.raises(ChangeRefusedError, match="render/order-17: not now"):
        run(holding.apply(lambda record: "not now"))


def test_a_server_that_knows_nothing_of_a_held_call_refuses_no_end():
    class Behind(MemoryEngine):
        async def read(self, call: str) -> Stored | None:
            return None

    world = World()
    holding = world.claim()
    world.person(to.paused)
    with pytest.raises(UnreachableError, match="a server answers that lags behind"):
        run(Holding(Behind(world.servers), holding.delivery, holding.stored).apply(succeeds))
    assert run(holding.apply(succeeds)).state == "succeeded"


def test_a_record_that_is_gone_is_held_by_none():
    world = World()
    holding = world.claim()
    run(holding.apply(succeeds))
    world.now += KEPT
    world.submit()
    other = Holding(world.engine, holding.delivery, Stored(to.goes_on(holding.record, Standing(), NOW).record, 2))
    with pytest.raises(LeaseLostError):
        run(other.check())


# claim


def test_a_claim_has_a_higher_fence_than_all_before():
    world = World()
    fences = [world.claim().fence, world.taken_over().fence, world.taken_over().fence]
    assert fences == sorted(set(fences))
    assert world.record.standing.deaths == 2


def test_of_two_claims_at_once_that_of_the_later_delivery_is_valid():
    world = World()
    delivery = world.take()
    others: list[Holding] = []

    async def another_claims() -> None:
        world.now += world.servers.lease + 1.0
        found = await claim(world.servers.connect(), world.take(), "b", died)
        others.extend([found] if found is not None else [])

    world.engine.before_write = another_claims
    assert run(claim(world.engine, delivery, "a", died)) is None
    assert run(others[0].check()).standing.deaths == 0
    assert world.servers.queued() == [(NAME.call, 1)]


@pytest.mark.parametrize("request_number", range(3))
def test_a_claim_without_an_answer_is_found_again(request_number: int):
    world = World()
    delivery = world.take()
    world.engine.cut = ("once", request_number)
    holding = run(claim(world.engine, delivery, "a", died))
    assert holding is not None
    assert run(holding.check()).standing.deaths == 0


def test_a_claim_knows_when_its_attempt_may_begin():
    world = World()
    run(world.claim().apply(waits))
    world.now += 59.75
    assert world.claim().due == NOW + 60.0
    assert World().claim().due is None


def test_a_claim_that_was_written_before_its_refusal_is_valid():
    """The servers may take a request twice: the second time it is stale, because of the first."""
    world = World()
    delivery = world.take()

    class Twice(FaultyEngine):
        async def write(self, change: Change, expected: int) -> int:
            await super().write(change, expected)
            return await super().write(change, expected)

    holding = run(claim(Twice(world.servers.connect()), delivery, "a", died))
    assert holding is not None
    assert run(holding.check()).standing.deaths == 0


def test_a_message_of_an_earlier_life_does_not_take_a_call_from_its_worker():
    """Its old message has the same number, in the lane of a node that was away for a week."""
    world = World()
    elsewhere = Lane("render", "low", "gone")
    run(world.claim().apply(succeeds))
    world.now += KEPT
    world.submit(elsewhere)
    old = world.take(elsewhere)
    run(world.engine.write(succeeds(world.record), world.stored.seq))
    world.now += KEPT
    world.submit()
    holding = world.claim("b")
    assert run(claim(world.engine, old, "gone", died)) is None
    assert run(holding.check()).node == "b"


@pytest.mark.parametrize("change", [to.paused, lambda record, now: to.asked_to_cancel(record, "", now)])
def test_a_claim_that_finds_the_call_not_to_be_run_lets_its_message_go(
    change: Callable[[CallRecord, float], Change | str],
):
    world = World()
    delivery = world.take()
    world.person(change)
    assert run(claim(world.engine, delivery, "a", died)) is None
    assert world.servers.queued() == []


def test_a_quarantine_in_place_of_a_claim_lets_the_message_go():
    world = World()
    world.claim()
    world.now += world.servers.lease + 1.0

    def quarantined(record: CallRecord, now: float) -> Change:
        return to.quarantined(record, record.standing, "3 deaths", now)

    assert run(claim(world.engine, world.take(), "b", quarantined)) is None
    assert world.record.state == "quarantined"
    assert world.servers.queued() == []


# a server that lags behind


class OldAnswers(FaultyEngine):
    """An engine of which *many* readings get the record of *old*."""

    old: Stored | None = None
    many = 1_000

    async def read(self, call: str) -> Stored | None:
        self.many -= 1
        return self.old if self.many >= 0 else await super().read(call)


def test_a_holder_does_not_believe_a_server_that_lags_behind():
    world = World()
    before = world.stored
    engine = OldAnswers(world.servers.connect())
    holding = world.claim()
    lagging = Holding(engine, holding.delivery, holding.stored)
    world.person(to.paused)
    engine.old = before
    with pytest.raises(UnreachableError, match="a server answers that lags behind"):
        run(lagging.apply(succeeds))
    with pytest.raises(UnreachableError):
        run(lagging.check())
    engine.old = world.stored
    assert run(lagging.apply(succeeds)).state == "succeeded"


def test_a_second_end_is_not_taken_for_the_first_after_an_old_answer():
    world = World()
    engine = OldAnswers(world.servers.connect())
    holding = world.claim()
    holder = Holding(engine, holding.delivery, holding.stored)
    engine.cut = ("after", 0)
    with pytest.raises(UnreachableError):
        run(holder.apply(waits))
    engine.heal()
    engine.old, engine.many = holding.stored, 1
    with pytest.raises(UnreachableError, match="lags behind"):
        run(holder.apply(came_further))
    with pytest.raises(LeaseLostError):
        run(holder.apply(fails))


@pytest.mark.parametrize("knows_call", [True, False])
def test_a_message_comes_again_where_a_server_lags_behind(knows_call: bool):
    world = World()
    engine = OldAnswers(world.servers.connect())
    engine.old = world.stored if knows_call else None
    run(world.claim().apply(hands_back))
    assert run(claim(engine, world.take(), "b", died)) is None
    assert world.servers.queued() == [(NAME.call, 2)]
    world.now += 5.0
    assert world.claim("b").record.leg == 2


def test_a_message_of_a_call_that_was_forgotten_long_ago_comes_no_more():
    world = World()
    engine = OldAnswers(world.servers.connect())
    world.now += 3601.0
    assert run(claim(engine, world.take(), "b", died)) is None
    assert world.servers.queued() == []


# messages that are not what they seem


def test_a_worker_that_stood_still_with_a_message_does_not_take_the_call_from_the_next():
    world = World()
    late = world.take()
    successor = world.taken_over()
    assert run(claim(world.engine, late, "a", died)) is None
    assert run(successor.apply(succeeds)).state == "succeeded"


def test_a_schedule_that_displaces_the_message_of_a_person_loses_no_call():
    world = World()
    run(world.claim().apply(waits))
    world.person(to.retried_now)
    old = msgspec.structs.replace(world.take(), leg=2)  # what was to come at that moment, and came a little later
    assert run(claim(world.engine, old, "a", died)) is None
    world.now += to.SOON
    again = msgspec.structs.replace(world.take(), leg=2)
    assert run(claim(world.engine, again, "a", died)) is None
    assert world.claim().record.leg == 4
