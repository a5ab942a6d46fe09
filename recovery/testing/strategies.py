"""Hypothesis strategies of policies, failures, verdicts and circuits; edge cases come often.

@given(policies(), failures(), draws())
def test_no_delay_exceeds_the_cap(policy, failure, draw): ...
"""

from __future__ import annotations

import errno
import math
import subprocess
from typing import Any

from events.errors import Permanent, Retryable
from events.evidence import Category, Evidence
from events.operation_events import FailureClassified
from events.verdicts import GiveUp, Park, Retry, Verdict
from recovery.installation import extra
from recovery.policies.backoff import JITTERS, Backoff, Constant, Exponential, Linear
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.budget import RetryBudget
from recovery.policies.circuit_states import Circuit, Closed, HalfOpen, Open, Permit
from recovery.policies.retry import NEVER, RetryPolicy, Strategy

with extra("testing"):
    from hypothesis import strategies as st
    from hypothesis.strategies import SearchStrategy

CALLS = ("a", "b", "c")
"""Few call ids, so that permits and results meet."""


def _just(fixed: dict[str, Any]) -> dict[str, SearchStrategy[Any]]:
    return {name: st.just(value) for name, value in fixed.items()}


def seconds(most: float = 100.0) -> SearchStrategy[float]:
    """Durations from 0 to *most* seconds; both ends and short ones come often."""
    return st.one_of(st.sampled_from([0.0, 0.001, 1.0, most]), st.floats(0.0, most, allow_nan=False))


def draws() -> SearchStrategy[float]:
    """Draws from [0, 1); both ends come often."""
    return st.one_of(st.sampled_from([0.0, 0.5, math.nextafter(1.0, 0.0)]), st.floats(0.0, 1.0, exclude_max=True))


def backoffs() -> SearchStrategy[Backoff]:
    """Every kind of backoff except functions."""
    return st.one_of(
        st.builds(Constant, seconds()),
        st.builds(Linear, seconds(), seconds()),
        st.builds(Exponential, seconds(), st.floats(1.0, 1000.0)),
        st.lists(seconds(), min_size=1, max_size=5).map(tuple),
    )


def _retries() -> dict[str, SearchStrategy[Any]]:
    """The fields that policies and strategies of categories have in common."""
    return {
        "max_retries": st.none() | st.integers(0, 5),
        "backoff": backoffs(),
        "jitter": st.sampled_from(JITTERS),
        "max_delay": seconds(),
    }


def policies(**fixed: Any) -> SearchStrategy[RetryPolicy]:
    """Retry policies; the fields named in *fixed* have those values."""
    limits = {"max_elapsed": st.none() | seconds(1000.0), "max_rate_limits": st.none() | st.integers(0, 5)}
    fields = _retries() | limits | _just(fixed)
    return st.builds(RetryPolicy, **fields)


def category_strategies() -> SearchStrategy[dict[Category, Strategy]]:
    """Strategies of a few categories, without conditions: values of ``RetryPolicy.per_category``."""
    return st.dictionaries(
        st.sampled_from(sorted(set(Category) - NEVER)), st.builds(Strategy, **_retries()), max_size=3
    )


class LimitedError(Exception):
    """An HTTP client's exception for status 429 with a ``Retry-After`` header."""

    status = 429

    def __init__(self, wait: int) -> None:
        super().__init__(f"429, come back in {wait} s")
        self.headers = {"Retry-After": str(wait)}


def errors() -> SearchStrategy[Exception]:
    """Exceptions of many categories, a new object each time."""
    kinds = [ConnectionResetError, ConnectionRefusedError, TimeoutError, RuntimeError, ValueError, Permanent]
    plain = st.sampled_from(kinds).map(lambda kind: kind("scripted"))
    return st.one_of(
        plain,
        st.sampled_from([errno.ENOSPC, errno.EADDRINUSE, errno.EACCES]).map(lambda number: OSError(number, "scripted")),
        st.integers(0, 100).map(LimitedError),
        (st.none() | seconds()).map(lambda after: Retryable("scripted", after=after)),
        st.sampled_from([1, 127, -9]).map(lambda code: subprocess.CalledProcessError(code, "scripted")),
        st.lists(plain, min_size=1, max_size=3).map(lambda some: ExceptionGroup("scripted", some)),
    )


