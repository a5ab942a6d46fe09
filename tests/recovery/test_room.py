"""Waits, who ends them, and what for: steering, conditions, and those who are held back together."""

from __future__ import annotations

import random
import threading
import time

import anyio
import anyio.to_thread
import pytest

from events.conditions import Condition
from events.facts import (
    CallSteered,
    Category,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationStarted,
    Parked,
    RetryScheduled,
)
from events.verdicts import Park
from recovery.backoff import Constant
from recovery.policy import RetryPolicy, Strategy
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.recovery.ears import facts_of, names

HOUR = RetryPolicy(backoff=Constant(3600.0), jitter="none", max_delay=3600.0)
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def only(service: Recovery) -> str:
    """The id of the one call that waits."""
    [call] = service.waits.calls()
    return call.call


def parks(*until: Condition, **fields: float) -> RetryPolicy:
    """Transient failures are parked until these hold."""
    strategy = Strategy(until=until, backoff=Constant(0.0), **fields)
    return RetryPolicy(max_retries=1, per_category={Category.TRANSIENT: strategy})


# Steering


@BACKENDS
def test_a_call_that_is_told_to_retry_now_does(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=HOUR)
    heard = facts_of(service, CallSteered)
    script = Script(ConnectionError())

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(service.recoverable("fetch")(script.as_async()))
            await anyio.sleep(1.0)
            assert service.waits.retry_now(only(service), reason="I say so")

    clock.run(main, backend=backend)
    assert (script.calls, clock()) == (2, pytest.approx(1.0))
    assert [(fact.command, fact.reason, fact.attempt) for fact in heard] == [("retry now", "I say so", 2)]  # type: ignore[attr-defined]


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
            service.waits.pause(call)
            await anyio.sleep(10_000.0)
            [waiting] = service.waits.calls()
            assert (waiting.is_paused, waiting.left) == (True, pytest.approx(3000.0))
            service.waits.unpause(call)

    clock.run(main, backend=backend)
    assert clock() == pytest.approx(600.0 + 10_000.0 + 3000.0)


@BACKENDS
def test_a_call_that_is_given_up_by_hand_raises_its_last_error_with_a_note(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=HOUR)
    gave_up = facts_of(service, GaveUp)
    error = ConnectionError("reset")

    async def main() -> None:
        async def ended() -> None:
            with pytest.raises(ConnectionError) as caught:
                await service.recoverable("fetch")(Script(error).as_async())()
            assert caught.value is error

        async with anyio.create_task_group() as group:
            group.start_soon(ended)
            await anyio.sleep(1.0)
            service.waits.give_up(only(service), reason="enough")

    clock.run(main, backend=backend)
    assert error.__notes__ == ["recovery: fetch gave up after attempt 2: given up by hand: enough"]
    assert [(fact.reason, fact.category, fact.error) for fact in gave_up] == [  # type: ignore[attr-defined]
        ("given up by hand: enough", Category.TRANSIENT, "ConnectionError: reset")
    ]


def test_steering_acts_on_waits_never_on_a_function_that_runs() -> None:
    service = Recovery()
    told: list[bool] = []
    started = facts_of(service, OperationStarted)

    @service.recoverable("fetch")
    def fetch() -> None:
        [fact] = started
        told.append(service.waits.give_up(fact.call))  # type: ignore[attr-defined]

    fetch()
    assert told == [False]


def test_a_call_that_nobody_knows_is_not_steered() -> None:
    service = Recovery()
    heard = facts_of(service, CallSteered)
    commands = (service.waits.retry_now, service.waits.pause, service.waits.unpause, service.waits.give_up)
    assert [command("nobody") for command in commands] == [False] * 4
    assert heard == []


def test_pausing_twice_is_pausing_once() -> None:
    with waiting_in_a_thread(HOUR) as (service, _):
        call = only(service)
        assert [service.waits.unpause(call), service.waits.pause(call), service.waits.pause(call)] == [
            False,
            True,
            False,
        ]
        service.waits.retry_now(call)


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
        while not self.service.waits.calls():
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
            getattr(service.waits, command)(only(service))
            ended.wait(10.0)
            took.append(time.perf_counter() - began)
    assert min(took) < 0.1


