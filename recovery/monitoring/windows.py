"""How much happened, and when: tallies of the last 1, 5 and 60 minutes and since the start, with time as an argument.

What happens is counted in the tally of the present ten seconds. When those are over it is added to one slot of each
window and to the total, so that counting costs the same however many windows there are. A window is made of whole
slots (10 s, 1 and 10 minutes wide): it never holds what is older than its span, and holds five sixths of it at least.

Successes are not counted here but read, now and then, from counters: between two readings they are taken to be evenly
spread.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import msgspec


class Sketch(Protocol):
    """What remembers a distribution in little memory; ``ddsketch.DDSketch`` is one."""

    @property
    def count(self) -> float:
        """How many values there are."""

    @property
    def avg(self) -> float:
        """Their mean."""

    def add(self, val: float, /) -> object:
        """Take in one value."""

    def merge(self, sketch: Any, /) -> object:
        """Take in all that another one holds."""

    def get_quantile_value(self, quantile: float, /) -> float | None:
        """The value below which that share of all lies."""


NewSketch: TypeAlias = Callable[[], Sketch]

QUANTUM = 10
"""Seconds that are counted together, at the least."""

SPANS = {"1m": 60, "5m": 300, "60m": 3600}
"""Seconds that each window looks back..."""

WIDTHS = {"1m": 10, "5m": 60, "60m": 600}
"""...and those of its slots: multiples of the quantum, sixths of the span at the most."""

MAX_CAUSES = 32
"""So many causes of waits are told apart; those of more are counted as the one other."""

OTHER = "other"

SUMS = (
    "failures", "retries", "parks", "recovered", "gave_up", "rejected", "cancelled", "resumed", "opened", "deciding",
)  # fmt: skip


class Tally(msgspec.Struct):
    """What happened in some time: counts, *deciding* in seconds, and two distributions in seconds.

    *waits* has a count and the seconds asked for, of each cause. *recovery* is from a call's first failure to its
    success, *lag* how much later than it was told a recovered call's attempts began.
    """

    failures: int = 0
    retries: int = 0
    parks: int = 0
    recovered: int = 0
    gave_up: int = 0
    rejected: int = 0
    cancelled: int = 0
    resumed: int = 0
    opened: int = 0
    deciding: float = 0.0
    categories: dict[str, int] = {}  # msgspec gives each its own
    waits: dict[str, list[Any]] = {}  # of an int and a float, changed in place
    recovery: Any = None  # a Sketch, once there is something in it
    lag: Any = None

    def add(self, other: Tally, new_sketch: NewSketch | None) -> None:
        """Count everything that *other* counted; without *new_sketch*, all but the two distributions."""
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for category, number in other.categories.items():
            self.categories[category] = self.categories.get(category, 0) + number
        for cause, (number, seconds) in other.waits.items():
            self.wait(cause, seconds, number)
        if new_sketch is None:
            return
        for name in ("recovery", "lag"):
            theirs = getattr(other, name)
            if theirs is not None:
                if getattr(self, name) is None:
                    setattr(self, name, new_sketch())
                getattr(self, name).merge(theirs)

    def wait(self, cause: str, seconds: float, number: int = 1) -> None:
        """Count *number* waits for *cause*, of so many *seconds* together."""
        waits = self.waits
        known = waits.get(cause)
        if known is None:
            name = cause if len(waits) < MAX_CAUSES else OTHER
            known = waits.setdefault(name, [0, 0.0])
        known[0] += number
        known[1] += seconds


class Window(msgspec.Struct, frozen=True):
    """What a window holds: the last *seconds*, *successes*, and the *tally* of everything else."""

    seconds: float
    successes: int
    tally: Tally

    @property
    def calls(self) -> int:
        """How many calls ended, the cancelled ones apart."""
        return self.successes + self.tally.gave_up + self.tally.rejected


class History:
    """What happened since *began*. Times must not decrease; what comes late is counted as if it came now."""

    __slots__ = ("_current", "_is_used", "_new_sketch", "_points", "_quantum", "_slots", "_total", "_until", "began")

    def __init__(self, began: float, new_sketch: NewSketch) -> None:
        self.began = began
        self._new_sketch = new_sketch
        self._quantum = int(began // QUANTUM)
        self._until = (self._quantum + 1.0) * QUANTUM
        self._current = Tally()
        self._is_used = False
        self._total = Tally()
        self._slots: dict[str, deque[tuple[int, Tally]]] = {name: deque() for name in SPANS}
        self._points = [(began, 0)]  # successes until then, oldest first

    def at(self, now: float) -> Tally:
        """The tally to count in what happens *now*."""
        if now >= self._until:
            self._close(now)
        self._is_used = True
        return self._current

    def _close(self, now: float) -> None:
        if self._is_used:
            self._total.add(self._current, self._new_sketch)
            for name, slots in self._slots.items():
                index = self._quantum * QUANTUM // WIDTHS[name]
                if not slots or slots[-1][0] != index:
                    slots.append((index, Tally()))
                slots[-1][1].add(self._current, self._new_sketch)
            self._current = Tally()
            self._is_used = False
        self._quantum = int(now // QUANTUM)
        self._until = (self._quantum + 1.0) * QUANTUM
        for name, slots in self._slots.items():
            while slots and slots[0][0] < _first(name, self._quantum * QUANTUM):
                slots.popleft()

    def succeeded(self, now: float, number: int) -> None:
        """Note that *number* calls have succeeded since this was last told."""
        points = self._points
        total = points[-1][1] + max(number, 0)
        now = max(now, points[-1][0])
        # Of each quantum the first and the last reading are kept, of an idle time its begin and its end.
        is_known = len(points) > 1 and (points[-2][1] == total or points[-2][0] // QUANTUM == now // QUANTUM)
        if is_known:
            points[-1] = (now, total)
        else:
            points.append((now, total))
        oldest = now - max(SPANS.values())
        while len(points) > 2 and points[1][0] <= oldest:
            del points[0]

    def _successes_until(self, when: float) -> float:
        points = self._points
        after = bisect_right(points, when, key=lambda point: point[0])
        if after == 0 or after == len(points):
            return float(points[max(after - 1, 0)][1])
        (began, before), (ended, total) = points[after - 1], points[after]
        return before + (total - before) * (when - began) / (ended - began)

    def over(self, name: str | None, now: float, *, with_times: bool = True) -> Window:
        """What the window of that *name* holds now; ``None``: everything since the start.

        Without its distributions (*with_times* False) it is had in microseconds.
        """
        if now >= self._until:
            self._close(now)
        new_sketch = self._new_sketch if with_times else None
        tally = Tally()
        since = self.began
        successes = self._points[-1][1]
        if name is None:
            tally.add(self._total, new_sketch)
        else:
            first = _first(name, now)
            if first * WIDTHS[name] > since:
                since = float(first * WIDTHS[name])
                successes -= math.ceil(self._successes_until(since))
            for index, slot in self._slots[name]:
                if index >= first:
                    tally.add(slot, new_sketch)
        if self._is_used:
            tally.add(self._current, new_sketch)
        # A recovered call counts at once, the counter when it is read: the latter may be behind, or an estimate.
        return Window(max(now - since, 0.0), max(successes, tally.recovered), tally)


def _first(name: str, now: float) -> int:
    """The oldest slot that lies in the window as a whole."""
    return math.ceil((now - SPANS[name]) / WIDTHS[name])
