"""One call that this node has claimed: its leg runs here, and what becomes of it is written under its fence."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Literal, TypeAlias, TypeVar

import msgspec

from adapters.nats import transitions
from adapters.nats.board import Board
from adapters.nats.checkpoints import Checkpoints
from adapters.nats.endings import at_attempt, failed, postponed
from adapters.nats.engine import AGAIN, Engine, Payload, sought
from adapters.nats.errors import ChangeRefusedError, TooLargeError, UnreachableError, UnreadableError
from adapters.nats.heartbeat import LOST
from adapters.nats.holding import Holding
from adapters.nats.leases import Leases
from adapters.nats.names import local_id
from adapters.nats.node_reports import NodeReporter
from adapters.nats.outcomes import Ends, Outcomes
from adapters.nats.record import MAX_PAYLOAD, CallRecord, Standing, too_large
from adapters.nats.standing import leased_call, next_standing, standing_of
from adapters.nats.transitions import SOON
from events.event import CallEvent
from events.operation_events import CheckpointSaved, Parked, ProgressMade, RetryScheduled
from events.own_log import own_log
from recovery import leased
from recovery.leased import Cancelled, Ending, Failed, LeasedOperation, Postponed, Succeeded
from recovery.service import Recovery

R = TypeVar("R")

log = own_log("recovery.cluster")

NOTED = (CheckpointSaved, ProgressMade, RetryScheduled, Parked)
"""The events of a call that change its record while it runs."""

INSIST = 0.05
"""Seconds between two attempts to stop a body that has not begun yet."""

PAUSED = "it is paused"

Stop: TypeAlias = Literal["cancel", "hand back", "lost"]
"""Why a leg is to stop: the call is cancelled; the worker stops; another one may hold it. The last of them counts."""

_ORDER: tuple[Stop, ...] = ("cancel", "hand back", "lost")


class Session(msgspec.Struct, frozen=True):
    """What a node has while its cluster is open there. Made by ``opening.opened``.

    Args:
        node: The name of the node.
        service: Its service.
        engine: The servers.
        board: What the nodes tell of themselves.
        leases: What keeps the leases.
        outcomes: What keeps outcomes while no server answers.
        reporter: What tells the cluster of this node.
        legs: The legs that run, by the ids of their local calls.
        refused: How often something was refused, by what it was.
    """

    node: str
    service: Recovery
    engine: Engine
    board: Board
    leases: Leases
    outcomes: Outcomes
    reporter: NodeReporter
    legs: dict[str, Leg]
    refused: Counter[str]


class Leg:
    """A call that this node holds, from its claim until what became of it is written, or kept.

    Args:
        session: What this node has while its cluster is open.
        operation: The operation of the call.
        holding: The call, claimed.
    """

    def __init__(self, session: Session, operation: LeasedOperation, holding: Holding) -> None:
        self._session, self._operation, self._holding = session, operation, holding
        self._loop = asyncio.get_running_loop()
        self._stop: tuple[Stop, str] | None = None
        self._is_stopped = asyncio.Event()
        self._is_ended = False
        self.call = holding.record.call
        self.local_id = local_id(self.call, holding.fence)
        self._checkpoints = Checkpoints(
            holding,
            session.engine.now,
            lambda why: self.stop("lost", why),
            lambda why: self._refuse("a checkpoint", why),
            self._let_go,
        )
        self._begins_again = 0.0  # when its next attempt does, by the loop's clock

    @property
    def is_required(self) -> bool:
        """Whether the call is to end with its lease: ``cluster="required"``."""
        return self._operation.cluster == "required"

    @property
    def is_ended(self) -> bool:
        """Whether its body is over: what becomes of the call is being written, or is."""
        return self._is_ended

    def note(self, event: CallEvent) -> None:
        """Note an event of the call. From any thread."""
        self._in_loop(self._note_here, event)

    def stop(self, how: Stop, why: str) -> None:
        """Stop the body soon. From any thread."""
        self._in_loop(self._stop_here, how, why)

    async def run(self) -> None:
        """Run the call, and write what becomes of it."""
        try:
            body = await self._begun()
        except UnreadableError as error:
            self._refuse("what cannot be read", str(error))
            await self._end(self._too_large(str(error), self._holding.record.standing.attempt))
            return
        if body is None:
            await self._end(self._stopped_early())
            return
        stopping = asyncio.create_task(self._stop_body(body))
        try:
            await asyncio.wait([body])
        finally:
            stopping.cancel()
            if not body.done():  # an abandoned one
                body.cancel()
        if not self._is_ended:
            ending = body.result()
            await self._end(self._ends(ending), has_result=isinstance(ending, Succeeded))

    def close(self) -> None:
        """Write nothing of the call any more."""
        self._checkpoints.close()

    async def abandon(self) -> None:
        """Hand the call back at once: its body does not stop."""
        if not self._is_ended:
            standing = msgspec.structs.replace(self._holding.record.standing, has_failed=True, is_cut_off=True)
            await self._end(lambda record, now: transitions.handed_back(record, now, standing))

    # until the body begins

    async def _begun(self) -> asyncio.Task[Ending] | None:
        if (reason := self._holding.record.cancel) is not None:
            self._stop_here("cancel", reason)
        arguments, saved = await self._payload("args"), await self._payload("saved")
        await self._wait_until_due()
        if self._stop is not None:
            return None
        call = leased_call(self._holding.record, arguments or b"", saved)
        running = self._operation.run(call, keep=SOON, is_held=self._is_held)
        return asyncio.create_task(running, name=f"recovery {self.local_id}")

    def _is_held(self) -> bool:
        """Whether the lease lasts by this node's clock: a process that stood still has not heard of its end yet."""
        leases = self._session.leases
        try:
            confirmed = leases.confirmed(self.call, self._holding.fence)
        except LookupError:  # it is lost
            return False
        return leases.clock() < confirmed + self._session.engine.lease

    async def _payload(self, kind: Payload) -> bytes | None:
        def ask() -> Awaitable[bytes | None]:
            return self._session.engine.payload(self.call, kind)

        return await self._asked(partial(sought, ask) if kind == "args" else ask)  # every call has arguments

    async def _asked(self, ask: Callable[[], Awaitable[R]]) -> R | None:
        """The answer of the servers, when they answer; None if the call is to stop before."""
        while self._stop is None:
            try:
                return await ask()
            except UnreachableError:
                await self._pause(AGAIN)
        return None

    async def _wait_until_due(self) -> None:
        if (due := self._holding.due) is not None:
            now = await self._asked(self._session.engine.now)
            if now is not None and due > now:
                await self._pause(due - now)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_stopped.wait(), seconds)

    # while it runs

    def _in_loop(self, function: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed: the program ends
            log.debug("%s: the loop of its worker is closed", self.call)

    def _note_here(self, event: CallEvent) -> None:
        match event:
            case CheckpointSaved():
                self._checkpoints.saved(bytes(event.data))
            case ProgressMade():
                self._checkpoints.progressed(event.done)
            case RetryScheduled(failure=failure) if failure is not None and event.after <= SOON:
                self._retried(event, next_standing(event, failure, event.retry))
            case Parked(failure=failure) if failure is not None and event.after <= SOON and not event.asks_person:
                self._retried(event, next_standing(event, failure, failure.retries + event.counts_as_retry))

    def _retried(self, event: RetryScheduled | Parked, standing: Standing) -> None:
        """Another attempt is to begin here after *event*."""
        self._begins_again = self._loop.time() + event.after
        self._checkpoints.retried(standing)
        self._let_go(self._holding.record)

    def _let_go(self, record: CallRecord) -> None:
        """Hand the call back where a person has paused it, unless its next attempt has begun."""
        if record.is_paused and self._loop.time() < self._begins_again:
            self._stop_here("hand back", PAUSED)

    def _stop_here(self, how: Stop, why: str) -> None:
        if how == "lost" and not why.startswith(LOST):
            why = f"{LOST}: {why}"
        if self._stop is None or _ORDER.index(how) > _ORDER.index(self._stop[0]):
            self._stop = how, why
            self._is_stopped.set()
            if how == "lost":
                log.warning("%s: %s; its body is to stop", self.call, why)

    async def _stop_body(self, body: asyncio.Task[Ending]) -> None:
        await self._is_stopped.wait()
        told, service = None, self._session.service
        while not body.done() and self._stop is not None:
            how, why = self._stop
            if how != told:
                cancel = service.calls.cancel if how == "cancel" else partial(leased.hand_back, service)
                told = how if cancel(self.local_id, why) else None
            await asyncio.sleep(INSIST)

    # when it is over

    def _stopped_early(self) -> Ends:
        how, why = self._stop or ("hand back", "")
        if how == "cancel":
            return lambda record, now: transitions.cancelled(record, why, now)
        return transitions.handed_back

    def _ends(self, ending: Ending) -> Ends:
        match ending:
            case Succeeded(result=result) if len(result) > MAX_PAYLOAD:
                self._session.refused["a result that is too large"] += 1
                cure = "return where the data is, not the data"
                return self._too_large(too_large("the result", len(result), MAX_PAYLOAD, cure), ending.attempt)
            case Succeeded(result=result, attempt=attempt):
                return lambda record, now: transitions.succeeded(record, result, at_attempt(record, attempt), now)
            case Failed():
                return failed(ending)
            case Cancelled(reason=reason):
                return lambda record, now: transitions.cancelled(record, reason, now)
            case Postponed(is_handed_back=True, after=after, state=state) if after <= 0.0:
                return lambda record, now: transitions.handed_back(record, now, standing_of(state, now))
            case Postponed():
                return postponed(ending)

    def _too_large(self, reason: str, attempt: int) -> Ends:
        return lambda record, now: transitions.gave_up(record, at_attempt(record, attempt), reason, "", ("", ""), now)

    async def _end(self, ends: Ends, *, has_result: bool = False) -> None:
        self._is_ended = True
        ends = await self._checkpoints.end(ends)
        if self._is_lost and not has_result:  # a result is offered: where it is refused, the journal says so
            return
        outcomes, holding = self._session.outcomes, self._holding
        try:
            written = await outcomes.finish(holding, ends)
        except TooLargeError as error:
            self._refuse("an outcome that is too large", str(error))
            written = await outcomes.finish(holding, self._too_large(str(error), holding.record.standing.attempt))
        except ChangeRefusedError as error:
            self._refuse("an outcome that its record does not take", str(error))
            return
        if written is not None:
            with suppress(UnreachableError):  # it comes again, and is found to be over
                await holding.end()

    @property
    def _is_lost(self) -> bool:
        return self._stop is not None and self._stop[0] == "lost"

    def _refuse(self, what: str, why: str) -> None:
        self._session.refused[what] += 1
        log.warning("%s: %s", self.call, why)
