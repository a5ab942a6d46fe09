"""Replay a journal: what its events, in the order written, say about each call. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from events.event import CallEvent, Event
from events.lease_events import CallHandedBack, OutcomeDelivered, OutcomeHeld, OutcomeSuperseded
from events.operation_events import (
    CallRejected,
    CallSteered,
    CheckpointSaved,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationInterrupted,
    OperationQuarantined,
    OperationRecovered,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    Parked,
    ProgressMade,
    RetryScheduled,
)
from events.question_events import QuestionAnswered, QuestionAsked, QuestionReopened
from events.repeat_events import OperationRepeated
from events.trace_events import CallTraced
from recovery.explain import Explanation, counted, explain, moment
from recovery.journal.waits import after_end, wait_after
from recovery.policies.sentences import Stands

State: TypeAlias = Literal[
    "running", "waiting", "quarantined", "succeeded", "gave up", "rejected", "cancelled", "handed back", "delivered",
    "superseded",
]  # fmt: skip

TERMINAL: tuple[type[CallEvent], ...] = (
    OperationSucceeded,
    OperationRecovered,
    GaveUp,
    CallRejected,
    OperationCancelled,
    CallHandedBack,
    OutcomeDelivered,
    OutcomeSuperseded,
)
"""The events that end a call."""

QUESTIONS: tuple[type[Event], ...] = (QuestionAsked, QuestionAnswered, QuestionReopened)
"""The events from which questions and their answers are restored."""

MAX_FAILURES_KEPT = 50

DELIVERY = "the cluster to take its outcome"
"""What a held outcome waits for."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A process that wrote to the journal, and what its clocks mean.

    Args:
        id: Its name in the journal.
        boot: The boot of the machine. Within one boot the monotonic clocks of all processes agree.
        monotonic: Monotonic seconds, read at the same moment as *wall*.
        wall: Seconds since the epoch.
        pid: Its process id.
    """

    id: str
    boot: str
    monotonic: float
    wall: float
    pid: int


class CallRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Where a call stands.

    Args:
        call: Its id.
        operation: The name of its operation.
        key: The part of the operation with a circuit of its own, the host, say; "" for none.
        run: The run that wrote the latest event.
        state: "running", "waiting", "quarantined", or how it ended.
        attempt: The number of the attempt that runs, ran last, or comes next.
        retries: Retries used up.
        due: When the next attempt may begin, on the clock of *run*; ``None`` if there is nothing to wait for.
        delay: Seconds of the whole wait.
        waits_for: The causes that must go away before the next attempt; "" for none.
        deadline: When that wait ends at the latest, on the clock of *run*; ``None`` if it has no end.
        asks_person: Whether it has no retries left, and waits until a person says retry or give up.
        former: The call that it repeats; "" for none.
        by: The call that repeats it; "" for none.
        ordered: The commands of a person since its process died, which the next process carries out.
        paused_at: When its wait was paused, on the clock of *run*; ``None`` if it is not.
        arguments: The arguments as JSON; ``None`` if they were not stored.
        version: The version of the operation.
        saved: The latest checkpoint as JSON.
        failures: What failed so far, one line each, the latest 50.
        idempotency_key: The key of the effect; "" for none.
        resumes: Restarts that resumed it.
        deaths: Attempts in a row that died with their process and came no further.
        came_further: Whether the attempt that runs, or ran last, has saved a new checkpoint, or made progress.
        interrupted: Whether the latest process ended in good order while the call ran.
        progress_resets: How often progress gave the retries back.
        done: How far it came, in the unit of its progress.
        failure: The latest failure; ``None`` if there is none, or the call succeeded.
        judged: A failure whose outcome was not written.
        reason: Why it ended, or is quarantined.
        elapsed: Seconds from its beginning to its latest failure.
        at: When its latest event happened, on the clock of *run*.
        is_leased: Whether a cluster owns it, or its outcome: no process of the journal resumes it.
        trace: The span that it had in the process that ran it last (``CallTraced``); "" for none.
    """

    call: str
    operation: str
    key: str = ""
    run: str = ""
    state: State = "running"
    attempt: int = 1
    retries: int = 0
    due: float | None = None
    delay: float = 0.0
    waits_for: str = ""
    deadline: float | None = None
    asks_person: bool = False
    former: str = ""
    by: str = ""
    ordered: tuple[str, ...] = ()
    paused_at: float | None = None
    arguments: bytes | None = None
    version: str = ""
    saved: bytes | None = None
    failures: tuple[str, ...] = ()
    idempotency_key: str = ""
    resumes: int = 0
    deaths: int = 0
    came_further: bool = False
    interrupted: bool = False
    progress_resets: int = 0
    done: float = 0.0
    failure: FailureClassified | None = None
    judged: FailureClassified | None = None
    reason: str = ""
    elapsed: float = 0.0
    at: float = 0.0
    is_leased: bool = False
    trace: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state not in ("running", "waiting", "quarantined")

    @property
    def is_resumable(self) -> bool:
        """Whether it is not over, and its arguments are stored."""
        return not self.is_over and self.arguments is not None

    def explain(self, left: float | None = None, *, is_alive: bool = True) -> Explanation:
        """What people read about it: what its latest failure means, which call it is, where it stands.

        Args:
            left: Seconds that it has still to wait (see ``remaining``); ``None`` if that is unknown.
            is_alive: Whether the process that runs it is alive, if it is not over.
        """
        event = self.failure or OperationStarted(at=0.0, operation=self.operation, key=self.key, call=self.call)
        step, stands = _standing(self, left)
        if not (is_alive or stands in ("ended", "quarantined")):
            stands = "left" if self.arguments is not None or self.idempotency_key else "unresumable"
        return explain(event, idempotency_key=self.idempotency_key, arguments=self.arguments, step=step, stands=stands)


