"""Unknown names: one error that says which name was meant."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from recovery.default_service import configure, recoverable
from recovery.journal.config import JournalConfig
from recovery.policies.backoff import Constant, Exponential, Linear
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.budget import RetryBudget
from recovery.policies.retry import RetryPolicy, Strategy
from recovery.policies.rules import Rule
from recovery.service import Recovery
from recovery.settings import Settings
from recovery.suggestions import PEERS

KNOWN = {
    *Settings.__annotations__,
    *(name for kind in (RetryPolicy, Strategy, BreakerPolicy) for name in kind.__struct_fields__),
}
STRUCTS = [Constant, Exponential, Linear, RetryBudget, BreakerPolicy, RetryPolicy, Strategy, Rule, JournalConfig]


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
        (
            "on",
            "use retry_on (exception classes) or retry_if_error (a function of the exception) "
            "or retry_if (a function of the result)",
        ),
        (
            "wait",
            "use initial_delay (its seconds) or backoff_factor (its growth) or max_delay (its limit) "
            'or jitter ("none", "full", "equal" or "decorrelated")',
        ),
        ("name", "the name comes first: recoverable('fetch', max_retries=5)"),
        ("reraise", "leave it out: the caller always gets the function's own exception"),
        ("retry_error_callback", "use fallback (a value, or a function of the exception)"),
        ("after", "subscribe to the event instead: service.bus.subscribe(OperationFailed, function)"),
        ("on_giveup", "subscribe to the event instead: service.bus.subscribe(GaveUp, function)"),
        ("on_error", "subscribe to the event instead: service.bus.subscribe(RetryScheduled, function)"),
        ("multiplier", "use initial_delay (the first delay) or backoff_factor (the growth)"),
        ("retry_error_cls", "leave it out: the caller always gets the function's own exception"),
        ("on_backoff", "use before_retry (it prepares the attempt, a bus subscriber watches)"),
        ("before_sleep", "use before_retry (it prepares the attempt, a bus subscriber watches)"),
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
        (BreakerPolicy, "threshold", "BreakerPolicy() has no field 'threshold'; use failure_threshold"),
        (
            JournalConfig,
            "flush_intervall",
            "JournalConfig() has no field 'flush_intervall'; did you mean 'flush_interval'?",
        ),
        (BreakerPolicy, "fail_max", "BreakerPolicy() has no field 'fail_max'; use failure_threshold"),
        (Strategy, "deadline", "Strategy() has no field 'deadline'; use wait_timeout (the wait for conditions)"),
        (Rule, "status", "Rule() has no field 'status'; did you mean 'statuses'?"),
        (RetryBudget, "size", "RetryBudget() has no field 'size'; it has reserve, ratio, per_second"),
    ],
)
def test_every_constructor_explains_an_unknown_name(function: Any, given: str, message: str) -> None:
    assert refusal(function, **{given: 1}) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RetryPolicy(3), "RetryPolicy() takes keywords: RetryPolicy(max_retries=3)"),  # type: ignore[call-arg]
        (lambda: Strategy(3), "Strategy() takes keywords: Strategy(max_retries=3)"),  # type: ignore[call-arg]
        (lambda: BreakerPolicy(5, 0.1), "BreakerPolicy() takes keywords: BreakerPolicy(failure_threshold=5)"),  # type: ignore[call-arg]
        (lambda: RetryBudget("many"), "RetryBudget() takes keywords: RetryBudget(reserve='many')"),  # type: ignore[call-arg]
    ],
)
def test_a_value_without_a_name_is_refused_with_the_name(make: Callable[[], object], message: str) -> None:
    assert refusal(make) == message


def test_too_many_values_are_refused_where_all_fields_have_a_place() -> None:
    with pytest.raises(TypeError, match="positional"):
        Constant(1.0, 2.0)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("struct", "shown"),
    [
        (RetryPolicy(), "RetryPolicy()"),
        (RetryPolicy(max_retries=5), "RetryPolicy(max_retries=5)"),
        (BreakerPolicy(window=10), "BreakerPolicy(window=10)"),
        (Strategy(max_retries=None), "Strategy(max_retries=None)"),
        (JournalConfig(), "JournalConfig()"),
        (RetryBudget(reserve=1.0), "RetryBudget(reserve=1.0)"),
    ],
)
def test_a_struct_shows_what_is_not_its_default(struct: object, shown: str) -> None:
    assert repr(struct) == shown


def test_the_help_of_a_service_fits_on_a_screen() -> None:
    assert len(str(inspect.signature(Recovery))) < 800


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
