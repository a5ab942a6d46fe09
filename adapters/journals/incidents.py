"""An incident as a screen shows it, made from events: from the bus, or from the rows of a journal."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.event import FOREVER, CallEvent, Event
from events.evidence import Category
from events.incident_events import IncidentClosed
from events.operation_events import (
    CallRejected,
    GaveUp,
    OperationCancelled,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
    Parked,
)
from recovery.journal.history import Run
from recovery.operations import OperationKey
from recovery.policies.incidents import open_circuit
from recovery.subscribers.incidents import FORCED_OPEN, Incident
from recovery.subscribers.log import describe

OF_CIRCUITS: tuple[type[Event], ...] = (CircuitOpened, CircuitHalfOpened, CircuitClosed, IncidentClosed)
"""The events from which an incident is known; those of calls tell how many wait for it."""


class IncidentLine(msgspec.Struct, kw_only=True):
    """The latest incident of an operation key. Its times are on the clock of the events.

    Args:
        operation: The name of the operation.
        key: Its key, such as a host; "" for the operation as a whole.
        is_open: Whether it has not ended.
        cause: What the failure that opened the circuit means, in a few words.
        category: The category of that failure; None if the circuit was forced open.
        since: When it opened.
        next_probe: When the next call may probe; None if the circuit is forced open.
        is_probed: Whether a probe is under way.
        waiting: The ids of the calls that wait for it now.
        calls: The ids of the calls that have waited for it.
        gave_up: How many of them gave up.
        closed: The event of its end.
    """

    operation: str
    key: str
    is_open: bool = False
    cause: str = ""
    category: Category | None = None
    since: float = 0.0
    next_probe: float | None = None
    is_probed: bool = False
    waiting: set[str] = msgspec.field(default_factory=set)
    calls: set[str] = msgspec.field(default_factory=set)
    gave_up: int = 0
    closed: IncidentClosed | None = None

    def take(self, event: Event) -> None:
        """Apply *event*, which is about the same operation key."""
        match event:
            case CircuitOpened(metrics_only=False):
                if not self.is_open:
                    self._open(event)
                self.next_probe = event.at + event.after if event.after < FOREVER else None
                self.is_probed = False
            case CircuitHalfOpened():
                self.is_probed = True
            case CircuitClosed():
                self.is_open = False
            case IncidentClosed():
                self.closed = event
            case Parked() if open_circuit(self.operation, self.key) in event.why:
                self.waiting.add(event.call)
                self.calls.add(event.call)
            case GaveUp() | CallRejected():
                self.gave_up += event.call in self.calls
                self.waiting.discard(event.call)
            case OperationStarted() | OperationSucceeded() | OperationRecovered() | OperationCancelled():
                self.waiting.discard(event.call)

    def _open(self, event: CircuitOpened) -> None:
        self.is_open, self.since, self.closed = True, event.at, None
        self.cause, self.category = FORCED_OPEN if event.forced else event.cause, event.category
        self.waiting, self.calls, self.gave_up = set(), set(), 0

    def abandon(self) -> None:
        """Note that its process is dead: no call waits, and the next process may probe when the break is over."""
        self.waiting, self.is_probed = set(), False
        self.is_open = self.is_open and self.cause != FORCED_OPEN  # a forced circuit is one process's own

    def line(self, now: float) -> str | None:
        """What it is, how many calls wait for it, and when the next may probe; None if there is nothing to tell."""
        if not self.is_open:
            return None if self.closed is None else describe(self.closed)
        until = None if self.is_probed or self.next_probe is None else max(self.next_probe - now, 0.0)
        incident = Incident(
            operation=self.operation,
            key=self.key,
            cause=self.cause,
            category=self.category,
            lasted=now - self.since,
            waiting=tuple(self.waiting),
            calls=len(self.calls),
            gave_up=self.gave_up,
            next_probe=until,
        )
        return f"incident {incident}"


class JournalIncidents:
    """The latest incident of each operation key, from the rows about circuits, and after them those of calls."""

    def __init__(self, runs: Mapping[str, Run]) -> None:
        self._runs = runs
        self._lines: dict[OperationKey, IncidentLine] = {}
        self._writers: dict[OperationKey, str] = {}

    def take(self, run: str, event: Event) -> None:
        """Apply *event*, which *run* wrote, with the time of day at which it happened."""
        operation_key, writer = (event.operation, event.key), self._runs.get(run)
        line = self._lines.get(operation_key)
        if writer is None or (line is None and isinstance(event, CallEvent)):
            return
        event = msgspec.structs.replace(event, at=writer.wall + event.at - writer.monotonic)
        if line is None:
            line = self._lines[operation_key] = IncidentLine(operation=event.operation, key=event.key)
        if not isinstance(event, CallEvent):
            self._writers[operation_key] = run
            line.take(event)
        elif event.at >= line.since:
            line.take(event)

    def latest(self, living: Collection[str]) -> tuple[IncidentLine, ...]:
        """All of them; a process that is not among the *living* has no call that waits."""
        for operation_key, line in self._lines.items():
            if self._writers[operation_key] not in living:
                line.abandon()
        return tuple(self._lines.values())