def _standing(record: CallRecord, left: float | None) -> tuple[str, Stands]:
    """Where the call of *record* stands, and what happens next."""
    match record.state:
        case "running":
            return f"attempt {record.attempt} runs", "runs"
        case "waiting" if record.asks_person:
            return "has no retries left, and waits until a person says retry or give up", "asks"
        case "waiting":
            when = f" {moment(left)}" if left is not None else ""
            step = f"waits{f' for: {record.waits_for}' if record.waits_for else ''}, attempt {record.attempt}{when}"
            return step, "" if record.paused_at is not None else "waits" if record.waits_for else "retries"
        case "succeeded":
            return f"succeeded with attempt {record.attempt}", "ended"
        case "gave up":
            return f"gave up after {counted(record.attempt, 'attempt')}: {record.reason or 'no reason given'}", "ended"
    stands: Stands = "quarantined" if record.state == "quarantined" else "ended"
    return f"{record.state}: {record.reason}" if record.reason else record.state, stands


def replay(records: dict[str, CallRecord], run: str, events: Iterable[Event]) -> dict[str, CallRecord]:
    """Update *records*, by call id, with *events* that *run* wrote. Changes *records* and returns it."""
    for event in events:
        if isinstance(event, CallEvent):
            record = records.get(event.call) or CallRecord(call=event.call, operation=event.operation, key=event.key)
            if isinstance(event, CallTraced):
                records[event.call] = msgspec.structs.replace(record, trace=event.trace)
            else:
                records[event.call] = _after(record, event, run)
    return records


