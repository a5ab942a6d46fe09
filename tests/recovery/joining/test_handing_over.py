"""What goes with a call from one caller to the next, and what each caller gets of its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.memory import MemoryStore
from adapters.sqlite.store import SQLiteStore
from events.errors import CallRejectedError, StaysPendingError
from events.operation_events import OperationInterrupted, OperationResumed, RetryScheduled
from recovery import context
from recovery.journal.store import Row
from recovery.service import Recovery
from recovery.testing import VirtualClock
from tests.recorded_events import events_of
from tests.recovery.joining.callers import Body, in_thread, joined
from tests.recovery.resume.dead_process import SETTINGS, Killed, kill_at, leave

STRICT: dict[str, Any] = {**SETTINGS, "durability": "strict"}


class Interrupt(BaseException):
    """Ends the caller that runs the body, as Ctrl-C does."""


@pytest.fixture
def service() -> Any:
    with Recovery(store=MemoryStore()) as one:
        yield one


class Gated(MemoryStore):
    """A store whose commits wait, or fail, from the moment the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False
        self.go_on = threading.Event()
        self.go_on.set()

    async def append(self, rows: Sequence[Row]) -> None:
        if self.fails:
            raise OSError("no space left")
        assert self.go_on.wait(10.0)
        await super().append(rows)


async def until(is_true: Callable[[], object]) -> None:
    with anyio.fail_after(5.0):
        while not is_true():
            await anyio.sleep(0.001)


# The end


def test_an_outer_call_of_the_same_operation_does_not_retry_what_another_caller_has_exhausted(
    service: Recovery,
) -> None:
    body, numbers = Body(*[ConnectionError("reset")] * 4), list[int]()

    def work(number: int) -> object:
        numbers.append(number)
        return body() if number == 0 else work(number - 1)

    work = service.recoverable("work", resumable=True, max_retries=1, initial_delay=0.0)(work)
    first = in_thread(work, 0)  # in no other call
    body.begun.acquire()
    second = in_thread(work, 1)
    joined(service, 1)
    body.go_on.set()
    assert isinstance(first.exception(10.0), ConnectionError)
    assert isinstance(second.exception(10.0), ConnectionError)
    assert sorted(numbers) == [0, 0, 1]


@pytest.mark.anyio
async def test_the_traceback_of_an_error_does_not_grow_with_the_callers() -> None:
    errors, go_on = list[Exception](), anyio.Event()

    async with Recovery(store=MemoryStore()) as service:

        @service.recoverable("work", resumable=True)
        async def work() -> None:
            await go_on.wait()
            raise ValueError("wrong")

        async def ask() -> None:
            try:
                await work()
            except ValueError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(ask)
            await until(lambda: service.calls.joining() == 4)
            go_on.set()
    names, traceback = list[str](), errors[0].__traceback__
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert len({id(error) for error in errors}) == 1
    assert (names.count("ask"), names.count("work")) == (1, 1)


@pytest.mark.anyio
async def test_a_caller_that_is_cancelled_after_the_body_leaves_its_result_to_the_others() -> None:
    store, runs, go_on, results = Gated(), list[int](), anyio.Event(), list[str]()
    async with Recovery(store=store) as service:

        @service.recoverable("work", **STRICT)
        async def work() -> str:
            runs.append(1)
            await go_on.wait()
            store.go_on.clear()  # its caller waits for the commit of its end
            return "done"

        async def ask(scope: anyio.CancelScope) -> None:
            with scope:
                results.append(await work())

        first, second = anyio.CancelScope(), anyio.CancelScope()
        async with anyio.create_task_group() as group:
            group.start_soon(ask, first)
            await until(lambda: runs)
            group.start_soon(ask, second)
            await until(lambda: service.calls.joining() == 1)
            go_on.set()
            await until(lambda: not store.go_on.is_set())
            first.cancel()
            await until(lambda: results)
            store.go_on.set()
    assert (runs, results, first.cancelled_caught) == ([1], ["done"], True)


# From one caller to the next


def test_a_call_that_is_handed_over_has_all_its_retries(service: Recovery) -> None:
    body, attempts = Body(Interrupt(), ConnectionError("reset"), "done"), list[int]()

    def work() -> object:
        attempts.append(context.attempt())
        return body()

    work = service.recoverable("work", resumable=True, max_retries=1, initial_delay=0.0)(work)
    first = in_thread(work)
    body.begun.acquire()
    second = in_thread(work)
    joined(service, 1)
    body.go_on.set()
    assert isinstance(first.exception(10.0), Interrupt)
    assert (second.result(10.0), attempts) == ("done", [1, 1, 2])


