"""Events of circuits: opened, half-opened, closed."""

from __future__ import annotations

from events.event import Event
from events.evidence import Category


class CircuitOpened(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Too many calls or attempts failed: attempts are deferred, or their calls rejected.

    Args:
        after: Seconds from *at* until a probe may begin.
        failures: How many failures were counted.
        times: How often in a row the circuit has opened, without a success in between.
        metrics_only: Whether the circuit only counts, and stops no attempt.
        forced: Whether ``service.circuits.force`` opened it: it stays open until it is forced again, at most as long as
            this process lives.
        category: The category of the latest failure that counted; None if the circuit was forced open.
        cause: What that failure means, in a few words.
    """

    after: float
    failures: int = 0
    times: int = 1
    metrics_only: bool = False
    forced: bool = False
    category: Category | None = None
    cause: str = ""


class CircuitHalfOpened(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The break is over; a probe may begin."""


class CircuitClosed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Every attempt may begin.

    Args:
        why: "recovered" (a probe succeeded), "forced" (a person did it) or "forgotten".
    """

    why: str = "recovered"
