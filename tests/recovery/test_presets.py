"""What each preset gives a service."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable

import pytest

from adapters.memory import MemoryStore
from recovery.presets import Options, development, production, staging
from recovery.service import Recovery
from recovery.testing import Script

MAKE: dict[str, Callable[..., Recovery]] = {"production": production, "staging": staging, "development": development}


def fails_once(error: Exception | None = None) -> Script:
    return Script(error or ConnectionError("reset"), "a page")


@pytest.mark.parametrize("name", ["production", "staging"])
def test_in_production_and_staging_a_call_recovers(name: str) -> None:
    assert MAKE[name]().recoverable("fetch", initial_delay=0.0)(fails_once())() == "a page"


def test_production_tells_of_retries_at_info_and_staging_warns_of_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "recovery")
    levels = []
    for make in (production, staging):
        caplog.clear()
        make().recoverable("fetch", initial_delay=0.0)(fails_once())()
        levels.append([record.levelname for record in caplog.records])
    assert levels == [["INFO", "INFO"], ["WARNING", "INFO"]]


@pytest.mark.parametrize("name", ["production", "staging"])
def test_a_permanent_failure_is_not_tried_again(name: str) -> None:
    fetch = fails_once(FileNotFoundError("gone"))
    with pytest.raises(FileNotFoundError):
        MAKE[name]().recoverable("fetch", initial_delay=0.0)(fetch)()
    assert fetch.calls == 1


@pytest.mark.parametrize("name", ["production", "staging"])
def test_with_a_store_only_calls_that_failed_are_written(name: str) -> None:
    store = MemoryStore()
    with MAKE[name](store=store) as service:
        service.recoverable("healthy")(lambda: "a page")()
        service.recoverable("has_failed", initial_delay=0.0)(fails_once())()
    assert [row.kind for row in store.rows] == ["FailureClassified", "RetryScheduled", "OperationRecovered"]


def test_staging_is_monitored_from_the_beginning_and_production_from_the_first_request() -> None:
    counted = []
    for make in (staging, production):
        service = make()
        service.recoverable("fetch", initial_delay=0.0)(fails_once())()
        counted.append(service.monitor().snapshot().windows["all"].recovered)
    assert counted == [1, 0]


def test_in_development_a_function_is_left_untouched_unless_asked_otherwise() -> None:
    fetch = fails_once()
    assert development().recoverable("fetch")(fetch) is fetch
    assert development(enabled=True).recoverable("fetch", initial_delay=0.0)(fetch)() == "a page"


@pytest.mark.parametrize("name", MAKE)
def test_what_is_given_goes_before_the_preset(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "recovery")
    service = MAKE[name](enabled=True, enable_logging=False)
    service.recoverable("fetch", initial_delay=0.0)(fails_once())()
    assert caplog.messages == []


def test_the_options_are_those_of_a_service() -> None:
    assert list(Options.__annotations__) == list(inspect.signature(Recovery).parameters)


def test_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="loging"):
        production(loging=True)  # type: ignore[call-arg]
