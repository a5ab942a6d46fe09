"""Replay a journal: what an event changes in the wait of its call, and what its end changes. Pure."""

from __future__ import annotations

from events.event import FOREVER, CallEvent
from events.lease_events import CallHandedBack, OutcomeDelivered, OutcomeSuperseded
from events.operation_events import (
    CallRejected,
    CallSteered,
    FailureClassified,
    GaveUp,
    OperationInterrupted,
    OperationRecovered,
    OperationResumed,
    OperationSucceeded,
    Parked,
)


def wait_after(event: CallEvent, due: float | None, paused_at: float | None) -> dict[str, object]:
    """What *event* changes in a wait besides its delay: the causes, and a pause that stops its clock.

    *due* is when the wait was to end before, and *paused_at* when it was paused.
    """
    match event:
        case CallSteered(command="unpause", at=at) if paused_at is not None:
            due = None if due is None else max(due, paused_at) + at - paused_at
            return {"paused_at": None, "due": due}
        case OperationResumed(at=at) if paused_at is not None:
            return {"waits_for": "", "deadline": None, "paused_at": at}  # a pause outlasts a restart
        case CallSteered(command="cancel" | "reset" | "edit") | OperationInterrupted():
            return {}  # a wait goes on as it was, until another event ends it
        case CallSteered(command=command, at=at):
            return {"paused_at": at if command == "pause" else None}
        case Parked(at=at, why=why, within=within):
            return {"waits_for": why, "deadline": at + within if within < FOREVER else None, "paused_at": None}
    return {"waits_for": "", "deadline": None, "paused_at": None}


def after_end(event: CallEvent, retried: FailureClassified | None) -> dict[str, object]:
    """What *event*, which ends the call, changes; *retried* is a failure whose outcome was not written."""
    match event:
        case OperationSucceeded() | OperationRecovered():
            return {"state": "succeeded", "failure": None}
        case GaveUp(reason=reason) | CallRejected(reason=reason):
            ended: dict[str, object] = {
                "state": "gave up" if isinstance(event, GaveUp) else "rejected",
                "reason": reason,
            }
            # The retry was not made.
            return ended if retried is None else {**ended, "retries": retried.retries, "judged": None}
        case CallHandedBack(reason=reason) | OutcomeSuperseded(reason=reason):
            return {"state": "handed back" if isinstance(event, CallHandedBack) else "superseded", "reason": reason}
    return {"state": "delivered" if isinstance(event, OutcomeDelivered) else "cancelled"}
