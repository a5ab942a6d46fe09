"""Counters of each operation, built from events. Pure: time is what the events say.

Every event is counted except the starts and successes of healthy calls. Successes are read from the operations' own
counters (``History.add_successes``), so a healthy call costs nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from events.bus_events import SubscriberFailed
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.event import FOREVER, Event
from events.evidence import Category
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
from recovery.monitoring.windows import MAX_CAUSES, OTHER, History, NewSketch, Tally
from recovery.operations import OperationKey

MAX_KEYS = 256
"""Operation keys with counters of their own; the calls of further keys are counted together, under ``OVERFLOW``."""

OVERFLOW: OperationKey = ("", "")

MAX_FAILING_CALLS = 131_072
"""Calls whose first failure is remembered until they end; of more, the oldest are forgotten."""


class OperationCounters:
    """What happened to one operation key: its history and its circuit."""

    __slots__ = ("circuit", "history", "is_metrics_only", "open_for", "opened", "opened_at")

    def __init__(self, began: float, new_sketch: NewSketch) -> None:
        self.history = History(began, new_sketch)
        self.circuit: Literal["closed", "open", "half_open"] = "closed"
        self.is_metrics_only = False
        self.opened = 0
        self.opened_at: float | None = None
        self.open_for = 0.0


class FailingCall(msgspec.Struct):
    """A call that has failed and not ended: the times of its *first* and *latest* failure, and the latest's attempt."""

    first: float
    latest: float
    attempt: int


class SubscriberFailures(msgspec.Struct):
    """How many times a subscriber failed, and whether the bus *disabled* it."""

    failures: int = 0
    disabled: bool = False


class Counters:
    """Everything counted since *began*; ``count`` changes it in place."""

    def __init__(self, began: float, new_sketch: NewSketch) -> None:
        self.began = began
        self.new_sketch = new_sketch
        self.operations: dict[OperationKey, OperationCounters] = {}
        self.failing_calls: OrderedDict[str, FailingCall] = OrderedDict()
        self.subscribers: dict[str, SubscriberFailures] = {}
        self.degraded = 0
        self.restored = 0
        self.quarantined = 0

    def of(self, operation: str, key: str) -> OperationCounters:
        """The counters of that operation key, made if there are none; those of ``OVERFLOW`` once there are too many."""
        counters = self.operations.get((operation, key))
        if counters is None:
            if len(self.operations) >= MAX_KEYS and operation:
                return self.of(*OVERFLOW)
            counters = self.operations[operation, key] = OperationCounters(self.began, self.new_sketch)
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


def _on_retry_scheduled(counters: Counters, event: RetryScheduled) -> None:
    tally = _tally(counters, event)
    tally.retries += 1
    tally.add_wait(_category_name(event.category), event.after)
    _add_decision_time(event, tally, counters.failing_calls.get(event.call))


def _on_parked(counters: Counters, event: Parked) -> None:
    tally = _tally(counters, event)
    tally.parks += 1
    tally.add_wait(event.why or _category_name(event.category), event.after if event.after < FOREVER else 0.0)
    if event.error is not None:
        _add_decision_time(event, tally, counters.failing_calls.get(event.call))


def _on_gave_up(counters: Counters, event: GaveUp) -> None:
    tally = _tally(counters, event)
    tally.gave_up += 1
    _add_decision_time(event, tally, counters.failing_calls.pop(event.call, None))


def _on_recovered(counters: Counters, event: OperationRecovered) -> None:
    tally = _tally(counters, event)
    tally.recovered += 1
    if tally.lag is None:
        tally.lag = counters.new_sketch()
    tally.lag.add(event.lag)
    call = counters.failing_calls.pop(event.call, None)
    if call is None:
        return  # it first failed before the monitor was attached
    if tally.recovery is None:
        tally.recovery = counters.new_sketch()
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
    operation.circuit, operation.is_metrics_only = "open", event.metrics_only
    operation.opened += 1
    if operation.opened_at is None:
        operation.opened_at = event.at


def _on_circuit_half_opened(counters: Counters, event: CircuitHalfOpened) -> None:
    counters.of(event.operation, event.key).circuit = "half_open"


def _on_circuit_closed(counters: Counters, event: CircuitClosed) -> None:
    operation = counters.of(event.operation, event.key)
    operation.circuit, operation.is_metrics_only = "closed", False
    if operation.opened_at is not None:
        operation.open_for += max(event.at - operation.opened_at, 0.0)
        operation.opened_at = None


def _on_subscriber_failed(counters: Counters, event: SubscriberFailed) -> None:
    name = event.subscriber
    if name not in counters.subscribers and len(counters.subscribers) >= MAX_CAUSES:
        name = OTHER
    seen = counters.subscribers.setdefault(name, SubscriberFailures())
    seen.failures += 1
    seen.disabled = seen.disabled or event.disabled


def _on_journal_degraded(counters: Counters, event: JournalDegraded) -> None:
    counters.degraded += 1


def _on_journal_restored(counters: Counters, event: JournalRestored) -> None:
    counters.restored += 1


def _on_journal_quarantined(counters: Counters, event: JournalQuarantined) -> None:
    counters.quarantined += 1


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
    SubscriberFailed: _on_subscriber_failed,
    JournalDegraded: _on_journal_degraded,
    JournalRestored: _on_journal_restored,
    JournalQuarantined: _on_journal_quarantined,
}

COUNTED_EVENTS: tuple[type[Event], ...] = tuple(_ON_EVENT)
