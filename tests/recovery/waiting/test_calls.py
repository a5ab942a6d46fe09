"""Waits, who ends them, and what for: steering, conditions, and those who are held back together."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from events.conditions import Condition
from events.errors import CallRejectedError
from events.evidence import Category
from events.operation_events import (
    CallSteered,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationStarted,
    Parked,
    RetryScheduled,
)
from events.verdicts import Park
from recovery.policies.backoff import Constant
from recovery.policies.circuit_breaker import BreakerPolicy, Open
from recovery.policies.retry import RetryPolicy, Strategy
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from recovery.waiting.calls import WaitingCalls
from tests.recorded_events import events_of, names

HOUR = RetryPolicy(backoff=Constant(3600.0), jitter="none", max_delay=3600.0)
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def only(service: Recovery) -> str:
    """The id of the one call that waits."""
    [call] = service.calls.waiting()
    return call.call


def parks(*until: Condition, **fields: float) -> RetryPolicy:
    """Transient failures are parked until these hold."""
    strategy = Strategy(wait_for=until, backoff=Constant(0.0), **fields)
    return RetryPolicy(max_retries=1, per_category={Category.TRANSIENT: strategy})


def nothing_left(waiting: WaitingCalls) -> bool:
    return not (waiting._waits or waiting._deferred or waiting.conditions._watched or waiting.conditions._asked)


# Steering


@BACKENDS
def test_a_call_that_is_told_to_retry_now_does(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=HOUR)
    heard = events_of(service, CallSteered)
    script = Script(ConnectionError())

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(service.recoverable("fetch")(script.as_async()))
            await anyio.sleep(1.0)
            assert service.calls.retry_now(only(service), reason="I say so")

    clock.run(main, backend=backend)
    assert (script.calls, clock()) == (2, pytest.approx(1.0))
    assert [(event.command, event.reason, event.attempt) for event in heard] == [("retry now", "I say so", 2)]  # type: ignore[attr-defined]


@BACKENDS
def test_a_call_that_was_paused_waits_for_what_was_left(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=HOUR)
    script = Script(ConnectionError())

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(service.recoverable("fetch")(script.as_async()))
            await anyio.sleep(600.0)
            call = only(service)
            service.calls.pause(call)
            await anyio.sleep(10_000.0)
            [waiting] = service.calls.waiting()
            assert (waiting.is_paused, waiting.left) == (True, pytest.approx(3000.0))
            service.calls.unpause(call)

    clock.run(main, backend=backend)
    assert clock() == pytest.approx(600.0 + 10_000.0 + 3000.0)


@BACKENDS
def test_a_call_that_is_given_up_by_hand_raises_its_last_error_with_a_note(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=HOUR)
    gave_up = events_of(service, GaveUp)
    error = ConnectionError("reset")

    async def main() -> None:
        async def ended() -> None:
            with pytest.raises(ConnectionError) as caught:
                await service.recoverable("fetch")(Script(error).as_async())()
            assert caught.value is error

        async with anyio.create_task_group() as group:
            group.start_soon(ended)
            await anyio.sleep(1.0)
            service.calls.give_up(only(service), reason="enough")

    clock.run(main, backend=backend)
    assert error.__notes__ == ["recovery: fetch gave up after attempt 1: given up by hand: enough"]
    assert [(event.reason, event.category, event.error) for event in gave_up] == [  # type: ignore[attr-defined]
        ("given up by hand: enough", Category.TRANSIENT, "ConnectionError: reset")
    ]


def test_steering_acts_on_waits_never_on_a_function_that_runs() -> None:
    service = Recovery()
    told: list[bool] = []
    started = events_of(service, OperationStarted)

    @service.recoverable("fetch")
    def fetch() -> None:
        [event] = started
        told.append(service.calls.give_up(event.call))  # type: ignore[attr-defined]

    fetch()
    assert told == [False]


def test_a_call_that_nobody_knows_is_not_steered() -> None:
    service = Recovery()
    heard = events_of(service, CallSteered)
    commands = (service.calls.retry_now, service.calls.pause, service.calls.unpause, service.calls.give_up)
    assert [command("nobody") for command in commands] == [False] * 4
    assert heard == []


def test_pausing_twice_is_pausing_once() -> None:
    with waiting_in_a_thread(HOUR) as (service, _):
        call = only(service)
        assert [service.calls.unpause(call), service.calls.pause(call), service.calls.pause(call)] == [
            False,
            True,
            False,
        ]
        service.calls.retry_now(call)


class waiting_in_a_thread:  # noqa: N801  # reads as the clause it is
    """A plain call that waits, in a thread, on the real clock."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.service = Recovery(policy=policy)
        self.ended = threading.Event()
        self.parked = threading.Event()
        self.service.bus.subscribe((Parked, RetryScheduled), lambda _: self.parked.set())
        self.call = self.service.recoverable("fetch")(Script(ConnectionError("reset")))

    def run(self) -> None:
        try:
            self.call()
        except ConnectionError:
            pass
        finally:
            self.ended.set()

    def __enter__(self) -> tuple[Recovery, threading.Event]:
        threading.Thread(target=self.run, daemon=True).start()
        assert self.parked.wait(10.0)
        while not self.service.calls.waiting():
            time.sleep(0)
        return self.service, self.ended

    def __exit__(self, *_: object) -> None:
        assert self.ended.wait(10.0)


