"""What became of each call: a pure fold of the journal's events, in the order they were written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

import msgspec

from events.circuit_events import CircuitClosed, CircuitOpened
from events.event import CallEvent, Event
from events.operation_events import (
    CallRejected,
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
    RetryScheduled,
)
from recovery.policies.circuit_breaker import Open

State: TypeAlias = Literal["running", "waiting", "quarantined", "succeeded", "gave up", "rejected", "cancelled"]

TERMINAL: tuple[type[CallEvent], ...] = (
    OperationSucceeded,
    OperationRecovered,
    GaveUp,
    CallRejected,
    OperationCancelled,
)
"""After one of these a call is over."""

CIRCUIT: tuple[type[Event], ...] = (CircuitOpened, CircuitClosed)
"""What there is to know about a circuit that may still be open."""

MAX_FAILURES_KEPT = 50


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One process that wrote to the journal, and what its clock meant: *monotonic* and *wall* were read together.

    *boot* identifies the boot of the machine: within one, monotonic clocks of two processes are one clock.
    """

    id: str
    boot: str
    monotonic: float
    wall: float
    pid: int


class CallRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Where a call stands.

    *attempt* is the number of the attempt that runs, ran last, or comes next; *retries* how many retries are used up.
    *due* is when the next attempt may begin, on the clock of *run*; *delay* is the whole wait. *failures* are what went
    wrong so far, one line each, the latest 50; *resumes* counts restarts, *crashes* those for which the process had
    died
    in an attempt, since the latest new checkpoint, and *interrupted* says that the latest process to carry it on
    did not, but ended in good order; *progress_resets* counts how often progress has refilled the retries, *done*
    is how far it came. *judged* is a failure whose outcome was not written any more. *elapsed* is how long the call had
    been under way at its latest failure; *at* is its latest event, on the clock of *run*. *arguments* and *saved* are
    JSON.
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
    arguments: bytes | None = None
    version: str = ""
    saved: bytes | None = None
    failures: tuple[str, ...] = ()
    idempotency_key: str = ""
    resumes: int = 0
    crashes: int = 0
    interrupted: bool = False
    progress_resets: int = 0
    done: float = 0.0
    judged: FailureClassified | None = None
    reason: str = ""
    elapsed: float = 0.0
    at: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether nothing more can come of it."""
        return self.state not in ("running", "waiting", "quarantined")

    @property
    def is_resumable(self) -> bool:
        """Whether there is something to resume and all that it takes."""
        return not self.is_over and self.arguments is not None


def replay(records: dict[str, CallRecord], run: str, events: Iterable[Event]) -> dict[str, CallRecord]:
    """Take *events*, written by *run*, into *records* (changed in place and returned), which are by call id."""
    for event in events:
        if isinstance(event, CallEvent):
            record = records.get(event.call) or CallRecord(call=event.call, operation=event.operation, key=event.key)
            records[event.call] = _after(record, event, run)
    return records


def _after(record: CallRecord, event: CallEvent, run: str) -> CallRecord:
    if record.is_over:
        return record  # one outcome per call: what comes after it is an echo
    changes: dict[str, object] = {"at": event.at, "run": run}
    match event:
        case OperationStarted(arguments=arguments, version=version):
            changes |= {"state": "running", "attempt": event.attempt, "due": None, "version": version, "judged": None}
            if bytes(arguments):
                changes["arguments"] = bytes(arguments)
            if event.idempotency_key:
                changes["idempotency_key"] = event.idempotency_key
        case FailureClassified(retries=retries):
            # Charged until we read otherwise: if the process dies before its decision is written, it counts.
            failures = (*record.failures, event.brief)[-MAX_FAILURES_KEPT:]
            changes |= {"state": "waiting", "attempt": event.attempt + 1, "retries": retries + 1, "failures": failures}
            changes |= {
                "elapsed": event.elapsed,
                "progress_resets": event.progress_resets,
                "done": event.done,
                "judged": event,
            }
        case RetryScheduled(after=after, retry=retry):
            changes |= {"state": "waiting", "attempt": event.attempt + 1, "retries": retry}
            changes |= {"due": event.at + after, "delay": after, "judged": None}
        case Parked(error=None):
            # Held back before an attempt: whoever held it is asked again, there is no time to remember.
            changes |= {"state": "waiting", "attempt": event.attempt, "due": None}
        case Parked(after=after, counts_as_retry=counts_as_retry):
            # Parked after a failure, which is not charged as a rule.
            changes |= {"state": "waiting", "due": event.at + after, "delay": after, "judged": None}
            changes["retries"] = record.retries if counts_as_retry else max(record.retries - 1, 0)
        case CheckpointSaved() if event.attempt < record.attempt:
            return record  # an attempt that was over ran on
        case CheckpointSaved(data=data):
            changes["saved"] = bytes(data)
            if bytes(data) != record.saved:
                changes["crashes"] = 0  # it comes further each time
        case OperationResumed(after=after):
            # What is left of its wait counts on from here, on the clock of the run that resumes it.
            changes |= {"resumes": record.resumes + 1, "attempt": event.attempt, "due": event.at + after}
            changes["interrupted"] = False
            if record.state == "quarantined":
                changes |= {"state": "waiting", "crashes": 0, "reason": ""}  # by hand
            elif record.state == "running" and not record.interrupted:
                changes["crashes"] = record.crashes + 1
        case OperationInterrupted():
            changes["interrupted"] = True
        case OperationQuarantined(reason=reason):
            changes |= {"state": "quarantined", "due": None, "reason": reason}
        case OperationSucceeded() | OperationRecovered():
            changes |= {"state": "succeeded", "attempt": event.attempt, "due": None}
        case GaveUp(reason=reason) | CallRejected(reason=reason):
            state = "gave up" if isinstance(event, GaveUp) else "rejected"
            if record.judged is not None:
                changes |= {"retries": record.judged.retries, "judged": None}  # it was not made
            changes |= {"state": state, "attempt": event.attempt, "due": None, "reason": reason}
        case OperationCancelled():
            changes |= {"state": "cancelled", "attempt": event.attempt, "due": None}
    return msgspec.structs.replace(record, **changes)


class OpenCircuit(msgspec.Struct, frozen=True):
    """A circuit that *run* left open or half-open: until *due* on its clock, *after* seconds since it opened."""

    run: str
    due: float
    after: float
    failures: int = 0
    times: int = 1


def replay_circuits(
    circuits: dict[tuple[str, str], OpenCircuit], run: str, events: Iterable[Event]
) -> dict[tuple[str, str], OpenCircuit]:
    """Take *events*, written by *run*, into *circuits* (changed in place and returned), by operation and key."""
    for event in events:
        part = (event.operation, event.key)
        match event:
            case CircuitOpened(after=after, failures=failures, times=times, metrics_only=False):
                circuits.pop(part, None)
                circuits[part] = OpenCircuit(run, event.at + after, after, failures, times)
            case CircuitClosed():
                circuits.pop(part, None)
    return circuits


def reopened(circuit: OpenCircuit, runs: Mapping[str, Run], now: Run) -> Open:
    """*circuit* as it is on the clock of *now* (read at this moment): what is left of its break is waited for."""
    left = _left(circuit.run, circuit.due, circuit.after, runs, now)
    return Open(now.monotonic + left, circuit.failures, circuit.times)


def remaining(record: CallRecord, runs: Mapping[str, Run], now: Run) -> float:
    """Seconds that are left of the wait that *record* was in, seen from *now* (its clocks read at this moment).

    Within one boot the monotonic clock goes on and the wall clock may be set at will; across boots only the wall
    clock means anything, and it is not trusted for more than the whole delay.
    """
    return 0.0 if record.due is None else _left(record.run, record.due, record.delay, runs, now)


def _left(run: str, due: float, delay: float, runs: Mapping[str, Run], now: Run) -> float:
    then = runs.get(run)
    if then is None:
        return 0.0
    is_one_boot = then.boot and then.boot == now.boot
    left = due - now.monotonic if is_one_boot else due - then.monotonic + then.wall - now.wall
    return min(max(left, 0.0), delay)