@BACKENDS
def test_a_task_is_steered_from_a_thread_within_100_ms(backend: str) -> None:
    service = Recovery(policy=HOUR)

    async def once() -> float:
        async with anyio.create_task_group() as group:
            group.start_soon(service.recoverable("fetch")(Script(ConnectionError()).as_async()))
            while not service.waits.calls():
                await anyio.sleep(0)
            began = time.perf_counter()
            await anyio.to_thread.run_sync(service.waits.retry_now, only(service))
        return time.perf_counter() - began

    async def main() -> list[float]:
        return [await once() for _ in range(5)]

    assert min(anyio.run(main, backend=backend)) < 0.1


@BACKENDS
def test_a_call_cancelled_while_it_is_paused_is_cancelled_once(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=HOUR)
    heard = facts_of(service)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(service.recoverable("fetch")(Script(ConnectionError()).as_async()))
            await anyio.sleep(1.0)
            service.waits.pause(only(service))
            await anyio.sleep(1.0)
            group.cancel_scope.cancel()

    clock.run(main, backend=backend)
    assert names(heard)[-2:] == ["CallSteered", "OperationCancelled"]
    assert isinstance(heard[-1], OperationCancelled)
    assert heard[-1].waiting
    assert service.waits.calls() == []


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
            service.waits.pause(only(service))

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
            assert service.waits.give_up(only(service))

    clock.run(main, backend=backend)


# Conditions


@pytest.mark.parametrize("kind", ["plain", "asyncio", "trio"])
@pytest.mark.parametrize("blocks", [False, True])
def test_a_parked_call_waits_for_its_condition_and_uses_up_no_retry(kind: str, blocks: bool) -> None:
    clock = VirtualClock()
    room = Condition("room on the disk", lambda: clock() >= 1000.0, blocks=blocks and kind == "plain", every=10.0)
    service = Recovery(clock=clock, policy=parks(room))
    script = Script(ConnectionError(), ConnectionError(), ConnectionError())
    parked = facts_of(service, Parked)
    if kind == "plain":
        service.recoverable("fetch")(script)()
    else:
        clock.run(service.recoverable("fetch")(script.as_async()), backend=kind)
    assert (script.calls, clock()) == (4, pytest.approx(1000.0))
    assert [fact.why for fact in parked] == ["room on the disk"] * 3  # type: ignore[attr-defined]


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

    service = Recovery(clock=clock, policy=parks(Condition("host", is_met)), chance=random.Random(3).random)

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
    service = Recovery(clock=clock, policy=parks(Condition("never", lambda: False), patience=30.0))
    script = Script(ConnectionError("reset"))
    with pytest.raises(ConnectionError) as caught:
        if kind == "plain":
            service.recoverable("fetch")(script)()
        else:
            clock.run(service.recoverable("fetch")(script.as_async()), backend=kind)
    assert (clock(), script.calls) == (pytest.approx(30.0), 1)
    assert caught.value.__notes__ == ["recovery: fetch gave up after attempt 2: out of time"]


def test_a_parked_call_that_is_told_to_retry_now_does_not_wait_for_its_condition() -> None:
    with waiting_in_a_thread(parks(Condition("never", lambda: False))) as (service, _):
        service.waits.retry_now(only(service))


def test_an_answer_of_a_person_wakes_who_waits_for_it_at_once() -> None:
    service = Recovery()
    licence = service.waits.question("licence")
    script = Script(PermissionError("gated"))

    @service.recoverable(
        "fetch",
        classifier=lambda _: Category.AUTH,
        policy=RetryPolicy(per_category={Category.AUTH: Strategy(until=(licence,), backoff=Constant(0.0))}),
    )
    def fetch() -> object:
        script()
        return service.waits.answered("licence")

    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(fetch()), daemon=True)
    thread.start()
    while not service.waits.calls():
        time.sleep(0)
    began = time.perf_counter()
    service.waits.answer("licence", "yes")
    thread.join(10.0)
    assert results == ["yes"]
    assert time.perf_counter() - began < 0.5  # not when it would have been asked again


def test_a_question_that_was_answered_before_is_not_waited_for() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    service.waits.answer("licence")
    fetch = service.recoverable("fetch", policy=parks(service.waits.question("licence")))
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
    room = service.waits
    assert (room._waits, dict(room._held), dict(room._watchers)) == ({}, {}, {})
