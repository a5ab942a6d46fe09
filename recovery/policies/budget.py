"""How many retries everybody together may make: a bucket of tokens, pure, with the time passed in.

When everything fails, every call's retries multiply the load on whatever is ill. A budget bounds them: a first try is
free, a retry takes a token, and tokens come back with success and with time. It is what Finagle's RetryBudget and the
retryThrottling of gRPC's proposal A6 (max_tokens, token_ratio) are.
"""

from __future__ import annotations

import msgspec

from recovery import validation
from recovery.suggestions import Suggesting

MOST = 1e9


class RetryBudget(msgspec.Struct, metaclass=Suggesting, frozen=True, kw_only=True):
    """*reserve* tokens at first and at the most; each success brings *ratio* tokens, each second *per_second*.

    In any stretch of time there are no more retries than *reserve*, and *ratio* for each success, and *per_second* for
    each second in it.

    Raises TypeError or ValueError, naming the field, for a value out of range.
    """

    reserve: float = 10.0
    ratio: float = 0.1
    per_second: float = 0.1

    def __post_init__(self) -> None:
        for field in ("reserve", "ratio", "per_second"):
            if validation.number(field, getattr(self, field)) > MOST:
                raise ValueError(f"{field} must be at most {MOST:g}, not {getattr(self, field)!r}")
        if self.reserve < 1.0:
            raise ValueError(f"reserve must be at least 1, not {self.reserve!r}: a retry takes a whole token")


class Bucket(msgspec.Struct, frozen=True):
    """*tokens* as of *at*, when the operation's success counter said *successes*."""

    tokens: float
    at: float
    successes: int


def full(budget: RetryBudget, now: float, successes: int) -> Bucket:
    """The bucket to begin with."""
    return Bucket(budget.reserve, now, successes)


def refill(budget: RetryBudget, bucket: Bucket, now: float, successes: int) -> Bucket:
    """The bucket with what came in by *now*, when the success counter says *successes*; neither runs backwards."""
    came = budget.per_second * max(now - bucket.at, 0.0) + budget.ratio * max(successes - bucket.successes, 0)
    return Bucket(min(bucket.tokens + came, budget.reserve), max(now, bucket.at), successes)


def reserve(bucket: Bucket) -> Bucket | None:
    """The bucket without the token of one retry, or ``None`` if there is none to be had."""
    return None if bucket.tokens < 1.0 else msgspec.structs.replace(bucket, tokens=bucket.tokens - 1.0)


def refund(budget: RetryBudget, bucket: Bucket) -> Bucket:
    """The bucket with the token of a retry that was not made."""
    return msgspec.structs.replace(bucket, tokens=min(bucket.tokens + 1.0, budget.reserve))
