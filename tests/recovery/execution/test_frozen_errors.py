"""An exception that refuses attributes, or lies about its own, is retried, and comes out, as any other."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import anyio
import pytest

from adapters.memory import MemoryStore
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.recovery.execution.runtime import Runtime

TIMEOUTS = [{"attempt_timeout": 9.0}, {"stall_timeout": 9.0}, {"attempt_timeout": 9.0, "stall_timeout": 9.0}]


@dataclasses.dataclass(frozen=True)
class Busy(Exception):  # noqa: N818  # as in the report
    seconds: float


@pytest.mark.parametrize("settings", TIMEOUTS, ids=str)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_timeout_lets_it_pass(backend: str, settings: dict[str, Any]) -> None:
    clock, script = VirtualClock(), Script(*[Busy(1.0)] * 9)
    with pytest.raises(Busy):
        clock.run(Recovery(clock=clock).recoverable("ask", **settings)(script.as_async()), backend=backend)
    assert script.calls == 4


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_elapsed": 99.0},
        {"key": lambda: "host"},
        {"retry_if": bool},
        {"idempotency_key": lambda: "a"},
        {"resumable": True},
        {"resumable": True, "join": False},
        {"durability": "strict"},
    ],
    ids=lambda settings: ", ".join(settings),
)
def test_every_kind_of_call_lets_it_pass(runtime: Runtime, settings: dict[str, Any]) -> None:
    script, service = Script(*[Busy(1.0)] * 9), Recovery(clock=runtime.clock, store=MemoryStore())
    with service, pytest.raises(Busy):
        runtime.decorate(service, script, "ask", initial_delay=0.0, **settings)()
    assert script.calls == 4


def test_each_caller_that_joins_a_call_gets_it() -> None:
    clock, caught = VirtualClock(), list[BaseException]()
    service = Recovery(clock=clock, store=MemoryStore())

    @service.recoverable("ask", idempotency_key=lambda: "a", max_retries=0)
    async def ask() -> None:
        await anyio.sleep(1.0)
        raise Busy(1.0)

    async def call() -> None:
        try:
            await ask()
        except Busy as error:
            caught.append(error)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(call)

    with service:
        clock.run(main)
    assert caught == [Busy(1.0)] * 3


def liar() -> Exception:
    """An exception that cannot be asked for its class, keeps no outcome, and has notes without an end."""

    class LiarError(Exception):
        @property
        def __class__(self) -> Any:  # hostile on purpose
            raise LookupError

        @__class__.setter
        def __class__(self, value: type) -> None:
            raise LookupError

        __notes__ = itertools.repeat("a note")  # type: ignore[assignment]
        __recovery_outcome__ = property(lambda _: None)

    return LiarError()


@pytest.mark.parametrize(
    ("settings", "tries"),
    [({}, 4), ({"resumable": True}, 4), ({"retry_if_error": lambda _: False}, 1)],
    ids=["a plain call", "a resumable call", "retry_if_error"],
)
def test_one_that_lies_comes_out(runtime: Runtime, settings: dict[str, Any], tries: int) -> None:
    error, caught, made = liar(), list[object](), list[int]()
    with Recovery(clock=runtime.clock, store=MemoryStore()) as service:

        def body() -> None:
            made.append(1)
            raise error

        def outer() -> None:
            try:
                inner()
            except Exception as came:
                caught.append(came)

        inner = service.recoverable("ask", initial_delay=0.0, **settings)(body)
        runtime.decorate(service, outer, "outer")()
    assert ([one is error for one in caught], len(made)) == ([True], tries)


def test_one_that_lies_is_replaced_by_no_fallback_and_passes_where_recovery_is_off() -> None:
    def body() -> None:
        raise error

    error, service = liar(), Recovery(clock=VirtualClock())
    asked = service.recoverable("ask", fallback="instead")(body)
    for is_enabled in (True, False):
        service.configure(enabled=is_enabled)
        with pytest.raises(BaseException) as caught:  # which one is what the test asks
            asked()
        assert caught.value is error
