"""Counters of each operation, built from events. Pure: time is what the events say.

Every event is counted except the starts and successes of healthy calls. Successes are read from the operations' own
counters (``History.add_successes``), so a healthy call costs nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from events.bus_events import SubscriberFailed
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.event import FOREVER, Event
from events.evidence import Category
from events.incident_events import IncidentClosed, IncidentOpened
from events.journal_events import JournalDegraded, JournalQuarantined, JournalRestored
from events.operation_events import (
    CallRejected,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationRecovered,
    OperationResumed,
    Outcome,
    Parked,
    RetryScheduled,
)
from recovery.monitoring.windows import MAX_CAUSES, OTHER, History, Minutes, Tally, new_sketch
from recovery.operations import OperationKey
from recovery.policies.circuit_states import Circuit, Forced, HalfOpen, Open

MAX_KEYS = 256
"""Operation keys with counters of their own; the calls of further keys are counted together, under ``OVERFLOW``."""

OVERFLOW: OperationKey = ("", "")

MAX_FAILING_CALLS = 131_072
"""Calls whose first failure is remembered until they end; of more, the oldest are forgotten."""


class CircuitSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The circuit of one operation key.

    Args:
        state: How it stands.
        opened: How many times it opened.
        open_for: Seconds from each opening until it closed, added up.
        metrics_only: Whether it only publishes what it would do, and rejects no call.
    """

    state: Literal["closed", "open", "half_open"] = "closed"
    opened: int = 0
    open_for: float = 0.0
    metrics_only: bool = False


class SubscriberSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A subscriber that failed.

    Args:
        failures: How many times.
        disabled: Whether the bus calls it no more.
    """

    failures: int = 0
    disabled: bool = False


class OperationCounters(msgspec.Struct):
    """What happened to one operation key: its history and its circuit, which is open since *opened_at*, if it is."""

    history: History
    circuit: CircuitSnapshot = CircuitSnapshot()
    opened_at: float | None = None

    def circuit_at(self, now: float, current: Circuit | Forced | None = None) -> CircuitSnapshot:
        """The circuit, with the time that it has been open until *now*; *current* may be open by an earlier run."""
        if self.opened_at is not None:
            return replace(self.circuit, open_for=self.circuit.open_for + max(now - self.opened_at, 0.0))
        if self.circuit.state == "closed" and isinstance(current, Open | HalfOpen):
            return replace(self.circuit, state="open" if isinstance(current, Open) else "half_open")
        return self.circuit


class FailingCall(msgspec.Struct):
    """A call that has failed and not ended: the times of its *first* and *latest* failure.

    *attempt* is that of the latest failure, and 0 once its outcome is known.
    """

    first: float
    latest: float
    attempt: int


class Counters:
    """Everything counted since *began*; ``count`` changes it in place."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.minutes = Minutes()
        self.operations: dict[OperationKey, OperationCounters] = {}
        self.failing_calls: OrderedDict[str, FailingCall] = OrderedDict()
        self.incidents: dict[OperationKey, Category | None] = {}  # those that are open, with their categories
        self.subscribers: dict[str, SubscriberSnapshot] = {}
        self.journal = dict.fromkeys(_JOURNAL_COUNTS.values(), 0)

    def of(self, operation: str, key: str) -> OperationCounters:
        """The counters of that operation key, made if there are none; those of ``OVERFLOW`` once there are too many."""
        counters = self.operations.get((operation, key))
        if counters is None:
            if len(self.operations) >= MAX_KEYS and operation:
                return self.of(*OVERFLOW)
            counters = self.operations[operation, key] = OperationCounters(History(self.began, self.minutes))
        return counters


def count(counters: Counters, event: Event) -> None:
    """Count *event*. Types of events that nothing is counted of are ignored."""
    on_event = _ON_EVENT.get(type(event))
    if on_event is not None:
        on_event(counters, event)


def _tally(counters: Counters, event: Event) -> Tally:
    operation = counters.operations.get((event.operation, event.key)) or counters.of(event.operation, event.key)
    return operation.history.tally_at(event.at)


def _on_failure_classified(counters: Counters, event: FailureClassified) -> None:
    failing_calls = counters.failing_calls
    call = failing_calls.get(event.call)
    if call is None:
        if len(failing_calls) >= MAX_FAILING_CALLS:
            failing_calls.popitem(last=False)
        failing_calls[event.call] = FailingCall(event.at, event.at, event.attempt)
    elif call.attempt == event.attempt:
        return  # a second classification of the same failure
    else:
        call.latest, call.attempt = event.at, event.attempt
    tally = _tally(counters, event)
    tally.failures += 1
    categories, category = tally.categories, _category_name(event.category)
    categories[category] = categories.get(category, 0) + 1


def _category_name(category: Category | None) -> str:
    # The plain text is a faster key: an enum computes its hash in Python.
    return "unknown" if category is None else category._value_


