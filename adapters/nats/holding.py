"""A worker's hold on one call: it is claimed, changed under the fence, and let go."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from adapters.nats.engine import Delivery, Engine
from adapters.nats.errors import ChangeRefusedError, LeaseLostError, StaleError, UnreachableError, UnreadableError
from adapters.nats.record import CallRecord, CallState, Change, Standing, Stored
from adapters.nats.transitions import SOON, Transition, claimed

SEEN_AFTER = 0.5
"""Seconds after which a message is delivered again whose record is not seen yet."""

LAG = 3600.0
"""Seconds by which a server may lag behind, at most: one that was stopped and still takes itself for the leader."""

TRIES = 3
"""How often a claim is tried while no server answers: each time takes seconds, and the lease has begun."""

READ_AGAIN_AFTER = 5.0
"""Seconds after which a call that this release cannot read is offered to another worker."""


class Holding:
    """What a worker holds: the call of *delivery*, whose record is *stored*. Made by ``claim``.

    Args:
        engine: The servers.
        delivery: The queue message.
        stored: The record with its fence.
        due: When the attempt may begin; None for at once.
    """

    def __init__(self, engine: Engine, delivery: Delivery, stored: Stored, due: float | None = None) -> None:
        self._engine = engine
        self.delivery = delivery
        self.stored = stored
        self.fence = stored.record.fence
        self.due = due
        self._tried: set[CallState] = set()  # ends of the lease of which no write is known to have failed

    @property
    def record(self) -> CallRecord:
        """The record as it was read or written last."""
        return self.stored.record

    async def apply(self, transition: Transition) -> CallRecord:
        """Write what *transition* makes of the latest record, while this worker's fence is the record's.

        After ``UnreachableError`` apply the same again: an end that was written all the same is found, and not written
        twice. So is one that a person has changed since.

        Raises:
            LeaseLostError: Another worker has claimed it since, a person has moved it, or this one has let it go.
                Nothing was written.
            UnreachableError: No server answers; it is unknown whether it was written.
            ChangeRefusedError: *transition* says why nothing is to be written.
        """
        if self.record.state != "running":
            raise LeaseLostError(f"{self.record.call} was let go by this worker: {self.record.stands}")
        while True:
            change = transition(self.record)
            if isinstance(change, str):
                raise ChangeRefusedError(f"{self.record.call}: {change}")
            state = change.record.state
            if state != "running":
                self._tried.add(state)
            try:
                seq = await self._engine.write(change, self.stored.seq)
            except StaleError:
                latest = await self._latest()
                if latest.seq == self.stored.seq:
                    raise UnreachableError(f"{self.record.call}: a server answers that lags behind") from None
                if latest.record.state == "running":  # nothing that was tried can be written any more
                    self.stored = latest
                    self._tried.clear()
                    continue
                if self._tried != {state} and latest.record.state != state:
                    raise _lost(latest.record) from None
                self.stored = latest
            else:
                self.stored = Stored(change.record, seq)
            return self.record

    async def check(self) -> CallRecord:
        """The latest record, if this worker still holds the call.

        Raises:
            LeaseLostError: It does not.
        """
        latest = await self._latest()
        if latest.record.state != "running":
            raise _lost(latest.record)
        self.stored = latest
        return latest.record

    async def end(self) -> None:
        """Let the queue message go, if the call was let go by ``apply``.

        Otherwise it stays: it brings the call to another worker, which may have it already.
        """
        if self.record.state != "running":
            await self._engine.ack(self.delivery)

    async def _latest(self) -> Stored:
        """The latest record, if only this worker and persons have changed it since it was claimed."""
        stored = await self._engine.read(self.record.call)
        if stored is None or stored.seq < self.stored.seq:  # where the record is gone, the heartbeat finds that out
            raise UnreachableError(f"{self.record.call}: a server answers that lags behind")
        if (stored.record.fence, stored.record.token) != (self.fence, self.record.token):
            raise _lost(stored.record)
        return stored


def _lost(latest: CallRecord) -> LeaseLostError:
    return LeaseLostError(f"{latest.call} is not held by this worker any more: {latest.stands}")


Revived: TypeAlias = Callable[[CallRecord, float], Standing | Change]
"""Where a call goes on whose worker has died, at that time; or what is written in place of a claim."""

Look: TypeAlias = Callable[[CallRecord], None]
"""Sees a record before it is claimed, and raises if it is not to be."""


async def claim(
    engine: Engine,
    delivery: Delivery,
    node: str,
    revived: Revived,
    look: Look = lambda record: None,
    tries: int = TRIES,
    pause: float = 0.0,
) -> Holding | None:
    """Claim the call of *delivery* for *node*; None if there is nothing to do for it: then its message is let go.

    Args:
        engine: The servers.
        delivery: The queue message.
        node: The name of this node.
        revived: Asked about a call whose worker has died.
        look: Sees the record before it is claimed. What it raises passes, and nothing is written.
        tries: How often it is tried where no server answers: the call may be claimed all the same.
        pause: Seconds between two tries.

    Raises:
        UnreachableError: No server answers. The message comes again when its lease ends.
    """
    token, seen = secrets.token_hex(8), list[Stored]()
    for tries_left in reversed(range(tries)):
        try:
            return await _claim(engine, delivery, node, revived, look, token, seen)
        except UnreadableError:
            await engine.put_back(delivery, READ_AGAIN_AFTER)
            break
        except UnreachableError:  # otherwise a claim that was written would look like one whose worker has died
            if not tries_left:
                raise
            if pause > 0.0:
                await asyncio.sleep(pause)
    return None


async def _claim(
    engine: Engine, delivery: Delivery, node: str, revived: Revived, look: Look, token: str, seen: list[Stored]
) -> Holding | None:
    while (stored := await engine.read(delivery.call)) is not None:
        if stored.record.token == token:  # written, though the servers' answer was another one, or none
            break
        if delivery.sent < stored.record.submitted - LAG:  # of a call of an earlier life with the same key
            break
        if stored.record.leg < delivery.leg:  # a server that lags behind the one which sent the message
            await engine.put_back(delivery, SEEN_AFTER)
            return None
        if stored.record.lane != delivery.lane:  # of a call of an earlier life with the same key, or before a move
            break
        if not stored.record.is_over and stored.record.leg == delivery.leg:
            if stored.record.state == "running" and delivery.number <= stored.record.delivery:
                return None  # this worker stood still with the message, and another one has got it since
            if seen and stored.record.fence != seen[0].record.fence:
                return None  # another worker got the message meanwhile, and has the call: the lease of this one is over
            look(stored.record)
        seen.append(stored)
        now = await engine.now()
        if stored.record.waits_in_queue and delivery.leg < stored.record.leg and now < stored.record.updated + SOON:
            await engine.put_back(delivery, SOON)  # unless a newer message has taken its place
            return None
        change = _change(stored, delivery.leg, node, now, revived)
        if isinstance(change, str):
            break
        record = msgspec.structs.replace(change.record, token=token, delivery=delivery.number)
        try:
            seq = await engine.write(msgspec.structs.replace(change, record=record), stored.seq)
        except StaleError:
            continue
        stored = Stored(record, seq)
        break
    if stored is None and await engine.now() - delivery.sent < LAG:  # otherwise it was forgotten, a week after its end
        await engine.put_back(delivery, SEEN_AFTER)
        return None
    if stored is not None and stored.record.token == token and stored.record.state == "running":
        return Holding(engine, delivery, stored, seen[-1].record.due)
    await engine.ack(delivery)
    return None


def _change(stored: Stored, leg: int, node: str, now: float, revived: Revived) -> Change | str:
    record, standing = stored.record, None
    if record.state == "running" and record.leg == leg and record.cancel is None:
        found = revived(record, now)
        if isinstance(found, Change):
            return found
        standing = found
    return claimed(stored, node, leg, now, standing)
