"""Recoverable calls inside recoverable calls."""

from __future__ import annotations

from typing import Any

import pytest

from recovery.service import Recovery
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