@pytest.mark.parametrize("command", ["retry_now", "give_up"])
def test_steering_from_another_thread_takes_effect_within_100_ms(command: str) -> None:
    took = []
    for _ in range(5):
        with waiting_in_a_thread(HOUR) as (service, ended):
            began = time.perf_counter()
            getattr(service.calls, command)(only(service))
            ended.wait(10.0)
            took.append(time.perf_counter() - began)
    assert min(took) < 0.1


@BACKENDS
def test_a_task_is_steered_from_a_thread_within_100_ms(backend: str) -> None:
    service = Recovery(policy=HOUR)

    async def once() -> float:
        async with anyio.create_task_group() as group:
            group.start_soon(service.recoverable("fetch")(Script(ConnectionError()).as_async()))
            while not service.calls.waiting():
                await anyio.sleep(0)
            began = time.perf_counter()
            await anyio.to_thread.run_sync(service.calls.retry_now, only(service))
        return time.perf_counter() - began

    async def main() -> list[float]:
        return [await once() for _ in range(5)]

    assert min(anyio.run(main, backend=backend)) < 0.1


@BACKENDS
def test_a_call_cancelled_while_it_is_paused_is_cancelled_once(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=HOUR)
    heard = events_of(service)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(service.recoverable("fetch")(Script(ConnectionError()).as_async()))
            await anyio.sleep(1.0)
            service.calls.pause(only(service))
            await anyio.sleep(1.0)
            group.cancel_scope.cancel()

    clock.run(main, backend=backend)
    assert names(heard)[-2:] == ["CallSteered", "OperationCancelled"]
    assert isinstance(heard[-1], OperationCancelled)
    assert heard[-1].waiting
    assert service.calls.waiting() == []


@BACKENDS
def test_a_pause_does_not_outlast_max_elapsed(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)

    async def main() -> None:
        async def ended() -> None:
            with pytest.raises(ConnectionError) as caught:
                await service.recoverable("fetch", initial_delay=10.0, jitter="none", max_elapsed=100.0)(
                    Script(ConnectionError()).as_async()
                )()
            assert "out of time" in caught.value.__notes__[0]

        async with anyio.create_task_group() as group:
            group.start_soon(ended)
            await anyio.sleep(1.0)
            service.calls.pause(only(service))

    clock.run(main, backend=backend)
    assert clock() == pytest.approx(100.0)


