"""When to retry: pure; time and randomness are arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, cast, get_args

import msgspec

from events.callables import is_async
from events.conditions import Condition
from events.evidence import Category
from events.operation_events import FailureClassified, OperationFailed
from events.verdicts import GiveUp, Park, Retry, Verdict
from recovery import validation
from recovery.policies.backoff import JITTERS, Backoff, Constant, Exponential, Jitter, Linear, delay
from recovery.policies.causes import ConditionOf, check_cause, conditions
from recovery.policies.pacing import RATE_LIMIT, slower, spread
from recovery.suggestions import Suggesting

LIMITED = Category.RATE_LIMITED  # looking a member up in its class takes longer than all that is done with it
HOPELESS = frozenset({Category.PERMANENT, Category.AUTH, Category.EXHAUSTED, Category.CANCELLED})
"""Categories that a retry of the same call cannot help."""

NEVER = HOPELESS - {Category.AUTH}
"""Categories that no strategy may retry: waiting changes nothing."""

UNSENT = frozenset({Category.UNREACHABLE, Category.RATE_LIMITED})
"""The server did not get the attempt, or refused it: a retry cannot have the effect twice."""

MOST_LISTED = 64
"""Delays that are worked out in advance."""

Then: TypeAlias = Literal["give up", "ask"]
"""What a call does whose retries have run out."""

OUT_OF_RETRIES = "out of retries"

PERSON = "a person to say retry or give up"
"""What such a call waits for that is to ask."""

ASK = Park(math.inf, (PERSON,), asks_person=True)
"""The verdict on a call whose retries have run out and that is to ask."""


class Strategy(msgspec.Struct, metaclass=Suggesting, frozen=True, kw_only=True, repr_omit_defaults=True):
    """What differs for one category of failures; a field that is left out is as in the ``RetryPolicy``.

    Args:
        max_retries: How many retries, for any category, the call may have used when a failure of this category is
            still retried; 0 means none, None no limit.
        backoff: As in ``RetryPolicy``.
        jitter: As in ``RetryPolicy``.
        max_delay: As in ``RetryPolicy``.
        wait_for: Conditions: the call is parked until all of them hold. That uses no retry, unless they held from the
            start: then they were not the cause. A function from the failure to a condition, or to None, suits a cause
            that differs by call (its host); a failure without any condition is retried.
        wait_timeout: The most seconds that the call is parked; None means no limit.

    Raises:
        TypeError: An unknown field, or a value of the wrong type.
        ValueError: A value out of range, or a ``wait_timeout`` without ``wait_for``.
    """

    max_retries: int | msgspec.UnsetType | None = msgspec.UNSET
    backoff: Backoff | msgspec.UnsetType = msgspec.UNSET
    jitter: Jitter | msgspec.UnsetType = msgspec.UNSET
    max_delay: float | msgspec.UnsetType = msgspec.UNSET
    wait_for: tuple[Condition | ConditionOf, ...] = ()
    wait_timeout: float | None = None

    def __post_init__(self) -> None:
        _check_shape(self)
        causes = (self.wait_for,) if callable(self.wait_for) else self.wait_for
        wait_for = validation.items("wait_for", causes, single=Condition)
        for cause in wait_for:
            check_cause(cause)
        msgspec.structs.force_setattr(self, "wait_for", wait_for)
        if self.wait_timeout is not None:
            validation.number("wait_timeout", self.wait_timeout)
            if not wait_for:
                raise ValueError("wait_timeout needs conditions to wait for: wait_for=(...)")


class RetryPolicy(msgspec.Struct, metaclass=Suggesting, frozen=True, kw_only=True, repr_omit_defaults=True):
    """How often and how long to retry.

    Args:
        max_retries: Retries after the first attempt; 0 means none, None no limit.
        backoff: ``Constant``, ``Linear``, ``Exponential``, a list of delays in seconds (the last one repeats), or a
            function from the retry's number (from 1) to seconds.
        jitter: How a delay is randomized: "none", "full" (from 0 to the delay), "equal" (half of the delay is kept) or
            "decorrelated" (grows from the previous delay).
        max_delay: The most seconds of a delay; it does not cap a wait that a server asks for, which is at most an
            hour. By default a delay grows to at most 60 s, and one that is named (a first delay, a constant, one of a
            list, the result of a function) is kept, however long.
        max_elapsed: Seconds since the first attempt began, waits included: no wait begins that would end later. None
            means no limit.
        attempt_timeout: Seconds that one attempt may take; None means no limit.
        stall_timeout: Seconds that an attempt may go without ``recovery.context.progress``; None means no limit.
        progress_resets: How many times an attempt that gets further than all before it resets the used retries; None
            means each time. Failures in a row without progress count then, as in huggingface_hub's downloads.
        max_rate_limits: How many rate limits whose length the server says a call waits out without using a retry; None
            means all. Attempts that used no retry for another reason (a park, progress) count too.
        per_category: A ``Strategy`` for each category whose failures are handled differently.
        then: What a call does whose retries have run out: "give up" raises its last error; "ask" keeps it waiting until
            a person says ``retry_now`` or ``give_up`` (``service.calls``), also across restarts. A retry by hand is one
            attempt, with ``max_elapsed`` begun again; if it fails, the call asks again. Only retries that ran out ask:
            a hopeless failure, an empty budget and ``max_elapsed`` give up.

    Raises:
        TypeError: An unknown field, or a value of the wrong type.
        ValueError: A value out of range.
    """

    max_retries: int | None = 3
    backoff: Backoff = Exponential()
    jitter: Jitter = "full"
    max_delay: float | msgspec.UnsetType = msgspec.UNSET
    max_elapsed: float | None = None
    attempt_timeout: float | None = None
    stall_timeout: float | None = None
    progress_resets: int | None = 0
    max_rate_limits: int | None = 100
    per_category: Mapping[Category, Strategy] = {}
    then: Then = "give up"

    def __post_init__(self) -> None:
        _check_shape(self)
        if self.max_elapsed is not None:
            validation.number("max_elapsed", self.max_elapsed)
        for field in ("attempt_timeout", "stall_timeout"):
            if getattr(self, field) is not None:
                validation.number(field, getattr(self, field), above=0.0)
        validation.choice("then", self.then, get_args(Then))
        for field in ("progress_resets", "max_rate_limits"):
            if getattr(self, field) is not None:
                validation.whole(field, getattr(self, field))
        if not isinstance(self.per_category, Mapping):
            raise TypeError(f"per_category must map categories to strategies, not {self.per_category!r}")
        strategies = {}
        for given, strategy in self.per_category.items():
            category = validation.category("per_category", given)
            if not isinstance(strategy, Strategy):
                raise TypeError(f"per_category[{str(category)!r}] must be a Strategy, not {strategy!r}")
            if category in NEVER:
                raise ValueError(f"per_category[{str(category)!r}] has no use: such a failure is never retried")
            strategies[category] = strategy
        msgspec.structs.force_setattr(self, "per_category", strategies)

    @property
    def most_retries(self) -> int | None:
        """The most retries that any category allows, ``None`` for no limit."""
        limits = [self.retries_for(category) for category in (None, *self.per_category)]
        finite = [limit for limit in limits if limit is not None]
        return max(finite) if len(finite) == len(limits) else None

    def retries_for(self, category: Category | None) -> int | None:
        """How many retries a call may have used when a failure of *category* is still retried."""
        strategy = None if category is None else self.per_category.get(category)
        if strategy is None or isinstance(strategy.max_retries, msgspec.UnsetType):
            return self.max_retries
        return strategy.max_retries

    @property
    def watches_progress(self) -> bool:
        """Whether the policy depends on the progress of attempts."""
        return self.stall_timeout is not None or self.progress_resets != 0


def _check_shape(given: RetryPolicy | Strategy) -> None:
    """Check the fields that a policy and a strategy share; a strategy may leave them out."""
    fields: dict[str, Any] = {name: getattr(given, name) for name in ("max_retries", "backoff", "jitter", "max_delay")}
    if isinstance(given, Strategy):
        fields = {name: value for name, value in fields.items() if value is not msgspec.UNSET}
    if fields.get("max_retries") is not None:
        validation.whole("max_retries", fields["max_retries"])
    if "jitter" in fields:
        validation.choice("jitter", fields["jitter"], JITTERS)
    if (max_delay := fields.get("max_delay", msgspec.UNSET)) is not msgspec.UNSET:
        validation.number("max_delay", max_delay)
    if "backoff" in fields:
        msgspec.structs.force_setattr(given, "backoff", _checked_backoff(fields["backoff"]))


def _checked_backoff(backoff: Any) -> Backoff:
    """*backoff*; a sequence of delays becomes a tuple."""
    if isinstance(backoff, list | tuple):
        if not backoff:
            raise ValueError("backoff must name at least one delay")
        return tuple(validation.number(f"backoff[{i}]", one) for i, one in enumerate(backoff))
    is_function = callable(backoff) and not isinstance(backoff, type) and not is_async(backoff)
    if not is_function and not isinstance(backoff, Constant | Linear | Exponential):
        raise TypeError(
            f"backoff must be Constant, Linear, Exponential, a list of delays or a plain function, not {backoff!r}"
        )
    return cast("Backoff", backoff)


def reset_by_progress(policy: RetryPolicy, failed: OperationFailed) -> tuple[int, int]:
    """The retries that a call has used, and how often progress has reset them, after the progress of *failed*."""
    if not (failed.progressed and failed.retries):
        return failed.retries, failed.progress_resets
    may_reset = policy.progress_resets is None or failed.progress_resets < policy.progress_resets
    return (0, failed.progress_resets + 1) if may_reset else (failed.retries, failed.progress_resets)


def decide(policy: RetryPolicy, failure: FailureClassified, draw: float) -> Verdict:
    """The verdict of *policy* on *failure*.

    A hopeless category ends the call. The wait that a server asked for is added to the jittered delay, so that no call
    is early and not all resume at one moment. A rate limit with such a wait parks the call, and so does a category with
    conditions to wait for; neither uses a retry. Every other failure uses one. When none is left, the call ends, or
    asks a person. A rate limit has delays of its own, unless its ``Strategy`` has a backoff: the server's wait and a
    random part of its ``spread``, the same each time; or, if its length is unknown, ``UNTOLD_LIMIT`` times longer.

    Args:
        policy: The operation's policy.
        failure: The classified failure.
        draw: A random number from [0, 1).

    Source: Retry-After of RFC 9110, 10.2.3; pushback of gRPC's proposal A6.
    """
    category = failure.category
    strategy = policy.per_category.get(category)
    if category in HOPELESS and (strategy is None or category in NEVER):
        return GiveUp(f"{category} ({failure.rule})" if failure.rule else str(category))
    within = math.inf if policy.max_elapsed is None else policy.max_elapsed - failure.elapsed
    asked = failure.retry_after
    is_limited = category is LIMITED and _is_waited_out(policy, failure)
    until: tuple[Condition, ...] = () if strategy is None else conditions(strategy.wait_for, failure)
    is_parked = is_limited or bool(until)
    most, backoff, jitter, max_delay = (
        (policy.max_retries, policy.backoff, policy.jitter, policy.max_delay)
        if strategy is None
        else _overridden(policy, strategy)
    )
    if not is_parked and most is not None and failure.retries >= most and not failure.uncharged:
        return ASK if policy.then == "ask" else GiveUp(f"{OUT_OF_RETRIES} ({most})")
    retry = failure.attempt if is_parked else failure.retries + 1
    if category is LIMITED and (strategy is None or strategy.backoff is msgspec.UNSET):
        if is_limited:
            backoff, jitter = Constant(0.0 if jitter == "none" else spread(asked or 0.0)), "full"
        elif not asked:
            backoff, jitter = slower(backoff), "equal" if jitter == "full" else jitter
    wait = delay(backoff, jitter, max_delay, retry=retry, previous=failure.waited, draw=draw)
    if not is_parked:
        return Retry(wait + (asked or 0.0), within)
    if strategy is not None and until:
        within = within if strategy.wait_timeout is None else min(within, strategy.wait_timeout)
        wait = max(0.0, min(wait, within))  # wait_timeout bounds the conditions, not our delay
    return Park(wait + (asked or 0.0), (*until, *((RATE_LIMIT,) if is_limited else ())), within)


def delays(policy: RetryPolicy, category: Category) -> tuple[tuple[float, float], ...] | None:
    """The delays that ``decide`` answers with after failures of *category*, where the retries used alone tell them.

    One pair for each retry, at most ``MOST_LISTED``: a failure with *n* retries used is retried after the first number
    of pair *n*, plus the second times the draw. A failure beyond them, and one that asks for a wait, is not covered.
    ``None`` where more decides: a deadline, conditions, a function of the user's, the delay before.
    """
    strategy = policy.per_category.get(category)
    is_hopeless = category in HOPELESS and (strategy is None or category in NEVER)
    if is_hopeless or category is LIMITED or policy.max_elapsed is not None or (strategy and strategy.wait_for):
        return None
    most, backoff, jitter, cap = (
        (policy.max_retries, policy.backoff, policy.jitter, policy.max_delay)
        if strategy is None
        else _overridden(policy, strategy)
    )
    if jitter == "decorrelated" or not isinstance(backoff, Constant | Linear | Exponential | tuple):
        return None
    listed = range(1, (MOST_LISTED if most is None else min(most, MOST_LISTED)) + 1)
    ends = ((delay(backoff, jitter, cap, retry=one, previous=0.0, draw=draw) for draw in (0.0, 1.0)) for one in listed)
    return tuple((least, longest - least) for least, longest in ends)


def parks(policy: RetryPolicy, failure: FailureClassified) -> bool:
    """Whether *policy* parks *failure*, unless it ends the call: a rate limit with a wait, or conditions."""
    strategy = policy.per_category.get(failure.category)
    try:
        return _is_waited_out(policy, failure) or (
            strategy is not None and bool(conditions(strategy.wait_for, failure))
        )
    except Exception:  # a function of the user's: ``decide`` has failed as well, which ends the call
        return False


def _is_waited_out(policy: RetryPolicy, failure: FailureClassified) -> bool:
    """Whether *failure* is a rate limit that the call waits out as long as the server says, without using a retry."""
    if failure.category is not LIMITED or not failure.retry_after:
        return False
    return policy.max_rate_limits is None or failure.attempt - 1 - failure.retries < policy.max_rate_limits


def _overridden(
    policy: RetryPolicy, strategy: Strategy
) -> tuple[int | None, Backoff, Jitter, float | msgspec.UnsetType]:
    """The retries and delays of the policy, overridden by those of the strategy."""
    return (
        policy.max_retries if isinstance(strategy.max_retries, msgspec.UnsetType) else strategy.max_retries,
        policy.backoff if isinstance(strategy.backoff, msgspec.UnsetType) else strategy.backoff,
        policy.jitter if isinstance(strategy.jitter, msgspec.UnsetType) else strategy.jitter,
        policy.max_delay if isinstance(strategy.max_delay, msgspec.UnsetType) else strategy.max_delay,
    )
