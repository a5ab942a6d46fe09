"""Parked calls: what they wait for, how often it is polled, and what the wait costs."""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from events.conditions import Condition
from events.evidence import Category
from events.operation_events import FailureClassified, GaveUp, Parked
from events.verdicts import Park
from recovery.policies.backoff import Constant
from recovery.policies.retry import RetryPolicy, Strategy
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of
from tests.recovery.waiting.parked import BACKENDS, KINDS, background, only, parks, run

BLOCKS = pytest.mark.parametrize("blocks", [False, True])
ALWAYS = Condition("always", lambda: True)


# A condition


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"name": 3}, TypeError, "name"),
        ({"name": ""}, ValueError, "name"),
        ({"is_met": True}, TypeError, "is_met"),
        ({"is_met": anyio.sleep_forever}, TypeError, "is_met"),
        ({"every": 0.0}, ValueError, "every"),
        ({"every": float("nan")}, ValueError, "every"),
        ({"every": float("inf")}, ValueError, "every"),
        ({"every": True}, TypeError, "every"),
    ],
)
def test_an_invalid_condition_is_refused_by_field(
    fields: dict[str, object], error: type[Exception], field: str
) -> None:
    with pytest.raises(error, match=f"^{field} must "):
        Condition(**{"name": "disk", "is_met": bool, **fields})  # type: ignore[arg-type]


def test_conditions_of_one_name_are_one_condition() -> None:
    one, other = Condition("disk", lambda: True), Condition("disk", lambda: False)
    assert (one == other, len({one, other}), one != Condition("port", lambda: True)) == (True, 1, True)


# The wait


@KINDS
@BLOCKS
def test_a_parked_call_waits_for_its_condition_and_uses_up_no_retry(
    kind: str, blocks: bool, service: Recovery, clock: VirtualClock
) -> None:
    parked = events_of(service, Parked)
    script = Script(*[ConnectionError()] * 3)
    disk = Condition("space on the disk", lambda: clock() >= 1000.0 * script.calls, blocks=blocks, every=10.0)
    run(kind, service, script, policy=parks(disk))
    assert (script.calls, clock()) == (4, pytest.approx(3000.0))
    assert [event.why for event in parked] == ["space on the disk"] * 3  # type: ignore[attr-defined]


def test_after_parking_a_call_still_has_its_retries(clock: VirtualClock) -> None:
    service = Recovery(clock=clock, rng=lambda: 0.0)
    full = OSError(28, "No space left on device")
    script = Script(full, full, full, ConnectionError())
    disk = Condition("space on the disk", lambda: clock() >= script.calls, every=0.5)
    strategies = {Category.ENVIRONMENT: Strategy(wait_for=(disk,), backoff=Constant(0.0))}
    assert run("plain", service, script, max_retries=1, per_category=strategies) == "done"
    assert script.calls == 5


def test_all_conditions_must_hold_at_one_time(clock: VirtualClock) -> None:
    disk = Condition("disk", lambda: clock() < 10.0 or clock() >= 200.0)
    host = Condition("host", lambda: clock() >= 100.0)
    run("plain", Recovery(clock=clock), Script(ConnectionError()), policy=parks(disk, host))
    assert clock() == pytest.approx(200.0, abs=1.5)


@KINDS
def test_a_call_is_not_parked_longer_than_its_wait_timeout(kind: str, clock: VirtualClock) -> None:
    script = Script(ConnectionError("reset"))
    with pytest.raises(ConnectionError) as caught:
        run(kind, Recovery(clock=clock), script, policy=parks(Condition("never", lambda: False), wait_timeout=30.0))
    assert (clock(), script.calls) == (pytest.approx(30.0), 1)
    assert caught.value.__notes__[0].startswith("recovery: fetch gave up after 1 attempt, out of time: ")


@KINDS
def test_a_poll_that_hangs_does_not_outlast_the_wait_timeout(kind: str) -> None:
    go_on = threading.Event()
    dead = Condition("dead share", lambda: go_on.wait(10.0), blocks=True)
    began = time.perf_counter()
    with pytest.raises(ConnectionError):
        run(kind, Recovery(breaker=None), Script(ConnectionError()), policy=parks(dead, wait_timeout=0.05))
    assert time.perf_counter() - began < 5.0
    go_on.set()