def _add_decision_time(event: Outcome, tally: Tally, call: FailingCall | None) -> None:
    if call is not None and call.attempt == event.attempt:
        tally.decision_seconds += max(event.at - call.latest, 0.0)
        call.attempt = 0  # what ends the call while it waits is no decision about this failure


def _on_retry_scheduled(counters: Counters, event: RetryScheduled) -> None:
    tally = _tally(counters, event)
    tally.retries += 1
    tally.add_wait(_category_name(event.category), event.after)
    _add_decision_time(event, tally, counters.failing_calls.get(event.call))


def _on_parked(counters: Counters, event: Parked) -> None:
    tally = _tally(counters, event)
    tally.parks += 1
    tally.add_wait(event.why or _category_name(event.category), event.after if event.after < FOREVER else 0.0)
    if event.category is not None:
        _add_decision_time(event, tally, counters.failing_calls.get(event.call))


def _on_gave_up(counters: Counters, event: GaveUp) -> None:
    if event.asked:
        return  # it was counted when it asked
    tally = _tally(counters, event)
    tally.gave_up += 1
    _add_decision_time(event, tally, counters.failing_calls.pop(event.call, None))


def _on_recovered(counters: Counters, event: OperationRecovered) -> None:
    tally = _tally(counters, event)
    tally.recovered += 1
    if tally.lag is None:
        tally.lag = new_sketch()
    tally.lag.add(event.lag)
    call = counters.failing_calls.pop(event.call, None)
    if call is None:
        return  # it first failed before the monitor was attached
    if tally.recovery is None:
        tally.recovery = new_sketch()
    tally.recovery.add(max(event.at - call.first, 0.0))


def _on_rejected(counters: Counters, event: CallRejected) -> None:
    _tally(counters, event).rejected += 1


def _on_cancelled(counters: Counters, event: OperationCancelled) -> None:
    _tally(counters, event).cancelled += 1
    counters.failing_calls.pop(event.call, None)


def _on_resumed(counters: Counters, event: OperationResumed) -> None:
    _tally(counters, event).resumed += 1


def _on_circuit_opened(counters: Counters, event: CircuitOpened) -> None:
    operation = counters.of(event.operation, event.key)
    operation.history.tally_at(event.at).opened += 1
    opened = operation.circuit.opened + 1
    operation.circuit = replace(operation.circuit, state="open", opened=opened, metrics_only=event.metrics_only)
    if operation.opened_at is None:
        operation.opened_at = event.at


def _on_circuit_half_opened(counters: Counters, event: CircuitHalfOpened) -> None:
    operation = counters.of(event.operation, event.key)
    operation.circuit = replace(operation.circuit, state="half_open")


def _on_circuit_closed(counters: Counters, event: CircuitClosed) -> None:
    operation = counters.of(event.operation, event.key)
    operation.circuit = replace(operation.circuit_at(event.at), state="closed", metrics_only=False)
    operation.opened_at = None


def _on_incident_opened(counters: Counters, event: IncidentOpened) -> None:
    counters.incidents[event.operation, event.key] = event.category


def _on_incident_closed(counters: Counters, event: IncidentClosed) -> None:
    counters.incidents.pop((event.operation, event.key), None)
    _tally(counters, event).incidents += 1


def _on_subscriber_failed(counters: Counters, event: SubscriberFailed) -> None:
    name = event.subscriber
    if name not in counters.subscribers and len(counters.subscribers) >= MAX_CAUSES:
        name = OTHER
    seen = counters.subscribers.get(name, SubscriberSnapshot())
    is_disabled = seen.disabled or event.disabled
    counters.subscribers[name] = SubscriberSnapshot(failures=seen.failures + 1, disabled=is_disabled)


def _on_journal_event(counters: Counters, event: Event) -> None:
    counters.journal[_JOURNAL_COUNTS[type(event)]] += 1


_JOURNAL_COUNTS: dict[type[Event], str] = {
    JournalDegraded: "degraded",
    JournalRestored: "restored",
    JournalQuarantined: "quarantined",
}


_ON_EVENT: dict[type[Event], Callable[[Counters, Any], None]] = {
    FailureClassified: _on_failure_classified,
    RetryScheduled: _on_retry_scheduled,
    Parked: _on_parked,
    GaveUp: _on_gave_up,
    OperationRecovered: _on_recovered,
    CallRejected: _on_rejected,
    OperationCancelled: _on_cancelled,
    OperationResumed: _on_resumed,
    CircuitOpened: _on_circuit_opened,
    CircuitHalfOpened: _on_circuit_half_opened,
    CircuitClosed: _on_circuit_closed,
    IncidentOpened: _on_incident_opened,
    IncidentClosed: _on_incident_closed,
    SubscriberFailed: _on_subscriber_failed,
    **dict.fromkeys(_JOURNAL_COUNTS, _on_journal_event),
}

COUNTED_EVENTS: tuple[type[Event], ...] = tuple(_ON_EVENT)
