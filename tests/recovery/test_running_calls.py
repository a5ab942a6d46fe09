"""Calls that run: they are listed, cancelled, reset and edited by their id."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.memory import MemoryStore
from adapters.sqlite.command_inbox import send_command
from adapters.sqlite.store import SQLiteStore
from events import (
    CallCancelledError,
    CallSteered,
    Event,
    GaveUp,
    OperationCancelled,
    OperationSucceeded,
    RetryScheduled,
)
from recovery import Recovery, RetryPolicy, WaitingCall, context
from recovery.conditions import Condition
from recovery.execution.steering import RunningCall
from recovery.journal.store import Command
from recovery.policies.backoff import Constant
from recovery.policies.retry import Strategy
from recovery.resume.commands import ASKED
from recovery.testing import VirtualClock
from tests.until import wait_until

HOUR = RetryPolicy(backoff=Constant(3600.0), jitter="none", max_retries=1)
JOURNALLED: dict[str, Any] = {"resumable": True, "policy": HOUR}

on_both = pytest.mark.anyio


def events_of(service: Recovery, *kinds: type[Event]) -> list[Any]:
    found: list[Any] = []
    service.bus.subscribe(kinds, found.append)
    return found


def service_with_journal() -> Recovery:
    return Recovery(store=MemoryStore(), enable_logging=False)


@contextmanager
def in_thread(function: Callable[..., Any], *args: Any) -> Iterator[Any]:
    """The future of *function*, which runs on another thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(function, *args)


class Running:
    """A task that makes a call, and what the call gave."""

    def __init__(self) -> None:
        self.result: Any = None
        self.error: BaseException | None = None


@asynccontextmanager
async def in_task(service: Recovery, function: Callable[..., Any], *args: Any) -> AsyncIterator[Running]:
    """Make the call in a task of its own, which must go on after it, until it runs or waits."""
    made, ended = Running(), anyio.Event()

    async def run() -> None:
        try:
            made.result = await function(*args)
        except Exception as error:
            made.error = error
        await anyio.sleep(0)  # raises if the task itself is cancelled
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        with anyio.fail_after(5.0):
            while not (service.calls.running() or service.calls.waiting()):
                await anyio.sleep(0.001)
        await anyio.sleep(0.001)
        yield made
        with anyio.fail_after(5.0):
            await ended.wait()


def only(service: Recovery) -> str:
    [call] = service.calls.running()
    return call.call


# list


def test_a_call_that_runs_is_listed_with_how_far_it_has_come():
    clock = VirtualClock(100.0)
    service = Recovery(store=MemoryStore(), clock=clock, enable_logging=False)
    seen: list[RunningCall] = []

    @service.recoverable(
        "copy", resumable=True, key=lambda path: path[:1], max_retries=1, initial_delay=2.0, jitter="none"
    )
    def copy(path: str) -> None:
        clock.advance(5.0)
        context.progress(3.5)
        context.checkpoint({"at": 7})
        seen.extend(service.calls.running())
        if context.attempt() == 1:
            raise ConnectionError

    with service:
        copy("models")
        assert service.calls.running() == []
    [first, second] = seen
    assert first == RunningCall(
        call=first.call,
        operation="copy",
        key="m",
        attempt=1,
        elapsed=5.0,
        done=3.5,
        saved=b'{"at":7}',
        arguments=b'[["models"],{}]',
    )
    assert (second.call, second.attempt, second.retries, second.elapsed) == (first.call, 2, 1, 12.0)


@on_both
async def test_a_call_that_waits_is_not_listed_as_running(anyio_backend_name: str):
    service = Recovery(policy=HOUR, enable_logging=False)

    @service.recoverable("fetch", key=str)
    async def fetch(host: str) -> None:
        if context.attempt() == 1:
            raise ConnectionError
        await anyio.sleep_forever()

    async with in_task(service, fetch, "a"):
        assert service.calls.running() == []
        [waiting] = service.calls.waiting()
        service.calls.retry_now(waiting.call)
        await anyio.wait_all_tasks_blocked()
        [running] = service.calls.running()
        assert (running.call, running.attempt, running.is_async) == (waiting.call, 2, True)
        assert service.calls.waiting() == []
        service.calls.cancel(running.call)


def test_a_block_that_runs_is_listed():
    service = Recovery(enable_logging=False)
    for attempt in service.attempts("block", progress_resets=1):
        with attempt:
            [running] = service.calls.running()
            assert (running.call, running.operation) == (attempt.call, "block")
    assert service.calls.running() == []


# cancel


