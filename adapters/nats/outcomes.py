"""Outcomes that could not be written while the servers did not answer: kept in the journal, and delivered later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

import msgspec

from adapters.nats.engine import Delivery, Engine
from adapters.nats.errors import (
    ChangeRefusedError,
    ClusterError,
    LeaseLostError,
    TooLargeError,
    UnknownCallError,
    UnreachableError,
)
from adapters.nats.heartbeat import log
from adapters.nats.holding import Holding
from adapters.nats.record import KEPT, CallRecord, Change
from adapters.nats.transitions import EARLY, cancelled
from recovery import leased
from recovery.service import Recovery

EVERY = 5.0
"""Seconds between two attempts to deliver."""

Ends: TypeAlias = Callable[[CallRecord, float], Change | str]
"""What ends a leg, for a record at a time; or why nothing is written."""

_replace = msgspec.structs.replace


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the journal has of an outcome, as JSON.

    Args:
        token: The random digits of the claim under which it ran.
        change: What is to be written.
    """

    token: str
    change: Change


class Outcomes:
    """The outcomes of a service that its cluster has not taken yet.

    The journal has an outcome first, then the servers, and then it is settled in the journal. A process that dies in
    between delivers it again after its restart, and finds its own record. An outcome of another cluster, which the same
    journal may have, is left alone.

    Args:
        service: Its journal keeps them; without a store, its memory.
        engine: The servers.
        every: Seconds between two attempts to deliver.
    """

    def __init__(self, service: Recovery, engine: Engine, every: float = EVERY) -> None:
        self._service = service
        self._engine = engine
        self._every = every
        self._turn = asyncio.Lock()
        self._awake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._logged: set[str] = set()

    async def finish(self, holding: Holding, ends: Ends) -> CallRecord | None:
        """Write what ends a leg. None if the servers have not taken it: it is kept, or superseded by another claim.

        Raises:
            ChangeRefusedError: *ends* says why nothing is to be written.
            TooLargeError: The servers take nothing of that size.
        """
        now = await self._engine.now()
        try:
            return await holding.apply(lambda record: ends(record, now))
        except (ChangeRefusedError, TooLargeError):
            raise
        except ClusterError as error:  # no server answers, or they refuse it: their disk may be full
            change = ends(holding.record, now)
            if isinstance(change, str):
                raise ChangeRefusedError(f"{holding.record.call}: {change}") from None
            if isinstance(error, LeaseLostError) and not change.record.is_over:  # its holder goes on with the call
                log.warning("%s", error)
                return None
            held = self.keep(holding.record.call, holding.fence, holding.record.token, change)
            if isinstance(error, LeaseLostError):
                leased.settle(self._service, held, str(error))
            return None

    def keep(self, call: str, fence: int, token: str, change: Change) -> leased.HeldOutcome:
        """Keep *change*, which ends the leg of *call* under *fence* and *token*, until the servers take it."""
        data = msgspec.json.encode(Kept(token, change))
        return leased.hold(self._service, call, fence, data, operation=change.record.operation)

    async def run(self) -> None:
        """Deliver: now, every few seconds, and after ``wake``; until it is cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            await self.deliver()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._awake.wait(), self._every)
            self._awake.clear()

    def wake(self) -> None:
        """Deliver soon: the servers answer again. From any thread."""
        with suppress(RuntimeError):  # the loop is closed: the next process of the journal delivers
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._awake.set)

    async def deliver(self) -> int:
        """Deliver what is kept, and return how many outcomes are left."""
        async with self._turn:
            held = await self._held()
            left = len(held)
            for outcome in held:
                try:
                    await self._deliver(outcome)
                except UnreachableError:
                    break
                except Exception as error:  # it may be of a newer release: this one leaves it to that
                    self._log_once(f"the outcome of {outcome.call} is not delivered: {type(error).__name__}: {error}")
                else:
                    left -= 1
            return left

    async def _held(self) -> list[leased.HeldOutcome]:
        if self._service.journal is None:
            return leased.held(self._service)
        return await asyncio.to_thread(leased.held, self._service)  # it waits while the journal is read

    async def _deliver(self, outcome: leased.HeldOutcome) -> None:
        kept = msgspec.json.decode(outcome.data, type=Kept)
        superseded = await self._write(outcome.call, outcome.fence, kept)
        leased.settle(self._service, outcome, superseded)

    async def _write(self, call: str, fence: int, kept: Kept) -> str | None:
        """Write an outcome; None if the servers have it now, or had it before; otherwise why they do not take it."""
        stored = await self._engine.read(call)
        if stored is None or stored.seq <= fence:  # another cluster's, or a server lags behind: it holds up no other
            if await self._engine.now() < kept.change.record.updated + KEPT:  # no record goes as early as that
                raise UnknownCallError(f"this cluster has no such {call}: the outcome is kept for the one that has it")
            return "its record is gone"
        record = stored.record
        if (record.fence, record.token) != (fence, kept.token):
            return why_superseded(record, fence)
        if record.state != "running":  # only the holder of its fence ends it: it was written before
            return None
        now = await self._engine.now()
        holding = Holding(
            self._engine, Delivery(call, record.leg, record.lane, "", record.updated, record.delivery), stored
        )
        try:
            await holding.apply(lambda latest: later(latest, kept.change, now))
        except LeaseLostError:
            return await self._write(call, fence, kept)
        except (ChangeRefusedError, TooLargeError) as error:
            return str(error)
        return None

    def _log_once(self, text: str) -> None:
        if text not in self._logged:
            self._logged.add(text)
            log.warning("%s", text)


def why_superseded(record: CallRecord, fence: int) -> str:
    """Why an outcome under *fence* is not taken of the call of *record*, which has another claim."""
    fences = f"fence {record.fence}, this one had {fence}"
    return f"its lease was lost while this node was cut off, and {record.stands} ({fences})"


def later(latest: CallRecord, change: Change, now: float) -> Change | str:
    """*change*, which ends a leg and was made before, as it is written now; what a person said meanwhile holds."""
    if change.record.is_over:
        return _replace(change, record=_replace(change.record, updated=now))
    if latest.cancel is not None:
        return cancelled(latest, latest.cancel, now)
    record = _replace(change.record, is_paused=latest.is_paused, updated=now)
    if (
        record.is_paused or record.asks_person or record.state == "quarantined"
    ):  # a person's word puts it into its queue
        return Change(record=record, saved=change.saved)
    if record.due is not None:
        return Change(record=record, saved=change.saved, queue_at=record.due - EARLY)
    return Change(record=record, saved=change.saved, is_queued=True)
