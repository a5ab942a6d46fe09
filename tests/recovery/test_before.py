"""``before``: calls that wait for conditions before their first attempt."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

import anyio
import pytest

from adapters.memory import MemoryStore
from events.conditions import Condition
from events.errors import CallRejectedError
from events.operation_events import Parked, RetryScheduled
from recovery import Recovery
from recovery.testing import Script, VirtualClock
from tests.recovery.waiting.parked import KINDS, run, run_all, steered

pytestmark = pytest.mark.anyio


class Switch:
    """A cause that goes away at *at*, and how often it was looked at."""

    def __init__(self, clock: VirtualClock, at: float, *, blocks: bool = False, name: str = "server") -> None:
        self.clock, self.at, self.polls = clock, at, 0
        self.condition = Condition(name, self.is_met, blocks=blocks)

    def is_met(self) -> bool:
        self.polls += 1
        return self.clock() >= self.at


@KINDS
@pytest.mark.parametrize("blocks", [False, True])
def test_a_call_begins_when_the_conditions_hold_and_uses_no_retry(kind: str, blocks: bool) -> None:
    clock = VirtualClock()
    service, parked = Recovery(clock=clock), list[Parked]()
    service.bus.subscribe(Parked, parked.append)
    script = Script(ConnectionError())
    both = (Switch(clock, 10.0, blocks=blocks).condition, Switch(clock, 20.0, name="mount").condition)
    scheduled: list[RetryScheduled] = []
    service.bus.subscribe(RetryScheduled, scheduled.append)
    run(kind, service, script, before=both, max_retries=1, initial_delay=0.0)
    assert 20.0 <= clock() < 22.0
    assert [(event.attempt, event.why, event.category) for event in parked] == [(1, "server; mount", None)]
    assert [(event.retry, event.attempt) for event in scheduled] == [(1, 1)]


@KINDS
def test_a_call_whose_conditions_hold_begins_at_once_and_is_not_parked(kind: str) -> None:
    clock = VirtualClock()
    service, parked = Recovery(clock=clock), list[Parked]()
    service.bus.subscribe(Parked, parked.append)
    met = Switch(clock, 0.0, blocks=True)
    run(kind, service, Script(), before=met.condition)
    assert (clock(), parked, met.polls) == (0.0, [], 1)


async def test_a_condition_that_blocks_is_asked_outside_the_loop(anyio_backend_name: str) -> None:
    threads: list[str] = []
    asks = Condition("disk", lambda: threads.append(threading.current_thread().name) or True, blocks=True)
    assert await Recovery().recoverable("fetch", before=asks)(Script().as_async())() == "done"
    assert threads == ["recovery-before"]


def test_only_the_first_attempt_is_held() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    once = Switch(clock, 0.0)

    script = Script(ConnectionError())

    @service.recoverable("fetch", before=once.condition, initial_delay=1.0, jitter="none")
    def fetch() -> None:
        once.at = 1e6  # from now on the condition does not hold
        script()

    fetch()
    assert clock() == 1.0


def test_a_held_call_is_listed_and_can_be_retried_now() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)

    def act(call: str) -> None:
        [waiting] = service.calls.waiting()
        assert (waiting.attempt, waiting.retries, waiting.until) == (1, 0, ("server",))
        assert service.calls.retry_now(call, "it runs")

    assert steered(service, Script(), act, before=Switch(clock, 1e6).condition) == []
    assert clock() < 2.0


def test_a_held_call_can_be_given_up_and_counts_its_wait() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    never = Switch(clock, 1e6).condition
    settings = {"before": never, "max_elapsed": 60.0}
    [error] = steered(service, Script(), lambda call: service.calls.give_up(call, "no server"), **settings)
    assert isinstance(error, CallRejectedError)
    assert "given up by hand: no server" in str(error)
    with pytest.raises(CallRejectedError, match="out of time"):
        run("plain", service, Script(), **settings)
    assert 61.0 <= clock() < 63.0


@pytest.mark.parametrize("blocks", [False, True])
def test_another_cause_that_ends_does_not_let_a_held_call_begin(blocks: bool) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, when_open="wait")
    server = Switch(clock, 50.0, blocks=blocks)
    script = Script()
    fetch = service.recoverable("fetch", before=server.condition)(script.as_async())
    service.circuits.force("fetch", "open")

    async def closes() -> None:
        await anyio.sleep(10.0)
        service.circuits.force("fetch", "closed")

    assert run_all(clock, fetch, closes) == []
    assert 50.0 <= clock() < 52.0


def test_many_held_calls_are_parked_once_each() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    parked: list[Parked] = []
    service.bus.subscribe(Parked, parked.append)
    script = Script()
    fetch = service.recoverable("fetch", before=Switch(clock, 10.0).condition)(script.as_async())
    assert run_all(clock, *[fetch] * 20) == []
    assert (len(parked), script.calls) == (20, 20)


def test_conditions_of_one_name_are_one_condition_however_they_are_compared() -> None:
    one, same, other = (Condition(name, lambda: False) for name in ("server", "server", "disk"))
    assert [one == same, one != same, one == other, one != other] == [True, False, False, True]


async def test_held_calls_go_on_where_the_one_that_polled_for_them_is_cancelled() -> None:
    running: list[bool] = []
    server = Condition("server", lambda: running, every=0.01)
    service, script = Recovery(), Script()
    fetch = service.recoverable("fetch", before=server)(script.as_async())
    scope = anyio.CancelScope()

    async def first() -> None:
        with scope:
            await fetch()

    with anyio.fail_after(2.0):
        async with anyio.create_task_group() as group:
            for call in (first, fetch, fetch, fetch):
                group.start_soon(call)
            while len(service.calls.waiting()) < 4:
                await anyio.sleep(0.001)
            await anyio.sleep(0.05)
            scope.cancel()
            await anyio.sleep(0.02)
            running.append(True)
    assert script.calls == 3


async def test_one_poll_of_a_condition_that_blocks_serves_all_held_calls() -> None:
    running: list[bool] = []
    polls: list[bool] = []

    def is_met() -> bool:
        time.sleep(0.01)
        polls.append(bool(running))
        return polls[-1]

    service, script = Recovery(), Script()
    server = Condition("server", is_met, every=0.005, blocks=True)
    fetch = service.recoverable("fetch", before=server)(script.as_async())
    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(fetch)
        while len(service.calls.waiting()) < 10:
            await anyio.sleep(0.001)
        running.append(True)
    assert script.calls == 10
    assert polls.count(True) <= 2


def test_a_held_call_is_resumed_and_held_again_after_a_restart() -> None:
    store = MemoryStore()
    never = Condition("server", lambda: False)
    with Recovery(store=store) as service:
        fetch = service.recoverable("fetch", resumable=True, before=never)(lambda path: None)
        thread = threading.Thread(target=lambda: _silently(fetch, "a"), daemon=True)
        thread.start()
        while not service.calls.waiting():
            time.sleep(0.001)
    done: list[str] = []
    with Recovery(store=store) as service:
        service.recoverable("fetch", resumable=True, before=Condition("server", lambda: True))(done.append)
        resumption = service.resume()
        resumption.wait(5.0)
    assert done == ["a"]


def _silently(function: Any, *args: Any) -> None:
    with suppress(Exception):
        function(*args)


def test_a_function_without_it_is_not_observed() -> None:
    service = Recovery()
    service.recoverable("held", before=Condition("server", lambda: True))(lambda: None)
    fetch = service.recoverable("fetch")(lambda: None)
    assert fetch.recovery.operation.observed.is_on is False


def test_what_is_no_condition_is_refused() -> None:
    service = Recovery()
    with pytest.raises(TypeError, match="before must be a Condition, or several in a list or tuple, not True"):
        service.recoverable("fetch", before=True)(lambda: None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="before needs a function to wrap"):
        service.operation("fetch", before=Condition("server", lambda: True))
