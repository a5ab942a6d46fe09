"""What recovery costs an operation, as a share of its own time, with the standard error of that figure. Pure.

Of what recovery does, the wrapper around a healthy call is too short to be timed from inside: it is calibrated, on a
function that does nothing. How long the operation itself takes is sampled, on a few calls between their start and their
success, less what that timing costs, which is calibrated too. What happens between a failure and its verdict is timed
by the events themselves.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec

MOST_SAMPLES = 512
"""When there are so many samples, those until now count half: an operation may become slower or faster."""


class Figure(msgspec.Struct, frozen=True):
    """Something measured: its *value*, the standard *error* of that, and how many times it was measured."""

    value: float
    error: float
    count: int


class Overhead(msgspec.Struct, frozen=True, kw_only=True):
    """*share* of the operation's own time (0.01 is 1 %), with its standard *error*; both ``None`` if it took none.

    *added* is what recovery adds to a call, *own* what the operation takes itself, both in seconds on average, *own*
    from so many *samples*.
    """

    share: float | None
    error: float | None
    added: float
    own: float
    samples: int


class Samples:
    """Mean and spread of what is added to it (Welford's method), the older ones counting less."""

    __slots__ = ("_count", "_mean", "_squares", "taken")

    def __init__(self) -> None:
        self.taken = 0
        self._count = 0.0
        self._mean = 0.0
        self._squares = 0.0

    def add(self, value: float) -> None:
        """Take in one value."""
        if self._count >= MOST_SAMPLES:
            self._count /= 2.0
            self._squares /= 2.0
        self.taken += 1
        self._count += 1.0
        off = value - self._mean
        self._mean += off / self._count
        self._squares += off * (value - self._mean)

    @property
    def figure(self) -> Figure:
        """The mean and its standard error; infinite for a single value."""
        count = self._count
        error = math.sqrt(self._squares / (count - 1.0) / count) if count > 1.0 else math.inf
        return Figure(self._mean, error, round(count))


def middle(values: Sequence[float]) -> Figure:
    """The median of at least three *values* and its standard error, by the quartiles: other processes' doings apart.

    For a normal distribution the quartiles are 1.349 standard deviations apart, and the median's standard error is
    1.2533 times the mean's.
    """
    low, median, high = statistics.quantiles(values, n=4)
    return Figure(median, 1.2533 * (high - low) / 1.349 / math.sqrt(len(values)), len(values))


def overhead(own: Figure, timing: Figure, wrapper: Figure, deciding: float) -> Overhead:
    """What recovery adds to a call of an operation that takes *own* with its *timing*.

    *wrapper* is what a healthy call pays, *deciding* the seconds that failures took, per call.
    """
    net = max(own.value - timing.value, 0.0)
    added = max(wrapper.value, 0.0) + deciding
    if net <= 0.0:
        return Overhead(share=None, error=None, added=added, own=0.0, samples=own.count)
    share = added / net
    # Of a quotient of independent figures: the relative errors add up in squares.
    error = math.hypot(wrapper.error / net, share * math.hypot(own.error, timing.error) / net)
    return Overhead(share=share, error=None if math.isinf(error) else error, added=added, own=net, samples=own.count)


def together(parts: Sequence[tuple[Overhead, int]]) -> Overhead | None:
    """The overhead of several operations, each with how often it was called; ``None`` if none of them has one."""
    known = [(one, calls) for one, calls in parts if one.share is not None and calls > 0]
    calls = sum(number for _, number in known)
    own = sum(one.own * number for one, number in known)
    if not known or own <= 0.0:
        return None
    added = sum(one.added * number for one, number in known)
    errors = [None if one.error is None else one.error * one.own * number / own for one, number in known]
    error = None if None in errors else math.hypot(*(error for error in errors if error is not None))
    samples = sum(one.samples for one, _ in known)
    return Overhead(share=added / own, error=error, added=added / calls, own=own / calls, samples=samples)
