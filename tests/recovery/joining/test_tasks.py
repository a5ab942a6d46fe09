"""Start or join in tasks of asyncio and trio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from adapters.memory import MemoryStore
from events.operation_events import OperationCancelled, OperationInterrupted, RetryScheduled
from recovery import context
from recovery.service import Recovery
from recovery.testing import Script
from tests.recorded_events import events_of, names

pytestmark = pytest.mark.anyio


@pytest.fixture
async def service() -> AsyncIterator[Recovery]:
    async with Recovery(store=MemoryStore()) as one:
        yield one


async def settled(service: Recovery, count: int) -> None:
    await until(lambda: service.calls.joining() == count)


async def until(is_true: Callable[[], object]) -> None:
    with anyio.fail_after(5.0):
        while not is_true():
            await anyio.sleep(0.001)


async def test_d16_an_equal_call_joins_the_one_that_runs(service: Recovery) -> None:
    runs, go_on, results = [], anyio.Event(), []

    @service.recoverable("work", resumable=True)
    async def work(number: int, upto: int = 9) -> list[int]:
        runs.append(number)
        await go_on.wait()
        return [number, upto]

    async def ask(*args: int) -> None:
        results.append(await work(*args))

    async with anyio.create_task_group() as group:
        for args in ((1,), (1, 9), (1,)):
            group.start_soon(ask, *args)
        await settled(service, 2)
        go_on.set()
    assert (runs, len(results)) == ([1], 3)
    assert results[0] is results[1] is results[2]


async def test_a_waiting_caller_that_is_cancelled_just_leaves(service: Recovery) -> None:
    go_on, results = anyio.Event(), []
    events = events_of(service, OperationCancelled, OperationInterrupted)

    begun = anyio.Event()

    @service.recoverable("work", resumable=True)
    async def work() -> str:
        begun.set()
        await go_on.wait()
        return "done"

    async def ask() -> None:
        results.append(await work())

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await begun.wait()
        async with anyio.create_task_group() as others:
            others.start_soon(ask)
            await settled(service, 1)
            others.cancel_scope.cancel()
        go_on.set()
    assert (results, events) == (["done"], [])


@pytest.mark.parametrize("leaves", [0, 1])
async def test_the_longest_waiting_caller_goes_on_from_the_checkpoint(leaves: int, service: Recovery) -> None:
    seen: list[tuple[int, Any]] = []
    go_on, results = anyio.Event(), []
    events = events_of(service, OperationCancelled, OperationInterrupted)

    @service.recoverable("work", resumable=True, max_retries=0)
    async def work() -> str:
        seen.append((context.attempt(), context.saved()))
        context.checkpoint(len(seen) * 21)
        await go_on.wait()
        return "done"

    async def ask(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            results.append((name, await work()))

    scopes = [anyio.CancelScope() for _ in range(3)]
    async with anyio.create_task_group() as group:
        for number, scope in enumerate(scopes):
            group.start_soon(ask, "abc"[number], scope)
            await settled(service, number)
            await until(lambda: len(seen) == 1)
        for scope in scopes[: 1 + leaves]:
            scope.cancel()
        await settled(service, 1 - leaves)
        await until(lambda: len(seen) > 1)
        go_on.set()
    assert seen[:2] == [(1, None), (1, 21)]
    assert sorted(results) == [("b", "done"), ("c", "done")][leaves:]
    assert OperationCancelled not in [type(event) for event in events]


async def test_a_call_is_cancelled_once_the_last_caller_is(service: Recovery) -> None:
    events = events_of(service, OperationCancelled, OperationInterrupted)

    begun = anyio.Event()

    @service.recoverable("work", resumable=True)
    async def work() -> None:
        begun.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await begun.wait()
        group.start_soon(work)
        await settled(service, 1)
        group.cancel_scope.cancel()
    assert names(events).count("OperationCancelled") == 1
    assert service.calls.joining() == 0


async def test_the_wait_before_a_retry_goes_on_with_the_next_caller(service: Recovery) -> None:
    script, results = Script(ConnectionError("reset"), "page"), []
    scheduled = events_of(service, RetryScheduled)
    fetch = service.recoverable("fetch", resumable=True, max_retries=1, initial_delay=0.3, jitter="none")(
        script.as_async()
    )

    async def ask(scope: anyio.CancelScope) -> None:
        with scope:
            results.append(await fetch())

    first, second = anyio.CancelScope(), anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(ask, first)
        await until(service.calls.waiting)
        began = anyio.current_time()
        group.start_soon(ask, second)
        await settled(service, 1)
        await anyio.sleep(0.1)
        first.cancel()
        await until(lambda: results)
        waited = anyio.current_time() - began
    assert (results, script.calls, len(scheduled)) == (["page"], 2, 1)  # one retry, and one delay
    assert 0.2 < waited < 0.9


async def test_the_next_caller_gets_the_error_where_the_wait_that_it_took_over_is_given_up(service: Recovery) -> None:
    error = ConnectionError("reset")
    fetch = service.recoverable("fetch", resumable=True, initial_delay=60.0, jitter="none")(Script(error).as_async())
    raised: list[Exception] = []

    async def ask(scope: anyio.CancelScope) -> None:
        with scope:
            try:
                await fetch()
            except Exception as one:
                raised.append(one)

    first, second = anyio.CancelScope(), anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(ask, first)
        await until(service.calls.waiting)
        group.start_soon(ask, second)
        await settled(service, 1)
        first.cancel()
        await settled(service, 0)
        await until(lambda: [service.calls.give_up(one.call) for one in service.calls.waiting()])
        await until(lambda: raised)
    assert raised == [error]
    assert error.__notes__[0].startswith("recovery: fetch gave up after 1 attempt, given up by hand: ")


async def test_a_task_that_outlives_the_body_it_began_in_joins_like_any_other(service: Recovery) -> None:
    runs, go_on, results = [], anyio.Event(), []

    async with anyio.create_task_group() as group:

        async def later() -> None:
            results.append(await work())

        @service.recoverable("work", resumable=True)
        async def work() -> int:
            runs.append(1)
            if len(runs) == 1:
                group.start_soon(wait_and, later)
            else:
                await go_on.wait()
            return len(runs)

        async def wait_and(function: Any) -> None:
            await over.wait()
            await function()

        over = anyio.Event()
        await work()
        group.start_soon(later)  # the second run
        await until(lambda: len(runs) == 2)
        over.set()
        await settled(service, 1)
        go_on.set()
    assert (len(runs), results) == (2, [2, 2])
