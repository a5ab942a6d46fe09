"""Circuits around recoverable functions."""

from __future__ import annotations

import contextlib
from typing import Any

import anyio
import pytest

from events.circuit_events import CircuitClosed, CircuitOpened
from events.errors import CallRejectedError
from events.operation_events import CallRejected, Parked, RetryScheduled
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of, names
from tests.recovery.execution.runtime import Runtime

FAST: dict[str, Any] = {"initial_delay": 0.0}


def test_calls_that_give_up_open_the_circuit_until_a_probe_succeeds(runtime: Runtime, service: Recovery) -> None:
    events = events_of(service, CircuitOpened, CallRejected, CircuitClosed)
    call = runtime.decorate(service, Script(*[ConnectionError()] * 5), "fetch", max_retries=0)
    for _ in range(5):
        with pytest.raises(ConnectionError):
            call()
    with pytest.raises(CallRejectedError) as caught:
        call()
    assert caught.value.retry_after == pytest.approx(30.0)
    assert service.operation("fetch").is_observed
    runtime.clock.advance(30.0)
    assert call() == "done"
    assert names(events) == ["CircuitOpened", "CallRejected", "CircuitClosed"]
    assert not service.operation("fetch").is_observed  # a healthy call costs nothing again


@pytest.mark.parametrize("is_wrapped", [False, True], ids=["as it is", "as the cause of another error"])
def test_a_call_around_an_open_circuit_comes_back_when_the_circuit_says(
    runtime: Runtime, service: Recovery, *, is_wrapped: bool
) -> None:
    inner = service.recoverable("inner", max_retries=0, circuit_breaker_threshold=1)(Script(ConnectionError()))
    with pytest.raises(ConnectionError):
        inner()

    def body() -> Any:
        try:
            return inner()
        except CallRejectedError as error:
            if is_wrapped:
                raise RuntimeError("no page") from error
            raise

    assert runtime.decorate(service, body, "outer", initial_delay=1.0, jitter="none")() == "done"
    assert runtime.clock() == pytest.approx(31.0)


def test_a_call_around_a_probe_asks_again_until_the_probe_has_answered(runtime: Runtime, service: Recovery) -> None:
    inner = service.recoverable("inner", max_retries=0, circuit_breaker_threshold=1)(Script(ConnectionError()))
    with pytest.raises(ConnectionError):
        inner()
    runtime.clock.advance(30.0)
    probe = service.operation("inner").start()
    events = events_of(service, RetryScheduled)
    service.bus.subscribe(RetryScheduled, lambda event: probe.succeed() if event.retry == 3 else None)
    assert runtime.decorate(service, inner, "outer", initial_delay=0.0)() == "done"
    assert [event.after for event in events] == [1.0, 1.0, 2.0]


def test_a_call_that_may_wait_for_the_circuit_is_not_rejected(runtime: Runtime, service: Recovery) -> None:
    script = Script(ConnectionError())
    call = runtime.decorate(
        service, script, max_retries=0, circuit_breaker_threshold=1, circuit_breaker_timeout=5.0, when_open="wait"
    )
    with pytest.raises(ConnectionError):
        call()
    assert call() == "done"
    assert runtime.clock() == pytest.approx(5.0)


def test_the_next_attempt_waits_for_an_open_circuit(runtime: Runtime, service: Recovery) -> None:
    breaker = BreakerPolicy(failure_threshold=1, break_duration=5.0, counts="attempts")
    script = Script(ConnectionError())
    assert runtime.decorate(service, script, max_retries=1, breaker=breaker, **FAST)() == "done"
    assert runtime.clock() == pytest.approx(5.0)


def test_a_host_that_never_comes_back_is_not_probed_for_ever(runtime: Runtime, service: Recovery) -> None:
    breaker = BreakerPolicy(failure_threshold=2, break_duration=5.0, counts="attempts")
    script = Script(*[ConnectionError() for _ in range(99)])
    with pytest.raises(ConnectionError):
        runtime.decorate(service, script, max_retries=4, breaker=breaker, when_open="wait", **FAST)()
    assert script.calls == 5


def test_an_open_circuit_parks_a_call_under_way() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    events = events_of(service, Parked)
    breaker = BreakerPolicy(failure_threshold=1, break_duration=5.0)

    @service.recoverable("fetch", max_retries=1, breaker=breaker, initial_delay=1.0, jitter="none")
    async def fetch(failures: list[bool]) -> str:
        if failures.pop(0):
            raise ConnectionError
        return "done"

    async def give_up() -> None:
        with pytest.raises(ConnectionError):
            await fetch([True, True])

    async def go_on() -> None:
        await anyio.sleep(0.5)  # its retry comes when the other call has opened the circuit
        assert await fetch([True, False]) == "done"

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(give_up)
            group.start_soon(go_on)

    clock.run(main)
    assert names(events) == ["Parked"]
    assert clock() == pytest.approx(6.0)


def test_each_key_has_a_circuit_of_its_own() -> None:
    service = Recovery()

    @service.recoverable("get", max_retries=0, circuit_breaker_threshold=1, key=lambda host: host)
    def get(host: str) -> str:
        if host == "sick":
            raise ConnectionError
        return host

    with pytest.raises(ConnectionError):
        get("sick")
    with pytest.raises(CallRejectedError):
        get("sick")
    assert get("well") == "well"


def test_closures_of_one_name_have_a_circuit_each() -> None:
    service = Recovery()

    def make(is_up: bool) -> Any:
        @service.recoverable(max_retries=0, circuit_breaker_threshold=1)
        def fetch() -> str:
            if not is_up:
                raise ConnectionError
            return "page"

        return fetch

    sick, well = make(False), make(True)
    with pytest.raises(ConnectionError):
        sick()
    assert well() == "page"


@pytest.mark.parametrize("end", ["cancelled", "permanent"])
def test_a_returned_permit_wakes_a_call_that_waits_for_it(end: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    breaker = BreakerPolicy(failure_threshold=1, break_duration=5.0, lease=600.0)

    @service.recoverable("fetch", max_retries=0, breaker=breaker, when_open="wait")
    async def fetch(kind: str) -> str:
        if kind == "fails":
            raise ConnectionError
        if kind == "permanent":
            await anyio.sleep(1.0)
            raise ValueError
        if kind == "cancelled":
            await anyio.sleep(3600.0)
        return "done"

    async def probe() -> None:
        with anyio.move_on_after(6.0), contextlib.suppress(ValueError):
            await fetch(end)

    async def main() -> None:
        with contextlib.suppress(ConnectionError):
            await fetch("fails")
        async with anyio.create_task_group() as group:
            group.start_soon(probe)
            await anyio.sleep(5.1)
            assert await fetch("well") == "done"

    clock.run(main)
    assert clock() < 20.0
