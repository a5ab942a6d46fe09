"""A worker claims what it can read and what its servers know, and leaves the rest to others."""

from __future__ import annotations

import msgspec
import pytest

from adapters.nats.engine import Delivery
from adapters.nats.errors import UnreadableError
from adapters.nats.holding import READ_AGAIN_AFTER, SEEN_AFTER, claim
from adapters.nats.memory import MemoryEngine, MemoryServers
from adapters.nats.names import Lane, name_of
from adapters.nats.record import KEPT, CallRecord, Standing, Stored
from adapters.nats.transitions import handed_back, submitted

pytestmark = pytest.mark.anyio

LANE = Lane("render")


class Engine(MemoryEngine):
    """A connection whose reads may be as old, or as new, as the test says."""

    shown: Stored | None = None
    is_newer = False

    async def read(self, call: str) -> Stored | None:
        if self.is_newer:
            raise UnreadableError(call)
        return self.shown or await super().read(call)


class Contest:
    """Servers in memory with one call in its queue."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.servers = MemoryServers(lambda: self.time)
        self.engine = Engine(self.servers)
        self.change = submitted(name_of("render", "k"), b"[]", self.time)
        self.seq = self.servers.write(self.change, 0)

    async def taken(self) -> Delivery | None:
        return await self.engine.take([LANE], 0)

    async def is_claimed(self, delivery: Delivery | None) -> bool:
        assert delivery is not None
        return await claim(self.engine, delivery, "gpu-a", revived) is not None


def revived(record: CallRecord, now: float) -> Standing:
    return record.standing


async def test_a_message_that_is_newer_than_the_record_comes_again():
    contest = Contest()
    old = Stored(contest.change.record, contest.seq)
    again = handed_back(contest.change.record, contest.time)
    assert not isinstance(again, str)
    contest.servers.write(again, contest.seq)
    delivery, contest.engine.shown = await contest.taken(), old
    assert not await contest.is_claimed(delivery)
    contest.engine.shown = None
    assert await contest.taken() is None
    contest.time += SEEN_AFTER
    assert await contest.is_claimed(await contest.taken())


async def test_a_call_of_a_newer_release_is_left_to_another_worker():
    contest = Contest()
    contest.engine.is_newer = True
    assert not await contest.is_claimed(await contest.taken())
    contest.engine.is_newer = False
    assert await contest.taken() is None
    contest.time += READ_AGAIN_AFTER
    assert await contest.is_claimed(await contest.taken())


async def test_a_message_of_an_earlier_life_of_a_key_is_let_go():
    contest = Contest()
    delivery = await contest.taken()
    assert delivery is not None
    earlier = msgspec.structs.replace(delivery, leg=5, sent=contest.time - KEPT)
    assert not await contest.is_claimed(earlier)
    assert contest.servers.queued() == [], "it goes round for ever"
