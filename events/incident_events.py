"""Events of incidents: a circuit is open, with the calls that wait for it, from its first break to its end."""

from __future__ import annotations

from events.event import Event
from events.evidence import Category


class IncidentOpened(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A circuit opened. All calls that wait for it belong to one incident, until the circuit is closed.

    Args:
        cause: What the failure that opened the circuit means, in a few words.
        category: The category of that failure; None if the circuit was forced open.
    """

    cause: str = ""
    category: Category | None = None


class IncidentClosed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The circuit is closed again; the calls that still wait go on, staggered.

    Args:
        lasted: Seconds since the incident opened.
        calls: How many calls waited for it.
        gave_up: How many of them gave up meanwhile.
        outcome: How the incident ended: "recovered", "forced" or "forgotten".
    """

    lasted: float
    calls: int = 0
    gave_up: int = 0
    outcome: str = "recovered"