@on_both
async def test_an_async_call_is_cancelled_where_it_awaits(anyio_backend_name: str):
    service, cleaned = service_with_journal(), []
    steered = events_of(service, CallSteered)
    ends = events_of(service, OperationCancelled, GaveUp, OperationSucceeded)

    @service.recoverable("fetch", **JOURNALLED)
    async def fetch() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.append(True)

    async with service, in_task(service, fetch) as made:
        call = only(service)
        assert service.calls.cancel(call, "no room") == "cancelled"
    assert isinstance(made.error, CallCancelledError)
    assert str(made.error).endswith(f"fetch: call {call} was cancelled by hand: no room")
    assert cleaned == [True]
    assert [(event.command, event.reason, event.attempt) for event in steered] == [("cancel", "no room", 1)]
    assert [type(event) for event in ends] == [OperationCancelled]
    assert service.calls.cancel(call) == ""


@on_both
async def test_every_caller_that_joined_learns_of_the_cancellation(anyio_backend_name: str):
    service, began = service_with_journal(), []

    @service.recoverable("fetch", **JOURNALLED)
    async def fetch() -> None:
        began.append(True)
        await anyio.sleep_forever()

    async with service, in_task(service, fetch) as one, in_task(service, fetch) as other:
        assert service.calls.joining() == 1
        service.calls.cancel(only(service))
    assert isinstance(one.error, CallCancelledError)
    assert isinstance(other.error, CallCancelledError)
    assert began == [True]


@on_both
async def test_a_call_is_cancelled_from_another_thread_and_once(anyio_backend_name: str):
    service = Recovery(enable_logging=False)

    @service.recoverable("fetch", progress_resets=1)
    async def fetch() -> str:
        with anyio.move_on_after(0):
            await anyio.sleep_forever()
        await anyio.sleep_forever()
        return "done"

    async with in_task(service, fetch) as made:
        call = only(service)
        answers = [await anyio.to_thread.run_sync(service.calls.cancel, call) for _ in range(2)]
        assert answers[0] == "cancelled"
    assert isinstance(made.error, CallCancelledError)


def test_a_function_that_swallows_its_cancellation_succeeds_and_leaves_its_task_whole():
    service = Recovery(enable_logging=False)

    @service.recoverable("fetch", progress_resets=1)
    async def fetch() -> str:
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            return "saved"
        return "done"

    async def main() -> tuple[str, int]:
        asyncio.get_running_loop().call_later(0.001, lambda: service.calls.cancel(only(service)))
        result = await fetch()
        task = asyncio.current_task()
        assert task is not None
        return result, task.cancelling()

    assert asyncio.run(main()) == ("saved", 0)


def test_a_cancellation_of_the_whole_task_is_not_taken_for_one_of_the_call():
    service = Recovery(enable_logging=False)

    @service.recoverable("fetch", progress_resets=1)
    async def fetch() -> None:
        await asyncio.sleep(60.0)

    async def main() -> bool:
        task = asyncio.ensure_future(fetch())
        await asyncio.sleep(0.001)
        service.calls.cancel(only(service))
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())


def test_a_plain_call_is_asked_and_not_retried():
    service, began = service_with_journal(), threading.Event()
    ends = events_of(service, OperationCancelled, GaveUp)

    @service.recoverable("copy", **JOURNALLED)
    def copy() -> None:
        began.set()
        wait_until(context.cancelled)
        raise ConnectionError("stopped between two blocks")

    with service, in_thread(copy) as made:
        assert began.wait(5.0)
        call = only(service)
        assert not [one for one in service.calls.running() if one.is_cancelled]
        assert service.calls.cancel(call) == "asked"
        assert isinstance(made.exception(5.0), ConnectionError)
    assert [(type(event), event.call) for event in ends] == [(OperationCancelled, call)]


@on_both
async def test_a_waiting_call_is_cancelled_in_its_wait(anyio_backend_name: str):
    service = Recovery(policy=HOUR, enable_logging=False)
    ends = events_of(service, OperationCancelled, GaveUp)

    async def fetch() -> None:
        raise ConnectionError

    for settings in ({}, {"key": lambda: "a"}):
        async with in_task(service, service.recoverable(str(len(settings)), **settings)(fetch)) as made:  # type: ignore[arg-type]  # settings of two kinds
            [waiting] = service.calls.waiting()
            assert service.calls.cancel(waiting.call) == "cancelled"
        assert isinstance(made.error, CallCancelledError)
    assert [(type(event), event.waiting) for event in ends] == [(OperationCancelled, True)] * 2


