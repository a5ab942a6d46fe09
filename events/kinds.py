"""All kinds of events, and those that a base class stands for."""

from __future__ import annotations

from typing import Any

from events.alert_events import AlertCleared, AlertRaised
from events.bus_events import SubscriberFailed
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.event import Event
from events.journal_events import JournalDegraded, JournalQuarantined, JournalRestored
from events.operation_events import (
    CallRejected,
    CallSteered,
    CheckpointSaved,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationFailed,
    OperationInterrupted,
    OperationQuarantined,
    OperationRecovered,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    Parked,
    RetryScheduled,
)

ON_REQUEST: tuple[type[Event], ...] = (OperationStarted, OperationSucceeded)
"""The events of the healthy path: a subscriber must name them, for a base class does not stand for them."""

EVENTS: tuple[type[Event], ...] = (
    OperationStarted,
    OperationSucceeded,
    OperationFailed,
    FailureClassified,
    RetryScheduled,
    Parked,
    GaveUp,
    OperationRecovered,
    CallRejected,
    OperationCancelled,
    CallSteered,
    OperationResumed,
    OperationInterrupted,
    OperationQuarantined,
    CheckpointSaved,
    CircuitOpened,
    CircuitHalfOpened,
    CircuitClosed,
    JournalDegraded,
    JournalRestored,
    JournalQuarantined,
    SubscriberFailed,
    AlertRaised,
    AlertCleared,
)
"""All kinds of events."""


def kinds_of(event: type[Any]) -> tuple[type[Event], ...]:
    """The kinds that *event* stands for: itself, or all below a base class, without those of ``ON_REQUEST``.

    Raises TypeError for anything else.
    """
    if event in EVENTS:
        return (event,)
    kinds: tuple[type[Event], ...] = ()
    if isinstance(event, type) and issubclass(event, Event):
        kinds = tuple(kind for kind in EVENTS if issubclass(kind, event) and kind not in ON_REQUEST)
    if not kinds:
        raise TypeError(f"{event!r} is not a kind of event")
    return kinds
