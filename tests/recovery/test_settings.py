"""The settings of one operation, checked once."""

from __future__ import annotations

import math
from typing import Any

import pytest

from recovery.policies.backoff import Constant, Exponential
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.retry import RetryPolicy, Strategy
from recovery.settings import OperationConfig
from recovery.settings_check import Defaults, make_config

DEFAULT = RetryPolicy()


def config(*, default: RetryPolicy = DEFAULT, has_store: bool = True, **settings: Any) -> OperationConfig:
    breaker = settings.pop("services_breaker", BreakerPolicy())
    defaults = Defaults(policy=default, breaker=breaker)
    return make_config(settings, defaults=defaults, has_store=has_store)  # type: ignore[arg-type]


class AsyncCallable:
    async def __call__(self, *_: object) -> str:
        return ""


async def coroutine_function(*_: object) -> str:
    return ""


WRONG: dict[type[Exception], dict[str, list[Any]]] = {
    TypeError: {
        "max_retries": [True, 1.5, "3"],
        "initial_delay": [None],
        "backoff_factor": ["2"],
        "max_delay": [False],
        "stall_timeout": [True],
        "progress_resets": [True],
        "per_category": [[], {"transient": 3}],
        "policy": [None, {"max_retries": 3}],
        "retry_on": [BaseException, KeyboardInterrupt, OSError(), {OSError}, (OSError, "KeyError"), [[OSError]], None],
        "classifier": ["strict", coroutine_function, AsyncCallable()],
        "enable_classification": [1],
        "enable_persistence": ["yes"],
        "enable_logging": [0],
        "resumable": ["yes"],
        "retry_exhausted": [1],
        "circuit_breaker_threshold": [True],
        "breaker": [False],
        "budget": [0.1],
        "key": ["url", coroutine_function, AsyncCallable()],
        "version": [2],
        "retry_if": ["empty"],
        "retry_if_error": [ConnectionError()],
        "before_retry": ["login"],
        "fallback": [list],
        "idempotent": [1],
        "reconcile": ["look"],
        "max_retry": [3],
    },
    ValueError: {
        "max_retries": [-1],
        "initial_delay": [-0.1, math.nan],
        "backoff_factor": [0.5],
        "max_delay": [-1],
        "max_elapsed": [-1],
        "attempt_timeout": [0],
        "stall_timeout": [0],
        "progress_resets": [-1],
        "per_category": [{"nonsense": Strategy()}, {"permanent": Strategy()}],
        "jitter": ["lots"],
        "circuit_breaker_threshold": [0],
        "circuit_breaker_timeout": [0, math.nan],
        "when_open": ["panic", None],
        "durability": ["total", None],
        "on_degraded": ["panic", "refuse"],
    },
}


@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [(name, value, error) for error, table in WRONG.items() for name, values in table.items() for value in values],
)
def test_a_setting_that_cannot_be_is_refused_by_its_name(setting: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"\b{setting}\b"):
        config(**{setting: value})


@pytest.mark.parametrize(
    "settings",
    [
        {"policy": RetryPolicy(), "max_retries": 3},
        {"policy": RetryPolicy(), "initial_delay": 0.1},
        {"policy": RetryPolicy(), "attempt_timeout": None},
        {"initial_delay": 5, "max_delay": 0.01},
        {"breaker": BreakerPolicy(), "circuit_breaker_threshold": 5},
        {"breaker": None, "circuit_breaker_timeout": 5.0},
        {"classifier": lambda _: None, "enable_classification": False},
        {"enable_persistence": False, "durability": "lazy"},
        {"enable_persistence": False, "durability": "journal"},
        {"enable_persistence": True, "durability": "off"},
        {"enable_persistence": False, "resumable": True},
        {"durability": "off", "resumable": True},
        {"durability": "lazy", "resumable": True},
    ],
    ids=lambda settings: " and ".join(settings),
)
def test_settings_that_contradict_each_other_are_refused_by_their_names(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as refusal:  # both names are looked for below
        config(**settings)
    assert [name for name in settings if name not in str(refusal.value)] == []


@pytest.mark.parametrize(
    "settings",
    [{"resumable": True}, {"enable_persistence": True}, {"durability": "lazy"}, {"durability": "journal"}],
    ids=str,
)
def test_what_must_be_written_down_needs_a_store(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(settings))}=.* needs a service with a store"):
        config(has_store=False, **settings)


