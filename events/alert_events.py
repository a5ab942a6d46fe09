"""Events of the monitor: an alert was raised, or cleared."""

from __future__ import annotations

from events.event import Event
from events.operation_events import FailureClassified


class AlertRaised(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An alert is on: a value has passed its threshold (see ``Thresholds``).

    Args:
        alert: The name of the alert.
        value: What was measured.
        threshold: What the value has passed.
        count: How many measurements the value comes from.
        cause: The category of most failures of these calls; "" if that is unknown, or no matter.
        incidents: The operation keys with an open incident of that category, as they are shown: "download[host]".
        failure: The latest failure of a call that gave up, if it is of that category: an example.
    """

    alert: str
    value: float
    threshold: float
    count: int = 0
    cause: str = ""
    incidents: tuple[str, ...] = ()
    failure: FailureClassified | None = None


class AlertCleared(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An alert is off.

    Args:
        alert: The name of the alert.
        value: What was measured; None if nothing is left to be measured.
        threshold: What the value has passed again.
        count: How many measurements the value comes from.
        lasted: For how many seconds the alert was on.
    """

    alert: str
    value: float | None = None
    threshold: float
    count: int = 0
    lasted: float = 0.0