@BACKENDS
def test_a_call_that_is_held_back_by_a_circuit_can_be_given_up(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    service.circuits.force("fetch", "open")

    async def main() -> None:
        async def ended() -> None:
            with pytest.raises(Exception, match="given up by hand"):
                await service.recoverable("fetch", when_open="wait")(Script().as_async())()

        async with anyio.create_task_group() as group:
            group.start_soon(ended)
            await anyio.sleep(1.0)
            assert service.calls.give_up(only(service))

    clock.run(main, backend=backend)


# Conditions


@pytest.mark.parametrize("kind", ["plain", "asyncio", "trio"])
@pytest.mark.parametrize("blocks", [False, True])
def test_a_parked_call_waits_for_its_condition_and_uses_up_no_retry(kind: str, blocks: bool) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    parked = events_of(service, Parked)
    full_until = 0.0
    waiting = Condition("room on the disk", lambda: clock() >= full_until, blocks=blocks, every=10.0)
    script = Script()

    def fetch() -> Any:
        nonlocal full_until
        if script.calls < 3:
            full_until = clock() + 1000.0
            script()
            raise ConnectionError
        return script()

    async def fetch_async() -> Any:
        return fetch()

    if kind == "plain":
        service.recoverable("fetch", policy=parks(waiting))(fetch)()
    else:
        clock.run(service.recoverable("fetch", policy=parks(waiting))(fetch_async), backend=kind)
    assert (script.calls, clock()) == (4, pytest.approx(3000.0))
    assert [event.why for event in parked] == ["room on the disk"] * 3  # type: ignore[attr-defined]


def test_after_parking_a_call_still_has_its_retries() -> None:
    clock = VirtualClock()
    waiting = Condition("room on the disk", lambda: clock() % 2.0 >= 1.0, every=0.5)
    strategy = Strategy(wait_for=(waiting,), backoff=Constant(0.0))
    service = Recovery(clock=clock, rng=lambda: 0.0)
    full = OSError(28, "No space left on device")
    script = Script(full, full, full, ConnectionError())

    @service.recoverable("fetch", max_retries=1, per_category={Category.ENVIRONMENT: strategy})
    def fetch() -> Any:
        clock.advance(2.0 - clock() % 2.0)  # the disk is full again
        return script()

    assert (fetch(), script.calls) == ("done", 5)


@pytest.mark.parametrize("kind", ["plain", "asyncio", "trio"])
@pytest.mark.parametrize("blocks", [False, True])
def test_a_failure_whose_condition_held_all_the_time_uses_up_a_retry(kind: str, blocks: bool) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=parks(Condition("disk", lambda: True, blocks=blocks)))
    gave_up = events_of(service, GaveUp)
    script = Script(*[ConnectionError()] * 99)
    with pytest.raises(ConnectionError):
        if kind == "plain":
            service.recoverable("fetch")(script)()
        else:
            clock.run(service.recoverable("fetch")(script.as_async()), backend=kind)
    assert (script.calls, [event.reason for event in gave_up]) == (2, ["out of retries (1)"])  # type: ignore[attr-defined]


@BACKENDS
def test_a_condition_that_blocks_is_asked_in_a_thread_so_that_the_loop_goes_on(backend: str) -> None:
    asked_in: list[int] = []

    def is_met() -> bool:
        asked_in.append(threading.get_ident())
        return True

    service = Recovery(policy=parks(Condition("disk", is_met, blocks=True)))
    anyio.run(service.recoverable("fetch")(Script(ConnectionError()).as_async()), backend=backend)
    assert threading.get_ident() not in asked_in != []


@BACKENDS
def test_one_condition_is_asked_by_one_of_those_who_wait_and_wakes_all_of_them_spread_out(backend: str) -> None:
    clock = VirtualClock()
    asked: list[float] = []
    done: list[float] = []

    def is_met() -> bool:
        asked.append(clock())
        return clock() >= 100.0

    service = Recovery(clock=clock, policy=parks(Condition("host", is_met)), rng=random.Random(3).random)

    @service.recoverable("fetch")
    async def fetch() -> None:
        if clock() < 100.0:
            raise ConnectionError
        done.append(clock())

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(fetch)

    clock.run(main, backend=backend)
    assert len(done) == 50
    assert len(asked) <= 110  # about once a second, not once a second for each of the fifty
    assert len(set(done)) > 40
    assert max(done) - min(done) <= 50 * 0.02


