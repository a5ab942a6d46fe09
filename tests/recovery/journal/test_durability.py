"""What the journal promises, clause by clause, with stores that stall and fail. The clauses of files are elsewhere."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest

from adapters.memory import MemoryStore
from events.bus import Bus
from events.errors import CallRejectedError
from events.event import Event
from events.journal_events import JournalDegraded, JournalRestored
from events.operation_events import OperationStarted
from recovery.journal.store import Store
from recovery.service import Recovery
from recovery.testing import FaultyStore, Script
from recovery.waiting.waiters import ThreadWaiter
from tests.recorded_events import events_of, names
from tests.recovery.journal.stores import Flapping, Gated, core_of, gave_up, kinds
from tests.slow import few

FAST: dict[str, Any] = {"initial_delay": 0.0}


@contextmanager
def waiting_for(bus: Bus, kind: type[Any]) -> Iterator[None]:
    """Wait, at the end, for the first event of *kind*."""
    waiter = ThreadWaiter()
    bus.subscribe(kind, lambda _: waiter.wake())
    yield
    assert waiter.wait(20.0)


# How events are published (D1)


async def test_d1_a_stalled_store_does_not_hold_the_loop(anyio_backend_name: str) -> None:
    store, lags = Gated(), []
    async with Recovery(store=store) as service:
        script = Script(*[ConnectionError()] * 200)
        call = service.recoverable("fetch", max_retries=500, breaker=None, **FAST)(script.as_async())
        service.bus.publish(gave_up())
        assert await anyio.to_thread.run_sync(store.asked.wait, 10.0)
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            for _ in range(20):
                began = time.perf_counter()
                await anyio.sleep(0)
                lags.append(time.perf_counter() - began)
        assert (script.calls, kinds(store)) == (201, [])
        store.gate.set()
    assert max(lags) < 0.5


# Strict calls (D2, D11)


@pytest.mark.parametrize("kind", ["plain", "asyncio", "trio"])
@pytest.mark.parametrize("fails", [0, 1], ids=["at first", "after a failure"])
def test_d2_a_strict_call_waits_for_the_commits_of_its_start_and_end(fails: int, kind: str) -> None:
    store, seen = MemoryStore(), []
    script = Script(*[ConnectionError()] * fails)

    def body() -> str:
        seen.append(kinds(store)[-1])
        return script()

    async def async_body() -> str:
        return body()

    with Recovery(store=store) as service:
        strict = service.recoverable("pay", durability="strict", **FAST)
        strict(body)() if kind == "plain" else anyio.run(strict(async_body), backend=kind)
        seen.append(kinds(store)[-1])
    assert seen == ["OperationStarted"] * (fails + 1) + ["OperationRecovered" if fails else "OperationSucceeded"]


def test_d2_a_strict_call_that_gives_up_raises_when_that_is_committed() -> None:
    store = MemoryStore()
    with Recovery(store=store) as service:
        with pytest.raises(ConnectionError):
            service.recoverable("pay", durability="strict", max_retries=0)(Script(ConnectionError()))()
        assert kinds(store)[-1] == "GaveUp"


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_d11_a_strict_call_may_refuse_to_run_unjournalled(is_async: bool) -> None:
    script = Script()
    with Recovery(store=FaultyStore(MemoryStore(), fail_at=1, sticky=True)) as service:
        received = events_of(service)
        strict = service.recoverable("pay", durability="strict", on_degraded="refuse")
        with pytest.raises(CallRejectedError, match="cannot promise to remember it: JournalError: injected fault"):
            anyio.run(strict(script.as_async())) if is_async else strict(script)()
        assert script.calls == 0
        assert service.recoverable("pay all the same", durability="strict")(script)() == "done"
    assert "CallRejected" in names(received)


def test_d11_a_strict_call_returns_its_result_though_its_end_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    store = FaultyStore(MemoryStore(), fail_at=5, sticky=True)  # after open, unfinished, append (its start), prune
    with Recovery(store=store) as service:
        assert service.recoverable("pay", durability="strict", on_degraded="refuse")(Script())() == "done"
    assert "the end of a strict call may not be written" in caplog.text


def test_only_the_journal_subscribes_to_the_starts_of_a_strict_operation() -> None:
    with Recovery(store=MemoryStore()) as service:
        received = events_of(service)
        service.recoverable("pay", durability="strict")(Script())()
        assert names(received) == []
        assert service.bus.has_subscribers(OperationStarted, "pay", "")


# A batch that comes twice (D5)


def test_d5_a_batch_whose_commit_took_effect_and_failed_is_stored_once() -> None:
    memory = MemoryStore()
    with Recovery(store=FaultyStore(memory, fail_at=3, after=True)) as service:
        with waiting_for(service.bus, JournalRestored):
            service.bus.publish(gave_up(1))
            service.bus.publish(gave_up(2))
        service.journal.receipt().wait()
    assert [row.call for row in memory.rows if row.call] == ["call-1", "call-2"]
    assert service.journal.counts.stored == len(memory.rows)


# The loss window (D6)


def test_d6_the_flush_interval_counts_from_the_earliest_event() -> None:
    store, bus = Gated(), Bus()
    with closing(core_of(store, bus, flush_interval=10.0)) as core:
        bus.publish(gave_up(1))
        waiter = ThreadWaiter()
        core.tracker.wake_when_settled(core.queue.issued, waiter)
        assert store.asked.wait(10.0)
        bus.publish(gave_up(2))
        core.queue.since -= 10.0  # as if it had waited for the commit that long
        store.gate.set()
        assert waiter.wait(10.0)
        end = time.monotonic() + 5.0
        while core.queue.counts.waiting:
            assert time.monotonic() < end
            time.sleep(0.001)


# A store that fails for a while (D8)


def test_d8_waiting_events_are_written_in_order_when_the_failure_is_over() -> None:
    memory = MemoryStore()
    store = FaultyStore(memory, fail_at=3, sticky=True)  # open, unfinished, append
    with Recovery(store=store) as service:
        received = events_of(service, JournalDegraded, JournalRestored)
        with waiting_for(service.bus, JournalDegraded):
            for number in range(1000):
                service.bus.publish(gave_up(number))
        assert repr(service.journal) == "<Journal: nothing is written: JournalError: injected fault; 1001 waiting>"
        with waiting_for(service.bus, JournalRestored):
            store.heal()
        service.journal.receipt().wait()
        assert (service.journal.reason, service.journal.counts.dropped) == (None, 0)
    assert store.calls.count("close") == 1
    ours = [row for row in memory.rows if row.kind == "GaveUp"]
    assert [row.call for row in ours] == [f"call-{number}" for number in range(1000)]
    assert names(received) == ["JournalDegraded", "JournalRestored"]


def test_d8_each_new_reason_is_published_once() -> None:
    reasons = itertools.chain(["locked", "locked", "locked"], itertools.repeat("full"))
    store = FaultyStore(MemoryStore(), fail_at=1, sticky=True, error=lambda: OSError(next(reasons)))
    bus, received, is_full = Bus(), list[Event](), threading.Event()
    bus.subscribe(JournalDegraded, received.append)
    bus.subscribe(JournalDegraded, lambda event: is_full.set() if "full" in event.reason else None)
    with closing(core_of(store, bus, first_pause=0.005)) as core:
        core.start()
        assert is_full.wait(20.0)
    assert [event.reason for event in received] == ["OSError: locked", "OSError: full"]


def test_d8_the_reason_of_a_failure_contains_no_secrets(caplog: pytest.LogCaptureFixture) -> None:
    away = OSError("smb://user:sesame@nas/calls.db is away")
    service = Recovery(store=FaultyStore(MemoryStore(), fail_at=1, sticky=True, error=lambda: away))
    with waiting_for(service.bus, JournalDegraded), service:
        service.bus.publish(gave_up())
    assert service.journal.reason == "OSError: smb://***@nas/calls.db is away"
    assert "smb://***@nas" in caplog.text
    assert "sesame" not in caplog.text


# Degraded means in memory (D11)


@pytest.mark.parametrize("sticky", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after its effect"])
@pytest.mark.parametrize("fail_at", few(range(1, 10), every=3))
def test_d11_operations_do_not_notice_a_failing_store_call(fail_at: int, sticky: bool, after: bool) -> None:
    memory = MemoryStore()
    store: Store = FaultyStore(memory, fail_at=fail_at, sticky=sticky, after=after)
    results = []
    with Recovery(store=store) as service:
        for number in range(3):
            script = Script(ConnectionError())
            call = service.recoverable(f"fetch-{number}", resumable=True, **FAST)(lambda script: script())
            results.append(call(script))
        resumption = service.resume()
        assert sticky or resumption.wait(20.0)
    assert results == ["done"] * 3
    counts = service.journal.counts
    assert counts.issued == counts.stored + counts.coalesced + counts.dropped
    assert counts.waiting == 0
    if not sticky:
        assert counts.dropped == 0
        assert sorted(row.number for row in memory.rows) == list(range(1, counts.issued + 1))


def test_d11_a_store_that_flaps_loses_nothing() -> None:
    store, bus = Flapping(), Bus()
    with closing(core_of(store, bus, first_pause=0.005)):
        for number in range(3):
            with waiting_for(bus, JournalRestored):
                bus.publish(gave_up(number))
    assert [row.call for row in store.rows if row.kind == "GaveUp"] == ["call-0", "call-1", "call-2"]


# The close (D12)


@pytest.mark.parametrize("fail_at", [1, 3], ids=["open", "append"])
def test_d12_a_batch_that_fails_at_the_close_is_tried_once_more(fail_at: int) -> None:
    memory = MemoryStore()
    with Recovery(store=FaultyStore(memory, fail_at=fail_at)) as service:
        service.bus.publish(gave_up())
    assert "GaveUp" in kinds(memory)
    assert service.journal.counts.dropped == 0