def _after(record: CallRecord, event: CallEvent, run: str) -> CallRecord:
    if record.is_over:  # one outcome per call: later events change nothing
        return msgspec.structs.replace(record, by=event.by) if isinstance(event, OperationRepeated) else record
    if isinstance(event, CallSteered) and record.run not in ("", run):
        return _ordered(record, event)
    waited = wait_after(event, record.due, record.paused_at)
    changes: dict[str, object] = {"at": event.at, "run": run, "ordered": (), **waited}
    match event:
        case OperationStarted(arguments=arguments, version=version):
            changes.update(state="running", attempt=event.attempt, due=None, version=version, judged=None)
            changes.update(interrupted=False, came_further=False, is_leased=event.leased)
            changes |= {"arguments": bytes(arguments)} if bytes(arguments) else {}
            if event.idempotency_key:
                changes["idempotency_key"] = event.idempotency_key
        case FailureClassified(retries=retries):  # a retry, until a later event says otherwise: its process may die
            failures = (*record.failures, event.brief)[-MAX_FAILURES_KEPT:]
            changes.update(state="waiting", attempt=event.attempt + 1, retries=retries + 1, failures=failures)
            changes.update(elapsed=event.elapsed, progress_resets=event.progress_resets, done=event.done)
            changes.update(failure=event, judged=event, deaths=0)
        case RetryScheduled(after=after, retry=retry):
            changes.update(state="waiting", attempt=event.attempt + 1, retries=retry)
            changes.update(due=event.at + after, delay=after, judged=None)
        case Parked(asks_person=True):
            changes.update(state="waiting", due=None, judged=None, asks_person=True)
            changes["retries"] = record.retries if record.judged is None else record.judged.retries
        case Parked(category=None):
            # Deferred before an attempt: the subscriber that deferred it is asked again, so no time is kept.
            changes.update(state="waiting", attempt=event.attempt, due=None)
        case Parked(after=after, counts_as_retry=counts_as_retry):
            changes.update(state="waiting", due=event.at + after, delay=after, judged=None)
            changes["retries"] = record.retries if counts_as_retry else max(record.retries - 1, 0)
        case CheckpointSaved() | ProgressMade() if event.attempt < record.attempt:
            return record  # written by an attempt that was over already
        case CheckpointSaved(data=data):
            changes["saved"] = bytes(data)
            if bytes(data) != record.saved:
                changes.update(came_further=True, deaths=0)
        case ProgressMade(done=done) if done > record.done:
            changes.update(done=done, came_further=True, deaths=0)
        case OperationResumed(after=after):
            # The rest of its wait counts from here, on the clock of the run that resumes it.
            record = after_death(record)
            changes.update(state="waiting", resumes=record.resumes + 1, attempt=event.attempt, due=event.at + after)
        case OperationInterrupted():
            changes["interrupted"] = True
        case CallSteered(command="retry now"):
            changes["asks_person"] = False
        case CallSteered(command="reset"):
            changes.update(_after_reset(record))
        case OperationRepeated(former=former, arguments=arguments, version=version) if former:
            # It is resumed from here, as it may die before its first attempt: while its circuit is open, say.
            changes.update(former=former, state="waiting", version=version, idempotency_key=event.idempotency_key)
            changes["arguments"] = bytes(arguments) or None
        case OutcomeHeld():
            changes.update(state="waiting", is_leased=True, waits_for=DELIVERY)
        case OperationQuarantined(reason=reason):
            changes.update(state="quarantined", due=None, reason=reason)
        case _ if event.ends:
            changes.update(after_end(event, record.judged), attempt=event.attempt, due=None, asks_person=False)
    return msgspec.structs.replace(record, **changes)


def _ordered(record: CallRecord, event: CallSteered) -> CallRecord:
    """*record* after *event*, which a person ordered while no process had the call: its clock stays that of its run."""
    kept = [one for one in record.ordered if one == "reset" != event.command]
    changes: dict[str, object] = {"ordered": (*kept, event.command)}
    match event.command:
        case "retry now":
            record = after_death(record) if record.state == "quarantined" else record
            changes.update(due=None, waits_for="", deadline=None, asks_person=False, paused_at=None)
        case "pause" | "unpause":
            changes["paused_at"] = event.at if event.command == "pause" else None
        case "reset":
            changes.update(_after_reset(record))
    return msgspec.structs.replace(record, **changes)


def _after_reset(record: CallRecord) -> dict[str, object]:
    is_first_retry = record.state == "waiting" and not (record.waits_for or record.asks_person)
    return {"retries": int(is_first_retry), "elapsed": 0.0}


def after_death(record: CallRecord) -> CallRecord:
    """*record*, of a call whose process is dead, as the next one goes on with it: its latest attempt used a retry.

    It is not charged, and made again, if it came further or ended in good order. A quarantine gives all retries back.
    """
    attempt = record.attempt + 1
    if record.state == "quarantined":
        return msgspec.structs.replace(record, state="waiting", attempt=attempt, retries=0, deaths=0, reason="")
    if record.state != "running" or record.interrupted or record.came_further:
        return record
    return msgspec.structs.replace(record, attempt=attempt, retries=record.retries + 1, deaths=record.deaths + 1)
