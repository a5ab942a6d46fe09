"""What circuits and the monitor count as the end of a call."""

from __future__ import annotations

from events.event import CallEvent
from events.operation_events import GaveUp, Outcome, Parked


def as_counted(event: CallEvent) -> CallEvent | None:
    """*event* as circuits and the monitor count it: a call that asks counts as one that gave up, and then no more."""
    if isinstance(event, GaveUp):
        return None if event.asked else event
    if not isinstance(event, Parked) or not event.asks_person:
        return event
    shared = {name: getattr(event, name) for name in (*CallEvent.__struct_fields__, *Outcome.__struct_fields__)}
    return GaveUp(**shared, reason=event.why)
