"""What calls cost, and what they leave behind."""

from __future__ import annotations

import contextlib
import gc
import random
from typing import Any

import anyio
import pytest

from adapters.memory import MemoryStore
from events.circuit_events import CircuitOpened
from events.errors import CallRejectedError
from recovery.service import Recovery
from recovery.testing import Script
from tests.recorded_events import events_of

FAST: dict[str, Any] = {"initial_delay": 0.0}


@pytest.mark.slow
def test_a_rejected_call_leaves_no_cycle() -> None:
    service = Recovery()
    call = service.recoverable("sick", max_retries=0, circuit_breaker_threshold=1)(lambda: Script(ConnectionError())())
    with contextlib.suppress(ConnectionError):
        call()
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            with contextlib.suppress(CallRejectedError):
                call()
        left = [one for one in gc.get_objects() if type(one) is CallRejectedError and one.operation == "sick"]
    finally:
        gc.enable()
    assert left == []


class Counting:
    """A clock that counts how often it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return 0.0


class SickError(ConnectionError):
    """An error that no other test raises."""


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_success_builds_no_event_and_reads_no_clock(kind: str) -> None:
    clock = Counting()
    with Recovery(store=MemoryStore(), clock=clock, enable_logging=True, run="run") as service:
        plain, calls = service.recoverable("plain")(lambda: None), service.recoverable("async")(Script().as_async())

        async def main() -> None:
            for _ in range(1000):
                await calls()

        reads = clock.reads  # every event is built with a reading
        if kind == "plain":
            for _ in range(1000):
                plain()
        else:
            anyio.run(main)
        assert (service.operation(kind).successes, clock.reads - reads) == (1000, 0)
        assert service.bus.new_call_id() == "run-1"


def test_ten_thousand_successes_leave_nothing_for_the_garbage_collector() -> None:
    with Recovery(store=MemoryStore()) as service:
        call = service.recoverable("healthy")(lambda: None)
        call()
        gc.collect()
        gc.disable()
        try:
            before = len(gc.get_objects())
            for _ in range(10_000):
                call()
            after = len(gc.get_objects())
            garbage = gc.collect()
        finally:
            gc.enable()
    assert after - before < 5000  # threads that earlier tests have left may make some
    assert garbage < 5000


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.slow
def test_a_call_that_gave_up_leaves_no_cycle(kind: str) -> None:
    service = Recovery()
    script = Script(*[SickError() for _ in range(400)])
    function = (lambda: script()) if kind == "plain" else script.as_async()
    call: Any = service.recoverable("sick", breaker=None, **FAST)(function)

    async def main() -> None:
        for _ in range(50):
            with contextlib.suppress(SickError):
                await call()

    def plainly() -> None:
        for _ in range(50):
            with contextlib.suppress(SickError):
                call()

    gc.collect()
    gc.disable()
    try:
        plainly() if kind == "plain" else anyio.run(main)
        errors = [one for one in gc.get_objects() if type(one) is SickError and one.__traceback__ is not None]
    finally:
        gc.enable()
    assert errors == []


def test_of_calls_with_thirty_percent_noise_99_percent_succeed() -> None:
    rng = random.Random(2026)
    with Recovery(store=MemoryStore()) as service:
        opened = events_of(service, CircuitOpened)

        @service.recoverable("noisy", **FAST)
        def noisy() -> None:
            if rng.random() < 0.3:
                raise SickError

        rescued = 0
        for _ in range(20_000):
            try:
                noisy()
            except SickError:
                continue
            rescued += 1
    assert rescued / 20_000 >= 0.99
    assert opened == []
    assert service.journal is not None
    assert service.journal.counts.dropped == 0


def test_of_two_thousand_permanent_failures_each_is_attempted_once() -> None:
    attempts = 0
    with Recovery(store=MemoryStore(), breaker=None) as service:

        @service.recoverable("wrong", **FAST)
        def wrong() -> None:
            nonlocal attempts
            attempts += 1
            raise ValueError

        for _ in range(2000):
            with pytest.raises(ValueError):
                wrong()
    assert attempts == 2000
