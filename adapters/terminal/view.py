"""The state of a launch, made from its events: from the bus, or from the output of another process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from adapters.comfyui.record import PromptRecord
from adapters.journals.incidents import OF_CIRCUITS, IncidentLine
from adapters.launcher.checkpoint_words import Note, ServerNote, saved_note
from adapters.launcher.document import Step
from adapters.launcher.launch import Outcome, name_in_arguments
from adapters.launcher.progress import Samples, Transfer, rate, saved_transfer, with_sample
from events.event import FOREVER, CallEvent, Event
from events.operation_events import (
    CallRejected,
    CallSteered,
    CheckpointSaved,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationRecovered,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    Parked,
    RetryScheduled,
)
from recovery.explain import explain
from recovery.operations import OperationKey
from recovery.policies.incidents import has_ended, is_held
from recovery.redact import redacted

State: TypeAlias = Literal["queued", "running", "waiting", "paused", "done", "failed", "skipped", "cancelled", "left"]

Bound: TypeAlias = Literal["in", "causes", "asks"]
"""What the end of a delay means: the next attempt begins; it may begin once the causes are gone; it is asked for."""

OF_STEPS = (FailureClassified, RetryScheduled, Parked)
"""The events of a single step that tell how its operation stands."""

SEEN: tuple[type[Event], ...] = (Event, OperationStarted, OperationSucceeded)
"""The events that a view needs."""


class Line(msgspec.Struct):
    """One operation of the plan. Its times are those of the clock of the events.

    Args:
        name: Its name in the plan.
        needs: The operations that must be done before it begins.
        optional: Whether the plan says that it may fail.
        state: How it stands.
        attempts: The number of the latest attempt.
        failures: Why each failed attempt failed, as a sentence.
        resumed: How often a process resumed it.
        waits_for: What its latest wait was for.
        since: When its wait began.
        until: When its delay ends.
        bound: What the end of the delay means: "in", the next attempt begins; "causes", it may begin once the causes
            are gone; "asks", it is asked for.
        deadline: When its wait ends at the latest.
        left: The rest of the delay in seconds while it is paused.
        began: When its latest attempt began.
        start: The bytes that earlier attempts or launches had received when that began.
        offset: The bytes that are there.
        size: The bytes of the whole file, if that is known.
        samples: How many bytes were there at which time, lately: pairs of time and bytes.
        why: Why it waits, or ended as it did.
        incident: The host, or the operation, of the incident that it waits for, or that it gave up with.
        lasts: Whether it is a server.
        note: What the latest attempt of a server, of steps, or of a prompt has saved.
    """

    name: str
    needs: tuple[str, ...] = ()
    optional: bool = False
    state: State = "queued"
    attempts: int = 0
    failures: list[str] = msgspec.field(default_factory=list)
    resumed: int = 0
    waits_for: str = ""
    since: float = 0.0
    until: float | None = None
    bound: Bound = "in"
    deadline: float | None = None
    left: float | None = None
    began: float = 0.0
    start: int = 0
    offset: int = 0
    size: int | None = None
    samples: Samples = ()
    why: str = ""
    incident: str = ""
    lasts: bool = False
    note: Note | None = None

    @property
    def is_serving(self) -> bool:
        """Whether it is a server that is ready."""
        return self.state == "running" and isinstance(self.note, ServerNote)

    @property
    def is_over(self) -> bool:
        """Whether it has ended, done or not."""
        return self.state in ("done", "failed", "skipped", "cancelled")

    @property
    def share(self) -> float | None:
        """How far a prompt is, from 0 to 1; None for what is none."""
        return self.note.progress.share if isinstance(self.note, PromptRecord) else None

    def rate(self, now: float) -> float | None:
        """Bytes a second at *now*; None if that is not known."""
        return rate(self.samples, now)

    def take(self, event: CallEvent) -> None:
        """Apply *event*."""
        match event:
            case OperationStarted():
                self._end_wait("running")
                self.attempts = max(self.attempts, event.attempt)
                self.began, self.start = event.at, self.offset
                self.note = None if self.lasts else self.note
                self.samples = ((event.at, self.offset),) if self.offset else ()
            case FailureClassified():
                self.failures.append(explain(event).sentence)
            case RetryScheduled(after=after, retry=retry):
                self._wait(event.at, after, f"{'restart' if self.lasts else 'retry'} {retry}", "in")
                self.why = explain(event).short
            case Parked(asks_person=True, why=why):
                self._wait(event.at, 0.0, why, "causes")
                self.why = explain(event).short or self.why
            case Parked(after=after, why=why, within=within):
                self._wait(event.at, after, why, "asks" if event.category is None else "causes")
                self.deadline = event.at + within if within < FOREVER else None
                self.why = explain(event).short or self.why
                self.incident = (event.key or event.operation) if is_held(why) else ""
                if event.category is None:
                    self.attempts = min(self.attempts, event.attempt - 1)  # this one has not begun
            case CallSteered(command="pause"):
                self.state, self.left = "paused", None if self.until is None else max(self.until - event.at, 0.0)
            case CallSteered(command="unpause") if self.state == "paused":
                self.state, self.until, self.left = "waiting", event.at + (self.left or 0.0), None
            case CheckpointSaved(data=data):
                if (transfer := saved_transfer(data)) is not None:
                    self._advance(event.at, transfer)
                else:
                    self.note = saved_note(data)
            case OperationResumed(after=after):
                self.resumed += 1
                self._wait(event.at, after, "what is left of its delay", "in")
            case OperationSucceeded() | OperationRecovered():
                self._end_wait("done")
                self.why = ""
            case GaveUp() | CallRejected():
                self._end_wait("failed")
                explained = explain(event)
                self.why = "; ".join(filter(None, (explained.short, explained.step)))
                if has_ended(event.reason, event.operation, event.key):
                    self.incident = event.key or event.operation
                    self.why = f"gave up with incident {self.incident}"
            case OperationCancelled():
                self._end_wait("cancelled")

    def _advance(self, at: float, transfer: Transfer) -> None:
        if transfer.start is not None:
            self.start, self.samples = transfer.start, self.samples or ((self.began, transfer.start),)
        elif transfer.offset < self.start:
            self.start = 0  # it started over
        self.samples = with_sample(self.samples, at, transfer.offset)
        self.offset, self.size = transfer.offset, transfer.size

    def _wait(self, since: float, after: float, waits_for: str, bound: Bound) -> None:
        self.state, self.waits_for, self.bound = "waiting", waits_for, bound
        self.since, self.until, self.deadline, self.left, self.incident = since, since + after, None, None, ""

    def _end_wait(self, state: State) -> None:
        self.state, self.waits_for, self.until, self.left, self.incident = state, "", None, None, ""


class LaunchView:
    """Takes the events of a launch. ``lines`` are the plan's operations, ``incidents`` the latest of each host."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self.lines = {
            step.name: Line(
                name=step.name,
                needs=step.needs,
                optional=step.optional,
                size=step.size_in_bytes,
                lasts=step.LASTS,
            )
            for step in steps
        }
        self.incidents: dict[OperationKey, IncidentLine] = {}
        self._names: dict[str, str] = {}

    def feed(self, event: Event) -> None:
        """Take one event."""
        operation_key = (event.operation, event.key)
        if isinstance(event, OF_CIRCUITS) and operation_key not in self.incidents:
            self.incidents[operation_key] = IncidentLine(operation=event.operation, key=event.key)
        if (incident := self.incidents.get(operation_key)) is not None:
            incident.take(event)
        match event:
            case OperationStarted(arguments=arguments) | OperationResumed(arguments=arguments):
                if name := name_in_arguments(event.operation, bytes(arguments)):
                    self._names[event.call] = name
        if isinstance(event, CallEvent) and (line := self.lines.get(self.name_of(event) or "")):
            line.take(redacted(event))

    def name_of(self, event: Event) -> str | None:
        """The name of the plan's operation that *event* is about, if any."""
        if not isinstance(event, CallEvent):
            return None
        kind, _, name = event.operation.partition(" ")
        if kind not in ("step", "undo"):
            return self._names.get(event.call)
        # Of a single step, what it waits for; with a ``retry`` of its own the operation has its name twice.
        is_told = isinstance(event, OF_STEPS) or (isinstance(event, OperationStarted) and event.attempt > 1)
        found = next((one for one in (name, name[: len(name) // 2]) if one in self.lines), None)
        return found if is_told else None

    def end(self, outcomes: dict[str, Outcome]) -> None:
        """Take over how the launch says that its operations ended."""
        for name, outcome in outcomes.items():
            if line := self.lines.get(name):
                knows_better = outcome.state == line.state == "failed" and line.why
                line.state, line.why = outcome.state, line.why if knows_better else outcome.why
