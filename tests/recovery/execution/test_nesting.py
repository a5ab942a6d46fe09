"""Recoverable calls inside recoverable calls."""

from __future__ import annotations

import contextlib
import functools
import gc
from collections import UserList
from typing import Any

import pytest

from events.evidence import Category
from recovery.policies.rules import Rule
from recovery.service import Recovery
from recovery.subscribers.exhausted import EXHAUSTED_MARK
from recovery.testing import Script
from tests.recovery.execution.runtime import Runtime

FAST: dict[str, Any] = {"initial_delay": 0.0}


def test_a_recoverable_call_in_a_recoverable_call_makes_four_real_calls(runtime: Runtime, service: Recovery) -> None:
    script = Script(*[ConnectionError()] * 99)
    inner: Any = service.recoverable("inner", **FAST)(script.as_async())

    async def body() -> None:
        await inner()

    if runtime.name == "plain":
        inner = service.recoverable("inner", **FAST)(lambda: script())
    outer: Any = service.recoverable("outer", **FAST)(body if runtime.name != "plain" else lambda: inner())
    with pytest.raises(ConnectionError):
        outer() if runtime.name == "plain" else runtime.clock.run(outer, backend=runtime.name)
    assert script.calls == 4


@pytest.mark.parametrize(
    ("names", "settings", "calls"), [(["twice", "twice"], {}, 4), (["inner", "outer"], {"retry_exhausted": True}, 16)]
)
def test_a_wrapped_wrapper_makes_four_real_calls_unless_set_otherwise(
    names: list[str], settings: dict[str, Any], calls: int
) -> None:
    service, script = Recovery(), Script(*[ConnectionError()] * 99)
    call = service.recoverable(names[0], **FAST, **settings)(lambda: script())
    call = service.recoverable(names[1], **FAST, **settings)(call)
    with pytest.raises(ConnectionError):
        call()
    assert script.calls == calls


@pytest.mark.anyio
async def test_a_recursion_makes_four_real_calls() -> None:
    calls = 0

    @Recovery().recoverable(**FAST)
    async def dive(depth: int) -> None:
        nonlocal calls
        if depth:
            await dive(depth - 1)
        calls += 1
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await dive(3)
    assert calls == 4


def test_an_error_raised_from_an_exhausted_one_is_exhausted() -> None:
    service = Recovery()
    script = Script(*[ConnectionError() for _ in range(99)])
    inner = service.recoverable("inner", **FAST)(lambda: script())

    @service.recoverable("outer", **FAST)
    def outer() -> None:
        try:
            inner()
        except ConnectionError as error:
            raise RuntimeError("no page") from error

    with pytest.raises(RuntimeError):
        outer()
    assert script.calls == 4


def test_the_same_exception_object_is_retried_in_an_unrelated_call(runtime: Runtime, service: Recovery) -> None:
    error = ConnectionError()
    for _ in range(2):
        script = Script(error, error)
        with pytest.raises(ConnectionError):
            runtime.decorate(service, script, "fetch", max_retries=1)()
        assert script.calls == 2


def two_errors(script: Script, *settings: dict[str, Any]) -> int:
    """How many tries a call with a decorator of each *settings* makes, the innermost first."""
    service, call = Recovery(), lambda: script()
    for one in settings:
        call = service.recoverable(**FAST, **one)(call)
    with contextlib.suppress(Exception):
        call()
    return script.calls


def test_each_of_two_decorators_retries_its_own_error() -> None:
    script = Script(ConnectionError(), KeyError(), ConnectionError(), KeyError())
    assert two_errors(script, {"retry_on": KeyError}, {"retry_on": ConnectionError}) == 5


@pytest.mark.parametrize(
    "inner",
    [
        {"retry_on": KeyError},
        {"classifier": lambda _: Category.PERMANENT},
        {"classifier": lambda _: Category.AUTH},
        {"classifier": Rule("final", Category.PERMANENT, types=ConnectionError)},
    ],
    ids=["retry_on", "classifier", "auth", "rule"],
)
def test_an_inner_call_that_declined_to_retry_has_exhausted_nothing(inner: Any) -> None:
    assert two_errors(Script(*[ConnectionError()] * 99), inner, {"max_retries": 4}) == 5


@pytest.mark.parametrize("inner", [{"retry_on": KeyError}, {}], ids=["declined", "may have had its effect"])
def test_an_inner_call_that_is_not_idempotent_is_not_repeated_from_outside(inner: Any) -> None:
    assert two_errors(Script(*[TimeoutError()] * 99), {"idempotent": False, **inner}, {"retry_on": TimeoutError}) == 1


def test_a_declined_failure_is_still_permanent_for_an_outer_call_with_the_same_rules() -> None:
    assert two_errors(Script(*[ValueError()] * 9), {}, {}) == 1


def test_the_mark_of_a_hostile_exception_is_no_mark() -> None:
    class HostileError(ConnectionError):
        def __getattr__(self, name: str) -> Any:
            return UserList(["inner", False]) if name == EXHAUSTED_MARK else super().__getattribute__(name)

    assert two_errors(Script(*[HostileError()] * 99), {}) == 4


def test_a_function_made_with_wraps_of_a_recoverable_one_has_its_own_settings() -> None:
    service, script = Recovery(), Script(*[ConnectionError()] * 2)

    class Client:
        @service.recoverable(max_retries=0)
        def fetch(self) -> int:
            return 1

    class Patient(Client):
        @service.recoverable(max_retries=4, **FAST)
        @functools.wraps(Client.fetch)
        def fetch(self) -> int:
            script()
            return super().fetch() + 1

    gc.collect()
    assert (Patient().fetch(), script.calls) == (2, 3)
    assert Client().fetch() == 1
