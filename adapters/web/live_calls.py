"""The calls of a service as a journal would tell of them, without asking its journal: for a page that looks often."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from adapters.journals.status import CallStatus, said_by
from adapters.launcher.checkpoint_words import note_words, saved_note
from adapters.launcher.launch import name_in_arguments
from adapters.launcher.progress import saved_transfer
from events.event import CallEvent
from events.operation_events import (
    CallRejected,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationQuarantined,
    OperationStarted,
)
from events.repeat_events import OperationRepeated
from recovery.execution.steering import RunningCall
from recovery.explain import explain
from recovery.journal.history import CallRecord
from recovery.policies.retry import PERSON
from recovery.waiting.description import WaitingCall

ENDS = (GaveUp, CallRejected, OperationCancelled, OperationQuarantined)
"""The ends that a person looks into, as events."""

OF_THE_PAGE = (*ENDS, OperationRepeated)
"""The events that the page needs. For it, a call that is retried, or succeeds, publishes nothing."""

STATES = {
    GaveUp: "gave up",
    CallRejected: "rejected",
    OperationCancelled: "cancelled",
    OperationQuarantined: "quarantined",
}

TOLERANCE = 0.5
"""Seconds by which a time may differ and still be the same: it is made from what is left, read at another moment."""


class LiveCalls:
    """Makes statuses of calls, and the same object again for a call that has not changed."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[object, CallStatus]] = {}

    def update(
        self, waiting: Iterable[WaitingCall], running: Iterable[RunningCall], now: float, monotonic: float
    ) -> dict[str, CallStatus]:
        """The statuses of the calls that live, by id.

        Args:
            waiting: Those that wait.
            running: Those that run.
            now: The Unix time.
            monotonic: The same moment on the service's clock.
        """
        made: dict[str, tuple[object, CallStatus]] = {}
        for call in waiting:
            made[call.call] = self._waiting(call, now, now - monotonic)
        for one in running:
            if one.call not in made:
                made[one.call] = self._running(one, now)
        self._made = made
        return {call: status for call, (_, status) in made.items()}

    def _waiting(self, call: WaitingCall, now: float, offset: float) -> tuple[object, CallStatus]:
        has_delay = not (call.is_paused or call.asks_person) and 0.0 < call.left < math.inf
        due = now + call.left if has_delay else None
        deadline = now + call.within if call.within < math.inf else None
        same = (call.attempt, call.until, call.is_paused, call.asks_person, id(call.failure))
        known, status = self._made.get(call.call, (None, None))
        if status is not None and known == same:
            due, deadline = _steady(due, status.due), _steady(deadline, status.deadline)
            if due == status.due and deadline == status.deadline:
                return same, status
        explained = call.explain()
        return same, CallStatus(
            call=call.call,
            operation=call.operation,
            key=call.key,
            name=name_in_arguments(call.operation, call.arguments),
            state="paused" if call.is_paused else "waiting",
            attempt=call.attempt,
            retries=call.retries,
            restarts=0,
            failures=() if call.failure is None else (call.failure.brief,),
            which=explained.which,
            cause=explained.cause,
            reason="",
            seen=now if call.failure is None else call.failure.at + offset,
            due=due,
            waits_for="; ".join(call.until) or (PERSON if call.asks_person else ""),
            deadline=deadline,
            is_resumable=call.arguments is not None,
            sentence=explained.sentence,
            said=said_by(explained),
            remedy=explained.remedy,
        )

    def _running(self, call: RunningCall, now: float) -> tuple[object, CallStatus]:
        same = (call.attempt, call.saved, call.is_cancelled)
        known, status = self._made.get(call.call, (None, None))
        if status is not None and known == same:
            return same, status
        kind = call.operation.partition(" ")[0]
        return same, CallStatus(
            call=call.call,
            operation=call.operation,
            key=call.key,
            name=name_in_arguments(call.operation, call.arguments),
            state="running",
            attempt=call.attempt,
            retries=call.retries,
            restarts=0,
            failures=(),
            which=_which(call),
            cause="",
            reason="",
            seen=now,
            is_resumable=call.arguments is not None,
            transfer=saved_transfer(call.saved) if kind == "download" else None,
            note=note_words(saved_note(call.saved or b"")) if kind in ("server", "steps") else "",
        )


def ended(event: CallEvent, record: CallRecord | None, wall: float) -> CallStatus:
    """How a call ended, or why it is quarantined.

    Args:
        event: One of ``ENDS``.
        record: What the journal knows of the call; None if nothing.
        wall: When it happened, in Unix time.
    """
    failure: FailureClassified | None = getattr(event, "failure", None) or (None if record is None else record.failure)
    arguments = None if record is None else record.arguments
    explained = explain(failure or event, arguments=arguments)
    return CallStatus(
        call=event.call,
        operation=event.operation,
        key=event.key,
        name=name_in_arguments(event.operation, arguments),
        state=STATES[type(event)],
        attempt=event.attempt,
        retries=0 if record is None else record.retries,
        restarts=0 if record is None else record.resumes,
        failures=() if failure is None else (failure.brief,),
        which=explained.which,
        cause=explained.cause,
        reason=getattr(event, "reason", ""),
        seen=wall,
        is_resumable=arguments is not None,
        by="" if record is None else record.by,
        sentence=explained.sentence,
        said=said_by(explained),
        remedy=explained.remedy,
    )


def succeeded(status: CallStatus, now: float) -> CallStatus:
    """*status*, of a call that has succeeded since."""
    changes = {"state": "succeeded", "seen": now, "due": None, "deadline": None, "waits_for": ""}
    return msgspec.structs.replace(status, **changes, cause="", sentence="", said="", remedy="")


def _steady(moment: float | None, former: float | None) -> float | None:
    """*former* if *moment* is about the same."""
    return former if moment is not None and former is not None and abs(moment - former) < TOLERANCE else moment


def _which(call: RunningCall) -> str:
    event = OperationStarted(at=0.0, operation=call.operation, key=call.key, call=call.call)
    return explain(event, idempotency_key=call.idempotency_key, arguments=call.arguments).which
