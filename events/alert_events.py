"""Events of the monitor: an alert was raised, or cleared."""

from __future__ import annotations

from events.event import Event


class AlertRaised(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The *alert* of that name is on: *value*, measured *count* times, has passed *threshold* (see ``Thresholds``)."""

    alert: str
    value: float
    threshold: float
    count: int = 0


class AlertCleared(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The alert is off, after *lasted* seconds; there is no *value* where nothing is left to be measured."""

    alert: str
    value: float | None = None
    threshold: float
    count: int = 0
    lasted: float = 0.0
