"""Events of circuits: opened, half-opened, closed."""

from __future__ import annotations

from events.event import Event
from events.evidence import Category


class CircuitOpened(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Too many calls or attempts failed: attempts are deferred, or their calls rejected.

    Args:
        after: Seconds from *at* until a probe may begin.
        failures: How many failures were counted.
        slow: How many slow calls were counted.
        times: How often in a row the circuit has opened, without a success in between.
        metrics_only: Whether the circuit only counts, and stops no attempt.
        forced: Whether ``service.circuits.force`` opened it: it stays open until that ends or it is forced again, at
            most as long as this process lives.
        category: The category of the latest failure that counted; None if no failure opened it.
        cause: What that failure means, in a few words.
        node: The node of the cluster that saw it, where another one did; "" for this process.
    """

    after: float
    failures: int = 0
    slow: int = 0
    times: int = 1
    metrics_only: bool = False
    forced: bool = False
    category: Category | None = None
    cause: str = ""
    node: str = ""


class CircuitHalfOpened(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A probe may begin: the break is over, or ``service.circuits.force`` has ended it.

    Args:
        node: The node of the cluster that probes, where another one does; "" for this process.
    """

    node: str = ""


class CircuitClosed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Every attempt may begin.

    Args:
        why: "recovered" (enough probes succeeded), "forced" (a person did it, or what a person did is over) or
            "forgotten" (no call has asked for it for long, or there are too many circuits).
        node: The node of the cluster whose probe succeeded, where another one's did; "" for this process.
    """

    why: str = "recovered"
    node: str = ""
