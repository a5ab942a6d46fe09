"""When to try again."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from events.evidence import Category, Evidence
from events.operation_events import FailureClassified
from events.verdicts import GiveUp, Park, Retry, Verdict, settle
from recovery.policies.backoff import Constant, Exponential
from recovery.policies.circuit_breaker import BreakerPolicy
from recovery.policies.retry import HOPELESS, RetryPolicy, decide

STEADY = RetryPolicy(max_retries=3, backoff=Constant(2.0), jitter="none")


def failed(category: Category = Category.TRANSIENT, **given: Any) -> FailureClassified:
    evidence = Evidence(type="builtins.OSError")
    return FailureClassified(**{"at": 0.0, "call": "a", "category": category, "evidence": evidence, **given})


def decided(policy: RetryPolicy = STEADY, **given: Any) -> Verdict:
    return decide(policy, failed(**given), 0.5)


def test_a_transient_failure_is_retried_after_the_backoff() -> None:
    assert decided() == Retry(2.0)


@pytest.mark.parametrize("category", sorted(HOPELESS))
def test_a_hopeless_failure_ends_the_call_and_says_which_rule_decided(category: Category) -> None:
    assert decided(category=category, rule="status 404") == GiveUp(f"{category} (status 404)")


def test_a_hopeless_failure_without_a_rule_is_named_by_its_category() -> None:
    assert decided(category=Category.PERMANENT) == GiveUp("permanent")


@pytest.mark.parametrize(("max_retries", "tries"), [(0, 1), (1, 2), (3, 4)])
def test_max_retries_does_not_count_the_first_try(max_retries: int, tries: int) -> None:
    policy = msgspec.structs.replace(STEADY, max_retries=max_retries)
    verdicts = [decided(policy, attempt=retries + 1, retries=retries) for retries in range(tries)]
    assert verdicts == [Retry(2.0)] * max_retries + [GiveUp(f"out of retries ({max_retries})")]


def test_no_limit_is_not_zero_retries() -> None:
    assert decided(msgspec.structs.replace(STEADY, max_retries=None), retries=10**6) == Retry(2.0)


def test_the_backoff_counts_retries_and_not_parked_attempts() -> None:
    policy = RetryPolicy(backoff=(1.0, 2.0, 3.0), jitter="none")
    assert decided(policy, attempt=9, retries=1) == Retry(2.0)


def test_a_servers_wish_comes_on_top_of_our_delay() -> None:
    assert decided(retry_after=10.0) == Retry(12.0)


def test_a_rate_limit_with_a_wish_parks_the_call_however_many_retries_are_used() -> None:
    verdict = decided(category=Category.RATE_LIMITED, retry_after=10.0, retries=99)
    assert verdict == Park(12.0, ("rate limit",))


def test_a_rate_limit_parks_for_longer_each_time() -> None:
    policy = RetryPolicy(backoff=Exponential(1.0), jitter="none")
    waits = [decided(policy, category=Category.RATE_LIMITED, retry_after=1.0, attempt=n).after for n in (1, 2, 3)]
    assert waits == [2.0, 3.0, 5.0]


@pytest.mark.parametrize(("retries", "verdict"), [(0, Retry(2.0)), (3, GiveUp("out of retries (3)"))])
def test_a_rate_limit_without_a_wish_uses_up_retries(retries: int, verdict: Verdict) -> None:
    assert decided(category=Category.RATE_LIMITED, retries=retries) == verdict


@pytest.mark.parametrize(
    ("elapsed", "verdict"), [(7.0, Retry(2.0, 3.0)), (8.0, Retry(2.0, 2.0)), (8.1, GiveUp("out of time"))]
)
def test_no_wait_is_begun_that_would_end_after_max_elapsed(elapsed: float, verdict: Verdict) -> None:
    policy = msgspec.structs.replace(STEADY, max_elapsed=10.0)
    assert settle([decided(policy, elapsed=elapsed)]) == verdict


def test_a_server_that_asks_for_too_long_ends_the_call() -> None:
    policy = msgspec.structs.replace(STEADY, max_elapsed=10.0)
    assert settle([decided(policy, category=Category.RATE_LIMITED, retry_after=9.0)]) == GiveUp("out of time")


def test_a_list_of_delays_becomes_a_tuple_of_floats() -> None:
    assert RetryPolicy(backoff=[1, 2]).backoff == (1.0, 2.0)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("max_retries", -1, ValueError),
        ("max_retries", True, TypeError),
        ("max_retries", 2.0, TypeError),
        ("max_retries", math.nan, TypeError),
        ("jitter", "some", ValueError),
        ("jitter", None, ValueError),
        ("max_delay", -1.0, ValueError),
        ("max_delay", math.nan, ValueError),
        ("max_delay", math.inf, ValueError),
        ("max_delay", None, TypeError),
        ("max_elapsed", -1.0, ValueError),
        ("max_elapsed", math.inf, ValueError),
        ("max_elapsed", True, TypeError),
        ("attempt_timeout", 0, ValueError),
        ("attempt_timeout", "5", TypeError),
        ("backoff", [], ValueError),
        ("backoff", [1.0, -1.0], ValueError),
        ("backoff", [1.0, "2"], TypeError),
        ("backoff", 2.0, TypeError),
        ("backoff", "fast", TypeError),
        ("backoff", None, TypeError),
        ("backoff", BreakerPolicy(), TypeError),
        ("backoff", Exponential, TypeError),
    ],
)
def test_a_value_out_of_range_is_refused_by_the_name_of_its_field(
    field: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=rf"^{field}(\[\d\])? must "):
        RetryPolicy(**{field: value})
