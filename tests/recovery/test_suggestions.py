"""Unknown names: one error that says which name was meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from recovery.policies.backoff import Constant, Exponential, Linear
from recovery.policies.budget import RetryBudget
from recovery.policies.circuit_breaker import BreakerPolicy
from recovery.policies.retry import RetryPolicy, Strategy
from recovery.policies.rules import Rule
from recovery.service import Recovery, configure, recoverable
from recovery.settings import Settings
from recovery.suggestions import PEERS

KNOWN = {
    *Settings.__annotations__,
    *(name for kind in (RetryPolicy, Strategy, BreakerPolicy) for name in kind.__struct_fields__),
}
STRUCTS = [Constant, Exponential, Linear, RetryBudget, BreakerPolicy, RetryPolicy, Strategy, Rule]


def refusal(function: Callable[..., object], **given: Any) -> str:
    with pytest.raises(TypeError) as refused:
        function(**given)
    return str(refused.value)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("max_retry", "did you mean 'max_retries'?"),
        ("maxretries", "did you mean 'max_retries'?"),
        ("initial_dealy", "did you mean 'initial_delay'?"),
        ("backof_factor", "did you mean 'backoff_factor'?"),
        ("enable_log", "did you mean 'enable_logging'?"),
        ("idempotent_key", "did you mean 'idempotency_key'?"),
        ("on_degrade", "did you mean 'on_degraded'?"),
        # words of other libraries
        ("timeout", "use attempt_timeout (one attempt) or max_elapsed (the whole call, as stamina's timeout)"),
        ("attempts", "use max_retries (which does not count the first attempt)"),
        ("stop_after_attempt", "use max_retries (which does not count the first attempt)"),
        ("wait_initial", "use initial_delay"),
        ("wait_max", "use max_delay"),
        ("wait_exp_base", "use backoff_factor"),
        ("wait_jitter", 'use jitter ("none", "full", "equal" or "decorrelated")'),
        ("max_time", "use max_elapsed (the whole call)"),
        ("wait_timeout", "use per_category (a Strategy for each category has it)"),
        ("backoff", "use policy (a RetryPolicy has it)"),
        ("on", "use retry_on (exception classes) or retry_on_result (a function of the result)"),
        ("on_backoff", "subscribe to the event instead: service.bus.subscribe(RetryScheduled, function)"),
        ("before_sleep", "subscribe to the event instead: service.bus.subscribe(RetryScheduled, function)"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_one_that_was_meant(given: str, hint: str) -> None:
    assert refusal(recoverable, **{given: 3}) == f"recoverable() has no setting {given!r}; {hint}"


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        (Recovery, "polcy", "Recovery() has no option 'polcy'; did you mean 'policy'?"),
        (configure, "stor", "configure() has no option 'stor'; did you mean 'store'?"),
        (RetryPolicy, "max_retry", "RetryPolicy() has no field 'max_retry'; did you mean 'max_retries'?"),
        (BreakerPolicy, "fail_max", "BreakerPolicy() has no field 'fail_max'; use failure_threshold"),
        (Strategy, "deadline", "Strategy() has no field 'deadline'; use wait_timeout (the wait for conditions)"),
        (Rule, "status", "Rule() has no field 'status'; did you mean 'statuses'?"),
        (RetryBudget, "size", "RetryBudget() has no field 'size'; it has reserve, ratio, per_second"),
    ],
)
def test_every_constructor_explains_an_unknown_name(function: Any, given: str, message: str) -> None:
    assert refusal(function, **{given: 1}) == message


def test_operation_is_named_where_operation_was_called() -> None:
    assert refusal(lambda **given: Recovery().operation("x", **given), retries=1).startswith("operation() has no")


@pytest.mark.parametrize("struct", STRUCTS)
def test_a_struct_with_suggestions_is_as_frozen_and_comparable_as_before(struct: Any) -> None:
    given = {Constant: (1.0,), Linear: (1.0, 2.0), Rule: ("gone", "permanent", (), (410,))}.get(struct, ())
    one = struct(*given)
    assert one == struct(*given)
    with pytest.raises(AttributeError):
        setattr(one, struct.__struct_fields__[0], 7)


def test_the_table_of_words_names_what_there_is() -> None:
    assert {setting for settings in PEERS.values() for setting, _ in settings} - KNOWN == set()
