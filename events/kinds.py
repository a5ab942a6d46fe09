"""All kinds of events, and those that a base class stands for."""

from __future__ import annotations

from typing import Any

from events import (
    alert_events,
    bus_events,
    circuit_events,
    clock_events,
    incident_events,
    journal_events,
    lease_events,
    operation_events,
    question_events,
    repeat_events,
    trace_events,
)
from events.event import Event
from events.operation_events import (
    FailureClassified,
    OperationFailed,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
    RetryScheduled,
)

ON_REQUEST: tuple[type[Event], ...] = (OperationStarted, OperationSucceeded)
"""The events of the healthy path: a subscriber must name them, for a base class does not stand for them."""

OF_RETRIES: tuple[type[Event], ...] = (OperationFailed, FailureClassified, RetryScheduled, OperationRecovered)
"""The events of a call that fails, is retried at once or after a delay, and succeeds."""

MODULES = (
    operation_events,
    circuit_events,
    incident_events,
    journal_events,
    bus_events,
    alert_events,
    question_events,
    repeat_events,
    clock_events,
    trace_events,
    lease_events,
)

EVENTS: tuple[type[Event], ...] = tuple(
    kind
    for module in MODULES
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Event) and not kind.__subclasses__()
    if kind.__module__ == module.__name__  # not one that it imports
)
"""All kinds of events: the classes of the event modules that are no base of others, in the order of definition."""


def kinds_of(event: Any) -> tuple[type[Event], ...]:
    """The kinds that *event* stands for: itself, or all below a base class, without those of ``ON_REQUEST``.

    Raises TypeError for anything else.
    """
    if event in EVENTS:
        return (event,)
    kinds: tuple[type[Event], ...] = ()
    if isinstance(event, type) and issubclass(event, Event):
        kinds = tuple(kind for kind in EVENTS if issubclass(kind, event) and kind not in ON_REQUEST)
    if not kinds:
        raise TypeError(f"{event!r} is not a kind of event{_meant(event)}")
    return kinds


def _meant(event: object) -> str:
    if not isinstance(event, str):
        return ""
    import difflib  # here, for the error alone

    close = difflib.get_close_matches(event, [kind.__name__ for kind in EVENTS], n=1)
    return f"; pass the class: from events import {close[0]}" if close else "; pass a class of events"
