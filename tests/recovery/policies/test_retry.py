"""When to try again."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from events.conditions import Condition
from events.evidence import Category, Evidence
from events.operation_events import FailureClassified
from events.verdicts import GiveUp, Park, Retry, Verdict, settle
from recovery.policies.backoff import Constant, Exponential
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.retry import HOPELESS, RetryPolicy, Strategy, decide, parks
from recovery.settings_check import Defaults, make_config

TRANSIENT = Category.TRANSIENT
STEADY = RetryPolicy(max_retries=3, backoff=Constant(2.0), jitter="none")


def failed(category: Category = Category.TRANSIENT, **given: Any) -> FailureClassified:
    evidence = Evidence(type="builtins.OSError")
    return FailureClassified(**{"at": 0.0, "call": "a", "category": category, "evidence": evidence, **given})


def decided(policy: RetryPolicy = STEADY, **given: Any) -> Verdict:
    return decide(policy, failed(**given), 0.5)


@pytest.mark.parametrize("category", sorted(HOPELESS))
def test_a_hopeless_failure_ends_the_call_and_says_which_rule_decided(category: Category) -> None:
    assert decided(category=category, rule="status 404") == GiveUp(f"{category} (status 404)")
    assert decided(category=category) == GiveUp(str(category))


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


LIMITED: Any = {"category": Category.RATE_LIMITED, "retry_after": 8.0}


def test_a_rate_limit_with_a_wish_parks_as_long_each_time_however_many_retries_are_used() -> None:
    policy = RetryPolicy(backoff=Exponential(1.0), jitter="equal")
    verdicts = {decided(policy, attempt=attempt, retries=99, **LIMITED) for attempt in range(100, 200)}
    assert verdicts == {Park(9.0, ("rate limit",))}


@pytest.mark.parametrize(("asked", "wait"), [(0.1, 0.1125), (8.0, 9.0), (20.0, 22.5), (3600.0, 3602.5)])
def test_calls_resume_within_a_quarter_of_the_servers_wish_or_5_seconds(asked: float, wait: float) -> None:
    policy = RetryPolicy(max_delay=600.0)
    assert decided(policy, category=Category.RATE_LIMITED, retry_after=asked).after == pytest.approx(wait)


def test_without_jitter_a_rate_limit_is_waited_out_exactly() -> None:
    assert decided(**LIMITED) == Park(8.0, ("rate limit",))


def test_a_rate_limit_beyond_max_rate_limits_uses_a_retry_and_backs_off() -> None:
    policy = RetryPolicy(max_rate_limits=2, max_retries=2, backoff=Exponential(1.0), jitter="none")
    verdicts = [decided(policy, attempt=3 + used, retries=used, **LIMITED) for used in (0, 1, 2)]
    assert verdicts == [Retry(9.0), Retry(10.0), GiveUp("out of retries (2)")]
    assert isinstance(decided(policy, attempt=3, retries=1, **LIMITED), Park)


@pytest.mark.parametrize(("retries", "verdict"), [(0, Retry(20.0)), (3, GiveUp("out of retries (3)"))])
def test_a_rate_limit_without_a_wish_uses_up_retries(retries: int, verdict: Verdict) -> None:
    assert decided(category=Category.RATE_LIMITED, retries=retries) == verdict


@pytest.mark.parametrize("jitter", ["none", "full", "equal"])
@pytest.mark.parametrize("backoff", [Exponential(), (0.1, 1.0), lambda retry: retry / 4])
@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999])
def test_a_rate_limit_of_unknown_length_is_waited_for_longer(jitter: Any, backoff: Any, draw: float) -> None:
    policy = RetryPolicy(backoff=backoff, jitter=jitter)
    limited, transient = (decide(policy, failed(category=one), draw) for one in (Category.RATE_LIMITED, TRANSIENT))
    assert limited.after > transient.after


@pytest.mark.parametrize(("seconds", "wait"), [(0.0, 0.0), (2.0, 20.0), (30.0, 60.0), (300.0, 300.0)])
def test_a_rate_limit_of_unknown_length_extends_a_delay_to_a_minute_at_most(seconds: float, wait: float) -> None:
    policy = RetryPolicy(backoff=Constant(seconds), jitter="none", max_delay=600.0)
    assert decided(policy, category=Category.RATE_LIMITED) == Retry(wait)


def test_a_strategy_for_rate_limits_is_kept_to_its_own_backoff() -> None:
    policy = RetryPolicy(jitter="none", per_category={Category.RATE_LIMITED: Strategy(backoff=Constant(3.0))})
    assert decided(policy, category=Category.RATE_LIMITED) == Retry(3.0)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ({"elapsed": 7.0}, Retry(2.0, 3.0)),
        ({"elapsed": 8.0}, Retry(2.0, 2.0)),
        ({"elapsed": 8.1}, GiveUp("out of time")),
        ({"category": Category.RATE_LIMITED, "retry_after": 10.5}, GiveUp("out of time")),
    ],
)
def test_no_wait_is_begun_that_would_end_after_max_elapsed(given: Any, verdict: Verdict) -> None:
    policy = msgspec.structs.replace(STEADY, max_elapsed=10.0)
    assert settle([decided(policy, **given)]) == verdict


def test_a_list_of_delays_becomes_a_tuple_of_floats() -> None:
    assert RetryPolicy(backoff=[1, 2]).backoff == (1.0, 2.0)


@pytest.mark.parametrize(
    ("error", "field", "values"),
    [
        (ValueError, "max_retries", [-1]),
        (TypeError, "max_retries", [True, 2.0, math.nan, msgspec.UNSET]),
        (ValueError, "jitter", ["some", None, msgspec.UNSET]),
        (ValueError, "max_delay", [-1.0, math.nan, math.inf]),
        (TypeError, "max_delay", [None]),
        (ValueError, "max_elapsed", [-1.0]),
        (ValueError, "attempt_timeout", [0]),
        (ValueError, "backoff", [[], [1.0, -1.0]]),
        (TypeError, "backoff", [[1.0, "2"], 2.0, "fast", None, BreakerPolicy(), Exponential, msgspec.UNSET]),
    ],
)
def test_a_value_out_of_range_is_refused_by_the_name_of_its_field(
    error: type[Exception], field: str, values: list[Any]
) -> None:
    for value in values:
        with pytest.raises(error, match=rf"^{field}(\[\d\])? must "):
            RetryPolicy(**{field: value})


ROOM = Condition("room", lambda: True)


def room_if_full(failure: FailureClassified) -> Condition | None:
    return ROOM if failure.rule == "disk-full" else None


def parking(*wait_for: Any) -> RetryPolicy:
    return msgspec.structs.replace(STEADY, per_category={Category.ENVIRONMENT: Strategy(wait_for=wait_for)})


def test_what_a_failure_waits_for_can_depend_on_the_failure() -> None:
    policy, gpu = parking(room_if_full), Condition("gpu", lambda: True)
    assert decided(policy, category=Category.ENVIRONMENT, rule="disk-full") == Park(2.0, (ROOM,))
    assert decided(policy, category=Category.ENVIRONMENT, rule="port-taken") == Retry(2.0)
    assert decided(parking(gpu, room_if_full), category=Category.ENVIRONMENT) == Park(2.0, (gpu,))


def test_one_condition_or_function_need_not_be_put_into_a_tuple() -> None:
    assert [Strategy(wait_for=one).wait_for for one in (ROOM, room_if_full)] == [(ROOM,), (room_if_full,)]  # type: ignore[arg-type]


def test_a_policy_parks_what_it_decides_to_park() -> None:
    failures = [failed(Category.ENVIRONMENT, rule=rule) for rule in ("disk-full", "port-taken")]
    assert [parks(parking(room_if_full), failure) for failure in failures] == [True, False]
    assert not parks(parking(lambda _: 1 / 0), failures[0])


def test_a_function_that_returns_no_condition_is_named() -> None:
    def is_full(_failure: FailureClassified) -> bool:
        return True

    with pytest.raises(TypeError, match=r"wait_for: .*is_full returned True, which is no condition"):
        decided(parking(is_full), category=Category.ENVIRONMENT)


async def asks_later(_failure: FailureClassified) -> Condition:
    return ROOM


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        (lambda: True, r"does not take one argument, the failure; .* Condition\('room on the disk', function\)"),
        (3, "wait_for must be a collection"),
        ((3,), "wait_for must be conditions, or plain functions from a failure to one, not 3"),
        (asks_later, "plain functions"),
    ],
)
def test_what_is_no_cause_to_wait_for_is_refused_with_what_is_one(cause: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Strategy(wait_for=cause)


@pytest.mark.parametrize(
    ("settings", "waits"),
    [
        ({"policy": RetryPolicy(backoff=(5, 15, 960), jitter="none")}, [5.0, 15.0, 960.0]),
        ({"initial_delay": 120.0, "jitter": "none"}, [120.0, 120.0, 120.0]),
        ({"initial_delay": 25.0, "jitter": "none"}, [25.0, 50.0, 60.0]),
        ({"policy": RetryPolicy(backoff=Exponential(120.0), max_delay=60.0, jitter="none")}, [60.0, 60.0, 60.0]),
        ({"per_category": {Category.TRANSIENT: Strategy(backoff=Constant(300), jitter="none")}}, [300.0] * 3),
    ],
)
def test_a_delay_that_is_named_is_kept_unless_a_cap_is_set(settings: Any, waits: list[float]) -> None:
    policy = make_config(settings, defaults=Defaults(), has_store=False).policy
    for retries, after in enumerate(waits):
        assert decided(policy, retries=retries) == Retry(after)
