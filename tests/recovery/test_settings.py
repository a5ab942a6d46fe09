"""The settings of one operation, checked once."""

from __future__ import annotations

import math
from typing import Any

import pytest

from recovery.policies.backoff import Constant, Exponential
from recovery.policies.circuit_breaker import BreakerPolicy
from recovery.policies.retry import RetryPolicy, Strategy
from recovery.settings import Defaults, OperationConfig, make_config

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


@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [
        ("max_retries", -1, ValueError),
        ("max_retries", True, TypeError),
        ("max_retries", 1.5, TypeError),
        ("max_retries", "3", TypeError),
        ("max_retries", math.nan, TypeError),
        ("initial_delay", -0.1, ValueError),
        ("initial_delay", math.nan, ValueError),
        ("initial_delay", math.inf, ValueError),
        ("initial_delay", None, TypeError),
        ("initial_delay", True, TypeError),
        ("backoff_factor", 0.5, ValueError),
        ("backoff_factor", math.nan, ValueError),
        ("backoff_factor", "2", TypeError),
        ("max_delay", -1, ValueError),
        ("max_delay", math.nan, ValueError),
        ("max_delay", False, TypeError),
        ("max_elapsed", -1, ValueError),
        ("max_elapsed", math.inf, ValueError),
        ("attempt_timeout", 0, ValueError),
        ("attempt_timeout", math.nan, ValueError),
        ("jitter", "lots", ValueError),
        ("policy", None, TypeError),
        ("policy", {"max_retries": 3}, TypeError),
        ("retry_on", BaseException, TypeError),
        ("retry_on", KeyboardInterrupt, TypeError),
        ("retry_on", OSError(), TypeError),
        ("retry_on", [OSError], TypeError),
        ("retry_on", (OSError, "KeyError"), TypeError),
        ("retry_on", None, TypeError),
        ("classifier", "strict", TypeError),
        ("classifier", coroutine_function, TypeError),
        ("classifier", AsyncCallable(), TypeError),
        ("enable_classification", 1, TypeError),
        ("enable_persistence", "yes", TypeError),
        ("enable_logging", 0, TypeError),
        ("resumable", "yes", TypeError),
        ("retry_exhausted", 1, TypeError),
        ("circuit_breaker_threshold", 0, ValueError),
        ("circuit_breaker_threshold", True, TypeError),
        ("circuit_breaker_timeout", 0, ValueError),
        ("circuit_breaker_timeout", math.nan, ValueError),
        ("breaker", False, TypeError),
        ("when_open", "panic", ValueError),
        ("when_open", None, ValueError),
        ("key", "url", TypeError),
        ("key", coroutine_function, TypeError),
        ("key", AsyncCallable(), TypeError),
        ("version", 2, TypeError),
        ("durability", "total", ValueError),
        ("durability", None, ValueError),
        ("on_degraded", "panic", ValueError),
        ("on_degraded", "refuse", ValueError),
        ("retry_on_result", "empty", TypeError),
        ("retry_on_result", coroutine_function, TypeError),
        ("idempotent", 1, TypeError),
        ("reconcile", "look", TypeError),
        ("stall_timeout", 0, ValueError),
        ("stall_timeout", True, TypeError),
        ("progress_resets", -1, ValueError),
        ("progress_resets", True, TypeError),
        ("per_category", {"nonsense": Strategy()}, ValueError),
        ("per_category", {"permanent": Strategy()}, ValueError),
        ("per_category", {"transient": 3}, TypeError),
        ("per_category", [], TypeError),
        ("budget", 0.1, TypeError),
        ("max_retry", 3, TypeError),
        ("retries", 3, TypeError),
    ],
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
    assert config(**settings).durability == durability


@pytest.mark.parametrize("settings", [{}, {"durability": "off"}, {"enable_persistence": False}], ids=str)
def test_what_is_not_written_down_needs_no_store(settings: dict[str, Any]) -> None:
    assert not config(has_store=False, **settings).journalled


def test_only_the_durability_journal_writes_down_starts() -> None:
    assert [config(durability=one).journalled for one in ("off", "lazy", "journal")] == [False, False, True]


def test_without_settings_the_service_decides() -> None:
    policy, breaker = RetryPolicy(max_retries=7), BreakerPolicy(failure_threshold=7)
    assert config(default=policy, services_breaker=breaker) == OperationConfig(policy=policy, breaker=breaker)


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        ({"max_retries": 0}, RetryPolicy(max_retries=0, max_delay=9.0)),
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


def test_a_first_delay_replaces_a_backoff_of_another_shape() -> None:
    policy = config(default=RetryPolicy(backoff=Constant(9.0)), initial_delay=1.0).policy
    assert policy.backoff == Exponential(1.0, 2.0)


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


def test_a_threshold_makes_a_circuit_where_the_service_has_none() -> None:
    assert config(services_breaker=None, circuit_breaker_threshold=2).breaker == BreakerPolicy(failure_threshold=2)


@pytest.mark.parametrize(("given", "kept"), [(OSError, (OSError,)), ((OSError, KeyError), (OSError, KeyError))])
def test_retry_on_takes_a_class_or_several(given: Any, kept: Any) -> None:
    assert config(retry_on=given).retry_on == kept


def test_the_same_settings_make_equal_configs() -> None:
    settings: dict[str, Any] = {"max_retries": 2, "circuit_breaker_threshold": 2, "retry_on": OSError, "version": "1"}
    assert config(**settings) == config(**settings)
