"""Counts of the last 1, 5 and 60 minutes and since the start. Pure: time is an argument.

An event is counted in the tally of the current ten seconds. When these are over, the tally is added to one slot of each
window and to the total, so counting costs the same for any number of windows. A window consists of whole slots (10 s, 1
and 10 minutes wide): it holds nothing older than its span, and at least the latest five sixths of it.

Successes are read from counters from time to time. Between two readings they are taken to be evenly spread.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import msgspec


class Sketch(Protocol):
    """A distribution in little memory; ``ddsketch.DDSketch`` is one."""

    @property
    def count(self) -> float:
        """The number of values added."""
        ...

    @property
    def avg(self) -> float:
        """Their mean."""
        ...

    def add(self, val: float, /) -> object:
        """Add one value."""
        ...

    def merge(self, sketch: Any, /) -> object:
        """Add every value of another sketch."""
        ...

    def get_quantile_value(self, quantile: float, /) -> float | None:
        """The value that this share of all values does not exceed."""
        ...


NewSketch: TypeAlias = Callable[[], Sketch]

QUANTUM = 10
"""Seconds of one tally."""

SPANS = {"1m": 60, "5m": 300, "60m": 3600}
"""Seconds that each window looks back."""

WIDTHS = {"1m": 10, "5m": 60, "60m": 600}
"""Seconds of one slot of each window: a multiple of the quantum, at most a sixth of the span."""

MAX_CAUSES = 32
"""Causes of waits that are counted apart; further causes are counted together, as ``OTHER``."""

OTHER = "other"

SUMS = (
    "failures", "retries", "parks", "recovered", "gave_up", "rejected", "cancelled", "resumed", "opened",
    "decision_seconds",
)  # fmt: skip


class Tally(msgspec.Struct):
    """What happened in some period: counts, and distributions in seconds.

    *waits* has the count and the seconds of the waits for each cause. *decision_seconds* is the time between failures
    and their verdicts. *recovery* is the time from a call's first failure to its success, *lag* by how much the
    attempts of recovered calls began later than scheduled.
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
    decision_seconds: float = 0.0
    categories: dict[str, int] = {}  # msgspec gives each tally its own
    waits: dict[str, list[Any]] = {}  # an int and a float, changed in place
    recovery: Any = None  # a Sketch, once it holds a value
    lag: Any = None

    def add(self, other: Tally, new_sketch: NewSketch | None) -> None:
        """Add everything in *other*; without *new_sketch*, everything but the two distributions."""
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for category, number in other.categories.items():
            self.categories[category] = self.categories.get(category, 0) + number
        for cause, (number, seconds) in other.waits.items():
            self.add_wait(cause, seconds, number)
        if new_sketch is None:
            return
        for name in ("recovery", "lag"):
            sketch = getattr(other, name)
            if sketch is not None:
                if getattr(self, name) is None:
                    setattr(self, name, new_sketch())
                getattr(self, name).merge(sketch)

    def add_wait(self, cause: str, seconds: float, number: int = 1) -> None:
        """Count *number* waits for *cause*, which take *seconds* together."""
        waits = self.waits
        known = waits.get(cause)
        if known is None:
            name = cause if len(waits) < MAX_CAUSES else OTHER
            known = waits.setdefault(name, [0, 0.0])
        known[0] += number
        known[1] += seconds


class Window(msgspec.Struct, frozen=True):
    """The last *seconds* of a history: the *successes*, and the *tally* of everything else."""

    seconds: float
    successes: int
    tally: Tally

    @property
    def calls(self) -> int:
        """How many calls ended, without the cancelled ones."""
        return self.successes + self.tally.gave_up + self.tally.rejected


class History:
    """What happened since *began*. Times must not decrease: an event that comes late is counted as current."""

    __slots__ = ("_current", "_is_used", "_new_sketch", "_quantum", "_readings", "_slots", "_total", "_until", "began")

    def __init__(self, began: float, new_sketch: NewSketch) -> None:
        self.began = began
        self._new_sketch = new_sketch
        self._quantum = int(began // QUANTUM)
        self._until = (self._quantum + 1.0) * QUANTUM
        self._current = Tally()
        self._is_used = False
        self._total = Tally()
        self._slots: dict[str, deque[tuple[int, Tally]]] = {name: deque() for name in SPANS}
        self._readings = [(began, 0)]  # times, and the successes until then; oldest first

    def tally_at(self, now: float) -> Tally:
        """The tally in which an event of this moment is counted."""
        if now >= self._until:
            self._close_quantum(now)
        self._is_used = True
        return self._current

    def _close_quantum(self, now: float) -> None:
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
            while slots and slots[0][0] < _first_slot(name, self._quantum * QUANTUM):
                slots.popleft()

    def add_successes(self, now: float, number: int) -> None:
        """Note that *number* calls have succeeded since the last reading."""
        readings = self._readings
        total = readings[-1][1] + max(number, 0)
        now = max(now, readings[-1][0])
        # Kept are the first and the last reading of each quantum, and the begin and the end of an idle time.
        is_known = len(readings) > 1 and (readings[-2][1] == total or readings[-2][0] // QUANTUM == now // QUANTUM)
        if is_known:
            readings[-1] = (now, total)
        else:
            readings.append((now, total))
        oldest = now - max(SPANS.values())
        while len(readings) > 2 and readings[1][0] <= oldest:
            del readings[0]

    def _successes_until(self, when: float) -> float:
        readings = self._readings
        after = bisect_right(readings, when, key=lambda reading: reading[0])
        if after == 0 or after == len(readings):
            return float(readings[max(after - 1, 0)][1])
        (began, before), (ended, total) = readings[after - 1], readings[after]
        return before + (total - before) * (when - began) / (ended - began)

    def window(self, name: str | None, now: float, *, with_distributions: bool = True) -> Window:
        """The window of that *name* as it is now; None means everything since the start.

        Without distributions this takes microseconds.
        """
        if now >= self._until:
            self._close_quantum(now)
        new_sketch = self._new_sketch if with_distributions else None
        tally = Tally()
        since = self.began
        successes = self._readings[-1][1]
        if name is None:
            tally.add(self._total, new_sketch)
        else:
            first = _first_slot(name, now)
            if first * WIDTHS[name] > since:
                since = float(first * WIDTHS[name])
                successes -= math.ceil(self._successes_until(since))
            for index, slot in self._slots[name]:
                if index >= first:
                    tally.add(slot, new_sketch)
        if self._is_used:
            tally.add(self._current, new_sketch)
        # A recovered call counts at once; the reading may be older, or an estimate.
        return Window(max(now - since, 0.0), max(successes, tally.recovered), tally)


def _first_slot(name: str, now: float) -> int:
    """The oldest slot that lies wholly within the window."""
    return math.ceil((now - SPANS[name]) / WIDTHS[name])