def test_a_plain_call_is_cancelled_in_its_wait():
    service = Recovery(policy=HOUR, enable_logging=False)

    @service.recoverable("fetch")
    def fetch() -> None:
        raise ConnectionError

    with in_thread(fetch) as made:
        wait_until(service.calls.waiting)
        [waiting] = service.calls.waiting()
        assert service.calls.cancel(waiting.call) == "cancelled"
        assert isinstance(made.exception(5.0), CallCancelledError)


def test_an_outer_call_does_not_retry_a_cancelled_one():
    service, outer_attempts = Recovery(policy=HOUR, enable_logging=False), []

    @service.recoverable("inner")
    def inner() -> None:
        raise ConnectionError

    @service.recoverable("outer")
    def outer() -> None:
        outer_attempts.append(True)
        inner()

    with in_thread(outer) as made:
        wait_until(service.calls.waiting)
        service.calls.cancel(service.calls.waiting()[0].call)
        assert isinstance(made.exception(5.0), CallCancelledError)
    assert outer_attempts == [True]


def test_a_call_that_is_cancelled_as_it_begins_to_wait_does_not_wait():
    service = Recovery(policy=HOUR, enable_logging=False)

    @service.recoverable("fetch", progress_resets=1)
    def fetch() -> None:
        raise ConnectionError

    def cancel(event: RetryScheduled) -> None:  # the wait begins when every subscriber knows of it
        assert service.calls.cancel(event.call) == "asked"

    service.bus.subscribe(RetryScheduled, cancel)
    with in_thread(fetch) as made:
        assert isinstance(made.exception(5.0), CallCancelledError)


# reset and edit


def retried(clock: VirtualClock, steer: Callable[[Recovery, WaitingCall], object], **settings: Any) -> list[float]:
    """The times of the attempts of a call that fails for ever, where *steer* is told of its first wait."""
    service, attempts, has_steered = Recovery(clock=clock, enable_logging=False), list[float](), list[bool]()

    @service.recoverable("fetch", initial_delay=10.0, backoff_factor=1.0, jitter="none", **settings)
    async def fetch() -> None:
        attempts.append(clock())
        raise ConnectionError

    async def main() -> None:
        async with in_task(service, swallowed):
            while not has_steered:
                await anyio.sleep(5.0)
                has_steered.extend(True for call in service.calls.waiting() if steer(service, call))
            await anyio.sleep(3600.0)

    async def swallowed() -> None:
        with pytest.raises(ConnectionError):
            await fetch()

    clock.run(main)
    assert has_steered == [True]
    return attempts


def test_reset_gives_all_retries_back():
    assert len(retried(VirtualClock(), lambda service, call: call is not None, max_retries=2)) == 3
    assert len(retried(VirtualClock(), lambda service, call: service.calls.reset(call.call), max_retries=2)) == 3

    def later(service: Recovery, call: WaitingCall) -> bool:
        return call.attempt == 3 and service.calls.reset(call.call)

    assert len(retried(VirtualClock(), later, max_retries=2)) == 4


def test_reset_begins_the_time_of_a_call_again():
    assert retried(VirtualClock(), lambda service, call: call is not None, max_elapsed=25.0) == [0.0, 10.0, 20.0]
    times = retried(VirtualClock(), lambda service, call: service.calls.reset(call.call), max_elapsed=25.0)
    assert times == [0.0, 10.0, 20.0, 30.0]


def test_edit_changes_what_a_waiting_call_decides_with():
    def edit(service: Recovery, call: WaitingCall) -> bool:
        steered = events_of(service, CallSteered)
        done = service.calls.edit(call.call, "the host needs longer", max_retries=4, initial_delay=20.0)
        [event] = steered
        assert (event.command, event.reason) == ("edit", "the host needs longer")
        assert event.changes == "max_retries=4, initial_delay=20.0"
        return done

    times = retried(VirtualClock(), edit, max_retries=1)
    assert times == [0.0, 10.0, 30.0, 50.0, 70.0]


@pytest.mark.parametrize(("most", "times"), [(None, 9), (15.0, 2), (45.0, 5)])
def test_edit_changes_how_long_a_call_may_take(most: float | None, times: int):
    def edit(service: Recovery, call: WaitingCall) -> bool:
        return service.calls.edit(call.call, max_elapsed=most)

    assert len(retried(VirtualClock(), edit, max_elapsed=25.0, max_retries=8)) == times


