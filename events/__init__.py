"""The words and the wire of launcher-recovery: events, verdicts, the bus, operations for code that emits by hand."""

from events.alert_events import AlertCleared, AlertRaised
from events.attempt import Attempt
from events.bus import Bus
from events.bus_events import EventsDropped, SubscriberFailed
from events.call import Call
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.clock_events import ClockJumped
from events.codec import decode, encode
from events.conditions import Condition
from events.errors import (
    AwaitableResultError,
    CallCancelledError,
    CallRejectedError,
    CodecError,
    JoinedElsewhere,
    NeedsPerson,
    Permanent,
    RecoveryError,
    Retryable,
    StaysPendingError,
)
from events.event import CallEvent, Event
from events.evidence import Category, Evidence, Remedy, Room
from events.incident_events import IncidentClosed, IncidentOpened
from events.journal_events import JournalDegraded, JournalQuarantined, JournalRestored
from events.lease_events import CallHandedBack, OutcomeDelivered, OutcomeHeld, OutcomeSuperseded
from events.operation import Operation
from events.operation_events import (
    CallLeftPending,
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
    ProgressMade,
    RetryScheduled,
)
from events.question_events import QuestionAnswered, QuestionAsked, QuestionReopened
from events.recorded import Recorded
from events.repeat_events import OperationRepeated
from events.subscription import Subscription
from events.trace_events import CallTraced
from events.verdicts import GiveUp, Park, Retry, Verdict, join

__all__ = [
    "AlertCleared", "AlertRaised", "Attempt", "AwaitableResultError", "Bus", "Call", "CallCancelledError", "CallEvent",
    "CallHandedBack", "CallLeftPending", "CallRejected", "CallRejectedError", "CallSteered", "CallTraced", "Category",
    "CheckpointSaved", "CircuitClosed", "CircuitHalfOpened", "CircuitOpened", "ClockJumped", "CodecError", "Condition",
    "decode", "encode", "Event", "EventsDropped", "Evidence", "FailureClassified", "GaveUp", "GiveUp", "IncidentClosed",
    "IncidentOpened", "join", "JoinedElsewhere", "JournalDegraded", "JournalQuarantined", "JournalRestored",
    "NeedsPerson", "Operation", "OperationCancelled", "OperationFailed", "OperationInterrupted", "OperationQuarantined",
    "OperationRecovered", "OperationRepeated", "OperationResumed", "OperationStarted", "OperationSucceeded",
    "OutcomeDelivered", "OutcomeHeld", "OutcomeSuperseded", "Park", "Parked", "Permanent", "ProgressMade",
    "QuestionAnswered", "QuestionAsked", "QuestionReopened", "Recorded", "RecoveryError", "Remedy", "Retry",
    "Retryable", "RetryScheduled", "Room", "StaysPendingError", "SubscriberFailed", "Subscription", "Verdict",
]  # fmt: skip
