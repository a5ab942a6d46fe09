"""Events of circuits: opened, half-opened, closed."""

from __future__ import annotations

from events.event import Event


class CircuitOpened(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Too much went wrong; attempts are held back for *after* seconds.

    *failures* is what was counted, *times* how often in a row it has opened without a success in between.
    *metrics_only* says
    that nobody is held back: the circuit is for metrics only.
    """

    after: float
    failures: int = 0
    times: int = 1
    metrics_only: bool = False


class CircuitHalfOpened(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The break is over; a probe may pass."""


class CircuitClosed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A probe succeeded; everybody may pass."""