def budgets() -> SearchStrategy[RetryBudget]:
    """Retry budgets, most of them small."""
    return st.builds(
        RetryBudget,
        reserve=st.sampled_from([1.0, 2.0, 10.0]),
        ratio=st.sampled_from([0.0, 0.1, 1.0]),
        per_second=st.sampled_from([0.0, 0.01, 1.0]),
    )


def categories() -> SearchStrategy[Category]:
    """Every category."""
    return st.sampled_from(Category)


def evidences() -> SearchStrategy[Evidence]:
    """Evidence, sometimes with a status, a library's code, an errno, an exit code or a server's ``Retry-After``."""
    return st.builds(
        Evidence,
        type=st.sampled_from(["builtins.OSError", "builtins.ValueError", "httpx2.ReadTimeout"]),
        kinds=st.sampled_from([(), ("builtins.OSError",), ("httpx2.TransportError",)]),
        errno=st.none() | st.integers(0, 133),
        status=st.none() | st.integers(100, 599),
        code=st.none() | st.sampled_from(["UNAVAILABLE", "SlowDown", "SQLITE_BUSY", "SQLSTATE 23505"]),
        exit_code=st.none() | st.integers(-15, 255),
        retry_after=st.none() | seconds(3600.0),
    )


def failures(**fixed: Any) -> SearchStrategy[FailureClassified]:
    """Classified failures of attempts up to a million; the fields named in *fixed* have those values."""
    fields: dict[str, SearchStrategy[Any]] = {
        "at": seconds(1000.0),
        "operation": st.just("operation"),
        "call": st.sampled_from(CALLS),
        "attempt": st.integers(1, 10) | st.integers(1, 10**6),
        "retries": st.integers(0, 10) | st.integers(0, 10**6),
        "category": categories(),
        "evidence": evidences(),
        "elapsed": seconds(1000.0),
        "waited": seconds(),
        "retry_after": st.none() | seconds(3600.0),
    }
    return st.builds(FailureClassified, **(fields | _just(fixed)))


def verdicts() -> SearchStrategy[Verdict]:
    """Every kind of verdict, of few values, so that equal and conflicting ones meet."""
    after = st.sampled_from([0.0, 1.0, 2.0, 10.0])
    within = st.sampled_from([0.0, 1.0, 5.0, math.inf])
    reasons = st.sets(st.sampled_from(["x", "y", "z"])).map(lambda some: tuple(sorted(some)))
    return st.one_of(
        st.builds(Retry, after, within),
        st.builds(Park, after, reasons, within, st.booleans(), st.booleans()),
        st.builds(GiveUp, reasons, st.none() | after),
    )


def breaker_policies(**fixed: Any) -> SearchStrategy[BreakerPolicy]:
    """Breaker policies with small thresholds; the fields named in *fixed* have those values."""
    fields: dict[str, SearchStrategy[Any]] = {
        "failure_threshold": st.integers(1, 4),
        "break_duration": st.sampled_from([1.0, 10.0]),
        "break_growth": st.sampled_from([1.0, 2.0]),
        "max_break": st.sampled_from([1.0, 15.0]),
        "counts": st.sampled_from(["calls", "attempts"]),
        "categories": st.none() | st.frozensets(categories(), max_size=3),
        "half_open_permits": st.integers(1, 3),
        "lease": st.sampled_from([1.0, 5.0]),
        "half_open_successes": st.integers(1, 2),
        "forget_after": st.sampled_from([None, 15.0, 3600.0]),
    }
    return st.builds(BreakerPolicy, **(fields | _just(fixed)))


def circuits() -> SearchStrategy[Circuit]:
    """Circuits in every state, reachable or not, since laws must hold from any."""
    permit = st.builds(Permit, st.sampled_from(CALLS), seconds(20.0))
    permits = st.lists(permit, max_size=3, unique_by=lambda permit: permit.call)
    return st.one_of(
        st.builds(Closed, st.integers(0, 5), st.integers(0, 3)),
        st.builds(Open, seconds(20.0), st.integers(1, 5), st.integers(1, 3)),
        st.builds(HalfOpen, permits.map(tuple), st.integers(1, 3)),
    )
