"""Polling of conditions: one call polls for all, on its own schedule, and the others resume with jitter."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

from events.conditions import Condition
from events.operation_events import FailureClassified, OperationStarted
from events.verdicts import Park
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from recovery.waiting.polling import Conditions, WatchedCondition
from tests.recovery.waiting.parked import BACKENDS, background, only, parks, run, run_all


def fetch(service: Recovery, *until: Condition, name: str = "fetch") -> Callable[[], Any]:
    """A call that fails once, then waits until these conditions hold."""
    call: Callable[[], Any] = service.recoverable(name, policy=parks(*until))(Script(ConnectionError()).as_async())
    return call


@BACKENDS
def test_a_condition_that_blocks_is_polled_in_a_thread(backend: str) -> None:
    polled_in: list[int] = []

    def is_met() -> bool:
        polled_in.append(threading.get_ident())
        return True

    anyio.run(fetch(Recovery(), Condition("disk", is_met, blocks=True)), backend=backend)
    assert threading.get_ident() not in polled_in != []


@BACKENDS
def test_one_call_polls_for_all_and_all_resume_with_jitter(backend: str, clock: VirtualClock) -> None:
    polls: list[float] = []
    done: list[float] = []

    def is_met() -> bool:
        polls.append(clock())
        return clock() >= 100.0

    service = Recovery(clock=clock, policy=parks(Condition("host", is_met)), rng=random.Random(3).random)

    @service.recoverable("fetch")
    async def call() -> None:
        if clock() < 100.0:
            raise ConnectionError
        done.append(clock())

    run_all(clock, *[call] * 50, backend=backend)
    assert len(done) == 50
    assert len(polls) <= 110  # about once a second, not once a second for each of the fifty
    assert len(set(done)) > 40
    assert max(done) - min(done) <= 50 * 0.02


def test_the_jitter_ends_before_the_time_of_a_call_does(clock: VirtualClock) -> None:
    service = Recovery(clock=clock, rng=lambda: 0.999, policy=parks(Condition("up", lambda: clock() >= 9.0)))
    began: list[float] = []

    @service.recoverable("fetch", max_elapsed=10.0)
    async def call() -> None:
        if clock() < 9.0:
            raise ConnectionError
        began.append(clock())

    run_all(clock, *[call] * 300)
    assert (len(began), max(began) <= 10.0) == (300, True)


@BACKENDS
@pytest.mark.parametrize("leaves", ["cancelled", "paused"])
def test_when_the_call_that_polls_leaves_another_polls(
    leaves: str, backend: str, service: Recovery, clock: VirtualClock
) -> None:
    host = Condition("host", lambda: clock() >= 50.0)

    async def first() -> None:
        with anyio.move_on_after(6.5 if leaves == "cancelled" else 1000.0):
            await fetch(service, host)()

    async def main() -> None:
        async with background(first, seconds=1.5):
            polls = only(service)
            if leaves == "paused":
                service.calls.pause(polls)
            await fetch(service, host)()
            assert clock() == pytest.approx(50.0, abs=1.5)
            service.calls.unpause(polls)

    clock.run(main, backend=backend)
    assert clock() == pytest.approx(50.0, abs=1.5)


def test_a_call_that_turns_to_another_condition_leaves_polling_to_others(
    service: Recovery, clock: VirtualClock
) -> None:
    a_holds = True
    a, b = Condition("a", lambda: a_holds), Condition("b", lambda: clock() >= 50.0)
    done: dict[str, float] = {}

    async def call(name: str, *until: Condition) -> None:
        await fetch(service, *until, name=name)()
        done[name] = clock()

    async def main() -> None:
        nonlocal a_holds
        async with anyio.create_task_group() as group:
            group.start_soon(call, "both", a, b)
            await anyio.sleep(10.0)
            a_holds = False
            await anyio.sleep(10.0)
            group.start_soon(call, "only b", b)
            await anyio.sleep(80.0)
            a_holds = True

    clock.run(main)
    assert done == {"only b": pytest.approx(50.0, abs=2.0), "both": pytest.approx(100.0, abs=2.0)}


def test_each_condition_is_polled_at_its_own_interval(service: Recovery, clock: VirtualClock) -> None:
    up = Condition("up", lambda: clock() >= 20.0)
    slow = Condition("slow", lambda: clock() >= 5000.0, every=3600.0)

    async def main() -> None:
        async with background(fetch(service, slow, up, name="both"), seconds=10.0):
            await fetch(service, up)()
            assert clock() == pytest.approx(20.0, abs=1.5)

    clock.run(main)


def test_the_interval_of_one_condition_does_not_delay_the_next(service: Recovery, clock: VirtualClock) -> None:
    fast = Condition("fast", lambda: clock() < 1.0 or clock() >= 100.0)
    slow = Condition("slow", lambda: clock() >= 50.0, every=3600.0)

    async def main() -> None:
        async with background(fetch(service, slow, name="slow"), fetch(service, fast, slow, name="both"), seconds=10.5):
            service.calls.look_again(slow)  # it is not met yet
            await anyio.sleep(50.0)
            service.calls.look_again(slow)  # long before its next poll

    clock.run(main)
    assert clock() == pytest.approx(100.0, abs=2.0)


@pytest.mark.slow
def test_calls_in_every_worker_thread_do_not_block_their_condition() -> None:
    service = Recovery(breaker=None)
    is_up = False
    up = Condition("up", lambda: is_up, blocks=True, every=0.01)

    def fails_while_down() -> None:
        if not is_up:
            raise ConnectionError

    async def main() -> None:
        nonlocal is_up
        plain = service.recoverable("fetch", policy=parks(up))(fails_while_down)
        with anyio.fail_after(20.0):
            async with background(fetch(service, up, name="first"), seconds=0.0), anyio.create_task_group() as group:
                while not service.calls.waiting():
                    await anyio.sleep(0)
                for _ in range(45):
                    group.start_soon(anyio.to_thread.run_sync, plain)
                while len(service.calls.waiting()) < 40:
                    await anyio.sleep(0.001)
                is_up = True

    anyio.run(main)


# Conditions that fail


def test_a_condition_that_raises_counts_as_unmet_and_is_logged_once(
    caplog: pytest.LogCaptureFixture, clock: VirtualClock
) -> None:

    def is_met() -> bool:
        if clock() < 60.0:
            raise PermissionError("no such share")
        return True

    service = Recovery(clock=clock, enable_logging=False)
    run("plain", service, Script(ConnectionError()), policy=parks(Condition("share", is_met)))
    assert clock() == pytest.approx(60.0)
    assert [record.getMessage() for record in caplog.records] == ["the condition 'share' failed; it counts as not met"]


def test_a_condition_that_raises_system_exit_is_polled_again() -> None:
    polls: list[int] = []

    def is_met() -> bool:
        polls.append(1)
        if len(polls) == 1:
            raise SystemExit
        return True

    odd = Condition("odd", is_met, blocks=True, every=0.001)
    run("plain", Recovery(), Script(ConnectionError()), policy=parks(odd, wait_timeout=10.0))
    assert len(polls) == 2


def test_without_a_thread_a_condition_counts_as_unmet_until_there_is_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Condition("disk", lambda: True, blocks=True, every=0.001)
    service = Recovery(policy=parks(disk, wait_timeout=0.01))

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without_threads:
        without_threads.setattr(threading.Thread, "start", start)
        with pytest.raises(ConnectionError, match="reset"):
            run("plain", service, Script(ConnectionError("reset")))
    assert "cannot poll the condition 'disk': can't start new thread" in caplog.text
    again = service.recoverable("again", policy=parks(disk, wait_timeout=10.0))
    assert again(Script(ConnectionError()))() == "done"


# Nothing is kept


@pytest.mark.parametrize("ends", ["met", "out of time"])
@pytest.mark.slow
def test_a_condition_is_forgotten_when_no_call_waits_for_it(ends: str, service: Recovery, clock: VirtualClock) -> None:
    kept: list[weakref.ref[Callable[[], bool]]] = []

    def park(_: FailureClassified) -> Park:
        def is_met() -> bool:
            return ends == "met" and clock() >= 5.0

        kept.append(weakref.ref(is_met))
        return Park(until=(Condition("host", is_met),), within=60.0)

    service.bus.subscribe(FailureClassified, park)
    if ends == "met":
        run("plain", service, Script(ConnectionError()))
    else:
        with pytest.raises(ConnectionError):
            run("plain", service, Script(ConnectionError()))
    gc.collect()
    assert [one() for one in kept] == [None]


def test_a_condition_of_a_deferred_call_is_forgotten_when_the_circuit_closes(
    service: Recovery, clock: VirtualClock
) -> None:
    kept: list[weakref.ref[Callable[[], bool]]] = []

    def defer(started: OperationStarted) -> Park | None:
        def is_met() -> bool:
            return False

        if started.at >= 5.0:
            return None
        kept.append(weakref.ref(is_met))
        return Park(0.0, (Condition("never", is_met),))

    service.bus.subscribe(OperationStarted, defer, operation="fetch")

    async def main() -> None:
        async with background(service.recoverable("fetch")(Script().as_async()), seconds=5.0):
            service.circuits.force("fetch", "open")
            service.circuits.force("fetch", "auto")

    clock.run(main)
    assert clock() == pytest.approx(5.0)
    gc.collect()
    assert [one() for one in kept] == [None]


class Waiting:
    """A wait that counts how often waits are compared."""

    watched: WatchedCondition | None = None
    was_unmet = False
    compared = 0

    def __eq__(self, other: object) -> bool:
        Waiting.compared += 1
        return self is other

    __hash__ = None  # type: ignore[assignment]  # a wait need not have one

    def met(self, condition: Condition, *, was_unmet: bool, extra: float) -> None: ...

    def wake(self) -> None: ...


def test_calls_leave_a_condition_without_a_search(clock: VirtualClock) -> None:
    conditions, condition = Conditions(clock, random.Random(3).random), Condition("host", lambda: False)
    waits = [Waiting() for _ in range(100)]
    for wait in waits:
        conditions.watch(wait, condition)
    for wait in reversed(waits):
        conditions.unwatch(wait)
    assert Waiting.compared == 0
