"""When to try again: pure, with time and chance passed in."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from events.callables import is_async
from events.conditions import Condition
from events.evidence import Category
from events.operation_events import FailureClassified, OperationFailed
from events.verdicts import GiveUp, Park, Retry, Verdict
from recovery import validation
from recovery.policies.backoff import JITTERS, Backoff, Constant, Exponential, Jitter, Linear, delay
from recovery.suggestions import Suggesting

LIMITED = Category.RATE_LIMITED  # looking a member up in its class takes longer than all that is done with it
HOPELESS = frozenset({Category.PERMANENT, Category.AUTH, Category.EXHAUSTED, Category.CANCELLED})
"""Trying again unchanged cannot help with these."""

NEVER = HOPELESS - {Category.AUTH}
"""No strategy can ask for these to be tried again: nobody who waits changes anything."""

UNSENT = frozenset({Category.UNREACHABLE, Category.RATE_LIMITED})
"""The other side never heard of the attempt, or refused it: trying again cannot do a thing twice."""


class Strategy(msgspec.Struct, metaclass=Suggesting, frozen=True, kw_only=True):
    """What is different for one category of failures; a field that is left out is as in the ``RetryPolicy``.

    *max_retries* is how many retries, whatever they were for, the call may have used when a failure of this kind is
    still tried again. *wait_for* are conditions: then the call is parked until all of them hold, *wait_timeout* seconds
    at the
    most (``None``: no limit). That uses up no retry, unless they held from the start: then they were not the cause.

    Raises TypeError or ValueError, naming the field, for a value out of range.
    """

    max_retries: int | msgspec.UnsetType | None = msgspec.UNSET
    backoff: Backoff | msgspec.UnsetType = msgspec.UNSET
    jitter: Jitter | msgspec.UnsetType = msgspec.UNSET
    max_delay: float | msgspec.UnsetType = msgspec.UNSET
    wait_for: tuple[Condition, ...] = ()
    wait_timeout: float | None = None

    def __post_init__(self) -> None:
        _check_shape(self)
        wait_for = (
            (self.wait_for,) if isinstance(self.wait_for, Condition) else validation.items("wait_for", self.wait_for)
        )
        for condition in wait_for:
            if not isinstance(condition, Condition):
                raise TypeError(f"wait_for must be conditions, not {condition!r}")
        msgspec.structs.force_setattr(self, "wait_for", wait_for)
        if self.wait_timeout is not None:
            validation.number("wait_timeout", self.wait_timeout)
            if not wait_for:
                raise ValueError("patience is for conditions to wait for; there are none in wait_for")


class RetryPolicy(msgspec.Struct, metaclass=Suggesting, frozen=True, kw_only=True):
    """How often and how long to try.

    *max_retries* does not count the first try; 0 means none, ``None`` no limit. *backoff* is a shape, a sequence of
    delays, or a function from the retry's number; *jitter* is "none", "full", "equal" or "decorrelated". *max_delay*
    caps a delay of ours (not one that a server asked for). *max_elapsed* is seconds since the first try began, waits
    included: no wait is begun that would end later; ``None`` means no limit. *per_category* says what is different for
    failures of one kind.

    *attempt_timeout* is seconds per attempt, *stall_timeout* seconds without progress
    (``recovery.context.progress``), ``None``
    for no limit. With *progress_resets*, an attempt that came further than any before it gives the call all its
    retries back,
    so many times (``None``: as often as that happens): what counts, then, is failures in a row without progress, as
    huggingface_hub counts them for downloads.

    Raises TypeError or ValueError, naming the field, for a value out of range.
    """

    max_retries: int | None = 3
    backoff: Backoff = Exponential()
    jitter: Jitter = "full"
    max_delay: float = 60.0
    max_elapsed: float | None = None
    attempt_timeout: float | None = None
    stall_timeout: float | None = None
    progress_resets: int | None = 0
    per_category: Mapping[Category, Strategy] = {}

    def __post_init__(self) -> None:
        _check_shape(self)
        if self.max_elapsed is not None:
            validation.number("max_elapsed", self.max_elapsed)
        for field in ("attempt_timeout", "stall_timeout"):
            if getattr(self, field) is not None:
                validation.number(field, getattr(self, field), above=0.0)
        if self.progress_resets is not None:
            validation.whole("progress_resets", self.progress_resets)
        if not isinstance(self.per_category, Mapping):
            raise TypeError(f"per_category must map categories to strategies, not {self.per_category!r}")
        strategies = {}
        for given, strategy in self.per_category.items():
            category = Category(validation.choice("per_category", given, tuple(map(str, Category))))
            if not isinstance(strategy, Strategy):
                raise TypeError(f"per_category[{str(category)!r}] must be a Strategy, not {strategy!r}")
            if category in NEVER:
                raise ValueError(f"per_category[{str(category)!r}] cannot be: such a failure is never tried again")
            strategies[category] = strategy
        msgspec.structs.force_setattr(self, "per_category", strategies)

    @property
    def most_retries(self) -> int | None:
        """More than any failure's category allows is too many, ``None`` for no limit."""
        own = [strategy.max_retries for strategy in self.per_category.values()]
        limits = [self.max_retries, *(limit for limit in own if not isinstance(limit, msgspec.UnsetType))]
        finite = [limit for limit in limits if limit is not None]
        return max(finite) if len(finite) == len(limits) else None

    def retries_for(self, category: Category | None) -> int | None:
        """How many retries a call may have used when a failure of *category* is still tried again."""
        strategy = None if category is None else self.per_category.get(category)
        if strategy is None or isinstance(strategy.max_retries, msgspec.UnsetType):
            return self.max_retries
        return strategy.max_retries

    @property
    def watches_progress(self) -> bool:
        """Whether it matters how far an attempt has come."""
        return self.stall_timeout is not None or self.progress_resets != 0