@BACKENDS
def test_when_the_one_who_asks_leaves_another_takes_over(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=parks(Condition("host", lambda: clock() >= 50.0)))
    scripts = [Script(ConnectionError()), Script(ConnectionError())]

    async def main() -> None:
        async with anyio.create_task_group() as group:
            first = anyio.CancelScope()

            async def cancelled() -> None:
                with first:
                    await service.recoverable("fetch")(scripts[0].as_async())()

            group.start_soon(cancelled)
            await anyio.sleep(1.5)
            group.start_soon(service.recoverable("fetch")(scripts[1].as_async()))
            await anyio.sleep(5.0)
            first.cancel()

    clock.run(main, backend=backend)
    assert (scripts[0].calls, scripts[1].calls) == (1, 2)
    assert clock() == pytest.approx(50.0, abs=1.5)


def test_all_conditions_must_hold_at_one_time() -> None:
    clock = VirtualClock()
    disk = Condition("disk", lambda: clock() < 10.0 or clock() >= 200.0)
    host = Condition("host", lambda: clock() >= 100.0)
    service = Recovery(clock=clock, policy=parks(disk, host))
    service.recoverable("fetch")(Script(ConnectionError()))()
    assert clock() == pytest.approx(200.0, abs=1.5)


def test_a_condition_that_raises_counts_as_not_met_and_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock()

    def is_met() -> bool:
        if clock() < 60.0:
            raise PermissionError("no such share")
        return True

    service = Recovery(clock=clock, policy=parks(Condition("share", is_met)))
    service.recoverable("fetch")(Script(ConnectionError()))()
    assert clock() == pytest.approx(60.0)
    assert [record.getMessage() for record in caplog.records] == ["the condition 'share' failed; it counts as not met"]


@pytest.mark.parametrize("kind", ["plain", "asyncio", "trio"])
def test_a_call_is_not_parked_for_longer_than_it_is_patient(kind: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=parks(Condition("never", lambda: False), wait_timeout=30.0))
    script = Script(ConnectionError("reset"))
    with pytest.raises(ConnectionError) as caught:
        if kind == "plain":
            service.recoverable("fetch")(script)()
        else:
            clock.run(service.recoverable("fetch")(script.as_async()), backend=kind)
    assert (clock(), script.calls) == (pytest.approx(30.0), 1)
    assert caught.value.__notes__ == ["recovery: fetch gave up after attempt 1: out of time"]


def test_a_parked_call_that_is_told_to_retry_now_does_not_wait_for_its_condition() -> None:
    with waiting_in_a_thread(parks(Condition("never", lambda: False))) as (service, _):
        service.calls.retry_now(only(service))


def test_an_answer_of_a_person_wakes_who_waits_for_it_at_once() -> None:
    service = Recovery()
    licence = service.calls.question("licence")
    script = Script(PermissionError("gated"))

    @service.recoverable(
        "fetch",
        classifier=lambda _: Category.AUTH,
        policy=RetryPolicy(per_category={Category.AUTH: Strategy(wait_for=(licence,), backoff=Constant(0.0))}),
    )
    def fetch() -> object:
        script()
        return service.calls.answered("licence")

    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(fetch()), daemon=True)
    thread.start()
    while not service.calls.waiting():
        time.sleep(0)
    began = time.perf_counter()
    service.calls.answer("licence", "yes")
    thread.join(10.0)
    assert results == ["yes"]
    assert time.perf_counter() - began < 0.5  # not when it would have been asked again


def test_a_question_that_was_answered_before_is_not_waited_for() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    service.calls.answer("licence")
    fetch = service.recoverable("fetch", policy=parks(service.calls.question("licence")))
    fetch(Script(ConnectionError()))()
    assert clock() == 0.0


def test_a_call_can_wait_for_the_circuit_of_another_operation_to_close() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    closed = service.circuits.closed("login")
    service.circuits.force("login", "open")
    checks: list[bool] = []

    def is_met() -> bool:
        if clock() >= 30.0:
            service.circuits.force("login", "auto")
        checks.append(bool(closed.is_met()))
        return checks[-1]

    service.recoverable("fetch", policy=parks(Condition(closed.name, is_met)))(Script(ConnectionError()))()
    assert (checks[0], checks[-1], clock()) == (False, True, pytest.approx(30.0))


