"""Steer the calls of a cluster: find one by its id or a part of it, and change its record by compare-and-set."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal, TypeAlias, cast, get_args

import msgspec

from adapters.nats import transitions
from adapters.nats.board import Board
from adapters.nats.engine import MISSING_FOR, Engine, sought
from adapters.nats.errors import ChangeRefusedError, StaleError, UnknownCallError
from adapters.nats.record import KEPT, CallRecord, Change, Stored
from adapters.nats.status import ALIVE
from recovery.explain import counted
from recovery.redact import brief

SteeringName: TypeAlias = Literal["retry", "pause", "unpause", "give up", "cancel", "move"]
"""What a person can do with a call of a cluster."""

Steering: TypeAlias = Callable[[Stored, float], Change | str]
"""What is written for a record at that time of the servers, or why nothing is."""

BY_HAND = "by hand"

MOST_LISTED = 8
"""Calls that an error names; more are counted."""


def name_of(command: str) -> SteeringName:
    """*command* as a cluster takes it. Raises ValueError for one that only a journal takes."""
    for name in get_args(SteeringName):
        if name == command:
            return cast(SteeringName, name)
    raise ValueError(f"{command} is for the calls of a journal")


class ClusterCommand(msgspec.Struct, frozen=True, kw_only=True):
    """What a person wants of a call.

    Args:
        name: What to do.
        reason: Why, for the record.
        to: Of "move", the node that is to run it; "" for any.
    """

    name: SteeringName
    reason: str = ""
    to: str = ""

    @property
    def why(self) -> str:
        """Why a call ends that the command ends."""
        done = "given up" if self.name == "give up" else "cancelled"
        return f"{done} {BY_HAND}: {self.reason}" if self.reason else f"{done} {BY_HAND}"

    def change(self, stored: Stored, now: float) -> Change | str:
        """What is written for the record of a call, or why nothing is."""
        record = stored.record
        match self.name:
            case "retry":
                return transitions.retried_now(record, now)
            case "pause":
                return transitions.paused(record, now)
            case "unpause":
                return transitions.unpaused(record, now)
            case "give up":
                return transitions.gave_up_by_hand(record, self.why, now)
            case "cancel":
                return transitions.asked_to_cancel(record, self.why, now)
            case "move":
                return transitions.moved(stored, self.to, now)

    def said(self, record: CallRecord) -> str:
        """What happens now with the call of *record*, which was written."""
        on = f" on {record.node}" if record.node else ""
        match self.name:
            case "retry":
                return "its next attempt begins as soon as a worker is free"
            case "pause" if record.state == "running":
                return f"it runs{on} to the end of its attempt, and no other one begins until it is unpaused"
            case "pause":
                return "no attempt of it begins until it is unpaused"
            case "unpause":
                return "it goes on" if record.due is None else "it waits for the rest of its delay"
            case "give up":
                return "given up: no node runs it any more"
            case "cancel" if record.state == "running":
                return f"its worker{on} is asked to end it"
            case "cancel":
                return "cancelled: no node runs it any more"
            case "move":
                where = f"{record.affinity} alone runs" if record.affinity else "any node runs"
                return f"{where} it from now on; its checkpoint is dropped"


async def steer(engine: Engine, call: str, steering: Steering) -> CallRecord:
    """Write what *steering* makes of the latest record of *call*, however often that changes meanwhile.

    After ``UnreachableError`` it is unknown whether it was written.

    Returns:
        The record as it was written.

    Raises:
        UnknownCallError: The servers have no such call.
        ChangeRefusedError: *steering* says why nothing is to be written.
        UnreachableError: No server answers.
    """
    while True:
        stored = await sought(lambda: engine.read(call))
        if stored is None:
            raise gone(call)
        change = steering(stored, await engine.now())
        if isinstance(change, str):
            raise ChangeRefusedError(change)
        try:
            await engine.write(change, stored.seq)
        except StaleError:
            continue
        return change.record


async def cancel(engine: Engine, board: Board, call: str, reason: str) -> CallRecord:
    """Cancel *call* for *reason*: at once where no node runs it, or the node that ran it is gone. As ``steer``."""
    seen = await sought(lambda: engine.read(call))
    if seen is None:
        raise gone(call)
    left = (seen.record.fence, seen.record.token) if await is_abandoned(engine, board, seen.record) else None

    def steering(stored: Stored, now: float) -> Change | str:
        if (stored.record.fence, stored.record.token) == left:
            return transitions.cancelled_without_node(stored, reason, now)
        return transitions.asked_to_cancel(stored.record, reason, now)

    return await steer(engine, call, steering)


async def is_abandoned(engine: Engine, board: Board, record: CallRecord) -> bool:
    """Whether a worker ran the call of *record* whose node has not told of itself for longer than a lease."""
    if record.state != "running":
        return False
    silent_since = await engine.now() - max(engine.lease, ALIVE)
    if record.standing.as_of > silent_since:  # it was claimed since, by a node that may not have told of itself yet
        return False
    for pause in (MISSING_FOR, 0.0):  # twice: any server answers, and one that was stopped lags behind
        if any(one.seen > silent_since for one in await board.nodes() if one.node == record.node):
            return False
        await asyncio.sleep(pause)
    return True


def gone(call: str) -> UnknownCallError:
    """The error about *call*, which the servers do not know."""
    days = KEPT / 86_400
    return UnknownCallError(
        f"the cluster has no call {brief(call)}: it was never submitted there, or it ended more than {days:g} days ago"
    )


async def find(engine: Engine, text: str) -> CallRecord:
    """The record of the call that *text* names: an id, a part of one, or an operation, of those not over if there are.

    A whole key names its call, whatever the ids of others have in them.

    Raises:
        LookupError: No call has that name, or several have; the message says what to write.
        UnreachableError: No server answers.
    """
    if "/" in text and (stored := await engine.read(text)) is not None:
        return stored.record
    found = [one.record async for one in engine.calls() if text and text in one.record.call]
    found = [one for one in found if one.call.partition("/")[2] == text] or found
    found = [one for one in found if not one.is_over] or found[-1:]
    if not found:
        raise LookupError(brief(f"no call of the cluster has {text!r} in its id; `recovery status` lists them"))
    if len(found) > 1:
        listed = ", ".join(f"{one.call} ({one.state})" for one in found[-MOST_LISTED:])
        more = f" and {len(found) - MOST_LISTED} more" if len(found) > MOST_LISTED else ""
        are = f"{text!r} is a part of {counted(len(found), 'id')} of calls that are not over"
        raise LookupError(brief(f"{are}: {listed}{more}; give one of these ids"))
    return found[0]
