"""Commands on waiting calls: retry now, pause, unpause, give up."""

from __future__ import annotations

import functools
import threading
import time

import anyio
import anyio.to_thread
import pytest

from events.conditions import Condition
from events.evidence import Category
from events.operation_events import CallSteered, GaveUp, OperationCancelled, OperationRecovered, OperationStarted
from recovery.policies.backoff import Constant
from recovery.policies.retry import RetryPolicy, Strategy
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of, names
from tests.recovery.waiting.parked import BACKENDS, HOUR, background, only, parks, run, steered, waiting_thread


@BACKENDS
def test_retry_now_ends_the_delay(backend: str, service: Recovery) -> None:
    events, script = events_of(service, CallSteered), Script(ConnectionError())
    steered(service, script, lambda call: service.calls.retry_now(call, "up again"), backend=backend, policy=HOUR)
    assert (script.calls, service.bus.clock()) == (2, pytest.approx(1.0))
    assert [(event.command, event.reason, event.attempt) for event in events] == [("retry now", "up again", 2)]  # type: ignore[attr-defined]


@BACKENDS
def test_a_call_that_was_paused_waits_for_what_was_left(backend: str, service: Recovery, clock: VirtualClock) -> None:
    service.configure(policy=HOUR)

    async def main() -> None:
        async with background(service.recoverable("fetch")(Script(ConnectionError()).as_async()), seconds=600.0):
            call = only(service)
            service.calls.pause(call)
            await anyio.sleep(10_000.0)
            [waiting] = service.calls.waiting()
            assert (waiting.is_paused, waiting.left) == (True, pytest.approx(3000.0))
            service.calls.unpause(call)

    clock.run(main, backend=backend)
    assert clock() == pytest.approx(600.0 + 10_000.0 + 3000.0)


@BACKENDS
@pytest.mark.parametrize("end", ["unpause", "retry_now"])
def test_a_pause_is_no_lag(backend: str, end: str, service: Recovery, clock: VirtualClock) -> None:
    events = events_of(service, OperationRecovered)
    service.configure(policy=HOUR)

    async def main() -> None:
        async with background(service.recoverable("fetch")(Script(ConnectionError()).as_async()), seconds=600.0):
            call = only(service)
            service.calls.pause(call)
            await anyio.sleep(10_000.0)
            getattr(service.calls, end)(call)

    clock.run(main, backend=backend)
    assert [event.lag for event in events] == [pytest.approx(0.0)]  # type: ignore[attr-defined]


@BACKENDS
def test_a_call_given_up_by_hand_raises_its_last_error_with_a_note(backend: str, service: Recovery) -> None:
    gave_up, error = events_of(service, GaveUp), ConnectionError("reset")
    give_up = functools.partial(service.calls.give_up, reason="enough")
    assert steered(service, Script(error), give_up, backend=backend, policy=HOUR) == [error]
    assert error.__notes__[0].startswith("recovery: fetch gave up after 1 attempt, given up by hand: enough: ")
    assert [(event.attempt, event.reason, event.category, event.error) for event in gave_up] == [  # type: ignore[attr-defined]
        (1, "given up by hand: enough", Category.TRANSIENT, "ConnectionError: reset")
    ]


def test_a_function_that_runs_takes_no_command() -> None:
    service = Recovery()
    answers: list[bool] = []
    started = events_of(service, OperationStarted)

    @service.recoverable("fetch")
    def fetch() -> None:
        [event] = started
        answers.append(service.calls.give_up(event.call))  # type: ignore[attr-defined]

    fetch()
    assert answers == [False]


def test_an_unknown_call_takes_no_command() -> None:
    service = Recovery()
    events, calls = events_of(service, CallSteered), service.calls
    assert [act("unknown") for act in (calls.retry_now, calls.pause, calls.unpause, calls.give_up)] == [False] * 4
    assert events == []


def test_pause_and_unpause_say_whether_they_changed_anything() -> None:
    with waiting_thread(HOUR) as (service, _):
        calls, call = service.calls, only(service)
        commands = (calls.unpause, calls.pause, calls.pause, calls.unpause, calls.unpause)
        assert [command(call) for command in commands] == [False, True, False, True, False]
        calls.retry_now(call)


@pytest.mark.parametrize("command", ["retry_now", "give_up"])
def test_a_thread_is_steered_from_another_within_100_ms(command: str) -> None:
    took = []
    for _ in range(5):
        with waiting_thread(HOUR) as (service, thread):
            began = time.perf_counter()
            getattr(service.calls, command)(only(service))
            thread.join(10.0)
            took.append(time.perf_counter() - began)
    assert min(took) < 0.1


@BACKENDS
def test_a_task_is_steered_from_a_thread_within_100_ms(backend: str) -> None:
    service = Recovery(policy=HOUR)

    async def once() -> float:
        async with background(service.recoverable("fetch")(Script(ConnectionError()).as_async()), seconds=0.0):
            while not service.calls.waiting():
                await anyio.sleep(0)
            began = time.perf_counter()
            await anyio.to_thread.run_sync(service.calls.retry_now, only(service))
        return time.perf_counter() - began

    async def main() -> list[float]:
        return [await once() for _ in range(5)]

    assert min(anyio.run(main, backend=backend)) < 0.1