def test_a_subscriber_can_park_a_call_until_its_own_condition_holds() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)

    def disk(failure: FailureClassified) -> Park | None:
        is_full = failure.category is Category.ENVIRONMENT
        return Park(until=(Condition("disk", lambda: clock() > 500.0),)) if is_full else None

    service.bus.subscribe(FailureClassified, disk)
    script = Script(OSError(28, "No space left on device"))
    service.recoverable("fetch")(script)()
    assert (script.calls, clock()) == (2, pytest.approx(500.0, abs=2.0))


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"name": 3}, TypeError, "name"),
        ({"name": ""}, ValueError, "name"),
        ({"is_met": True}, TypeError, "is_met"),
        ({"every": 0.0}, ValueError, "every"),
        ({"every": float("nan")}, ValueError, "every"),
        ({"every": float("inf")}, ValueError, "every"),
        ({"every": True}, TypeError, "every"),
    ],
)
def test_a_condition_that_cannot_be_is_refused_by_the_name_of_its_field(
    fields: dict[str, object], error: type[Exception], field: str
) -> None:
    with pytest.raises(error, match=f"^{field} must "):
        Condition(**{"name": "disk", "is_met": bool, **fields})  # type: ignore[arg-type]


def test_conditions_of_one_name_are_one_condition() -> None:
    one, other = Condition("disk", lambda: True), Condition("disk", lambda: False)
    assert (one == other, len({one, other}), one != Condition("port", lambda: True)) == (True, 1, True)


def test_the_room_is_empty_when_everybody_has_left() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=parks(Condition("host", lambda: clock() >= 5.0)))
    service.recoverable("fetch")(Script(ConnectionError()))()
    waiting = service._waiting
    assert nothing_left(waiting)


# What may happen while somebody looks at a condition, and at its end


@BACKENDS
@pytest.mark.parametrize("answer", [True, False])
@pytest.mark.parametrize("command", ["give_up", "retry_now", "pause"])
def test_what_is_said_while_a_condition_is_looked_at_is_heeded(backend: str, answer: bool, command: str) -> None:
    service = Recovery(breaker=None)
    looking, go_on = threading.Event(), threading.Event()

    def is_met() -> bool:
        looking.set()
        assert go_on.wait(10.0)
        return answer

    script = Script(ConnectionError())
    fetch = service.recoverable("fetch", policy=parks(Condition("slow", is_met, blocks=True, every=60.0)))
    ended: list[str] = []

    def steer() -> None:
        assert looking.wait(10.0)
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
            ended.append(await fetch(script.as_async())())
        except ConnectionError:
            ended.append("given up")
        go_on.set()

    began = time.perf_counter()
    anyio.run(main, backend=backend)
    assert ended == ["done" if command == "retry_now" else "given up"]
    assert time.perf_counter() - began < 5.0


def test_a_command_from_within_a_condition_is_heeded() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)

    def is_met() -> bool:
        service.calls.give_up(only(service))
        return False

    script = Script(ConnectionError())
    with pytest.raises(ConnectionError):
        service.recoverable("fetch", policy=parks(Condition("suicidal", is_met, every=60.0)))(script)()
    assert clock() == 0.0


@pytest.mark.parametrize("kind", ["plain", "asyncio", "trio"])
def test_a_look_that_hangs_does_not_keep_a_call_beyond_its_time(kind: str) -> None:
    service = Recovery(breaker=None)
    go_on = threading.Event()
    policy = parks(Condition("dead share", lambda: go_on.wait(10.0), blocks=True), wait_timeout=0.05)
    script = Script(ConnectionError())
    began = time.perf_counter()
    with pytest.raises(ConnectionError):
        if kind == "plain":
            service.recoverable("fetch", policy=policy)(script)()
        else:
            anyio.run(service.recoverable("fetch", policy=policy)(script.as_async()), backend=kind)
    assert time.perf_counter() - began < 5.0
    go_on.set()