def _check_shape(given: RetryPolicy | Strategy) -> None:
    """Check the fields that a policy and a strategy share; a sequence of delays becomes a tuple."""
    if isinstance(given, RetryPolicy):
        for field in ("max_retries", "backoff", "jitter", "max_delay"):
            if getattr(given, field) is msgspec.UNSET:
                raise TypeError(f"{field} must be set in a policy")
    if given.max_retries not in (None, msgspec.UNSET):
        validation.whole("max_retries", given.max_retries)
    if given.jitter is not msgspec.UNSET:
        validation.choice("jitter", given.jitter, JITTERS)
    if given.max_delay is not msgspec.UNSET:
        validation.number("max_delay", given.max_delay)
    backoff = given.backoff
    if isinstance(backoff, list | tuple):
        if not backoff:
            raise ValueError("backoff must name at least one delay")
        delays = tuple(validation.number(f"backoff[{i}]", one) for i, one in enumerate(backoff))
        msgspec.structs.force_setattr(given, "backoff", delays)
    elif not isinstance(backoff, Constant | Linear | Exponential | msgspec.UnsetType) and (
        isinstance(backoff, type) or not callable(backoff) or is_async(backoff)
    ):
        raise TypeError(f"backoff must be a shape, a list of delays or a plain function, not {backoff!r}")


def reset_by_progress(policy: RetryPolicy, failed: OperationFailed) -> tuple[int, int]:
    """The retries that a call has used, and how often they were refilled, once the progress it made is counted."""
    if not (failed.progressed and failed.retries):
        return failed.retries, failed.progress_resets
    may_refill = policy.progress_resets is None or failed.progress_resets < policy.progress_resets
    return (0, failed.progress_resets + 1) if may_refill else (failed.retries, failed.progress_resets)


def decide(policy: RetryPolicy, failure: FailureClassified, draw: float) -> Verdict:
    """What *policy* wants done about *failure*; *draw* is a number from [0, 1).

    A hopeless category ends the call. Where a server said how long to wait (RFC 9110, 10.2.3; gRPC's A6 calls it
    pushback), that comes on top of the jittered delay: never early, and not all at the same moment. A rate limit with
    such a wait parks the call, and so does a category that has conditions to wait for; neither uses a retry. Everything
    else uses one.
    """
    category = failure.category
    strategy = policy.per_category.get(category)
    if category in HOPELESS and (strategy is None or category in NEVER):
        return GiveUp(f"{category} ({failure.rule})" if failure.rule else str(category))
    within = math.inf if policy.max_elapsed is None else policy.max_elapsed - failure.elapsed
    asked = failure.retry_after
    is_limited = category is LIMITED and bool(asked)
    until: tuple[Condition, ...] = () if strategy is None else strategy.wait_for
    is_parked = is_limited or bool(until)
    most, backoff, jitter, max_delay = (
        (policy.max_retries, policy.backoff, policy.jitter, policy.max_delay)
        if strategy is None
        else _overridden(policy, strategy)
    )
    if not is_parked and most is not None and failure.retries >= most:
        return GiveUp(f"out of retries ({most})")
    wait = delay(
        backoff,
        jitter,
        max_delay,
        retry=failure.attempt if is_parked else failure.retries + 1,
        previous=failure.waited,
        draw=draw,
    )
    if not is_parked:
        return Retry(wait + (asked or 0.0), within)
    if strategy is not None and until:
        within = within if strategy.wait_timeout is None else min(within, strategy.wait_timeout)
        wait = max(0.0, min(wait, within))  # patience is for the conditions, not for a delay of ours
    return Park(wait + (asked or 0.0), (*until, *(("rate limit",) if is_limited else ())), within)


def parks(policy: RetryPolicy, failure: FailureClassified) -> bool:
    """Whether *policy* parks *failure*, if it does not end the call: for a rate limit with a wish, or conditions."""
    strategy = policy.per_category.get(failure.category)
    is_limited = failure.category is LIMITED and bool(failure.retry_after)
    return is_limited or (strategy is not None and bool(strategy.wait_for))


def _overridden(policy: RetryPolicy, strategy: Strategy) -> tuple[int | None, Backoff, Jitter, float]:
    """What the policy says of retries and delays, but for what the strategy says."""
    return (
        policy.max_retries if isinstance(strategy.max_retries, msgspec.UnsetType) else strategy.max_retries,
        policy.backoff if isinstance(strategy.backoff, msgspec.UnsetType) else strategy.backoff,
        policy.jitter if isinstance(strategy.jitter, msgspec.UnsetType) else strategy.jitter,
        policy.max_delay if isinstance(strategy.max_delay, msgspec.UnsetType) else strategy.max_delay,
    )
