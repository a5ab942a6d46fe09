"""A worker's hold on one call: it is claimed, changed under the fence, and let go."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from adapters.nats.engine import Delivery, Engine
from adapters.nats.errors import LeaseLostError, RefusedError, StaleError
from adapters.nats.record import CallRecord, Change, Standing, Stored
from adapters.nats.transitions import Transition, claimed


class Holding:
    """What a worker holds: the call of *delivery*, whose record is *stored*. Made by ``claim``.

    Args:
        engine: The servers.
        delivery: The queue message.
        stored: The record with its fence.
    """

    def __init__(self, engine: Engine, delivery: Delivery, stored: Stored) -> None:
        self._engine = engine
        self.delivery = delivery
        self.stored = stored
        self.fence = stored.record.fence
        self._unsure: list[CallRecord] = []

    @property
    def record(self) -> CallRecord:
        """The record as it was read or written last."""
        return self.stored.record

    async def apply(self, transition: Transition) -> CallRecord:
        """Write what *transition* makes of the latest record, while this worker's fence is the record's.

        After ``UnreachableError`` apply the same again: what was written all the same is found, and not written twice.

        Raises:
            LeaseLostError: Another worker has claimed it since, or a person has moved or ended it. Nothing was written.
            UnreachableError: No server answers; it is unknown whether it was written.
            RefusedError: *transition* says why nothing is to be written.
        """
        if self._unsure and (written := await self._written()) is not None:
            return written
        while True:
            change = transition(self.stored.record)
            if isinstance(change, str):
                raise RefusedError(f"{self.record.call}: {change}")
            self._unsure.append(change.record)
            try:
                seq = await self._engine.write(change, self.stored.seq)
            except StaleError:
                if (written := await self._written()) is not None:
                    return written
            else:
                self._unsure.clear()
                self.stored = Stored(change.record, seq)
                return change.record

    async def check(self) -> CallRecord:
        """The latest record, if this worker still holds the call.

        Raises:
            LeaseLostError: It does not.
        """
        await self._read_again()
        return self.stored.record

    async def end(self) -> None:
        """Let the queue message go: what was to be written is written."""
        await self._engine.ack(self.delivery)

    async def _written(self) -> CallRecord | None:
        """The latest record, if this worker has tried to write it; otherwise look whether it still holds the call.

        Raises LeaseLostError as ``check``.
        """
        stored = await self._engine.read(self.record.call)
        if stored is not None and stored.record in self._unsure:
            self.stored = stored
            self._unsure.clear()
            return stored.record
        self._hold(stored)
        self._unsure.clear()
        return None

    async def _read_again(self) -> None:
        self._hold(await self._engine.read(self.record.call))

    def _hold(self, stored: Stored | None) -> None:
        if stored is None:
            raise LeaseLostError(f"{self.record.call}: its record is gone")
        latest, mine = stored.record, self.record
        if (latest.fence, latest.token, latest.state) != (self.fence, mine.token, "running"):
            by = f" on {latest.node}" if latest.node and latest.state == "running" else ""
            raise LeaseLostError(f"{latest.call} is not held by this worker any more: it is {latest.state}{by}")
        self.stored = stored


Revived: TypeAlias = Callable[[CallRecord, float], Standing | Change]
"""Where a call goes on whose worker has died, at that time; or what is written in place of a claim."""


async def claim(engine: Engine, delivery: Delivery, node: str, revived: Revived) -> Holding | None:
    """Claim the call of *delivery* for *node*; None if there is nothing to do for it: then its message is let go.

    Args:
        engine: The servers.
        delivery: The queue message.
        node: The name of this node.
        revived: Asked about a call whose worker has died.

    Raises:
        UnreachableError: No server answers. The message comes again when its lease ends.
    """
    token = secrets.token_hex(8)
    tried: list[CallRecord] = []
    while (stored := await engine.read(delivery.call)) is not None:
        if stored.record in tried:
            return Holding(engine, delivery, stored)
        now = await engine.now()
        change = _claim(stored, delivery.leg, node, now, revived)
        if isinstance(change, str):
            break
        record = msgspec.structs.replace(change.record, token=token)
        is_claim = record.state == "running" and record.fence == stored.seq
        try:
            seq = await engine.write(msgspec.structs.replace(change, record=record), stored.seq)
        except StaleError:
            tried += [record] if is_claim else []
            continue
        if is_claim:
            return Holding(engine, delivery, Stored(record, seq))
        break
    await engine.ack(delivery)
    return None


def _claim(stored: Stored, leg: int, node: str, now: float, revived: Revived) -> Change | str:
    record, standing = stored.record, None
    if record.state == "running" and record.leg == leg:
        found = revived(record, now)
        if isinstance(found, Change):
            return found
        standing = found
    return claimed(stored, node, leg, now, standing)