@pytest.mark.parametrize(
    ("settings", "durability"),
    [
        ({}, None),
        ({"enable_persistence": None}, None),
        ({"enable_persistence": True}, "lazy"),
        ({"enable_persistence": False}, "off"),
        ({"enable_persistence": False, "durability": "off"}, "off"),
        ({"enable_persistence": True, "durability": "journal"}, "journal"),
        ({"durability": "lazy"}, "lazy"),
        ({"resumable": True}, "journal"),
        ({"resumable": True, "enable_persistence": True}, "journal"),
        ({"resumable": True, "durability": "journal"}, "journal"),
        ({"resumable": False, "durability": "off"}, "off"),
    ],
    ids=str,
)
def test_persistence_and_resumability_come_down_to_a_durability(settings: dict[str, Any], durability: str) -> None:
    made = config(**settings)
    assert (made.durability, made.journalled) == (durability, durability == "journal")


@pytest.mark.parametrize("settings", [{}, {"durability": "off"}, {"enable_persistence": False}], ids=str)
def test_what_is_not_written_down_needs_no_store(settings: dict[str, Any]) -> None:
    assert not config(has_store=False, **settings).journalled


def test_without_settings_the_service_decides() -> None:
    policy, breaker = RetryPolicy(max_retries=7), BreakerPolicy(failure_threshold=7)
    assert config(default=policy, services_breaker=breaker) == OperationConfig(policy=policy, breaker=breaker)


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        ({"max_retries": None}, RetryPolicy(max_retries=None, max_delay=9.0)),
        ({"max_delay": 1.0}, RetryPolicy(max_delay=1.0)),
        ({"max_elapsed": 5, "jitter": "none"}, RetryPolicy(max_elapsed=5, jitter="none", max_delay=9.0)),
        ({"initial_delay": 3.0}, RetryPolicy(backoff=Exponential(3.0, 2.0), max_delay=9.0)),
        ({"backoff_factor": 3.0}, RetryPolicy(backoff=Exponential(0.1, 3.0), max_delay=9.0)),
        ({"policy": RetryPolicy(max_retries=1)}, RetryPolicy(max_retries=1)),
    ],
    ids=str,
)
def test_single_settings_change_the_services_policy_and_a_policy_replaces_it(
    settings: dict[str, Any], policy: RetryPolicy
) -> None:
    assert config(default=RetryPolicy(max_delay=9.0), **settings).policy == policy


def test_single_settings_make_a_policy_of_their_shape_where_the_service_has_another_or_none() -> None:
    made = config(
        default=RetryPolicy(backoff=Constant(9.0)),
        services_breaker=None,
        initial_delay=1.0,
        circuit_breaker_threshold=2,
    )
    assert made.policy.backoff == Exponential(1.0, 2.0)
    assert made.breaker == BreakerPolicy(failure_threshold=2)


@pytest.mark.parametrize(
    ("settings", "breaker"),
    [
        ({"breaker": None}, None),
        ({"breaker": BreakerPolicy(lease=1.0)}, BreakerPolicy(lease=1.0)),
        ({"circuit_breaker_threshold": 2}, BreakerPolicy(failure_threshold=2, lease=9.0)),
        ({"circuit_breaker_timeout": 2.0}, BreakerPolicy(break_duration=2.0, lease=9.0)),
    ],
    ids=str,
)
def test_single_settings_change_the_services_breaker_and_a_breaker_replaces_it(
    settings: dict[str, Any], breaker: BreakerPolicy | None
) -> None:
    assert config(services_breaker=BreakerPolicy(lease=9.0), **settings).breaker == breaker


@pytest.mark.parametrize(("given", "kept"), [(OSError, (OSError,)), ([OSError, KeyError], (OSError, KeyError))])
def test_retry_on_takes_a_class_or_several(given: Any, kept: Any) -> None:
    assert config(retry_on=given).retry_on == kept


def test_the_same_settings_make_equal_configs() -> None:
    settings: dict[str, Any] = {"max_retries": 2, "circuit_breaker_threshold": 2, "retry_on": OSError, "version": "1"}
    assert config(**settings) == config(**settings)


def test_a_misspelled_category_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(ValueError, match=r"per_category must be one of .*, not 'transiet'; did you mean 'transient'\?"):
        config(per_category={"transiet": Strategy()})
    with pytest.raises(ValueError, match=r"when_open must be one of 'reject', 'wait', not 'panic'$"):
        config(when_open="panic")


def test_an_operation_goes_before_its_service() -> None:
    defaults = Defaults(key=str.lower, when_open="wait")
    left_open = make_config({}, defaults=defaults, has_store=False)
    chosen = make_config({"key": str.upper, "when_open": "reject"}, defaults=defaults, has_store=False)
    unkeyed = make_config({"key": None}, defaults=defaults, has_store=False)
    assert (left_open.key, left_open.when_open) == (str.lower, "wait")
    assert (chosen.key, chosen.when_open) == (str.upper, "reject")
    assert unkeyed.key is None
