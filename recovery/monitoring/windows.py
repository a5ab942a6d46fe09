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
from typing import Any

import msgspec

from recovery.installation import extra

with extra("monitor"):
    from ddsketch import DDSketch

ACCURACY = 0.01
"""By how much a percentile may be off, as a share of its value."""

QUANTUM = 10
"""Seconds of one tally."""

SPANS = {"1m": 60, "5m": 300, "60m": 3600}
"""Seconds that each window looks back."""

WINDOWS = (*SPANS, "all")
"""The names of all windows; "all" begins with the history."""

WIDTHS = {"1m": 10, "5m": 60, "60m": 600}
"""Seconds of one slot of each window: a multiple of the quantum, at most a sixth of the span."""

MINUTES = 60
"""One-minute tallies that are kept, of all operations together."""

MAX_CAUSES = 32
"""Causes of waits that are counted apart; further causes are counted together, as ``OTHER``."""

OTHER = "other"


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
    incidents: int = 0
    decision_seconds: float = 0.0
    categories: dict[str, int] = {}  # msgspec gives each tally its own
    waits: dict[str, list[Any]] = {}  # an int and a float, changed in place
    recovery: DDSketch | None = None  # until it has a value
    lag: DDSketch | None = None

    def add(self, other: Tally, *, with_distributions: bool = True) -> None:
        """Add everything in *other*, or everything but the two distributions."""
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for category, number in other.categories.items():
            self.categories[category] = self.categories.get(category, 0) + number
        for cause, (number, seconds) in other.waits.items():
            self.add_wait(cause, seconds, number)
        if with_distributions:
            self.recovery = _merged(self.recovery, other.recovery)
            self.lag = _merged(self.lag, other.lag)

    def add_wait(self, cause: str, seconds: float, number: int = 1) -> None:
        """Count *number* waits for *cause*, which take *seconds* together."""
        waits = self.waits
        known = waits.get(cause)
        if known is None:
            name = cause if len(waits) < MAX_CAUSES else OTHER
            known = waits.setdefault(name, [0, 0.0])
        known[0] += number
        known[1] += seconds


SUMS = tuple(field.name for field in msgspec.structs.fields(Tally) if field.default == 0)
"""The fields of a tally that are plain sums."""


def new_sketch() -> DDSketch:
    """An empty distribution."""
    return DDSketch(ACCURACY)


def _merged(one: DDSketch | None, other: DDSketch | None) -> DDSketch | None:
    if other is None:
        return one
    if one is None:
        one = new_sketch()
    one.merge(other)
    return one


class Window(msgspec.Struct):
    """The last *seconds* of a history: the *successes*, and the *tally* of everything else."""

    seconds: float
    successes: int
    tally: Tally

    @property
    def calls(self) -> int:
        """How many calls ended, without the cancelled ones."""
        return self.successes + self.tally.gave_up + self.tally.rejected

    @property
    def success_rate(self) -> float | None:
        """The share of calls that succeeded; None if none has ended."""
        return self.successes / self.calls if self.calls else None


class Minutes:
    """Tallies of the last sixty minutes, the current one included; several histories add to them."""

    __slots__ = ("_tallies",)

    def __init__(self) -> None:
        self._tallies: dict[int, Tally] = {}

    def add(self, at: float, tally: Tally) -> None:
        """Add *tally* to the minute of *at*."""
        minute = int(at) // 60
        if minute not in self._tallies:
            self._tallies[minute] = Tally()
            oldest = max(self._tallies) - MINUTES
            self._tallies = {index: one for index, one in self._tallies.items() if index > oldest}
        if minute in self._tallies:
            self._tallies[minute].add(tally)

    def until(self, now: float) -> list[tuple[float, Tally]]:
        """When each of the sixty minutes until *now* began, and its tally; oldest first."""
        last = int(now) // 60
        return [(index * 60.0, self._tallies.get(index, Tally())) for index in range(last - MINUTES + 1, last + 1)]


