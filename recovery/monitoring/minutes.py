"""The last hour by the minute, for charts. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from recovery.monitoring.overhead import Overhead
from recovery.monitoring.snapshot import Distribution, distribution
from recovery.monitoring.windows import History, Tally, Window

NO_CALLS = Window(0.0, 0, Tally())
"""A window in which nothing happened: the overhead in it is that of a healthy call."""


class Minute(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in one minute, all operations together.

    Args:
        began: When it began, on the bus's clock.
        calls: Calls that ended; a cancelled one is not counted.
        successes: Calls that succeeded. Between two readings of the counters they are taken to be evenly spread.
        recovery: Time from the first failure of a call to its success; None if no call recovered.
        overhead: What recovery cost, as a share of the operations' own time, by the present estimate of how long a
            call takes; None without a call of a sampled operation.
    """

    began: float
    calls: int = 0
    successes: int = 0
    recovery: Distribution | None = None
    overhead: float | None = None

    @property
    def success_rate(self) -> float | None:
        """The share of calls that succeeded; None if none has ended."""
        return self.successes / self.calls if self.calls else None


def minutes_of(
    tallies: Sequence[tuple[float, Tally]], costs: Sequence[tuple[History, Overhead | None]]
) -> tuple[Minute, ...]:
    """The minutes of these *tallies*; *costs* has what a healthy call costs for each history of an operation key."""
    minutes = []
    for began, tally in tallies:
        numbers = [(history.successes_between(began, began + 60.0), cost) for history, cost in costs]
        known = [(number, cost) for number, cost in numbers if cost is not None]
        own = sum(number * cost.own for number, cost in known)
        added = sum(number * cost.added for number, cost in known) + tally.decision_seconds
        successes = max(sum(number for number, _ in numbers), tally.recovered)
        minutes.append(
            Minute(
                began=began,
                calls=successes + tally.gave_up + tally.rejected,
                successes=successes,
                recovery=distribution(tally.recovery),
                overhead=added / own if own else None,
            )
        )
    return tuple(minutes)