@pytest.mark.anyio
async def test_a_wait_outlives_a_caller_that_is_cancelled_before_it_has_gone_on(tmp_path: Path) -> None:
    path, settings = tmp_path / "calls.db", {**SETTINGS, "initial_delay": 60.0, "jitter": "none"}

    async def fail() -> None:
        raise ConnectionError("reset")

    async with Recovery(store=SQLiteStore(path)) as service:
        kill_at(service, RetryScheduled)
        with pytest.raises(Killed):
            await service.recoverable("work", **settings)(fail)()

    async with Recovery(store=SQLiteStore(path)) as service, anyio.create_task_group() as group:
        resumed = events_of(service, OperationResumed)
        work = service.recoverable("work", **settings)(fail)

        async def ask(scope: anyio.CancelScope) -> None:
            with scope:
                await work()

        scopes = [anyio.CancelScope() for _ in range(3)]
        group.start_soon(ask, scopes[0])
        await until(service.calls.waiting)
        for number in (1, 2):
            group.start_soon(ask, scopes[number])
            await until(lambda number=number: service.calls.joining() == number)
        scopes[0].cancel()
        await until(lambda: service.calls.joining() == 1)
        scopes[1].cancel()  # it asks the journal what other processes made of the call
        await until(lambda: service.calls.joining() == 0 and service.calls.waiting())
        [waiting] = service.calls.waiting()
        assert (waiting.attempt, 30.0 < waiting.left <= 60.0, len(resumed)) == (2, True, 1)
        group.cancel_scope.cancel()


# From one process to the next


def test_the_seconds_of_an_earlier_process_count_for_max_elapsed() -> None:
    store, clock, attempts = MemoryStore(), VirtualClock(start=time.monotonic()), list[int]()
    settings = {"max_elapsed": 60.0, "initial_delay": 10.0, "jitter": "none", "max_retries": None}

    def fail() -> None:
        attempts.append(context.attempt())
        clock.advance(30.0)
        raise ConnectionError("reset")

    with Recovery(store=store, clock=clock) as service, pytest.raises(Killed):
        kill_at(service, RetryScheduled)
        service.recoverable("work", **{**SETTINGS, **settings})(fail)()
    with Recovery(store=store, clock=clock) as service, pytest.raises(ConnectionError):
        service.recoverable("work", **{**SETTINGS, **settings})(fail)()
    assert attempts == [1, 2]  # 30 s, a wait of 10 s, 30 s: no time is left


def test_a_call_that_may_not_run_unwritten_stays_pending_for_its_next_caller() -> None:
    store, settings = Gated(), {**STRICT, "on_degraded": "refuse"}
    leave(store, "a", body=lambda: context.checkpoint(21), **settings)
    with Recovery(store=store) as service:
        work = service.recoverable("work", **settings)(lambda _: context.saved())
        assert service.journal is not None
        service.journal.pending(10.0)
        store.fails = True
        resumption = service.resume()
        assert resumption.wait(10.0)
        assert isinstance(resumption.calls[0].error, StaysPendingError)
        store.fails = False
        deadline = time.monotonic() + 10.0
        while service.journal.reason is not None and time.monotonic() < deadline:
            threading.Event().wait(0.005)
        assert work("a") == 21


# The service closes


def test_a_call_that_none_can_join_is_interrupted_when_the_service_closes() -> None:
    body = Body()
    with Recovery(store=MemoryStore()) as service:
        interrupted = events_of(service, OperationInterrupted)
        work = service.recoverable("work", resumable=True, join=False)(lambda: body())
        call = in_thread(work)
        body.begun.acquire()
    assert len(interrupted) == 1
    body.go_on.set()
    assert call.result(10.0) == 1


# Circles


@pytest.mark.anyio
async def test_a_circle_of_three_calls_is_refused_and_named() -> None:
    inside, errors, works = list[str](), list[Exception](), dict[str, Any]()
    async with Recovery(store=MemoryStore()) as service:

        def define(name: str, asks_for: str) -> None:
            async def body() -> None:
                inside.append(name)
                await until(lambda: len(inside) == 3)
                await works[asks_for]()

            works[name] = service.recoverable(name, resumable=True, max_retries=0)(body)

        for name, asks_for in ("ab", "bc", "ca"):
            define(name, asks_for)

        async def ask(name: str) -> None:
            try:
                await works[name]()
            except CallRejectedError as error:
                errors.append(error)

        with anyio.fail_after(5.0):
            async with anyio.create_task_group() as group:
                for name in works:
                    group.start_soon(ask, name)
    assert (len(errors), str(errors[0]).count(" -> ")) == (3, 3)


@pytest.mark.anyio
async def test_a_caller_that_waits_no_longer_closes_no_circle() -> None:
    begun, has_left, results = anyio.Event(), anyio.Event(), list[str]()
    async with Recovery(store=MemoryStore()) as service:

        @service.recoverable("a", resumable=True, max_retries=0)
        async def a() -> str:
            with anyio.move_on_after(0.01):
                await b()
            has_left.set()
            await until(lambda: service.calls.joining() == 1)
            return "done"

        @service.recoverable("b", resumable=True, max_retries=0)
        async def b() -> str:
            begun.set()
            await has_left.wait()
            return await a()

        async def ask() -> None:
            results.append(await b())

        with anyio.fail_after(5.0):
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await begun.wait()
                group.start_soon(a)
    assert results == ["done"]
