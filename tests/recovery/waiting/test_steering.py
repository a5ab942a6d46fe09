"""Commands on waiting calls: retry now, pause, unpause, give up."""

from __future__ import annotations

import threading
import time

import anyio
import anyio.to_thread
import pytest

from events.conditions import Condition
from events.evidence import Category
from events.operation_events import CallSteered, GaveUp, OperationCancelled, OperationStarted
from recovery.policies.backoff import Constant
from recovery.policies.retry import RetryPolicy, Strategy
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of, names
from tests.recovery.waiting.parked import BACKENDS, HOUR, background, only, parks, waiting_thread


@BACKENDS
def test_retry_now_ends_the_delay(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=HOUR)
    steered = events_of(service, CallSteered)
    script = Script(ConnectionError())

    async def main() -> None:
        async with background(service.recoverable("fetch")(script.as_async())):
            assert service.calls.retry_now(only(service), reason="the host is back")

    clock.run(main, backend=backend)
    assert (script.calls, clock()) == (2, pytest.approx(1.0))
    assert [(event.command, event.reason, event.attempt) for event in steered] == [  # type: ignore[attr-defined]
        ("retry now", "the host is back", 2)
    ]


@BACKENDS
def test_a_call_that_was_paused_waits_for_what_was_left(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=HOUR)

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
def test_a_call_given_up_by_hand_raises_its_last_error_with_a_note(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=HOUR)
    gave_up = events_of(service, GaveUp)
    error = ConnectionError("reset")

    async def main() -> list[Exception]:
        async with background(service.recoverable("fetch")(Script(error).as_async())) as errors:
            service.calls.give_up(only(service), reason="enough")
        return errors

    assert clock.run(main, backend=backend) == [error]
    assert error.__notes__ == ["recovery: fetch gave up after attempt 1: given up by hand: enough"]
    assert [(event.reason, event.category, event.error) for event in gave_up] == [  # type: ignore[attr-defined]
        ("given up by hand: enough", Category.TRANSIENT, "ConnectionError: reset")
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
    steered = events_of(service, CallSteered)
    commands = (service.calls.retry_now, service.calls.pause, service.calls.unpause, service.calls.give_up)
    assert [command("unknown") for command in commands] == [False] * 4
    assert steered == []


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
def test_a_paused_call_can_be_cancelled(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=HOUR)
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
def test_a_pause_does_not_outlast_max_elapsed(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    fetch = service.recoverable("fetch", initial_delay=10.0, jitter="none", max_elapsed=100.0)

    async def main() -> list[Exception]:
        async with background(fetch(Script(ConnectionError()).as_async())) as errors:
            service.calls.pause(only(service))
        return errors

    [error] = clock.run(main, backend=backend)
    assert "out of time" in error.__notes__[0]
    assert clock() == pytest.approx(100.0)


@BACKENDS
def test_a_call_that_a_circuit_defers_can_be_given_up(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    service.circuits.force("fetch", "open")

    async def main() -> list[Exception]:
        async with background(service.recoverable("fetch", when_open="wait")(Script().as_async())) as errors:
            assert service.calls.give_up(only(service))
        return errors

    [error] = clock.run(main, backend=backend)
    assert "given up by hand" in str(error)


def test_retry_now_ends_the_wait_for_a_condition() -> None:
    with waiting_thread(parks(Condition("never", lambda: False))) as (service, _):
        service.calls.retry_now(only(service))


def test_retry_now_uses_up_no_retry() -> None:
    clock = VirtualClock()
    strategy = Strategy(wait_for=(Condition("never", lambda: False),), backoff=Constant(10.0), jitter="none")
    service = Recovery(clock=clock, policy=RetryPolicy(max_retries=1, per_category={Category.TRANSIENT: strategy}))
    script = Script(*[ConnectionError()] * 5)

    async def main() -> None:
        async with background(service.recoverable("fetch")(script.as_async()), seconds=0.0):
            for _ in range(5):
                await anyio.sleep(1.0)
                assert service.calls.retry_now(only(service))

    clock.run(main)
    assert script.calls == 6


def test_a_pause_discards_what_held_before_it() -> None:
    clock = VirtualClock()
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


def test_a_command_from_within_a_condition_takes_effect() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)

    def is_met() -> bool:
        service.calls.give_up(only(service))
        return False

    with pytest.raises(ConnectionError):
        service.recoverable("fetch", policy=parks(Condition("own end", is_met, every=60.0)))(
            Script(ConnectionError())
        )()
    assert clock() == 0.0