@pytest.mark.parametrize(("most", "times"), [(None, 3), (200.0, 3), (50.0, 1)])
def test_edit_changes_how_long_a_waiting_call_may_take(most: float | None, times: int):
    clock, attempts = VirtualClock(), list[float]()
    service = Recovery(clock=clock, enable_logging=False)
    patient = Strategy(wait_for=(Condition("room", lambda: clock() > 150.0),), backoff=Constant(0.0))

    @service.recoverable("fetch", max_elapsed=100.0, per_category={"transient": patient})
    async def fetch() -> None:
        attempts.append(clock())
        if len(attempts) < 3:
            raise ConnectionError

    async def swallowed() -> None:
        with suppress(ConnectionError):
            await fetch()

    async def main() -> None:
        async with in_task(service, swallowed):
            [waiting] = service.calls.waiting()
            assert service.calls.edit(waiting.call, max_elapsed=most)
            await anyio.sleep(400.0)

    clock.run(main)
    assert len(attempts) == times


def test_a_running_call_is_edited_and_reset():
    clock = VirtualClock()
    service, attempts = Recovery(clock=clock, enable_logging=False), []

    @service.recoverable("fetch", progress_resets=1, max_retries=0, initial_delay=1.0)
    def fetch(host: str) -> None:
        attempts.append(host)
        [running] = service.calls.running()
        if len(attempts) == 1:
            assert service.calls.edit(running.call, max_retries=2)
        if len(attempts) == 3:
            assert service.calls.reset(running.call)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        fetch("a")
    assert len(attempts) == 5


def test_the_journal_knows_that_a_call_stays_paused_and_has_its_retries_back():
    service = Recovery(store=MemoryStore(), policy=HOUR, enable_logging=False)

    @service.recoverable("fetch")
    def fetch() -> None:
        raise ConnectionError

    with service, in_thread(fetch) as made:
        wait_until(service.calls.waiting)
        [waiting] = service.calls.waiting()
        assert service.calls.pause(waiting.call)
        assert service.calls.edit(waiting.call, max_retries=5)
        assert service.calls.reset(waiting.call)
        record = service.calls.find(waiting.call)
        assert record is not None
        assert (record.state, record.paused_at is None, record.elapsed) == ("waiting", False, 0.0)
        service.calls.cancel(waiting.call)
        assert isinstance(made.exception(5.0), CallCancelledError)
        record = service.calls.find(waiting.call)
        assert record is not None
        assert record.state == "cancelled"


def test_a_block_is_edited():
    clock = VirtualClock()
    service, attempts = Recovery(clock=clock, enable_logging=False), []
    with pytest.raises(ConnectionError):
        for attempt in service.attempts("block", progress_resets=1, max_retries=0, initial_delay=1.0):
            with attempt:
                attempts.append(attempt.number)
                assert service.calls.edit(attempt.call, max_retries=2)
                raise ConnectionError
    assert attempts == [1, 2, 3]


def test_an_edit_that_cannot_be_kept_is_refused_and_changes_nothing():
    service = Recovery(enable_logging=False)
    steered = events_of(service, CallSteered)

    @service.recoverable("fetch", progress_resets=1)
    def fetch(host: str) -> None:
        [running] = service.calls.running()
        for wrong, settings in (
            (TypeError, {"max_retrys": 3}),
            (TypeError, {"key": str}),
            (TypeError, {"fallback": 0}),
            (ValueError, {"max_retries": -1}),
            (ValueError, {"attempt_timeout": 3.0}),
        ):
            with pytest.raises(wrong):
                service.calls.edit(running.call, **settings)  # type: ignore[arg-type]  # that is the point

    fetch("a")
    assert steered == []
    assert not service.calls.edit("unknown", max_retries=3)
    assert not service.calls.reset("unknown")
    assert service.calls.cancel("unknown") == ""


# commands of other processes


def test_commands_reach_calls_that_run(tmp_path: Path):
    path, began, may_end = tmp_path / "journal.db", threading.Event(), threading.Event()
    service = Recovery(store=SQLiteStore(path), enable_logging=False)

    @service.recoverable("copy", **JOURNALLED)
    def copy() -> str:
        began.set()
        wait_until(context.cancelled)
        assert may_end.wait(5.0)
        return "stopped"

    with service, in_thread(copy) as made:
        assert began.wait(5.0)
        call = only(service)
        commands = [
            Command("edit", call, changes={"max_retries": 7}),
            Command("edit", call, changes={"max_retries": -7}),
            Command("reset", call),
            Command("cancel", call, "no room"),
        ]
        with ThreadPoolExecutor(4) as pool:
            answers = [*pool.map(lambda command: send_command(path, command, timeout=5.0), commands)]
        may_end.set()
        assert made.result(5.0) == "stopped"
    said = [
        answer.said if answer and answer.is_done is (number != 1) else None for number, answer in enumerate(answers)
    ]
    assert said == [
        "from its next failure on it decides with max_retries=7",
        "max_retries must be at least 0, not -7",
        "its retries and its time begin again",
        ASKED,
    ]
