"""Time things side by side, and say how sure the answer is.

Every comparison is interleaved: in each round all candidates take their turn, for about a millisecond each, in one
process and in an order that rotates, so that what disturbs the machine disturbs everybody. The ratio is taken in each
round; its median is the answer and its quartiles are the spread. Of 25 rounds or more the quartiles are a little wider
than the interval that holds the true median with 95 % confidence, so a limit between them is a limit that this run
cannot tell from the answer: "within noise".
"""

from __future__ import annotations

import asyncio
import contextvars
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

ROUND_TIME = 0.001
"""Seconds that a candidate takes in each round: short enough that most rounds are not interrupted."""

Clock: TypeAlias = Callable[[], float]
Timed: TypeAlias = Callable[[int], float]
"""Does something so many times; the seconds that took."""
Verdict: TypeAlias = Literal["pass", "fail", "within noise", "not measured", "-"]


class Effort(msgspec.Struct, frozen=True):
    """How much to measure: *rounds* of everything, and *share* of the full number of calls, rows and seconds.

    Without *peers*, other people's libraries are left out. *on_processor* takes the processor's time of the thread (of
    the process, where several work) for the time, so that what other processes take of the machine is not in it.
    """

    name: Literal["full", "quick", "gate"]
    rounds: int
    share: float
    peers: bool = True
    on_processor: bool = False

    @property
    def clock(self) -> Clock:
        """What a single thread is timed by."""
        return time.thread_time if self.on_processor else time.perf_counter

    @property
    def round_time(self) -> float:
        """Seconds of a turn: where interruptions are not counted it may be longer, and then the spread is less."""
        return 0.01 if self.on_processor else ROUND_TIME

    @property
    def shared_clock(self) -> Clock:
        """What several threads are timed by."""
        return time.process_time if self.on_processor else time.perf_counter

    def some(self, count: float, *, least: int = 1) -> int:
        """That share of *count*."""
        return max(round(count * self.share), least)


FULL = Effort("full", 51, 1.0)
QUICK = Effort("quick", 25, 0.2)
GATE = Effort("gate", 25, 0.2, peers=False, on_processor=True)
EFFORTS = {effort.name: effort for effort in (FULL, QUICK, GATE)}


class Spread(msgspec.Struct, frozen=True):
    """The median of *rounds* values, between their quartiles."""

    low: float
    middle: float
    high: float
    rounds: int

    def scaled(self, factor: float) -> Spread:
        """The same in another unit."""
        return Spread(self.low * factor, self.middle * factor, self.high * factor, self.rounds)


def spread(values: Sequence[float]) -> Spread:
    """What *values* say together. Raises ValueError for none."""
    if not values:
        raise ValueError("there is nothing to take the median of")
    if len(values) == 1:
        return Spread(values[0], values[0], values[0], 1)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(low, middle, high, len(values))


def pool(spreads: Sequence[Spread]) -> Spread:
    """What several spreads of one figure say together: the median and the quartiles of all their quartiles."""
    if len(spreads) == 1:
        return spreads[0]
    low, middle, high, _ = msgspec.structs.astuple(
        spread([value for one in spreads for value in (one.low, one.middle, one.high)])
    )
    return Spread(low, middle, high, sum(one.rounds for one in spreads))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that *share* (0 to 1) of *values* lies, interpolated."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


class Goal(msgspec.Struct, frozen=True):
    """What a figure should reach: *limit*, at "most" or at "least"; in *words* where the number alone would not do."""

    sense: Literal["most", "least"]
    limit: float
    words: str = ""


def judge(measured: Spread | None, goal: Goal | None) -> Verdict:
    """Whether *goal* is reached, missed, or inside the spread, so that this run cannot tell."""
    if measured is None:
        return "not measured"
    if goal is None:
        return "-"
    is_reached = measured.middle <= goal.limit if goal.sense == "most" else measured.middle >= goal.limit
    if measured.low <= goal.limit <= measured.high and measured.low < measured.high:
        return "within noise"
    return "pass" if is_reached else "fail"


def ratios(times: Sequence[float], base: Sequence[float]) -> Spread:
    """How many times as long as *base*, round by round."""
    return spread([one / other for one, other in zip(times, base, strict=True)])


def differences(times: Sequence[float], base: Sequence[float]) -> Spread:
    """How much longer than *base*, round by round."""
    return spread([one - other for one, other in zip(times, base, strict=True)])


def interleave(
    candidates: Mapping[str, Timed],
    rounds: int,
    *,
    times: int | None = None,
    round_time: float = ROUND_TIME,
    settle: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds for one call of each candidate in each of so many *rounds*.

    *times* is how often each is called in a round (default: as often as fits into *round_time* seconds); *settle* is
    called after each candidate's turn, and not timed.
    """
    counts = {}
    for name, timed in candidates.items():
        counts[name] = times or calibrate(timed, round_time)
        settle()
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates.items())
    for number in range(rounds):
        turn = number % len(order)
        for name, timed in order[turn:] + order[:turn]:
            taken[name].append(timed(counts[name]) / counts[name])
            settle()
    return taken


def calibrate(timed: Timed, round_time: float = ROUND_TIME) -> int:
    """How many calls take about *round_time*; also warms up."""
    count = 1
    while True:
        took = timed(count)
        if took >= round_time / 4 or count >= 1_000_000:
            return max(round(count * round_time / max(took, 1e-9)), 1)
        count *= 2


def plain(call: Callable[[], object], clock: Clock = time.perf_counter) -> Timed:
    """Time a plain function by *clock*."""

    def timed(times: int) -> float:
        rounds = range(times)
        began = clock()
        for _ in rounds:
            call()
        return clock() - began

    return timed


def awaited(call: Callable[[], Awaitable[Any]], runner: asyncio.Runner, clock: Clock = time.perf_counter) -> Timed:
    """Time a coroutine function by *clock*, on the loop of *runner*."""

    async def loop(times: int) -> float:
        rounds = range(times)
        began = clock()
        for _ in rounds:
            await call()
        return clock() - began

    # In the caller's context, not in that of the runner's beginning: some libraries are set up by context variables.
    return lambda times: runner.run(loop(times), context=contextvars.copy_context())
