"""Calls that a dead process left are resumed by the next one, with their arguments, attempts and waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import anyio
import pytest

from adapters.memory import MemoryStore
from events.circuit_events import CircuitOpened
from events.errors import StaysPendingError
from events.evidence import Category
from events.operation_events import FailureClassified, GaveUp, OperationRecovered, OperationResumed, RetryScheduled
from recovery import context
from recovery.journal.store import Row
from recovery.resume.handles import Resumption
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of, names
from tests.recovery.resume.dead_process import SETTINGS, leave, leave_at, resume


async def nothing() -> None: ...


def test_a_call_is_resumed_once_with_its_arguments_its_key_and_its_checkpoint(store: MemoryStore) -> None:
    keys: list[str] = []
    leave(store, "a", 2, body=lambda: (keys.append(context.key()), context.checkpoint({"offset": 7})))
    [resumed] = resume(store, lambda *args: (args, context.key(), context.saved())).calls
    assert resumed.result == (("a", 2), keys[0], {"offset": 7})
    assert resume(store, lambda *args: None).calls == []


def test_a_resumed_call_has_only_the_retries_that_are_left(store: MemoryStore) -> None:
    leave(store, failures=1)
    seen: list[int] = []

    def work() -> None:
        seen.append(context.attempt())
        raise ConnectionError

    resumption = resume(store, work)
    assert seen == [3, 4]  # of three retries one was used by a failure, and one by the death
    assert isinstance(resumption.calls[0].error, ConnectionError)


def test_a_resumed_call_publishes_its_resumption_and_its_recovery(store: MemoryStore) -> None:
    leave(store)
    with Recovery(store=store) as service:
        events = events_of(service, OperationResumed, OperationRecovered)
        service.recoverable("work", **SETTINGS)(lambda: None)
        service.resume().wait(10.0)
    assert names(events) == ["OperationResumed", "OperationRecovered"]


# Calls that stay in the journal


def test_a_call_of_an_unknown_operation_stays_in_the_journal(store: MemoryStore) -> None:
    leave(store)
    with Recovery(store=store) as service:
        resumption = service.resume()
        resumption.wait(10.0)
        assert [record.operation for record in resumption.left] == ["work"]
    assert len(resume(store, lambda: None).calls) == 1


def test_a_call_of_another_version_stays_in_the_journal(caplog: pytest.LogCaptureFixture, store: MemoryStore) -> None:
    leave(store, version="1")
    resumption = resume(store, lambda: None, version="2")
    assert (len(resumption.calls), len(resumption.left)) == (0, 1)
    assert "version '1'" in caplog.text


def test_async_calls_stay_pending_under_a_plain_with(caplog: pytest.LogCaptureFixture, store: MemoryStore) -> None:
    leave(store)
    resumption = resume(store, nothing)
    assert (len(resumption.calls), len(resumption.left)) == (0, 1)
    assert "the function is async; resume under `async with`" in caplog.text


def test_a_call_cancelled_by_the_end_of_its_launcher_is_resumed_next_time(store: MemoryStore) -> None:
    leave(store, "a")

    async def work(_: str) -> None:
        await anyio.sleep_forever()

    async def launcher() -> None:
        async with Recovery(store=store) as service:
            service.recoverable("work", **SETTINGS)(work)
            await service.resume().loaded.opened()
            raise KeyError("a bug elsewhere")

    with pytest.raises(KeyError):
        anyio.run(launcher)
    seen: list[str] = []
    resume(store, seen.append)
    assert seen == ["a"]


def test_a_call_that_must_not_run_unwritten_stays_pending() -> None:
    class Failing(MemoryStore):
        fails = False

        async def append(self, rows: Sequence[Row]) -> None:
            if self.fails:
                raise OSError("no space left")
            await super().append(rows)

    settings = {**SETTINGS, "durability": "strict", "on_degraded": "refuse"}
    store = Failing()
    leave(store, "a", **settings)
    seen: list[str] = []
    for fails in (True,) * 5 + (False,):
        with Recovery(store=store) as service:
            service.recoverable("work", **settings)(seen.append)
            assert service.journal is not None
            service.journal.pending(10.0)
            store.fails = fails
            resumption = service.resume()
            assert resumption.wait(10.0)
            assert [type(call.error) for call in resumption.calls] == [StaysPendingError if fails else type(None)]
            store.fails = False
    assert seen == ["a"]


# Tasks and threads


@pytest.mark.anyio
async def test_the_service_waits_for_the_calls_that_it_resumes_as_tasks(store: MemoryStore) -> None:
    seen: list[str] = []
    leave(store, "a")

    async def work(argument: str) -> None:
        await anyio.sleep(0.01)
        seen.append(argument)

    async with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(work)
        service.resume()
    assert seen == ["a"]


@pytest.mark.anyio
async def test_a_resumed_call_that_fails_does_not_break_the_others(store: MemoryStore) -> None:
    leave(store, "bad")
    leave(store, "good")

    async def work(argument: str) -> str:
        if argument == "bad":
            raise ValueError(argument)
        return argument

    async with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(work)
        resumption = await service.resume()
    outcomes = {call.record.arguments: (call.result, type(call.error)) for call in resumption.calls}
    assert outcomes == {b'[["bad"],{}]': (None, ValueError), b'[["good"],{}]': ("good", type(None))}


def test_plain_calls_are_resumed_four_at_a_time(store: MemoryStore) -> None:
    for number in range(6):
        leave(store, number)
    begun, go_on = threading.Semaphore(0), threading.Event()

    def work(_: int) -> None:
        begun.release()
        go_on.wait(10.0)

    with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(work)
        resumption = service.resume()
        assert all(begun.acquire(timeout=10.0) for _ in range(4))
        assert not begun.acquire(timeout=0.01)
        go_on.set()
        assert resumption.wait(10.0)


# Asking for it


def test_threads_that_resume_at_once_get_the_same_resumption(store: MemoryStore) -> None:
    leave(store, "a")
    seen: list[str] = []
    together = threading.Barrier(4)
    with Recovery(store=store) as service, ThreadPoolExecutor(4) as threads:
        service.recoverable("work", **SETTINGS)(seen.append)

        def ask(_: int) -> Resumption:
            together.wait(10.0)
            return service.resume()

        found = list(threads.map(ask, range(4)))
        assert found[0].wait(10.0)
    assert (len(set(found)), seen) == (1, ["a"])


def test_another_function_cannot_take_over_a_resumable_name() -> None:
    service = Recovery(store=MemoryStore())
    service.recoverable("work", **SETTINGS)(test_resuming_needs_a_store)
    with pytest.raises(ValueError, match="already resumes its calls with test_resuming_needs_a_store"):
        service.recoverable("work", **SETTINGS)(nothing)


def test_resuming_needs_a_store() -> None:
    with pytest.raises(ValueError, match="without a store"):
        Recovery().resume()


# What the dead process had not decided, or not written


def test_a_call_that_died_after_its_last_failure_is_given_up(store: MemoryStore) -> None:
    leave(store, failures=3, max_retries=3)
    # A crash between the last failure and its verdict leaves one more failure, and nothing after it.
    last = [row for row in store.rows if row.kind == "FailureClassified"][-1]
    body = last.body.replace(b'"attempt":3', b'"attempt":4').replace(b'"retries":2', b'"retries":3')
    store.rows.append(Row(last.run, last.call, last.kind, body, last.number + 1))
    calls: list[int] = []
    with Recovery(store=store) as service:
        events = events_of(service, GaveUp)
        service.recoverable("work", **SETTINGS, max_retries=3)(lambda: calls.append(1))
        resumption = service.resume()
        resumption.wait(10.0)
    assert (calls, names(events)) == ([], ["GaveUp"])
    assert "out of retries" in str(resumption.calls[0].error)


class LimitedError(Exception):
    status = 429
    headers: ClassVar = {"Retry-After": "600"}


def test_a_crash_does_not_shorten_the_wait_that_a_server_asked_for(store: MemoryStore) -> None:
    clock = VirtualClock(start=time.monotonic())
    leave_at(FailureClassified, store, LimitedError(), clock=clock)
    later = VirtualClock(start=clock() + 100.0)
    resume(store, Script(), clock=later)
    assert later() >= clock() + 600.0


def test_permanent_failures_that_were_not_decided_open_no_circuit(store: MemoryStore) -> None:
    for _ in range(5):
        leave_at(FailureClassified, store, ValueError("wrong"), join=False)
    with Recovery(store=store) as service:
        gave_up, opened = events_of(service, GaveUp), events_of(service, CircuitOpened)
        service.recoverable("work", **SETTINGS)(Script())
        assert service.resume().wait(10.0)
    assert ([event.category for event in gave_up], opened) == ([Category.PERMANENT] * 5, [])  # type: ignore[attr-defined]


def test_a_call_without_a_retry_left_is_given_up(store: MemoryStore) -> None:
    leave_at(RetryScheduled, store, ConnectionError(), max_retries=3)
    script = Script()
    resume(store, script, max_retries=0)  # the policy has changed meanwhile
    assert script.calls == 0


# Commits


def test_each_attempt_of_a_resumed_call_starts_once_that_is_committed(store: MemoryStore) -> None:
    leave(store)
    seen: list[tuple[list[str], int]] = []

    def work() -> None:
        seen.append(([row.kind for row in store.rows], context.attempt()))
        if context.attempt() < 3:
            raise ConnectionError

    resume(store, work)
    assert seen[0][0][-2:] == ["OperationResumed", "OperationStarted"]
    assert [(kinds[-1], attempt) for kinds, attempt in seen] == [("OperationStarted", number) for number in (2, 3)]


def test_a_resumption_shows_how_far_it_is(store: MemoryStore) -> None:
    leave(store)
    assert repr(resume(store, lambda *_: None)) == "<Resumption: 1 calls, 1 over; 0 left, 0 quarantined>"
    assert repr(Resumption(lambda _: True)) == "<Resumption: the journal is being read>"
