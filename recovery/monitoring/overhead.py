"""What recovery costs an operation, as a share of its own time, with the standard error of that share. Pure.

The wrapper around a healthy call is too short to be timed from inside, so it is calibrated with a function that does
nothing. The operation's own time is sampled: the time from the start to the success of a few calls, less what this
timing costs, which is calibrated too. The time between a failure and its verdict is known from the events themselves.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec

MAX_SAMPLES = 512
"""Samples after which the earlier ones count half, since an operation may become slower or faster."""


class Estimate(msgspec.Struct, frozen=True):
    """A measured *value*, its standard *error*, and the *count* of samples."""

    value: float
    error: float
    count: int


class Overhead(msgspec.Struct, frozen=True, kw_only=True):
    """What recovery costs an operation.

    Args:
        share: *added* as a share of *own* (0.01 is 1 %); None if the operation takes no time.
        error: The standard error of *share*; None if it is unknown.
        added: Seconds that recovery adds to a call, on average.
        own: Seconds that the operation itself takes, on average.
        samples: The calls from which *own* was measured.
    """

    share: float | None
    error: float | None
    added: float
    own: float
    samples: int


class Samples:
    """Mean and spread of the values added to it (Welford's method); earlier values count less."""

    __slots__ = ("_count", "_mean", "_squares", "taken")

    def __init__(self) -> None:
        self.taken = 0
        self._count = 0.0
        self._mean = 0.0
        self._squares = 0.0

    def add(self, value: float) -> None:
        """Add one value."""
        if self._count >= MAX_SAMPLES:
            self._count /= 2.0
            self._squares /= 2.0
        self.taken += 1
        self._count += 1.0
        off = value - self._mean
        self._mean += off / self._count
        self._squares += off * (value - self._mean)

    @property
    def estimate(self) -> Estimate:
        """The mean and its standard error; the error of a single value is infinite."""
        count = self._count
        error = math.sqrt(self._squares / (count - 1.0) / count) if count > 1.0 else math.inf
        return Estimate(self._mean, error, round(count))


def median(values: Sequence[float]) -> Estimate:
    """The median of at least three *values* and its standard error from the quartiles; outliers do not move them.

    The quartiles of a normal distribution are 1.349 standard deviations apart, and the standard error of its median is
    1.2533 times that of its mean.
    """
    low, middle, high = statistics.quantiles(values, n=4)
    return Estimate(middle, 1.2533 * (high - low) / 1.349 / math.sqrt(len(values)), len(values))


def overhead(own: Estimate, timing: Estimate, wrapper: Estimate, decision_seconds: float) -> Overhead:
    """What recovery adds to a call that takes *own*, its *timing* included.

    *wrapper* is what a healthy call pays, *decision_seconds* the time between failures and verdicts per call.
    """
    net = max(own.value - timing.value, 0.0)
    added = max(wrapper.value, 0.0) + decision_seconds
    if net <= 0.0:
        return Overhead(share=None, error=None, added=added, own=0.0, samples=own.count)
    share = added / net
    # The relative errors of independent estimates add up in squares.
    error = math.hypot(wrapper.error / net, share * math.hypot(own.error, timing.error) / net)
    return Overhead(share=share, error=None if math.isinf(error) else error, added=added, own=net, samples=own.count)


def combined_overhead(operations: Sequence[tuple[Overhead, int]]) -> Overhead | None:
    """The overhead of several operations, weighted by the calls of each; None if none of them has a share."""
    known = [(one, calls) for one, calls in operations if one.share is not None and calls > 0]
    calls = sum(number for _, number in known)
    own = sum(one.own * number for one, number in known)
    if not known:
        return None
    added = sum(one.added * number for one, number in known)
    errors = [None if one.error is None else one.error * one.own * number / own for one, number in known]
    error = None if None in errors else math.hypot(*(error for error in errors if error is not None))
    samples = sum(one.samples for one, _ in known)
    return Overhead(share=added / own, error=error, added=added / calls, own=own / calls, samples=samples)