def test_a_call_can_wait_for_the_circuit_of_another_operation(service: Recovery, clock: VirtualClock) -> None:
    closed = service.circuits.closed("login")
    service.circuits.force("login", "open")
    answers: list[bool] = []

    def is_met() -> bool:
        if clock() >= 30.0:
            service.circuits.force("login", "auto")
        answers.append(bool(closed.is_met()))
        return answers[-1]

    run("plain", service, Script(ConnectionError()), policy=parks(Condition(closed.name, is_met)))
    assert (answers[0], answers[-1], clock()) == (False, True, pytest.approx(30.0))


def test_a_subscriber_can_park_a_call_until_its_own_condition_holds(service: Recovery, clock: VirtualClock) -> None:

    def disk(failure: FailureClassified) -> Park | None:
        is_full = failure.category is Category.ENVIRONMENT
        return Park(until=(Condition("disk", lambda: clock() > 500.0),)) if is_full else None

    service.bus.subscribe(FailureClassified, disk)
    script = Script(OSError(28, "No space left on device"))
    run("plain", service, script)
    assert (script.calls, clock()) == (2, pytest.approx(500.0, abs=2.0))


# Conditions that held all the time


@KINDS
@BLOCKS
def test_a_condition_that_held_all_the_time_costs_a_retry(kind: str, blocks: bool) -> None:
    service = Recovery(clock=VirtualClock(), policy=parks(Condition("disk", lambda: True, blocks=blocks)))
    gave_up = events_of(service, GaveUp)
    script = Script(*[ConnectionError()] * 99)
    with pytest.raises(ConnectionError):
        run(kind, service, script)
    assert (script.calls, [event.reason for event in gave_up]) == (2, ["out of retries (1)"])  # type: ignore[attr-defined]


def test_an_unmet_condition_of_another_call_does_not_excuse_a_failure(service: Recovery, clock: VirtualClock) -> None:
    script = Script(*[ConnectionError()] * 99)
    both = service.recoverable("both", policy=parks(ALWAYS, Condition("never", lambda: False)))
    holds = service.recoverable("holds", policy=parks(ALWAYS))(script.as_async())

    async def main() -> None:
        with anyio.move_on_after(10.0):
            async with background(both(Script(ConnectionError()).as_async()), seconds=5.0):
                with pytest.raises(ConnectionError):
                    await holds()

    clock.run(main)
    assert script.calls == 2


def test_a_pause_does_not_make_an_unmet_condition_an_unhelpful_one(service: Recovery, clock: VirtualClock) -> None:
    script = Script(*[ConnectionError()] * 3)
    host = Condition("host", lambda: clock() >= 10.0 * script.calls)

    async def main() -> None:
        async with background(service.recoverable("fetch", policy=parks(host))(script.as_async()), seconds=0.0):
            for _ in range(3):
                await anyio.sleep(5.0)
                call = only(service)
                service.calls.pause(call)
                await anyio.sleep(5.0)
                service.calls.unpause(call)

    clock.run(main)
    assert (script.calls, clock()) == (4, pytest.approx(30.0))


@pytest.mark.parametrize("parked_by", ["subscriber", "strategy"])
def test_the_retries_of_its_own_category_end_an_unhelpful_park(parked_by: str, service: Recovery) -> None:
    settings: dict[str, Any] = {"max_retries": 3}
    if parked_by == "subscriber":
        service.bus.subscribe(FailureClassified, lambda _: Park(1.0, (ALWAYS,)))
    else:
        transient = Strategy(wait_for=(ALWAYS,))
        settings["per_category"] = {Category.TRANSIENT: transient, Category.UNREACHABLE: Strategy(max_retries=None)}
    script = Script(*[ConnectionError()] * 99)
    with pytest.raises(ConnectionError):
        run("plain", service, script, **settings)
    assert script.calls == 4


@BACKENDS
def test_a_call_that_parks_without_end_lets_other_tasks_run(backend: str) -> None:
    service = Recovery(policy=RetryPolicy(max_retries=None, per_category=parks(ALWAYS).per_category))
    fetch = service.recoverable("fetch", breaker=None)(Script(*[ConnectionError()] * 9999).as_async())
    ran: list[int] = []

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(fetch)
            for turn in range(5):
                await anyio.lowlevel.checkpoint()
                ran.append(turn)
            group.cancel_scope.cancel()

    anyio.run(main, backend=backend)
    assert ran == [0, 1, 2, 3, 4]