def test_a_held_call_that_was_let_go_looks_at_nothing_any_more() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    never = Condition("never", lambda: False)
    is_deferred = True

    def hold(_: object) -> Park | None:
        return Park(0.0, (never,)) if is_deferred else None

    service.bus.subscribe(OperationStarted, hold, operation="fetch")

    async def main() -> None:
        nonlocal is_deferred
        async with anyio.create_task_group() as group:
            group.start_soon(service.recoverable("fetch")(Script().as_async()))
            await anyio.sleep(5.0)
            is_deferred = False
            service._waiting.wake("fetch", "")

    clock.run(main)
    assert clock() == pytest.approx(5.0)
    assert nothing_left(service._waiting)


def test_who_waits_for_another_condition_first_leaves_looking_to_others() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    a_holds = True
    a = Condition("a", lambda: a_holds)
    b = Condition("b", lambda: clock() >= 50.0)
    done: dict[str, float] = {}

    async def call(name: str, policy: RetryPolicy) -> None:
        await service.recoverable(name, policy=policy)(Script(ConnectionError()).as_async())()
        done[name] = clock()

    async def main() -> None:
        nonlocal a_holds
        async with anyio.create_task_group() as group:
            group.start_soon(call, "both", parks(a, b))
            await anyio.sleep(10.0)
            a_holds = False
            await anyio.sleep(10.0)
            group.start_soon(call, "only b", parks(b))
            await anyio.sleep(80.0)
            a_holds = True

    clock.run(main)
    assert done == {"only b": pytest.approx(50.0, abs=2.0), "both": pytest.approx(100.0, abs=2.0)}


def test_calls_in_all_of_the_loops_worker_threads_do_not_starve_their_condition() -> None:
    service = Recovery(breaker=None)
    is_up = False
    up = Condition("up", lambda: is_up, blocks=True, every=0.01)

    @service.recoverable("fetch", policy=parks(up))
    def fetch() -> None:
        if not is_up:
            raise ConnectionError

    @service.recoverable("first", policy=parks(up))
    async def first() -> None:
        if not is_up:
            raise ConnectionError

    async def main() -> None:
        nonlocal is_up
        with anyio.fail_after(20.0):
            async with anyio.create_task_group() as group:
                group.start_soon(first)
                while not service.calls.waiting():
                    await anyio.sleep(0)
                for _ in range(45):
                    group.start_soon(anyio.to_thread.run_sync, fetch)
                while len(service.calls.waiting()) < 40:
                    await anyio.sleep(0.001)
                is_up = True

    anyio.run(main)


def test_nobody_is_spread_out_beyond_its_time() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, rng=lambda: 0.999, policy=parks(Condition("up", lambda: clock() >= 9.0)))
    began: list[float] = []

    @service.recoverable("fetch", max_elapsed=10.0)
    async def fetch() -> None:
        if clock() < 9.0:
            raise ConnectionError
        began.append(clock())

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(300):
                group.start_soon(fetch)

    clock.run(main)
    assert (len(began), max(began) <= 10.0) == (300, True)


def test_what_held_before_a_pause_is_looked_at_again_after_it() -> None:
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
        async with anyio.create_task_group() as group:
            for _ in range(99):
                group.start_soon(fetch)
            await anyio.sleep(5.5)
            paused = [call.call for call in service.calls.waiting()]
            assert [service.calls.pause(call) for call in paused] == [True] * 98  # all but the one that looked
            await anyio.sleep(3.0)
            for call in paused:
                service.calls.unpause(call)

    clock.run(main)
    assert sorted(began)[1] >= 100.0


@BACKENDS
def test_a_call_that_is_parked_in_vain_lets_others_run(backend: str) -> None:
    service = Recovery(policy=RetryPolicy(max_retries=None, per_category=parks(Condition("x", bool)).per_category))
    ran: list[int] = []

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(service.recoverable("fetch", breaker=None)(Script(*[ConnectionError()] * 9999).as_async()))
            for turn in range(5):
                await anyio.lowlevel.checkpoint()
                ran.append(turn)
            group.cancel_scope.cancel()

    anyio.run(main, backend=backend)
    assert ran == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["plain", "asyncio", "trio"])
