"""Time candidates side by side, and tell how certain the result is.

Every comparison is interleaved: in each round every candidate runs for about a millisecond, in one process and in
rotating order, so that a disturbance of the machine hits all of them alike. Each round gives one ratio. The result is
the median of the ratios; their quartiles are the spread. With 25 rounds or more, the quartiles are a little wider than
the 95 % confidence interval of the median. A limit between the quartiles is therefore "within noise": this run cannot
tell on which side of it the true figure lies.
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
"""Seconds that a candidate runs in each round: short enough that most rounds are not interrupted."""

Clock: TypeAlias = Callable[[], float]
Timed: TypeAlias = Callable[[int], float]
"""Calls a candidate that number of times and returns the seconds this took."""
Verdict: TypeAlias = Literal["pass", "fail", "within noise", "not measured", "-"]


class Effort(msgspec.Struct, frozen=True):
    """How much to measure.

    Args:
        rounds: Rounds of each comparison.
        share: Share (0 to 1) of the full number of calls, rows and seconds.
        peers: Whether other libraries are measured too.
        on_processor: Measure processor time instead of elapsed time, so that other processes do not count.
    """

    name: Literal["full", "quick", "gate"]
    rounds: int
    share: float
    peers: bool = True
    on_processor: bool = False

    @property
    def clock(self) -> Clock:
        """The clock for work in a single thread."""
        return time.thread_time if self.on_processor else time.perf_counter

    @property
    def round_time(self) -> float:
        """Seconds per candidate and round; longer with processor time, which does not count interruptions."""
        return 0.01 if self.on_processor else ROUND_TIME

    @property
    def shared_clock(self) -> Clock:
        """The clock for work in several threads."""
        return time.process_time if self.on_processor else time.perf_counter

    def some(self, count: float, *, least: int = 1) -> int:
        """*count* reduced to this effort's share, but not below *least*."""
        return max(round(count * self.share), least)


FULL = Effort("full", 51, 1.0)
QUICK = Effort("quick", 25, 0.2)
GATE = Effort("gate", 25, 0.2, peers=False, on_processor=True)
EFFORTS = {effort.name: effort for effort in (FULL, QUICK, GATE)}


class Spread(msgspec.Struct, frozen=True):
    """The median of *rounds* values (``middle``) with their quartiles (``low``, ``high``)."""

    low: float
    middle: float
    high: float
    rounds: int

    @property
    def is_exact(self) -> bool:
        """Whether this is a single value, which another run reproduces, and not a sample."""
        return self.rounds == 1

    def scaled(self, factor: float) -> Spread:
        """The spread in another unit."""
        return Spread(self.low * factor, self.middle * factor, self.high * factor, self.rounds)


def spread(values: Sequence[float]) -> Spread:
    """The median and quartiles of *values*. Raises ValueError if there are none."""
    if not values:
        raise ValueError("no values, so no median")
    if len(values) == 1:
        return exact(values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(low, middle, high, len(values))


def exact(value: float) -> Spread:
    """A figure without spread, such as a count."""
    return Spread(value, value, value, 1)


def pool(spreads: Sequence[Spread]) -> Spread:
    """Combine several spreads of one figure: the median and quartiles of all their medians and quartiles."""
    if len(spreads) == 1:
        return spreads[0]
    low, middle, high, _ = msgspec.structs.astuple(
        spread([value for one in spreads for value in (one.low, one.middle, one.high)])
    )
    return Spread(low, middle, high, sum(one.rounds for one in spreads))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which *share* (0 to 1) of *values* lies, interpolated."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


class Goal(msgspec.Struct, frozen=True):
    """The limit of a figure: at "most" or at "least" *limit*. *words* replace the number in tables."""

    sense: Literal["most", "least"]
    limit: float
    words: str = ""


def judge(measured: Spread | None, goal: Goal | None) -> Verdict:
    """Tell whether *goal* is reached, missed, or inside the spread (then this run cannot tell)."""
    if measured is None:
        return "not measured"
    if goal is None:
        return "-"
    is_reached = measured.middle <= goal.limit if goal.sense == "most" else measured.middle >= goal.limit
    if measured.low <= goal.limit <= measured.high and measured.low < measured.high:
        return "within noise"
    return "pass" if is_reached else "fail"


def ratios(times: Sequence[float], base: Sequence[float]) -> Spread:
    """The spread of *times* divided by *base*, round by round."""
    return spread([one / other for one, other in zip(times, base, strict=True)])


def differences(times: Sequence[float], base: Sequence[float]) -> Spread:
    """The spread of *times* minus *base*, round by round."""
    return spread([one - other for one, other in zip(times, base, strict=True)])


def interleave(
    candidates: Mapping[str, Timed],
    rounds: int,
    *,
    times: int | None = None,
    round_time: float = ROUND_TIME,
    settle: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Time all candidates side by side: seconds per call, for each candidate and round.

    Args:
        candidates: What to time, by name.
        rounds: Rounds in which every candidate runs once, in rotating order, and backwards in every other round: no
            candidate always runs after the same one.
        times: Calls of each candidate in a round; by default as many as fit into *round_time* seconds.
        round_time: Seconds per candidate and round, if *times* is not given.
        settle: Called after each candidate, and not timed.
    """
    counts = {}
    for name, timed in candidates.items():
        counts[name] = times or calibrate(timed, round_time)
        settle()
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates.items())
    for number in range(rounds):
        first = number // 2 % len(order)
        turn = order[first:] + order[:first]
        for name, timed in turn if number % 2 == 0 else reversed(turn):
            taken[name].append(timed(counts[name]) / counts[name])
            settle()
    return taken


def calibrate(timed: Timed, round_time: float = ROUND_TIME) -> int:
    """The number of calls that take about *round_time* seconds. This also warms up the candidate.

    The least of three times counts, so that an interruption does not make the rounds too short.
    """
    count = 1
    while True:
        took = min(timed(count) for _ in range(3))
        if took >= round_time / 4 or count >= 1_000_000:
            return max(round(count * round_time / max(took, 1e-9)), 1)
        count *= 2


def plain(call: Callable[[], object], clock: Clock = time.perf_counter) -> Timed:
    """Make a plain function a candidate, timed by *clock*."""

    def timed(times: int) -> float:
        rounds = range(times)
        began = clock()
        for _ in rounds:
            call()
        return clock() - began

    return timed


def asynchronous(call: Callable[[], Awaitable[Any]], runner: asyncio.Runner, clock: Clock = time.perf_counter) -> Timed:
    """Make a coroutine function a candidate, timed by *clock* on the loop of *runner*."""

    async def loop(times: int) -> float:
        rounds = range(times)
        began = clock()
        for _ in rounds:
            await call()
        return clock() - began

    # The caller's context, not the runner's own: some libraries are configured by context variables.
    return lambda times: runner.run(loop(times), context=contextvars.copy_context())
