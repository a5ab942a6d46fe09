"""Recorded results: which event holds one, and what identifies it in a store. Pure."""

from __future__ import annotations

from events.event import Event
from events.operation_events import OperationRecovered, OperationSucceeded
from events.recorded import Recorded


def recorded_in(event: Event | None) -> Recorded | None:
    """The result that *event* records, or ``None``."""
    return event.recorded if isinstance(event, (OperationSucceeded, OperationRecovered)) else None


def result_key(operation: str, key: str) -> str:
    """What identifies a result in a store: idempotency keys are the operation's own."""
    return f"{operation}\0{key}"
