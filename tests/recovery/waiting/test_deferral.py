"""Deferred attempts: a subscriber did not let them begin, and they ask again."""

from __future__ import annotations

import itertools
import time

import anyio
import pytest

from events.circuit_events import CircuitClosed
from events.errors import CallRejectedError
from events.operation_events import OperationStarted, Parked
from events.verdicts import Park
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of
from tests.recovery.waiting.parked import BACKENDS, HOUR, KINDS, background, only, run, run_all, waiting_thread


@KINDS
def test_an_attempt_deferred_for_zero_seconds_does_not_ask_in_a_tight_loop(kind: str) -> None:
    service = Recovery(clock=VirtualClock())
    asked: list[float] = []

    def defer(started: OperationStarted) -> Park | None:
        asked.append(started.at)
        return Park(0.0, ("busy",)) if started.at < 1.0 else None

    service.bus.subscribe(OperationStarted, defer)
    run(kind, service, Script())
    assert 2 <= len(asked) <= 30


def test_a_deferral_longer_than_the_time_left_lasts_as_long_as_that(service: Recovery, clock: VirtualClock) -> None:
    numbers = itertools.count()

    @service.recoverable(
        "fetch",
        max_elapsed=50.0,
        when_open="wait",
        initial_delay=1.0,
        jitter="none",
        breaker=BreakerPolicy(counts="attempts", failure_threshold=2, break_duration=10.0),
    )
    async def fetch() -> None:
        await anyio.sleep(0.1)
        if clock() < 10.0:
            raise ConnectionError

    async def one() -> None:
        await anyio.sleep(0.01 * next(numbers))
        await fetch()

    assert (
        run_all(clock, one, one, one, one) == []
    )  # the lease of the probe is longer than the time left, the probe is not


def test_a_deferred_call_that_runs_out_of_time_says_what_deferred_it(service: Recovery, clock: VirtualClock) -> None:
    service.circuits.force("fetch", "open")
    with pytest.raises(CallRejectedError, match=r"circuit open: fetch; out of time"):
        run("plain", service, Script(), when_open="wait", max_elapsed=20.0)
    assert clock() == pytest.approx(20.0)


@BACKENDS
def test_a_park_by_a_subscriber_at_a_half_open_circuit_does_not_loop(
    backend: str, service: Recovery, clock: VirtualClock
) -> None:
    parked = events_of(service, Parked)
    breaker = BreakerPolicy(failure_threshold=1, break_duration=1.0)
    fetch = service.recoverable("fetch", breaker=breaker, when_open="wait", max_retries=0)(Script().as_async())
    service.operation("fetch").start().fail(ConnectionError())
    clock.advance(2.0)
    service.bus.subscribe(OperationStarted, lambda s: Park(60.0 - s.at, ("busy",)) if s.at < 60.0 else None)

    run_all(clock, fetch, fetch, fetch, backend=backend)
    assert clock() >= 60.0
    assert len(parked) < 50


def test_a_cause_that_ends_before_the_wait_begins_ends_the_wait(service: Recovery, clock: VirtualClock) -> None:
    verdicts = iter([Park(1000.0, ("busy",)), None])
    service.bus.subscribe(OperationStarted, lambda _: next(verdicts))
    service.bus.subscribe(Parked, lambda event: CircuitClosed(at=event.at, operation=event.operation))
    run("plain", service, Script())
    assert clock() == 0.0


@BACKENDS
def test_a_circuit_of_a_whole_operation_wakes_the_calls_of_its_keys(
    backend: str, service: Recovery, clock: VirtualClock
) -> None:
    service.circuits.force("fetch", "open")
    fetch = service.recoverable("fetch", key=lambda host: host, when_open="wait")(Script().as_async())

    async def main() -> None:
        async with background(lambda: fetch("example.org"), seconds=5.0):
            service.circuits.force("fetch", "auto")

    clock.run(main, backend=backend)
    assert clock() == pytest.approx(5.0)


def test_a_deferred_call_shows_what_deferred_it() -> None:
    with waiting_thread(HOUR) as (service, _):
        service.circuits.force("fetch", "open")
        service.calls.retry_now(only(service))
        while not (waiting := service.calls.waiting()) or not waiting[0].until:
            time.sleep(0)
        assert waiting[0].until == ("circuit open: fetch",)
        service.circuits.force("fetch", "auto")
