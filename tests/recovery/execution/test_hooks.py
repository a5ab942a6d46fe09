"""What a user puts around an attempt: retry_if, retry_if_error, before_retry, fallback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from events import CallRejectedError, Category, FailureClassified, OperationFailed
from recovery import Recovery, outcome_of
from recovery.testing import Script
from tests.recovery.execution.runtime import Runtime

FAST: dict[str, Any] = {"initial_delay": 0.0, "jitter": "none"}


class CodedError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


def hook(runtime: Runtime, function: Callable[..., Any], *, awaits: bool) -> Callable[..., Any]:
    """*function*, async where *awaits* says so and the call is async too."""
    if not awaits or runtime.name == "plain":
        return function

    async def async_hook(*args: Any) -> Any:
        return function(*args)

    return async_hook


awaits = pytest.mark.parametrize("awaits", [False, True])


@awaits
def test_a_result_that_retry_if_refuses_is_tried_again(runtime: Runtime, service: Recovery, awaits: bool) -> None:
    script = Script("busy", "busy", "ready")
    retry_if = hook(runtime, lambda result: result == "busy", awaits=awaits)
    assert runtime.decorate(service, script, "poll", retry_if=retry_if, **FAST)() == "ready"
    assert script.calls == 3


@awaits
def test_retry_if_error_sees_the_live_exception(runtime: Runtime, service: Recovery, awaits: bool) -> None:
    error = CodedError(7)
    seen: list[Exception] = []
    retry_if_error = hook(runtime, lambda one: bool(seen.append(one)) or one.code == 7, awaits=awaits)
    script = Script(error, CodedError(8))
    fetch = runtime.decorate(service, script, "fetch", retry_if_error=retry_if_error, **FAST)
    with pytest.raises(CodedError, match="code 8") as caught:
        fetch()
    assert seen[0] is error
    assert script.calls == 2
    outcome = outcome_of(caught.value)
    assert outcome is not None
    assert (outcome.kind, outcome.category) == ("permanent", Category.PERMANENT)


def test_retry_if_error_that_answers_none_leaves_it_to_the_rules(runtime: Runtime, service: Recovery) -> None:
    script = Script(ConnectionError(), PermissionError(13, "denied"))
    fetch = runtime.decorate(service, script, "fetch", retry_if_error=lambda _: None, **FAST)
    with pytest.raises(PermissionError):
        fetch()
    assert script.calls == 2


def test_retry_on_names_what_retry_if_error_is_not_asked_about(runtime: Runtime, service: Recovery) -> None:
    script = Script(KeyError(), CodedError(7))
    asked: list[Exception] = []
    fetch = runtime.decorate(
        service, script, "fetch", retry_on=KeyError, retry_if_error=lambda e: bool(asked.append(e)) or True, **FAST
    )
    assert fetch() == "done"
    assert script.calls == 3


def test_a_retry_if_error_that_raises_has_no_opinion(
    runtime: Runtime, service: Recovery, caplog: pytest.LogCaptureFixture
) -> None:
    fetch = runtime.decorate(service, Script(ConnectionError()), "fetch", retry_if_error=lambda e: e.gone, **FAST)
    assert fetch() == "done"
    assert "retry_if_error of fetch failed; the rules decide" in caplog.text


def test_circuits_agree_with_retry_if_error(runtime: Runtime, service: Recovery) -> None:
    fetch = runtime.decorate(
        service, Script(*[ConnectionError] * 20), "fetch", retry_if_error=lambda _: False, max_retries=0
    )
    for _ in range(10):  # permanent failures do not open a circuit
        with pytest.raises(ConnectionError):
            fetch()
    patient = runtime.decorate(
        service, Script(*[CodedError(404)] * 20), "other", retry_if_error=lambda _: True, max_retries=0
    )
    for _ in range(5):
        with pytest.raises(CodedError):
            patient()
    with pytest.raises(CallRejectedError):
        patient()


@awaits
def test_before_retry_runs_before_each_further_attempt(runtime: Runtime, service: Recovery, awaits: bool) -> None:
    log: list[Any] = []
    script = Script(ConnectionError("one"), TimeoutError("two"))
    service.bus.subscribe(OperationFailed, lambda event: log.append(event.attempt))
    before = hook(runtime, lambda failure: log.append((failure.attempt, failure.evidence.message)), awaits=awaits)
    assert runtime.decorate(service, script, "fetch", before_retry=before, **FAST)() == "done"
    assert log == [1, (1, "one"), 2, (2, "two")]


def test_what_before_retry_raises_fails_the_attempt(runtime: Runtime, service: Recovery) -> None:
    logins = Script(ConnectionError("no login"), "in")
    script = Script(ConnectionError("no page"))
    told: list[FailureClassified] = []
    service.bus.subscribe(FailureClassified, told.append)
    fetch = runtime.decorate(service, script, "fetch", before_retry=lambda _: logins(), **FAST)
    assert fetch() == "done"
    assert [event.evidence.message for event in told] == ["no page", "no login"]
    assert (script.calls, logins.calls) == (2, 2)


@pytest.mark.parametrize("value", [None, [], "a page"])
def test_the_caller_gets_the_fallback_value(runtime: Runtime, service: Recovery, value: object) -> None:
    script = Script(*[ConnectionError] * 3)
    assert runtime.decorate(service, script, "fetch", fallback=value, max_retries=2, **FAST)() == value
    assert script.calls == 3


@awaits
def test_a_fallback_function_gets_the_exception(runtime: Runtime, service: Recovery, awaits: bool) -> None:
    fallback = hook(runtime, lambda error: (str(error), outcome_of(error).attempts), awaits=awaits)
    fetch = runtime.decorate(service, Script(PermissionError("denied")), "fetch", fallback=fallback, **FAST)
    assert fetch() == ("denied", 1)


def test_a_call_that_an_open_circuit_rejects_has_the_fallback(runtime: Runtime, service: Recovery) -> None:
    fetch = runtime.decorate(service, Script(), "fetch", fallback=lambda error: type(error), **FAST)
    service.circuits.force("fetch", "open")
    assert fetch() is CallRejectedError


def test_a_frozen_exception_has_the_fallback(runtime: Runtime, service: Recovery) -> None:
    class FrozenError(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    fetch = runtime.decorate(service, Script(FrozenError("stiff")), "fetch", fallback="soft", max_retries=0)
    assert fetch() == "soft"


def test_a_fallback_hides_no_error_of_the_settings(runtime: Runtime, service: Recovery) -> None:
    fetch = runtime.decorate(service, Script(), "fetch", fallback="soft", key=lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fetch()


@pytest.mark.parametrize("hook", ["retry_if", "retry_if_error", "before_retry", "fallback"])
def test_an_async_hook_is_refused_for_a_plain_function(hook: str) -> None:
    async def answer(_: object) -> bool:
        return True

    def fetch() -> None: ...

    settings: Any = {hook: answer}
    with pytest.raises(TypeError, match=f"{hook} must be a plain function for .*fetch"):
        Recovery().recoverable("fetch", **settings)(fetch)
