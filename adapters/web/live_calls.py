"""The calls of a service as a journal would tell of them, without asking its journal: for a page that looks often."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from adapters.journals.pauses import Pause, no_pause
from adapters.journals.status import CallStatus, said_by
from adapters.launcher.checkpoint_words import saved_words
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


class _Made(msgspec.Struct, frozen=True, gc=False):  # no cycles: the collector would stop the loops to look for them
    """A *status*, and the *call* that it was made of."""

    status: CallStatus
    call: WaitingCall | RunningCall


class LiveCalls:
    """Makes statuses of calls, and the same object again for a call that has not changed.

    Args:
        pause: Called after each call.
    """

    def __init__(self, pause: Pause = no_pause) -> None:
        self._pause = pause
        self._made: dict[str, _Made] = {}
        self._words: dict[str, _Made] = {}
        self.waiting: dict[str, WaitingCall] = {}
        """Those that waited at the latest update."""

    def update(
        self, waiting: Iterable[WaitingCall], running: Iterable[RunningCall], now: float, monotonic: float
    ) -> dict[str, CallStatus]:
        """The statuses of the calls that live, by id.

        Args:
            waiting: Those that wait; of one that waits as before, the same object again.
            running: Those that run.
            now: The Unix time.
            monotonic: The same moment on the service's clock.
        """
        made: dict[str, _Made] = {}
        found: dict[str, WaitingCall] = {}
        for call in waiting:
            made[call.call] = self._waiting(call, now, now - monotonic)
            found[call.call] = call
            self._pause()
        for one in running:
            if one.call not in made:
                made[one.call] = self._running(one, now)
                self._pause()
        self._made, self.waiting = made, found
        self._words = {call: words for call, words in self._words.items() if call in made}
        return {call: one.status for call, one in made.items()}

    def _waiting(self, call: WaitingCall, now: float, offset: float) -> _Made:
        known = self._made.get(call.call)
        has_delay = not (call.is_paused or call.asks_person) and now < call.due + offset < math.inf
        due = call.due + offset if has_delay else None
        deadline = call.deadline + offset if call.deadline < math.inf else None
        if known is not None and isinstance(known.call, WaitingCall) and _waits_alike(known.call, call):
            due, deadline = _steady(due, known.status.due), _steady(deadline, known.status.deadline)
            if due == known.status.due and deadline == known.status.deadline:
                return known
        status = msgspec.structs.replace(
            self._in_words(call),
            state="paused" if call.is_paused else "waiting",
            attempt=call.attempt,
            retries=call.retries,
            seen=now if call.failure is None else call.failure.at + offset,
            due=due,
            waits_for="; ".join(call.until) or (PERSON if call.asks_person else ""),
            deadline=deadline,
        )
        return _Made(status, call)

    def _in_words(self, call: WaitingCall) -> CallStatus:
        """A status of *call* with its words: the former one where it has failed as before, since words take long."""
        known = self._words.get(call.call)
        if known is not None and isinstance(known.call, WaitingCall) and _fails_alike(known.call, call):
            return known.status
        explained = call.explain()
        status = CallStatus(
            call=call.call,
            operation=call.operation,
            key=call.key,
            name=name_in_arguments(call.operation, call.arguments),
            state="waiting",
            attempt=call.attempt,
            retries=call.retries,
            restarts=0,
            failures=() if call.failure is None else (call.failure.brief,),
            which=explained.which,
            cause=explained.cause,
            reason="",
            seen=0.0,
            is_resumable=call.arguments is not None,
            sentence=explained.sentence,
            said=said_by(explained),
            remedy=explained.remedy,
        )
        self._words[call.call] = _Made(status, call)
        return status

    def _running(self, call: RunningCall, now: float) -> _Made:
        known = self._made.get(call.call)
        former = None if known is None else known.status
        if known is not None and isinstance(known.call, RunningCall) and _runs_alike(known.call, call):
            return known
        kind = call.operation.partition(" ")[0]
        status = CallStatus(
            call=call.call,
            operation=call.operation,
            key=call.key,
            name=name_in_arguments(call.operation, call.arguments) if former is None else former.name,
            state="running",
            attempt=call.attempt,
            retries=call.retries,
            restarts=0,
            failures=(),
            which=_which(call) if former is None else former.which,
            cause="",
            reason="",
            seen=now,
            is_resumable=call.arguments is not None,
            transfer=saved_transfer(call.saved) if kind == "download" else None,
            note=saved_words(call.operation, call.saved),
        )
        return _Made(status, call)


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


def _waits_alike(one: WaitingCall, other: WaitingCall) -> bool:
    if one is other:
        return True
    is_same_attempt = one.attempt == other.attempt and one.failure is other.failure and one.until == other.until
    return is_same_attempt and one.is_paused == other.is_paused and one.asks_person == other.asks_person


def _fails_alike(one: WaitingCall, other: WaitingCall) -> bool:
    """Whether the words for a call are the same: its latest failure means the same, and leaves it in the same state."""
    stands = (one.is_paused, one.asks_person, not one.until) == (other.is_paused, other.asks_person, not other.until)
    former, latest = one.failure, other.failure
    if former is None or latest is None:
        return stands and former is latest
    means = former.category, former.rule, former.why, former.retry_after, former.remedy, former.evidence
    return stands and means == (
        latest.category,
        latest.rule,
        latest.why,
        latest.retry_after,
        latest.remedy,
        latest.evidence,
    )


def _runs_alike(one: RunningCall, other: RunningCall) -> bool:
    return one.attempt == other.attempt and one.saved == other.saved and one.is_cancelled == other.is_cancelled


def _steady(moment: float | None, former: float | None) -> float | None:
    """*former* if *moment* is about the same."""
    return former if moment is not None and former is not None and abs(moment - former) < TOLERANCE else moment


def _which(call: RunningCall) -> str:
    event = OperationStarted(at=0.0, operation=call.operation, key=call.key, call=call.call)
    return explain(event, idempotency_key=call.idempotency_key, arguments=call.arguments).which
