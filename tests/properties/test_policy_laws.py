"""Laws of retry decisions: for every policy, failure and draw."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from events.evidence import Category, Evidence
from events.operation_events import FailureClassified
from events.verdicts import GiveUp, Park, Retry, settle
from recovery.policies.retry import HOPELESS, RetryPolicy, decide
from recovery.testing.strategies import draws, failures, policies

PLAIN = Evidence(type="x.Error")


def asked(category: Category) -> st.SearchStrategy[FailureClassified]:
    return st.builds(
        lambda failure, asked: msgspec.structs.replace(failure, retry_after=asked),
        failures(category=category, evidence=PLAIN),
        st.floats(0.001, 3600.0),
    )


LIMITED = asked(Category.RATE_LIMITED)
"""Rate limits of any attempt, with a ``Retry-After``."""

WITHOUT_HOPE = st.one_of(
    *(failures(category=category, evidence=PLAIN) for category in sorted(HOPELESS)),
    *(failures(category=category, evidence=PLAIN, retries=0) for category in sorted(HOPELESS)),
)
PATIENT = policies(max_retries=None)
"""Policies without a limit of retries, which always decide to wait."""


@given(policies(), WITHOUT_HOPE, draws())
def test_a_hopeless_failure_gives_up(policy: RetryPolicy, failure: FailureClassified, draw: float):
    assert isinstance(decide(policy, failure, draw), GiveUp)


@given(policies(max_retries=3), failures() | failures(retries=3, evidence=PLAIN), draws())
def test_there_is_no_retry_once_all_are_used(policy: RetryPolicy, failure: FailureClassified, draw: float):
    assert not isinstance(decide(policy, failure, draw), Retry) or failure.retries < 3


@given(
    policies(max_retries=None, max_elapsed=100.0),
    st.one_of(LIMITED, failures(category=Category.LOST, evidence=PLAIN)),
    draws(),
)
def test_no_wait_ends_after_max_elapsed(policy: RetryPolicy, failure: FailureClassified, draw: float):
    verdict = settle([decide(policy, failure, draw)])
    assert isinstance(verdict, GiveUp) or failure.elapsed + verdict.after <= 100.0 + 1e-6


@given(PATIENT, st.one_of(LIMITED, failures()), draws())
def test_a_policy_without_a_time_limit_never_runs_out_of_time(
    policy: RetryPolicy, failure: FailureClassified, draw: float
):
    unlimited = msgspec.structs.replace(policy, max_elapsed=None)
    verdict = decide(unlimited, failure, draw)
    assert settle([verdict]) == verdict


@given(PATIENT, st.one_of(LIMITED, asked(Category.TRANSIENT), failures()), draws())
def test_no_wait_is_shorter_than_the_server_asked(policy: RetryPolicy, failure: FailureClassified, draw: float):
    verdict = decide(policy, failure, draw)
    assert isinstance(verdict, GiveUp) or verdict.after >= (failure.retry_after or 0.0)


@given(PATIENT, st.one_of(LIMITED, failures()), draws())
def test_the_backoff_part_of_a_wait_is_at_most_max_delay(policy: RetryPolicy, failure: FailureClassified, draw: float):
    verdict = decide(policy, failure, draw)
    asked = failure.retry_after or 0.0
    assert isinstance(verdict, GiveUp) or 0.0 <= verdict.after <= policy.max_delay + asked


@given(policies(), LIMITED | failures(), draws())
def test_only_a_rate_limit_with_a_retry_after_parks(policy: RetryPolicy, failure: FailureClassified, draw: float):
    asked = failure.category is Category.RATE_LIMITED and bool(failure.retry_after)
    most, unpaid = policy.max_rate_limits, failure.attempt - 1 - failure.retries
    assert isinstance(decide(policy, failure, draw), Park) is (asked and (most is None or unpaid < most))


@given(policies(max_retries=0), LIMITED, st.integers(1, 20), draws())
def test_rate_limits_without_a_retry_are_at_most_max_rate_limits(
    policy: RetryPolicy, failure: FailureClassified, most: int, draw: float
):
    bounded = msgspec.structs.replace(policy, max_rate_limits=most, max_elapsed=None)
    attempts = (msgspec.structs.replace(failure, attempt=number, retries=0) for number in range(1, 100))
    verdicts = [decide(bounded, attempt, draw) for attempt in attempts]
    assert [isinstance(verdict, Park) for verdict in verdicts] == [True] * most + [False] * (99 - most)
    assert len({verdict.after for verdict in verdicts if isinstance(verdict, Park)}) == 1


@given(policies(), failures(), draws())
def test_the_same_failure_and_draw_are_decided_alike(policy: RetryPolicy, failure: FailureClassified, draw: float):
    assert decide(policy, failure, draw) == decide(policy, failure, draw)
