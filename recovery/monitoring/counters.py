"""What happened to each operation, folded from events: pure, time is what the events say.

The fold is over every event but the starts and successes of healthy calls. Those are read from the operations' counters
(``History.succeeded``), so that a healthy call costs nothing.
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

MAX_KEYS = 256
"""So many operations and keys are counted apart; those of more are counted together, under an empty name."""

MAX_TROUBLED = 131_072
"""Of so many calls it is known when they first failed; of more, the oldest are forgotten."""


class OperationKey:
    """One operation, or one key of it: its history and its circuit."""

    __slots__ = ("circuit", "history", "is_metrics_only", "open_for", "opened", "opened_at")

    def __init__(self, began: float, new_sketch: NewSketch) -> None:
        self.history = History(began, new_sketch)
        self.circuit: Literal["closed", "open", "half_open"] = "closed"
        self.is_metrics_only = False
        self.opened = 0
        self.opened_at: float | None = None
        self.open_for = 0.0


class Trouble(msgspec.Struct):
    """A call that has failed: *since* when, when its *latest* failure was, and of which *attempt* that was."""

    since: float
    latest: float
    attempt: int


class SubscriberTrouble(msgspec.Struct):
    """How often a subscriber failed, and whether it was *disabled*."""

    failures: int = 0
    disabled: bool = False


class State:
    """Everything that was folded since *began*; ``count`` changes it in place."""

    def __init__(self, began: float, new_sketch: NewSketch) -> None:
        self.began = began
        self.new_sketch = new_sketch
        self.parts: dict[tuple[str, str], OperationKey] = {}
        self.has_failed: OrderedDict[str, Trouble] = OrderedDict()
        self.subscribers: dict[str, SubscriberTrouble] = {}
        self.degraded = 0
        self.restored = 0
        self.quarantined = 0

    def part(self, operation: str, key: str) -> OperationKey:
        """That part, from now on if it is a new one."""
        part = self.parts.get((operation, key))
        if part is None:
            if len(self.parts) >= MAX_KEYS and operation:
                return self.part("", "")
            part = self.parts[operation, key] = OperationKey(self.began, self.new_sketch)
        return part


def count(state: State, event: Event) -> None:
    """Count *event*. What says nothing that is counted is passed over."""
    count = _COUNTS.get(type(event))
    if count is not None:
        count(state, event)


def _tally(state: State, event: Event) -> Tally:
    part = state.parts.get((event.operation, event.key)) or state.part(event.operation, event.key)
    return part.history.at(event.at)


def _failed(state: State, event: FailureClassified) -> None:
    has_failed = state.has_failed
    trouble = has_failed.get(event.call)
    if trouble is None:
        if len(has_failed) >= MAX_TROUBLED:
            has_failed.popitem(last=False)
        has_failed[event.call] = Trouble(event.at, event.at, event.attempt)
    elif trouble.attempt == event.attempt:
        return  # somebody judged the same failure once more
    else:
        trouble.latest, trouble.attempt = event.at, event.attempt
    tally = _tally(state, event)
    tally.failures += 1
    categories, category = tally.categories, _text(event.category)
    categories[category] = categories.get(category, 0) + 1


def _text(category: Category | None) -> str:
    # The plain text is a faster key: an enum computes its hash in Python.
    return "unknown" if category is None else category._value_


def _decided(state: State, event: Outcome, tally: Tally, trouble: Trouble | None) -> None:
    if trouble is not None and trouble.attempt == event.attempt:
        tally.deciding += max(event.at - trouble.latest, 0.0)


def _scheduled(state: State, event: RetryScheduled) -> None:
    tally = _tally(state, event)
    tally.retries += 1
    tally.wait(_text(event.category), event.after)
    _decided(state, event, tally, state.has_failed.get(event.call))


def _parked(state: State, event: Parked) -> None:
    tally = _tally(state, event)
    tally.parks += 1
    tally.wait(event.why or _text(event.category), event.after if event.after < FOREVER else 0.0)
    if event.error is not None:
        _decided(state, event, tally, state.has_failed.get(event.call))


def _gave_up(state: State, event: GaveUp) -> None:
    tally = _tally(state, event)
    tally.gave_up += 1
    _decided(state, event, tally, state.has_failed.pop(event.call, None))


def _recovered(state: State, event: OperationRecovered) -> None:
    tally = _tally(state, event)
    tally.recovered += 1
    if tally.lag is None:
        tally.lag = state.new_sketch()
    tally.lag.add(event.lag)
    trouble = state.has_failed.pop(event.call, None)
    if trouble is None:
        return  # its first failure was before our time
    if tally.recovery is None:
        tally.recovery = state.new_sketch()
    tally.recovery.add(max(event.at - trouble.since, 0.0))


def _rejected(state: State, event: CallRejected) -> None:
    _tally(state, event).rejected += 1


def _cancelled(state: State, event: OperationCancelled) -> None:
    _tally(state, event).cancelled += 1
    state.has_failed.pop(event.call, None)


def _resumed(state: State, event: OperationResumed) -> None:
    _tally(state, event).resumed += 1


def _circuit_opened(state: State, event: CircuitOpened) -> None:
    part = state.part(event.operation, event.key)
    part.history.at(event.at).opened += 1
    part.circuit, part.is_metrics_only = "open", event.metrics_only
    part.opened += 1
    if part.opened_at is None:
        part.opened_at = event.at


def _circuit_half_opened(state: State, event: CircuitHalfOpened) -> None:
    state.part(event.operation, event.key).circuit = "half_open"


def _circuit_closed(state: State, event: CircuitClosed) -> None:
    part = state.part(event.operation, event.key)
    part.circuit, part.is_metrics_only = "closed", False
    if part.opened_at is not None:
        part.open_for += max(event.at - part.opened_at, 0.0)
        part.opened_at = None


def _subscriber_failed(state: State, event: SubscriberFailed) -> None:
    name = event.subscriber
    if name not in state.subscribers and len(state.subscribers) >= MAX_CAUSES:
        name = OTHER
    trouble = state.subscribers.setdefault(name, SubscriberTrouble())
    trouble.failures += 1
    trouble.disabled = trouble.disabled or event.disabled


def _degraded(state: State, event: JournalDegraded) -> None:
    state.degraded += 1


def _restored(state: State, event: JournalRestored) -> None:
    state.restored += 1


def _quarantined(state: State, event: JournalQuarantined) -> None:
    state.quarantined += 1


_COUNTS: dict[type[Event], Callable[[State, Any], None]] = {
    FailureClassified: _failed,
    RetryScheduled: _scheduled,
    Parked: _parked,
    GaveUp: _gave_up,
    OperationRecovered: _recovered,
    CallRejected: _rejected,
    OperationCancelled: _cancelled,
    OperationResumed: _resumed,
    CircuitOpened: _circuit_opened,
    CircuitHalfOpened: _circuit_half_opened,
    CircuitClosed: _circuit_closed,
    SubscriberFailed: _subscriber_failed,
    JournalDegraded: _degraded,
    JournalRestored: _restored,
    JournalQuarantined: _quarantined,
}

HEARD: tuple[type[Event], ...] = tuple(_COUNTS)
"""The events that say something that is counted."""