class History:
    """What happened since *began*. Times must not decrease: an event that comes late is counted as current.

    Each tally is added to *minutes* too, when its ten seconds are over or ``settle`` is called.
    """

    __slots__ = ("_current", "_ends", "_minutes", "_readings", "_slots", "_total", "began")

    def __init__(self, began: float, minutes: Minutes | None = None) -> None:
        self.began = began
        self._minutes = minutes
        self._current: Tally | None = None
        self._ends = _end_of_quantum(began)
        self._total = Tally()
        self._slots: dict[str, deque[tuple[int, Tally]]] = {
            name: deque(maxlen=span // WIDTHS[name] + 1) for name, span in SPANS.items()
        }
        self._readings = [(began, 0)]  # times, and the successes until then; oldest first

    def tally_at(self, now: float) -> Tally:
        """The tally in which an event of this moment is counted."""
        if now >= self._ends:
            self._close_quantum(now)
        if self._current is None:
            self._current = Tally()
        return self._current

    def _close_quantum(self, now: float) -> None:
        if self._current is not None:
            self._total.add(self._current)
            for name, slots in self._slots.items():
                index = int(self._ends - QUANTUM) // WIDTHS[name]
                if not slots or slots[-1][0] != index:
                    slots.append((index, Tally()))
                slots[-1][1].add(self._current)
            if self._minutes is not None:
                self._minutes.add(self._ends - QUANTUM, self._current)
            self._current = None
        self._ends = _end_of_quantum(now)

    def add_successes(self, now: float, number: int) -> None:
        """Note that *number* calls have succeeded since the last reading."""
        readings = self._readings
        total = readings[-1][1] + max(number, 0)
        now = max(now, readings[-1][0])
        # Kept are the first and the last reading of each quantum, and the begin and the end of an idle time.
        if len(readings) > 1 and (readings[-2][1] == total or readings[-2][0] // QUANTUM == now // QUANTUM):
            readings.pop()
        readings.append((now, total))
        oldest = now - max(SPANS.values())
        while len(readings) > 2 and readings[1][0] <= oldest:
            del readings[0]

    def settle(self, now: float) -> None:
        """Add what was counted until *now* to the windows and minutes, although its ten seconds are not over."""
        self._close_quantum(now)

    def successes_between(self, since: float, until: float) -> int:
        """How many calls succeeded from *since* until *until*, within the last hour."""
        return round(self._successes_until(until)) - round(self._successes_until(since))

    def _successes_until(self, when: float) -> float:
        readings = self._readings
        after = bisect_right(readings, when, key=lambda reading: reading[0])
        if after == 0 or after == len(readings):
            return float(readings[max(after - 1, 0)][1])
        (began, before), (ended, total) = readings[after - 1], readings[after]
        return before + (total - before) * (when - began) / (ended - began)

    def windows(self, now: float) -> dict[str, Window]:
        """Every window as it is now, by name."""
        return {name: self.window(name, now) for name in WINDOWS}

    def window(self, name: str, now: float, *, with_distributions: bool = True) -> Window:
        """The window of that *name* as it is now; "all" means everything since the start.

        Without distributions this takes microseconds.
        """
        if now >= self._ends:
            self._close_quantum(now)
        since, successes = self.began, self._readings[-1][1]
        tallies = [] if self._current is None else [self._current]
        if name == "all":
            tallies.append(self._total)
        else:
            first = _first_slot(name, now)
            if first * WIDTHS[name] > since:
                since = float(first * WIDTHS[name])
                successes -= math.ceil(self._successes_until(since))
            tallies += [slot for index, slot in self._slots[name] if index >= first]
        tally = Tally()
        for one in tallies:
            tally.add(one, with_distributions=with_distributions)
        # A recovered call counts at once; the reading may be older, or an estimate.
        return Window(max(now - since, 0.0), max(successes, tally.recovered), tally)


def _end_of_quantum(now: float) -> float:
    return (now // QUANTUM + 1.0) * QUANTUM


def _first_slot(name: str, now: float) -> int:
    """The oldest slot that lies wholly within the window."""
    return math.ceil((now - SPANS[name]) / WIDTHS[name])
