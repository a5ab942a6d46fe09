"""How many retries all calls of an operation may make together: a bucket of tokens, pure; the time is an argument.

When every call fails, retries multiply the load on a host that is already overloaded. A budget bounds them: a first
attempt is free, a retry takes a token, and successes and time bring tokens.

Source: Finagle's RetryBudget; retryThrottling (max_tokens, token_ratio) of gRPC's proposal A6.
"""

from __future__ import annotations

import msgspec

from recovery import validation
from recovery.suggestions import Suggesting

MOST = 1e9


class RetryBudget(msgspec.Struct, metaclass=Suggesting, frozen=True, kw_only=True, repr_omit_defaults=True):
    """How many retries all calls of an operation, or of one key of it, may make together.

    In any period there are at most *reserve* retries, plus *ratio* for each success and *per_second* for each second.

    Args:
        reserve: Tokens at the start, and the most that there ever are; at least 1.
        ratio: Tokens that each success brings.
        per_second: Tokens that each second brings.

    Raises:
        TypeError: An unknown field, or a value of the wrong type.
        ValueError: A value out of range.
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


def refill(budget: RetryBudget, bucket: Bucket, now: float, successes: int) -> Bucket:
    """The bucket with the tokens that came in by *now*, when the success counter says *successes*."""
    came = budget.per_second * max(now - bucket.at, 0.0) + budget.ratio * max(successes - bucket.successes, 0)
    return Bucket(min(bucket.tokens + came, budget.reserve), max(now, bucket.at), successes)


def reserve(bucket: Bucket) -> Bucket | None:
    """The bucket after one retry takes a token, ``None`` if there is no token."""
    return None if bucket.tokens < 1.0 else msgspec.structs.replace(bucket, tokens=bucket.tokens - 1.0)


def refund(budget: RetryBudget, bucket: Bucket) -> Bucket:
    """The bucket after the token of a retry that was not made comes back."""
    return msgspec.structs.replace(bucket, tokens=min(bucket.tokens + 1.0, budget.reserve))


def share(budget: RetryBudget, bucket: Bucket, *, taken: float, successes: int) -> Bucket:
    """The bucket after another process has *taken* tokens and had *successes*: all share one budget.

    Processes that spend at the same time may owe tokens, at most *reserve*: then there are fewer than none.
    """
    tokens = bucket.tokens - taken + budget.ratio * successes
    return msgspec.structs.replace(bucket, tokens=min(max(tokens, -budget.reserve), budget.reserve))
