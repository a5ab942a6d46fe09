"""When to try again: pure, with time and chance passed in."""

from __future__ import annotations

import math

import msgspec

from events.facts import Category, FailureClassified
from events.verdicts import GiveUp, Park, Retry, Verdict
from recovery import checks
from recovery.backoff import JITTERS, Backoff, Constant, Exponential, Jitter, Linear, delay

HOPELESS = frozenset({Category.PERMANENT, Category.AUTH, Category.SPENT, Category.CANCELLED})
"""Trying again unchanged cannot help with these."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how long to try.

    *max_retries* does not count the first try; 0 means none, ``None`` no limit. *backoff* is a shape, a sequence of
    delays, or a function from the retry's number; *jitter* is "none", "full", "equal" or "decorrelated". *max_delay*
    caps a delay of ours (not one that a server asked for). *max_elapsed* is seconds since the first try began, waits
    included: no wait is begun that would end later; ``None`` means no limit. *timeout* is seconds per attempt, ``None``
    for no limit.

    Raises TypeError or ValueError, naming the field, for a value out of range.
    """

    max_retries: int | None = 3
    backoff: Backoff = Exponential()
    jitter: Jitter = "full"
    max_delay: float = 60.0
    max_elapsed: float | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        if self.max_retries is not None:
            checks.whole("max_retries", self.max_retries)
        checks.choice("jitter", self.jitter, JITTERS)
        checks.number("max_delay", self.max_delay)
        if self.max_elapsed is not None:
            checks.number("max_elapsed", self.max_elapsed)
        if self.timeout is not None:
            checks.number("timeout", self.timeout, above=0.0)
        if isinstance(self.backoff, list | tuple):
            if not self.backoff:
                raise ValueError("backoff must name at least one delay")
            delays = tuple(checks.number(f"backoff[{i}]", one) for i, one in enumerate(self.backoff))
            msgspec.structs.force_setattr(self, "backoff", delays)
        elif not isinstance(self.backoff, Constant | Linear | Exponential) and (
            isinstance(self.backoff, type) or not callable(self.backoff)
        ):
            raise TypeError(f"backoff must be a shape, a list of delays or a function, not {self.backoff!r}")


def decide(policy: RetryPolicy, failure: FailureClassified, chance: float) -> Verdict:
    """What *policy* wants done about *failure*; *chance* is a draw from [0, 1).

    A hopeless category ends the call. Where a server said how long to wait (RFC 9110, 10.2.3), that comes on top of
    the jittered delay: never early, and not all at the same moment. A rate limit with such a wait parks the call,
    which uses up no retry. Everything else uses one.
    """
    if failure.category in HOPELESS:
        return GiveUp(f"{failure.category} ({failure.rule})" if failure.rule else str(failure.category))
    within = math.inf if policy.max_elapsed is None else policy.max_elapsed - failure.elapsed
    asked = failure.evidence.retry_after
    parks = failure.category is Category.RATE_LIMITED and asked is not None
    if not parks and policy.max_retries is not None and failure.retries >= policy.max_retries:
        return GiveUp(f"out of retries ({policy.max_retries})")
    wait = delay(
        policy.backoff,
        policy.jitter,
        policy.max_delay,
        retry=failure.attempt if parks else failure.retries + 1,
        previous=failure.waited,
        chance=chance,
    )
    if parks:
        return Park(wait + (asked or 0.0), ("rate limit",), within)
    return Retry(wait + (asked or 0.0), within)