@BACKENDS
def test_a_paused_call_can_be_cancelled(backend: str, service: Recovery, clock: VirtualClock) -> None:
    service.configure(policy=HOUR)
    events = events_of(service)

    async def main() -> None:
        with anyio.move_on_after(2.0):
            async with background(service.recoverable("fetch")(Script(ConnectionError()).as_async())):
                service.calls.pause(only(service))

    clock.run(main, backend=backend)
    assert names(events)[-2:] == ["CallSteered", "OperationCancelled"]
    assert isinstance(events[-1], OperationCancelled)
    assert events[-1].waiting
    assert service.calls.waiting() == []


@BACKENDS
def test_a_pause_does_not_outlast_max_elapsed(backend: str, service: Recovery) -> None:
    settings = {"initial_delay": 10.0, "jitter": "none", "max_elapsed": 100.0}
    [error] = steered(service, Script(ConnectionError()), service.calls.pause, backend=backend, **settings)
    assert "out of time" in error.__notes__[0]
    assert service.bus.clock() == pytest.approx(100.0)


@BACKENDS
def test_a_call_that_a_circuit_defers_can_be_given_up(backend: str, service: Recovery) -> None:
    service.circuits.force("fetch", "open")
    [error] = steered(service, Script(), service.calls.give_up, backend=backend, when_open="wait")
    assert "given up by hand" in str(error)


def test_retry_now_uses_up_no_retry(service: Recovery, clock: VirtualClock) -> None:
    strategy = Strategy(wait_for=(Condition("never", lambda: False),), backoff=Constant(10.0), jitter="none")
    service.configure(policy=RetryPolicy(max_retries=1, per_category={Category.TRANSIENT: strategy}))
    script = Script(*[ConnectionError()] * 5)

    async def main() -> None:
        async with background(service.recoverable("fetch")(script.as_async()), seconds=0.0):
            for _ in range(5):
                await anyio.sleep(1.0)
                assert service.calls.retry_now(only(service))

    clock.run(main)
    assert script.calls == 6


def test_retry_now_during_the_jitter_uses_up_no_retry() -> None:
    polled = threading.Event()
    service = Recovery(rng=lambda: 0.999, policy=parks(Condition("up", lambda: polled.wait(5.0), blocks=True)))
    scripts = [Script(*[ConnectionError()] * 3) for _ in range(9)]

    async def main() -> None:
        async with background(*(service.recoverable("fetch")(one.as_async()) for one in scripts), seconds=0.01):
            polled.set()
            await anyio.sleep(0.01)
            assert [service.calls.retry_now(call.call) for call in service.calls.waiting()] == [True] * 8

    anyio.run(main)
    assert sorted(script.calls for script in scripts) == [2] + [3] * 8  # the one that polled has used up its retry


def test_a_pause_discards_what_held_before_it(clock: VirtualClock) -> None:
    service = Recovery(clock=clock, rng=lambda: 0.999)
    is_up = Condition("up", lambda: 5.0 <= clock() < 5.5 or clock() >= 100.0)
    began: list[float] = []

    @service.recoverable("fetch", policy=parks(is_up))
    async def fetch() -> None:
        if clock() < 5.0:
            raise ConnectionError
        began.append(clock())

    async def main() -> None:
        async with background(*[fetch] * 99, seconds=5.5):
            paused = [call.call for call in service.calls.waiting()]
            assert [service.calls.pause(call) for call in paused] == [True] * 98  # all but the one that polled
            await anyio.sleep(3.0)
            for call in paused:
                service.calls.unpause(call)

    clock.run(main)
    assert sorted(began)[1] >= 100.0


@BACKENDS
@pytest.mark.parametrize("answer", [True, False])
@pytest.mark.parametrize("command", ["give_up", "retry_now", "pause"])
def test_a_command_during_a_poll_takes_effect(backend: str, answer: bool, command: str) -> None:
    service = Recovery(breaker=None)
    polled, go_on = threading.Event(), threading.Event()

    def is_met() -> bool:
        polled.set()
        assert go_on.wait(10.0)
        return answer

    fetch = service.recoverable("fetch", policy=parks(Condition("slow", is_met, blocks=True, every=60.0)))
    ended: list[str] = []

    def steer() -> None:
        assert polled.wait(10.0)
        call = only(service)
        assert getattr(service.calls, command)(call)
        if command == "pause":
            go_on.set()
            [waiting] = service.calls.waiting()
            assert waiting.is_paused
            service.calls.give_up(call)

    async def main() -> None:
        threading.Thread(target=steer, daemon=True).start()
        try:
            ended.append(await fetch(Script(ConnectionError()).as_async())())
        except ConnectionError:
            ended.append("given up")
        go_on.set()

    began = time.perf_counter()
    anyio.run(main, backend=backend)
    assert ended == ["done" if command == "retry_now" else "given up"]
    assert time.perf_counter() - began < 5.0


def test_a_command_from_within_a_condition_takes_effect(service: Recovery) -> None:
    own_end = Condition("own end", lambda: not service.calls.give_up(only(service)), every=60.0)
    with pytest.raises(ConnectionError):
        run("plain", service, Script(ConnectionError()), policy=parks(own_end))
    assert service.bus.clock() == 0.0
