"""Which facts there are, and which of them a base class stands for."""

from __future__ import annotations

from typing import Any

from events.alert_events import AlertCleared, AlertRaised
from events.bus_events import SubscriberFailed
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.event import Fact
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

ON_REQUEST: tuple[type[Fact], ...] = (OperationStarted, OperationSucceeded)
"""The facts of the healthy path: nobody hears them who has not asked for them by name."""

FACTS: tuple[type[Fact], ...] = (
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
"""Every fact there is."""


def kinds_of(fact: type[Any]) -> tuple[type[Fact], ...]:
    """The facts that *fact* stands for: itself, or, for a base class, those below it that need no asking by name.

    Raises TypeError for anything that is no fact, or stands for none.
    """
    if fact in FACTS:
        return (fact,)
    kinds: tuple[type[Fact], ...] = ()
    if isinstance(fact, type) and issubclass(fact, Fact):
        kinds = tuple(kind for kind in FACTS if issubclass(kind, fact) and kind not in ON_REQUEST)
    if not kinds:
        raise TypeError(f"{fact!r} is not a kind of fact")
    return kinds
