"""What ``recoverable`` takes, what it refuses, and what it gives back."""

from __future__ import annotations

import gc
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import recovery
from recovery.service import Recovery
from recovery.testing import Script

FAST: dict[str, Any] = {"initial_delay": 0.0}


def test_the_wrapper_keeps_signature_and_name_and_stays_async() -> None:
    def plain(a: int, *, b: str = "x") -> str:
        """Its docstring."""
        return b * a

    async def coroutine_function() -> None: ...

    decorated = recovery.recoverable(plain)
    assert inspect.signature(decorated) == inspect.signature(plain)
    assert (decorated.__name__, decorated.__doc__) == ("plain", "Its docstring.")
    assert inspect.iscoroutinefunction(recovery.recoverable(coroutine_function))
    assert not inspect.iscoroutinefunction(decorated)


def test_a_method_can_be_recoverable() -> None:
    class Client:
        calls = 0

        @recovery.recoverable(**FAST)
        def fetch(self) -> int:
            self.calls += 1
            if self.calls < 2:
                raise ConnectionError
            return self.calls

    assert Client().fetch() == 2


def test_recoverable_works_bare_called_and_named() -> None:
    bare = recovery.recoverable(lambda: 1)
    called = recovery.recoverable()(lambda: 2)
    named = recovery.recoverable("tests.named")(lambda: 3)
    assert (bare(), called(), named()) == (1, 2, 3)
    with pytest.raises(TypeError, match="a name and settings, or a function"):
        recovery.recoverable(lambda: None, max_retries=0)  # type: ignore[call-overload]


@pytest.mark.parametrize("settings", [{}, {"retry_if": lambda _: True}, {"max_elapsed": 9.0}, {"key": str}])
def test_the_wrapped_function_is_the_callers_own(settings: Any) -> None:
    def function(_: int) -> int:
        return 5

    wrapped: Any = recovery.recoverable(**settings)(function)
    assert wrapped.__wrapped__ is function
    assert recovery.recoverable(wrapped).__wrapped__ is wrapped  # type: ignore[attr-defined]


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class GeneratorCallable:
    def __call__(self) -> Iterator[int]:
        yield 1


class Callme:
    @staticmethod
    def method() -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (generator, "generator is a generator"),
        (async_generator, "async_generator is a generator"),
        (GeneratorCallable(), "is a generator"),
        (Callme, "takes a function"),
        (42, "takes a function"),
        (Callme.__dict__["method"], "below @staticmethod"),
    ],
)
def test_a_function_that_cannot_be_retried_is_refused(function: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        recovery.recoverable(max_retries=1)(function)


@pytest.mark.parametrize("limit", ["attempt_timeout", "stall_timeout"])
def test_a_timeout_is_refused_for_a_plain_function(limit: str) -> None:
    with pytest.raises(ValueError, match=f"^{limit} cannot be kept"):
        recovery.recoverable(**{limit: 1.0})(lambda: None)  # type: ignore[arg-type]


def test_a_disabled_service_returns_the_function_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    def function() -> None: ...

    assert Recovery(enabled=False).recoverable(function) is function
    monkeypatch.setenv("RECOVERY_DISABLED", "1")
    assert recovery.recoverable(function) is function


def test_two_names_with_other_settings_are_refused() -> None:
    service = Recovery()
    service.recoverable("fetch", max_retries=1)(lambda: None)
    with pytest.raises(ValueError, match="'fetch' is already defined"):
        service.recoverable("fetch", max_retries=2)(lambda: None)


def test_functions_of_one_name_keep_their_own_settings() -> None:
    service = Recovery()
    scripts = [Script(*[ConnectionError()] * 9) for _ in range(3)]
    for retries, script in enumerate(scripts):

        @service.recoverable(max_retries=retries, **FAST)
        def fetch(script: Script = script) -> None:
            script()

        with pytest.raises(ConnectionError):
            fetch()
    assert [script.calls for script in scripts] == [1, 2, 3]


@pytest.mark.slow
def test_operations_of_collected_functions_are_forgotten() -> None:
    service = Recovery()
    for retries in range(20):
        service.recoverable(max_retries=retries)(generator.__call__)()
    gc.collect()
    assert len(service.bus.operations()) <= 1
