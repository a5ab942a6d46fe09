"""Floods of calls before a slow or hanging store, in threads, asyncio and trio (D7)."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Any

import anyio
import pytest

from adapters.memory import MemoryStore
from recovery.journal.commit_barrier import CommitBarrier
from recovery.journal.config import JournalConfig
from recovery.journal.core import JournalCore
from recovery.journal.store import Row
from recovery.service import Recovery
from recovery.settings_check import Defaults, make_config
from recovery.testing import Script
from tests.recovery.journal.stores import Gated, core_of, gave_up, kinds
from tests.recovery.journal.test_admission import Bell
from tests.slow import few

CAPACITY = 400
SMALL = JournalConfig(capacity=CAPACITY)
PATIENT = JournalConfig(capacity=CAPACITY, stall_timeout=1e9)
FLOOD = 2 * CAPACITY


class Slow(MemoryStore):
    """Takes a while for each batch."""

    async def append(self, rows: Sequence[Row]) -> None:
        time.sleep(0.002)
        await super().append(rows)


FLOODS: dict[str, tuple[dict[str, Any], list[type[Exception]], set[str]]] = {
    "that succeed": ({"durability": "journal"}, [], {"OperationStarted", "OperationSucceeded"}),
    "that fail for good": ({"max_retries": 0}, [ValueError], {"FailureClassified", "GaveUp"}),
    "that recover": (
        {"initial_delay": 0.0},
        [ConnectionError],
        {"FailureClassified", "RetryScheduled", "OperationRecovered"},
    ),
}


async def failing() -> None:
    raise ConnectionError


@pytest.mark.parametrize("kind", FLOODS)
def test_d7_a_store_that_works_loses_nothing_of_a_flood_of_plain_calls(kind: str) -> None:
    settings, errors, written = FLOODS[kind]
    store = Slow()
    with Recovery(store=store, journal_config=SMALL) as service:
        call = service.recoverable("fetch", breaker=None, **settings)(lambda script: script())
        for _ in range(FLOOD):
            script = Script(*[error() for error in errors])
            with suppress(ValueError):
                call(script)
    assert service.journal.counts.dropped == 0
    assert Counter(kinds(store)) == dict.fromkeys(written, FLOOD)


@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.parametrize("anyio_backend", few(["asyncio", "trio"], "asyncio"))
async def test_d7_a_store_that_works_loses_nothing_of_a_flood_of_tasks(kind: str, anyio_backend_name: str) -> None:
    settings, errors, written = FLOODS[kind]
    store = Slow()
    async with Recovery(store=store, journal_config=SMALL) as service:
        all_at_once = anyio.Event()

        async def body(answers: list[type[Exception]]) -> None:
            await all_at_once.wait()
            if answers:
                raise answers.pop()()

        call = service.recoverable("fetch", breaker=None, **settings)(body)

        async def one() -> None:
            with suppress(ValueError):
                await call(list(errors))

        async with anyio.create_task_group() as group:
            for _ in range(FLOOD):
                group.start_soon(one)
            await anyio.wait_all_tasks_blocked()
            all_at_once.set()
    assert service.journal.counts.dropped == 0
    assert Counter(kinds(store)) == dict.fromkeys(written, FLOOD)


@pytest.mark.slow
async def test_d7_of_many_calls_cancelled_at_once_all_are_known_to_be_over(anyio_backend_name: str) -> None:
    store = Gated()
    store.gate.set()
    async with Recovery(store=store, journal_config=SMALL) as service:
        call = service.recoverable("fetch", breaker=None, initial_delay=3600.0, jitter="none")(failing)
        async with anyio.create_task_group() as group:
            for _ in range(FLOOD):
                group.start_soon(call)
            while len(service.calls.waiting()) < FLOOD:
                await anyio.sleep(0.001)
            store.gate.clear()
            group.cancel_scope.cancel()
        store.gate.set()
    assert service.journal.counts.dropped == 0
    assert Counter(kinds(store))["OperationCancelled"] == FLOOD


def test_d7_events_that_come_too_fast_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    store = Gated()
    with Recovery(store=store, journal_config=JournalConfig(capacity=2)) as service:
        for number in range(5):
            service.bus.publish(gave_up(number))
        store.gate.set()
    assert service.journal.counts.dropped == 3
    assert caplog.text.count("faster than the journal can be written") == 1


# A store that hangs, and then goes on


def half_full(store: Gated, config: JournalConfig = PATIENT) -> Recovery:
    """A service with a store that hangs and a write queue that is half full."""
    service = Recovery(store=store, journal_config=config)
    for number in range(config.capacity // 2):
        service.bus.publish(gave_up(number))
    return service


def failing_plain(service: Recovery) -> Callable[[], None]:
    @service.recoverable("fetch", max_retries=0, breaker=None)
    def call() -> None:
        raise ValueError

    return call


async def test_tasks_that_are_cancelled_in_line_leave_it_to_the_others(anyio_backend_name: str) -> None:
    store, ended = Gated(), list[int]()
    with half_full(store) as service:
        call = service.recoverable("fetch", max_retries=0, breaker=None)(failing)

        async def one(number: int, scope: anyio.CancelScope) -> None:
            with scope, suppress(ConnectionError):
                try:
                    await call()
                finally:
                    ended.append(number)

        scopes = [anyio.CancelScope() for _ in range(300)]
        with anyio.fail_after(10.0):
            async with anyio.create_task_group() as group:
                for number, scope in enumerate(scopes):
                    group.start_soon(one, number, scope)
                await anyio.wait_all_tasks_blocked()
                assert ended == []
                for scope in scopes[::2]:
                    scope.cancel()
                while len(ended) < len(scopes) // 2:
                    await anyio.sleep(0.001)
                store.gate.set()
    assert sorted(ended) == list(range(len(scopes)))
    assert service.journal.counts.dropped == 0


def test_threads_in_line_go_ahead_when_the_store_writes_again() -> None:
    store, ended = Gated(), threading.Semaphore(0)
    with half_full(store) as service:
        call = failing_plain(service)

        def run() -> None:
            with suppress(ValueError):
                call()
            ended.release()

        for _ in range(20):
            threading.Thread(target=run, daemon=True).start()
        assert not ended.acquire(timeout=0.01)
        store.gate.set()
        assert all(ended.acquire(timeout=5.0) for _ in range(20))


def test_a_store_that_hangs_costs_its_time_once_and_not_each_call() -> None:
    store = Gated()
    with half_full(store, JournalConfig(capacity=CAPACITY, stall_timeout=0.05)) as service:
        call, began = failing_plain(service), time.monotonic()
        for _ in range(100):
            with pytest.raises(ValueError):
                call()
        assert 0.05 <= time.monotonic() - began < 100 * 0.05 / 2
        store.gate.set()


async def test_a_plain_call_does_not_wait_for_tasks_of_the_loop_it_blocks(anyio_backend_name: str) -> None:
    store, ended = Gated(), list[int]()
    with half_full(store) as service:
        call = service.recoverable("fetch", max_retries=0, breaker=None)(failing)

        async def one() -> None:
            with suppress(ConnectionError):
                await call()
            ended.append(1)

        async with anyio.create_task_group() as group:
            for _ in range(300):
                group.start_soon(one)
            await anyio.wait_all_tasks_blocked()
            threading.Timer(0.01, store.gate.set).start()
            with pytest.raises(ValueError):
                failing_plain(service)()
            assert ended == []


def barrier_of(core: JournalCore) -> CommitBarrier:
    return CommitBarrier(make_config({}, defaults=Defaults(), has_store=True), lambda: core)


def test_d13_a_forked_child_waits_for_room_in_its_own_queue() -> None:
    with closing(core_of(MemoryStore(), capacity=4)) as core:
        barrier = barrier_of(core)  # a runner keeps it
        for kept in ("parent", "child"):
            assert not barrier.must_wait, kept
            for number in range(2):
                core.queue.put(gave_up(number))
            assert barrier.must_wait, kept
            core.after_fork()


def test_a_call_in_line_keeps_half_of_its_time_for_its_work() -> None:
    store, failures = Gated(), [ValueError(), None]
    with half_full(store) as service:

        @service.recoverable("fetch", initial_delay=0.0, breaker=None, retry_on=ValueError, max_elapsed=0.4)
        def call() -> str:
            if (failure := failures.pop(0)) is not None:
                raise failure
            return "done"

        assert call() == "done"
        store.gate.set()


@pytest.mark.parametrize("blocks", [True, False], ids=["threads", "tasks"])
def test_a_written_batch_admits_the_calls_of_each_line(blocks: bool) -> None:
    with closing(core_of(MemoryStore(), capacity=40)) as core:
        for number in range(20):
            core.queue.put(gave_up(number))  # the writer does not run
        slots = [core.back_pressure.slot(1e9, blocks=blocks) for _ in range(20)]
        bells = [Bell() for _ in slots]
        for slot, bell in zip(slots, bells, strict=True):
            assert slot.wait_time(bell) > 0.0
        core.queue.take()
        core.queue.done()
        core.back_pressure.move(20)
        assert bells[0].rung
        assert not core.queue.room.is_half_full
        assert barrier_of(core).must_wait  # a new call must not overtake
        for slot in slots:
            slot.close()
        assert not barrier_of(core).must_wait
