"""A worker: it takes the calls of the operations that it was told to run, and runs them in its slots."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import msgspec

from adapters.nats import transitions
from adapters.nats.engine import AGAIN, Delivery
from adapters.nats.errors import UnreachableError
from adapters.nats.holding import Holding, claim
from adapters.nats.lane_order import LaneOrder
from adapters.nats.record import CallRecord, Change, Standing
from adapters.nats.running import NOTED, Leg, Session, log
from adapters.nats.standing import leased_call, standing_of
from events.event import CallEvent
from recovery import leased
from recovery.leased import LeasedOperation

LOOK = 2.0
"""Seconds that one look into the lanes takes at most: so long a drain may wait for it."""

ASIDE = 10.0
"""Seconds after which, at most, a call that this worker cannot run is offered again, to it or to another one."""

GRACE = 1.0
"""Seconds that a body has to stop in after it was told so."""

STOPS = "its worker stops"


class LateError(Exception):
    """The lease of a message may have ended before its call was claimed."""


class NotForThisError(Exception):
    """A worker of another release is to run the call."""


class Worker:
    """Runs calls of *names* on a node. Made by ``Cluster.work``.

    Args:
        session: What this node has while its cluster is open.
        names: The operations whose calls it runs, and no others.
        concurrency: How many calls it runs at a time.

    Raises:
        LookupError: The service does not define one of *names*.
    """

    def __init__(self, session: Session, names: Sequence[str], concurrency: int) -> None:
        self._session = session
        self._operations = {name: leased.operation(session.service, name) for name in names}
        self._turns = LaneOrder(list(self._operations), session.node)
        self.concurrency = concurrency
        """How many calls it runs at most."""
        self._running: dict[asyncio.Task[None], Leg | None] = {}
        self._loop, self._until = asyncio.get_running_loop(), math.inf
        self._is_draining, self._has_changed, self.is_over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._hands_back = False
        self._is_behind = True  # with outcomes: without them its own calls would be made again
        self._said: set[str] = set()

    @property
    def names(self) -> list[str]:
        """The operations whose calls it runs."""
        return list(self._operations)

    @property
    def versions(self) -> dict[str, str]:
        """The versions of those that have one, by their names."""
        return {name: one.version for name, one in self._operations.items() if one.version}

    @property
    def running(self) -> int:
        """How many calls it runs."""
        return len(self._running)

    async def run(self) -> None:
        """Take calls and run them, until ``drain``, or until it is cancelled: then what runs is handed back at once."""
        with self._subscribed():
            try:
                await self._take_all()
                await self._wait_for_running()
            finally:
                await self._settle()

    def drain(self, timeout: float) -> None:
        """Take no more calls, and end when those that run have ended, or are handed back after *timeout* seconds."""
        self._until = min(self._until, self._loop.time() + timeout)
        self._is_draining.set()
        self._has_changed.set()

    @contextmanager
    def _subscribed(self) -> Iterator[None]:
        bus = self._session.service.bus
        subscriptions = [bus.subscribe(NOTED, self._note, operation=name, essential=True) for name in self._operations]
        try:
            yield
        finally:
            for subscription in subscriptions:
                subscription.close()

    def _note(self, event: CallEvent) -> None:
        leg = self._session.legs.get(event.call)
        if leg is not None:
            leg.note(event)

    # take

    async def _take_all(self) -> None:
        while not self._is_draining.is_set():
            if len(self._running) >= self.concurrency:
                await self._has_changed.wait()
                self._has_changed.clear()
            elif (delivery := await self._take()) is not None:
                task = asyncio.create_task(
                    self._run(delivery, self._session.leases.clock()), name=f"recovery {delivery.call}"
                )
                self._running[task] = None
                task.add_done_callback(self._ended)

    async def _take(self) -> Delivery | None:
        try:
            if self._session.leases.is_cut_off:
                self._is_behind = True
                raise UnreachableError("the leases of this node are not kept")
            if self._is_behind:
                await self._session.outcomes.deliver()
                self._is_behind = False
            delivery = await self._session.engine.take(self._turns.next(), LOOK)
            if delivery is not None and self._is_draining.is_set():
                await self._session.engine.put_back(delivery)
                return None
            return delivery
        except UnreachableError:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_draining.wait(), AGAIN)
            return None

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._has_changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a call is left to the end of its lease: its worker has failed", exc_info=error)

    # run

    async def _run(self, delivery: Delivery, since: float) -> None:
        session, operation = self._session, self._operations[delivery.lane.operation]
        try:
            holding = await self._claimed(delivery, operation, since)
        except LateError as error:  # its message is another worker's: whatever were said of it would be said of that
            log.warning("%s is not claimed: %s", delivery.call, error)
        except (NotForThisError, msgspec.DecodeError) as error:
            await self._put_aside(delivery, error)
        except UnreachableError as error:
            log.warning("%s is not claimed: %s", delivery.call, error)
        else:
            if holding is not None:
                await self._run_leg(Leg(session, operation, holding), holding, since)

    async def _claimed(self, delivery: Delivery, operation: LeasedOperation, since: float) -> Holding | None:
        """Claim the call of *delivery*, which came at *since*: the answer of the servers may be lost."""
        session, half = self._session, self._session.engine.lease / 2

        def seen(record: CallRecord) -> None:
            if session.leases.clock() > since + half:  # this process stood still
                raise LateError("its message has waited here for too long, and may be with another worker")
            look(operation, record)

        tries, found = max(int(half / AGAIN), 1), partial(revived, operation)
        return await claim(session.engine, delivery, session.node, found, seen, tries=tries, pause=AGAIN)

    async def _run_leg(self, leg: Leg, holding: Holding, since: float) -> None:
        session, task, call, fence = self._session, asyncio.current_task(), leg.call, holding.fence
        assert task is not None
        self._running[task] = session.legs[leg.local_id] = leg
        if self._hands_back:
            leg.stop("hand back", STOPS)
        try:
            lease, token = holding.delivery.lease, holding.record.token
            session.leases.keep(lease, call, fence, token, is_required=leg.is_required, since=since)
            await leg.run()
        finally:
            leg.close()
            session.leases.drop(call, fence)
            del session.legs[leg.local_id]

    async def _put_aside(self, delivery: Delivery, error: Exception) -> None:
        name = delivery.lane.operation
        what = "another version" if isinstance(error, NotForThisError) else "a record of another release"
        self._session.refused[what] += 1
        if (said := f"{name}: {error}") not in self._said and len(self._said) < 100:
            self._said.add(said)
            log.warning("%s: it is offered again within %d s", said, ASIDE)
        with suppress(UnreachableError):
            pause = random.uniform(ASIDE / 2, ASIDE)  # so that it is not always this worker's turn
            await self._session.engine.put_back(delivery, pause)

    # end

    async def _wait_for_running(self) -> None:
        while self._running and (left := self._until - self._loop.time()) > 0.0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._has_changed.wait(), left)
            self._has_changed.clear()

    async def _settle(self) -> None:
        """Hand back what still runs."""
        self._is_draining.set()
        self._hands_back = True
        for leg in self._running.values():
            if leg is not None:
                leg.stop("hand back", STOPS)
        if self._running:
            await asyncio.wait(list(self._running), timeout=GRACE)
        for task, leg in list(self._running.items()):
            if leg is not None and leg.is_ended:  # its outcome is written, or kept: that takes as long as it takes
                continue
            if leg is not None:
                log.warning("%s: its body does not stop; another worker may run it while it goes on here", leg.call)
                await leg.abandon()
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running))


def look(operation: LeasedOperation, record: CallRecord) -> None:
    """Raise NotForThisError if the call of *record* was submitted for another version of *operation*.

    Raises msgspec.DecodeError if its latest failure is none that this release knows.
    """
    leased_call(record)
    if record.version != operation.version:
        raise NotForThisError(
            f"a call of version {record.version!r} is left to workers of that version: here it is {operation.version!r}"
        )


def revived(operation: LeasedOperation, record: CallRecord, now: float) -> Standing | Change:
    """Where the call of *record* goes on, whose worker has died; or its quarantine."""
    at = record.standing.at(now)
    call = leased_call(msgspec.structs.replace(record, standing=at))
    came_further = record.standing.came_further
    standing = standing_of(leased.after_death(call, came_further), now)
    why = leased.why_quarantined(operation, call, came_further)
    return standing if why is None else transitions.quarantined(record, standing, why, now)