def test_who_is_held_for_no_time_at_all_does_not_ask_without_a_pause(kind: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    asked: list[float] = []

    def hold(started: OperationStarted) -> Park | None:
        asked.append(started.at)
        return Park(0.0, ("busy",)) if started.at < 1.0 else None

    service.bus.subscribe(OperationStarted, hold)
    if kind == "plain":
        service.recoverable("fetch")(Script())()
    else:
        clock.run(service.recoverable("fetch")(Script().as_async()), backend=kind)
    assert 2 <= len(asked) <= 30


def test_who_is_held_back_longer_than_it_has_waits_as_long_as_it_has() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    ended: list[str] = []

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

    async def one(number: int) -> None:
        await anyio.sleep(0.01 * number)
        await fetch()
        ended.append("done")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(one, number)

    clock.run(main)
    assert ended == ["done"] * 4  # the lease of the probe is longer than they have, the probe is not


def test_who_ran_out_of_time_while_held_back_is_told_by_what() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    service.circuits.force("fetch", "open")
    with pytest.raises(CallRejectedError, match=r"circuit open: fetch; out of time"):
        service.recoverable("fetch", when_open="wait", max_elapsed=20.0)(Script())()
    assert clock() == pytest.approx(20.0)


def test_a_condition_is_no_coroutine_function() -> None:
    async def is_met() -> bool:
        return True

    with pytest.raises(TypeError, match=r"^is_met must be a plain function"):
        Condition("disk", is_met)


@BACKENDS
def test_a_call_that_somebody_else_parks_at_a_half_open_circuit_does_not_go_round_and_round(backend: str) -> None:
    clock = VirtualClock(start=2.0)
    service = Recovery(clock=clock)
    parked = events_of(service, Parked)
    service.circuits.restore({("fetch", ""): Open(until=1.0)})
    service.bus.subscribe(OperationStarted, lambda s: Park(60.0 - s.at, ("busy",)) if s.at < 60.0 else None)
    fetch = service.recoverable("fetch", breaker=BreakerPolicy(), when_open="wait")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(fetch(Script().as_async()))

    clock.run(main, backend=backend)
    assert clock() >= 60.0
    assert len(parked) < 50


def test_who_asked_before_its_cause_ended_does_not_sleep_through_it() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    holds = iter([Park(1000.0, ("busy",)), None])
    service.bus.subscribe(OperationStarted, lambda _: next(holds))
    # The cause ends between the question and the wait.
    service.bus.subscribe(Parked, lambda event: service._waiting.wake(event.operation, ""))
    service.recoverable("fetch")(Script())()
    assert clock() == 0.0


@BACKENDS
def test_letting_go_of_a_whole_operation_wakes_who_waits_on_its_keys(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    service.circuits.force("fetch", "open")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(
                service.recoverable("fetch", key=lambda host: host, when_open="wait")(Script().as_async()), "hf.co"
            )
            await anyio.sleep(5.0)
            service.circuits.force("fetch", "auto")

    clock.run(main, backend=backend)
    assert clock() == pytest.approx(5.0)


def test_each_condition_is_asked_at_its_own_pace() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    is_up = False
    up = Condition("up", lambda: is_up)
    slow = Condition("slow", lambda: clock() >= 5000.0, every=3600.0)
    done: dict[str, float] = {}

    async def call(name: str, *until: Condition) -> None:
        await service.recoverable(name, policy=parks(*until))(Script(ConnectionError()).as_async())()
        done[name] = clock()

    async def main() -> None:
        nonlocal is_up
        async with anyio.create_task_group() as group:
            group.start_soon(call, "both", slow, up)
            await anyio.sleep(10.0)
            group.start_soon(call, "up", up)
            await anyio.sleep(10.0)
            is_up = True

    clock.run(main)
    assert done["up"] == pytest.approx(20.0, abs=1.5)


def test_what_another_waits_for_does_not_excuse_a_failure() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    holds = Condition("holds", lambda: True)
    never = Condition("never", lambda: False)
    script = Script(*[ConnectionError()] * 99)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            policy = parks(holds, never)
            group.start_soon(service.recoverable("both", policy=policy)(Script(ConnectionError()).as_async()))
            await anyio.sleep(5.0)
            with pytest.raises(ConnectionError):
                await service.recoverable("holds", policy=parks(holds))(script.as_async())()
            group.cancel_scope.cancel()

    clock.run(main)
    assert script.calls == 2


def test_to_retry_now_costs_nothing() -> None:
    clock = VirtualClock()
    strategy = Strategy(wait_for=(Condition("never", lambda: False),), backoff=Constant(10.0), jitter="none")
    policy = RetryPolicy(max_retries=1, per_category={Category.TRANSIENT: strategy})
    service = Recovery(clock=clock, policy=policy)
    script = Script(*[ConnectionError()] * 5)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(service.recoverable("fetch")(script.as_async()))
            for _ in range(5):
                await anyio.sleep(1.0)
                assert service.calls.retry_now(only(service))

    clock.run(main)
    assert script.calls == 6


def test_a_park_of_a_plug_in_is_charged_once() -> None:
    service = Recovery(clock=VirtualClock())
    service.bus.subscribe(FailureClassified, lambda _: Park(1.0, (Condition("always", lambda: True),)))
    script = Script(*[ConnectionError()] * 99)
    with pytest.raises(ConnectionError):
        service.recoverable("fetch", max_retries=3)(script)()
    assert script.calls == 4


def test_a_condition_that_wants_to_exit_is_not_met_and_is_asked_again() -> None:
    asked: list[int] = []

    def is_met() -> bool:
        asked.append(1)
        if len(asked) == 1:
            raise SystemExit
        return True

    service = Recovery(policy=parks(Condition("odd", is_met, blocks=True, every=0.001), wait_timeout=10.0))
    service.recoverable("fetch")(Script(ConnectionError()))()
    assert len(asked) == 2


def test_where_no_thread_can_be_had_a_condition_is_not_met(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Recovery(policy=parks(Condition("disk", lambda: True, blocks=True, every=0.001), wait_timeout=0.01))

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(ConnectionError, match="reset"):
        service.recoverable("fetch")(Script(ConnectionError("reset")))()
    assert nothing_left(service._waiting)


def test_the_limit_of_its_own_category_ends_what_is_parked_in_vain() -> None:
    service = Recovery(clock=VirtualClock())
    strategies = {
        Category.TRANSIENT: Strategy(wait_for=(Condition("always", lambda: True),)),
        Category.UNREACHABLE: Strategy(max_retries=None),
    }
    script = Script(*[ConnectionError()] * 99)
    with pytest.raises(ConnectionError):
        service.recoverable("fetch", max_retries=3, per_category=strategies)(script)()
    assert script.calls == 4


def test_what_a_held_call_waits_for_is_told() -> None:
    with waiting_in_a_thread(HOUR) as (service, _):
        service.circuits.force("fetch", "open")
        call = only(service)
        service.calls.retry_now(call)
        while not (waiting := service.calls.waiting()) or not waiting[0].until:
            time.sleep(0)
        assert waiting[0].until == ("circuit open: fetch",)
        service.circuits.force("fetch", "auto")


def test_what_was_waited_for_does_not_set_the_pace_of_what_is_asked_next() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    fast = Condition("fast", lambda: clock() < 1.0 or clock() >= 100.0)
    slow = Condition("slow", lambda: clock() >= 50.0, every=3600.0)

    async def call(name: str, *until: Condition) -> None:
        await service.recoverable(name, policy=parks(*until))(Script(ConnectionError()).as_async())()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(call, "slow", slow)
            await anyio.sleep(0.5)
            group.start_soon(call, "both", fast, slow)
            await anyio.sleep(10.0)
            service.calls.look_again(slow)  # not yet: both are told so
            await anyio.sleep(50.0)
            service.calls.look_again(slow)  # long before it would be asked again

    clock.run(main)
    assert clock() == pytest.approx(100.0, abs=2.0)
