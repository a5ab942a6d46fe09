"""What happened to each operation, folded from facts: pure, time is what the facts say.

The fold is over every fact but the starts and successes of healthy calls. Those are read from the operations' counters
(``History.succeeded``), so that a healthy call costs nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from events.bus_events import SubscriberFailed
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.event import FOREVER, Fact
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

MAX_PARTS = 256
"""So many operations and keys are counted apart; those of more are counted together, under an empty name."""

MAX_TROUBLED = 131_072
"""Of so many calls it is known when they first failed; of more, the oldest are forgotten."""


class Part:
    """One operation, or one key of it: its history and its circuit."""

    __slots__ = ("circuit", "history", "is_dry", "open_for", "opened", "opened_at")

    def __init__(self, began: float, new_sketch: NewSketch) -> None:
        self.history = History(began, new_sketch)
        self.circuit: Literal["closed", "open", "half_open"] = "closed"
        self.is_dry = False
        self.opened = 0
        self.opened_at: float | None = None
        self.open_for = 0.0


class Trouble(msgspec.Struct):
    """A call that has failed: *since* when, when its *latest* failure was, and of which *attempt* that was."""

    since: float
    latest: float
    attempt: int


class SubscriberTrouble(msgspec.Struct):
    """How often a subscriber failed, and whether it was *set_aside*."""

    failures: int = 0
    set_aside: bool = False


class State:
    """Everything that was folded since *began*; ``fold`` changes it in place."""

    def __init__(self, began: float, new_sketch: NewSketch) -> None:
        self.began = began
        self.new_sketch = new_sketch
        self.parts: dict[tuple[str, str], Part] = {}
        self.troubled: OrderedDict[str, Trouble] = OrderedDict()
        self.subscribers: dict[str, SubscriberTrouble] = {}
        self.degraded = 0
        self.restored = 0
        self.quarantined = 0

    def part(self, operation: str, key: str) -> Part:
        """That part, from now on if it is a new one."""
        part = self.parts.get((operation, key))
        if part is None:
            if len(self.parts) >= MAX_PARTS and operation:
                return self.part("", "")
            part = self.parts[operation, key] = Part(self.began, self.new_sketch)
        return part


def fold(state: State, fact: Fact) -> None:
    """Count *fact*. What says nothing that is counted is passed over."""
    count = _COUNTS.get(type(fact))
    if count is not None:
        count(state, fact)


def _tally(state: State, fact: Fact) -> Tally:
    part = state.parts.get((fact.operation, fact.key)) or state.part(fact.operation, fact.key)
    return part.history.at(fact.at)


def _failed(state: State, fact: FailureClassified) -> None:
    troubled = state.troubled
    trouble = troubled.get(fact.call)
    if trouble is None:
        if len(troubled) >= MAX_TROUBLED:
            troubled.popitem(last=False)
        troubled[fact.call] = Trouble(fact.at, fact.at, fact.attempt)
    elif trouble.attempt == fact.attempt:
        return  # somebody judged the same failure once more
    else:
        trouble.latest, trouble.attempt = fact.at, fact.attempt
    tally = _tally(state, fact)
    tally.failures += 1
    categories, category = tally.categories, _text(fact.category)
    categories[category] = categories.get(category, 0) + 1


def _text(category: Category | None) -> str:
    # The plain text is a faster key: an enum computes its hash in Python.
    return "unknown" if category is None else category._value_


def _decided(state: State, fact: Outcome, tally: Tally, trouble: Trouble | None) -> None:
    if trouble is not None and trouble.attempt == fact.attempt:
        tally.deciding += max(fact.at - trouble.latest, 0.0)


def _scheduled(state: State, fact: RetryScheduled) -> None:
    tally = _tally(state, fact)
    tally.retries += 1
    tally.wait(_text(fact.category), fact.after)
    _decided(state, fact, tally, state.troubled.get(fact.call))


def _parked(state: State, fact: Parked) -> None:
    tally = _tally(state, fact)
    tally.parks += 1
    tally.wait(fact.why or _text(fact.category), fact.after if fact.after < FOREVER else 0.0)
    if fact.error is not None:
        _decided(state, fact, tally, state.troubled.get(fact.call))


def _gave_up(state: State, fact: GaveUp) -> None:
    tally = _tally(state, fact)
    tally.gave_up += 1
    _decided(state, fact, tally, state.troubled.pop(fact.call, None))


def _recovered(state: State, fact: OperationRecovered) -> None:
    tally = _tally(state, fact)
    tally.recovered += 1
    if tally.late is None:
        tally.late = state.new_sketch()
    tally.late.add(fact.late)
    trouble = state.troubled.pop(fact.call, None)
    if trouble is None:
        return  # its first failure was before our time
    if tally.recovery is None:
        tally.recovery = state.new_sketch()
    tally.recovery.add(max(fact.at - trouble.since, 0.0))


def _rejected(state: State, fact: CallRejected) -> None:
    _tally(state, fact).rejected += 1


def _cancelled(state: State, fact: OperationCancelled) -> None:
    _tally(state, fact).cancelled += 1
    state.troubled.pop(fact.call, None)


def _resumed(state: State, fact: OperationResumed) -> None:
    _tally(state, fact).resumed += 1


def _circuit_opened(state: State, fact: CircuitOpened) -> None:
    part = state.part(fact.operation, fact.key)
    part.history.at(fact.at).opened += 1
    part.circuit, part.is_dry = "open", fact.dry
    part.opened += 1
    if part.opened_at is None:
        part.opened_at = fact.at


def _circuit_half_opened(state: State, fact: CircuitHalfOpened) -> None:
    state.part(fact.operation, fact.key).circuit = "half_open"


def _circuit_closed(state: State, fact: CircuitClosed) -> None:
    part = state.part(fact.operation, fact.key)
    part.circuit, part.is_dry = "closed", False
    if part.opened_at is not None:
        part.open_for += max(fact.at - part.opened_at, 0.0)
        part.opened_at = None


def _subscriber_failed(state: State, fact: SubscriberFailed) -> None:
    name = fact.subscriber
    if name not in state.subscribers and len(state.subscribers) >= MAX_CAUSES:
        name = OTHER
    trouble = state.subscribers.setdefault(name, SubscriberTrouble())
    trouble.failures += 1
    trouble.set_aside = trouble.set_aside or fact.set_aside


def _degraded(state: State, fact: JournalDegraded) -> None:
    state.degraded += 1


def _restored(state: State, fact: JournalRestored) -> None:
    state.restored += 1


def _quarantined(state: State, fact: JournalQuarantined) -> None:
    state.quarantined += 1


_COUNTS: dict[type[Fact], Callable[[State, Any], None]] = {
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

HEARD: tuple[type[Fact], ...] = tuple(_COUNTS)
"""The facts that say something that is counted."""
