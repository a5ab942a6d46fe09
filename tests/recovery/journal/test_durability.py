"""What the journal promises, clause by clause, over stores that stall and fail (the clauses of files are elsewhere)."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest

from adapters.memory import MemoryStore
from events.errors import CallRejectedError
from events.journal_events import JournalDegraded, JournalRestored
from events.operation_events import CheckpointSaved, GaveUp, OperationStarted
from recovery.journal.errors import NotDurable
from recovery.journal.receipts import Receipt
from recovery.journal.store import Row, Store
from recovery.service import Recovery
from recovery.testing import FaultyStore, Script
from recovery.waiting.waiters import ThreadWaiter
from tests.recorded_events import events_of, names

FAST: dict[str, Any] = {"initial_delay": 0.0}


class Gated(MemoryStore):
    """Writes only while its gate is open, and says when it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.latch = threading.Event()
        self.asked = threading.Event()

    async def append(self, rows: Sequence[Row]) -> None:
        self.asked.set()
        self.latch.wait(30.0)
        await super().append(rows)


class Syncing(MemoryStore):
    """Notes how much it had when it was synced."""

    synced = -1

    async def sync(self) -> None:
        self.synced = len(self.rows)


def gave_up(number: int = 0) -> GaveUp:
    return GaveUp(at=0.0, operation="fetch", call=f"call-{number}")


def kinds(store: MemoryStore) -> list[str]:
    return [row.kind for row in store.rows]


@contextmanager
def waiting_for(service: Recovery, kind: type[Any]) -> Iterator[ThreadWaiter]:
    """A waiter that is woken by the first event of *kind*."""
    waiter = ThreadWaiter()
    service.bus.subscribe(kind, lambda _: waiter.wake())
    yield waiter
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
        store.latch.set()
    assert max(lags) < 0.5


def test_d1_publishing_raises_nothing_for_the_sake_of_a_store_that_fails() -> None:
    with Recovery(store=FaultyStore(MemoryStore(), fail_at=1, sticky=True)) as service:
        for number in range(100):
            service.bus.publish(gave_up(number))


# What a receipt says (D2)


def test_d2_a_receipt_is_true_once_it_is_committed_and_not_before() -> None:
    store = Gated()
    with Recovery(store=store) as service:
        assert service.journal is not None
        service.bus.publish(gave_up())
        receipt = service.journal.receipt()
        assert store.asked.wait(10.0)
        with pytest.raises(NotDurable, match="took too long"):
            receipt.wait(0.01)
        store.latch.set()
        receipt.wait()
        assert kinds(store) == ["GaveUp"]
        assert receipt.why_not() is None


async def test_d2_a_receipt_can_be_awaited(anyio_backend_name: str) -> None:
    store = MemoryStore()
    async with Recovery(store=store) as service:
        assert service.journal is not None
        service.bus.publish(gave_up())
        await service.journal.receipt().committed()
        assert kinds(store) == ["GaveUp"]


async def test_d2_cancelling_the_wait_for_a_receipt_changes_nothing(anyio_backend_name: str) -> None:
    store = Gated()
    async with Recovery(store=store) as service:
        assert service.journal is not None
        service.bus.publish(gave_up())
        receipt = service.journal.receipt()
        with anyio.move_on_after(0.01) as scope:
            await receipt.committed()
        assert scope.cancelled_caught
        assert not service.journal._committing
        store.latch.set()
        await receipt.committed()
    assert kinds(store) == ["GaveUp"]


def test_d2_a_receipt_for_nothing_is_true_at_once() -> None:
    with Recovery(store=MemoryStore()) as service:
        assert service.journal is not None
        service.journal.receipt().wait(0.0)


def test_d2_synced_comes_after_committed() -> None:
    store = Syncing()
    with Recovery(store=store) as service:
        assert service.journal is not None
        service.bus.publish(gave_up())
        receipt = service.journal.receipt()
        receipt.wait()
        assert store.synced == -1
        assert receipt.why_not(synced=True) is not None
        receipt.wait(synced=True)
        assert store.synced == 1


def test_d2_more_than_a_batch_is_synced_too() -> None:
    store = Syncing()
    with Recovery(store=store) as service:
        assert service.journal is not None
        for number in range(2000):
            service.bus.publish(gave_up(number))
        service.journal.receipt().wait(synced=True)
        assert store.synced == 2000


def test_d2_a_receipt_says_why_the_journal_cannot_promise() -> None:
    with Recovery(store=FaultyStore(MemoryStore(), fail_at=1, sticky=True)) as service:
        assert service.journal is not None
        service.bus.publish(gave_up())
        with pytest.raises(NotDurable, match="injected fault"):
            service.journal.receipt().wait()


def test_d2_a_receipt_does_not_cover_up_what_was_dropped() -> None:
    store = Gated()
    with Recovery(store=store) as service:
        assert service.journal is not None
        for number in range(10_001):
            service.bus.publish(gave_up(number))
        receipt = service.journal.receipt()
        store.latch.set()
        with pytest.raises(NotDurable, match="dropped"):
            receipt.wait()
        service.bus.publish(gave_up())
        service.journal.receipt().wait()


def test_d2_a_receipt_is_not_taken_back_for_what_was_dropped_later() -> None:
    with Recovery(store=MemoryStore()) as service:
        assert service.journal is not None
        service.bus.publish(gave_up())
        receipt = service.journal.receipt()
    service.bus.publish(gave_up())
    receipt.wait()


def test_d2_a_receipt_does_not_cover_up_what_was_turned_away_before_the_latest_commit() -> None:
    store = Gated()
    with Recovery(store=store) as service:
        assert service.journal is not None
        service.bus.publish(gave_up(1))
        first = service.journal.receipt()
        assert store.asked.wait(10.0)
        service.journal.seal()
        service.bus.publish(gave_up(2))
        store.latch.set()
        first.wait()
        with pytest.raises(NotDurable):
            service.journal.receipt().wait()
        elsewhere = threading.Thread(target=lambda: service.journal and service.journal.receipt().wait())
        elsewhere.start()
        elsewhere.join()
    assert kinds(store) == ["GaveUp"]


def test_d2_a_receipt_after_the_close_promises_nothing() -> None:
    with Recovery(store=MemoryStore()) as service:
        service.bus.publish(gave_up())
    assert service.journal is not None
    service.journal.receipt().wait()
    service.bus.publish(gave_up())
    with pytest.raises(NotDurable, match="closed"):
        service.journal.receipt().wait()


# Strict calls (D2, D11)


@pytest.mark.parametrize("fails", [0, 1], ids=["at first", "after a failure"])
def test_d2_a_strict_call_begins_when_its_start_is_committed_and_returns_when_its_end_is(fails: int) -> None:
    store, seen = MemoryStore(), []
    script = Script(*[ConnectionError()] * fails)

    def body() -> str:
        seen.append(kinds(store)[-1])
        return script()

    with Recovery(store=store) as service:
        service.recoverable("pay", durability="strict", **FAST)(body)()
        seen.append(kinds(store)[-1])
    assert seen == ["OperationStarted"] * (fails + 1) + ["OperationRecovered" if fails else "OperationSucceeded"]


async def test_d2_a_strict_coroutine_begins_when_its_start_is_committed(anyio_backend_name: str) -> None:
    store, seen = MemoryStore(), []

    async def body() -> None:
        seen.append(kinds(store))

    async with Recovery(store=store) as service:
        await service.recoverable("pay", durability="strict")(body)()
        seen.append(kinds(store))
    assert seen == [["OperationStarted"], ["OperationStarted", "OperationSucceeded"]]


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
        heard = events_of(service)
        strict = service.recoverable("pay", durability="strict", on_degraded="refuse")
        with pytest.raises(CallRejectedError, match="cannot promise to remember it: JournalError: injected fault"):
            anyio.run(strict(script.as_async())) if is_async else strict(script)()
    assert script.calls == 0
    assert "CallRejected" in names(heard)


def test_d11_a_strict_call_runs_unjournalled_unless_it_refuses() -> None:
    with Recovery(store=FaultyStore(MemoryStore(), fail_at=1, sticky=True)) as service:
        assert service.recoverable("pay", durability="strict")(Script())() == "done"


def test_d11_a_strict_call_that_is_done_returns_though_its_end_is_not_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = FaultyStore(MemoryStore(), fail_at=5, sticky=True)  # after open, unfinished, append (its start) and tidy
    with Recovery(store=store) as service:
        assert service.recoverable("pay", durability="strict", on_degraded="refuse")(Script())() == "done"
    assert "the end of a strict call is not known to be written" in caplog.text


# A batch that comes twice (D5)


def test_d5_a_batch_whose_commit_failed_after_the_event_is_stored_once() -> None:
    memory = MemoryStore()
    with Recovery(store=FaultyStore(memory, fail_at=3, after=True)) as service:
        with waiting_for(service, JournalRestored):
            service.bus.publish(gave_up(1))
            service.bus.publish(gave_up(2))
        assert service.journal is not None
        service.journal.receipt().wait()
    assert [row.call for row in memory.rows if row.call] == ["call-1", "call-2"]
    assert service.journal.counts.stored == len(memory.rows)


# The loss window (D6)


def test_d6_what_is_accepted_is_committed_within_a_flush_interval_and_a_commit() -> None:
    with Recovery(store=MemoryStore()) as service:
        assert service.journal is not None
        service.bus.publish(gave_up())
        service.journal.receipt().wait()  # the thread runs
        took = []
        for number in range(20):
            began = time.monotonic()
            service.bus.publish(gave_up(number))
            while service.journal.counts.waiting:
                time.sleep(0.0005)
            took.append(time.monotonic() - began)
    assert sorted(took)[len(took) // 2] < 0.02 + 0.02  # the interval, and a commit on a busy machine


def test_d6_what_has_waited_for_a_commit_does_not_wait_for_the_flush_interval_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recovery.journal.writer.FLUSH_INTERVAL", 10.0)
    store = Gated()
    with Recovery(store=store) as service:
        assert service.journal is not None
        service.bus.publish(gave_up(1))
        waiter = ThreadWaiter()
        service.journal.wake_when_settled(service.journal.position(), waiter)
        assert store.asked.wait(10.0)
        service.bus.publish(gave_up(2))
        service.journal._queue.since -= 10.0  # so long it has waited
        store.latch.set()
        assert waiter.wait(10.0)
        end = time.monotonic() + 5.0
        while service.journal.counts.waiting:
            assert time.monotonic() < end
            time.sleep(0.001)


def unwritable() -> GaveUp:
    return GaveUp(at=0.0, operation="fetch", call="x", reason="half a character: \ud800")


def test_d2_a_event_that_cannot_be_written_fails_its_own_receipt_and_no_neighbours() -> None:
    store = Gated()
    with Recovery(store=store) as service:
        journal = service.journal
        assert journal is not None
        service.bus.publish(gave_up())
        assert store.asked.wait(10.0)  # what comes now is one batch
        receipts = []
        for event in (gave_up(1), unwritable(), gave_up(2)):
            service.bus.publish(event)
            position = journal.position()
            receipts.append(Receipt(journal, position, position - 1))
        store.latch.set()
        receipts[0].wait()
        receipts[2].wait()
        with pytest.raises(NotDurable, match="an event cannot be written"):
            receipts[1].wait()
        assert (journal.counts.stored, journal.counts.dropped) == (3, 1)


def test_d2_a_checkpoint_that_makes_room_for_others_fails_the_receipt_asked_for_right_after_it() -> None:
    store = Gated()
    with Recovery(store=store) as service:
        journal = service.journal
        assert journal is not None
        journal._queue.capacity = 3
        service.bus.publish(gave_up())
        assert store.asked.wait(10.0)
        service.bus.publish(CheckpointSaved(at=0.0, operation="fetch", call="a", data=msgspec.Raw(b"7")))
        receipt = journal.receipt()
        for number in range(2):
            service.bus.publish(gave_up(number))
        store.latch.set()
        with pytest.raises(NotDurable, match="events were dropped"):
            receipt.wait()


# Where calls come faster than the store writes (D7)


class Slow(MemoryStore):
    """Takes a while for each batch."""

    async def append(self, rows: Sequence[Row]) -> None:
        time.sleep(0.002)
        await super().append(rows)


CAPACITY = 400
FLOOD = 2 * CAPACITY

FLOODS: dict[str, tuple[dict[str, Any], list[type[Exception]], set[str]]] = {
    "that succeed": ({"durability": "journal"}, [], {"OperationStarted", "OperationSucceeded"}),
    "that fail for good": ({"max_retries": 0}, [ValueError], {"FailureClassified", "GaveUp"}),
    "that recover": (FAST, [ConnectionError], {"FailureClassified", "RetryScheduled", "OperationRecovered"}),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_d7_a_store_that_works_loses_nothing_of_a_flood_of_plain_calls(kind: str) -> None:
    settings, errors, told = FLOODS[kind]
    store = Slow()
    with Recovery(store=store) as service:
        assert service.journal is not None
        service.journal._queue.capacity = CAPACITY
        call = service.recoverable("fetch", breaker=None, **settings)(lambda script: script())
        for _ in range(FLOOD):
            script = Script(*[error() for error in errors])
            with suppress(ValueError):
                call(script)
    assert service.journal.dropped == 0
    assert Counter(kinds(store)) == dict.fromkeys(told, FLOOD)


@pytest.mark.parametrize("kind", FLOODS)
async def test_d7_a_store_that_works_loses_nothing_where_very_many_calls_end_at_once(
    kind: str, anyio_backend_name: str
) -> None:
    settings, errors, told = FLOODS[kind]
    store = Slow()
    async with Recovery(store=store) as service:
        assert service.journal is not None
        service.journal._queue.capacity = CAPACITY
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
    assert service.journal.dropped == 0
    assert Counter(kinds(store)) == dict.fromkeys(told, FLOOD)


async def test_d7_very_many_calls_that_are_cancelled_at_once_are_all_known_to_be_over(anyio_backend_name: str) -> None:
    store = Gated()
    store.latch.set()
    async with Recovery(store=store) as service:
        assert service.journal is not None
        service.journal._queue.capacity = CAPACITY
        call = service.recoverable("fetch", breaker=None, initial_delay=3600.0, jitter="none")(failing)
        async with anyio.create_task_group() as group:
            for _ in range(FLOOD):
                group.start_soon(call)
            while len(service.calls.waiting()) < FLOOD:
                await anyio.sleep(0.001)
            store.latch.clear()
            group.cancel_scope.cancel()
        store.latch.set()
    assert service.journal.dropped == 0
    assert Counter(kinds(store))["OperationCancelled"] == FLOOD


async def failing() -> None:
    raise ConnectionError


def test_d7_a_event_that_is_dropped_by_a_store_that_works_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    store = Gated()
    with Recovery(store=store) as service:
        assert service.journal is not None
        service.journal._queue.capacity = 2
        for number in range(5):
            service.bus.publish(gave_up(number))
        store.latch.set()
    assert service.journal.dropped == 3
    assert caplog.text.count("faster than the journal can be written") == 1


# Where the store fails for a while (D8)


def test_d8_what_waited_is_written_in_order_when_the_trouble_passes() -> None:
    memory = MemoryStore()
    store = FaultyStore(memory, fail_at=3, sticky=True)  # open, unfinished, append
    with Recovery(store=store) as service:
        heard = events_of(service, JournalDegraded, JournalRestored)
        with waiting_for(service, JournalDegraded):
            for number in range(1000):
                service.bus.publish(gave_up(number))
        with waiting_for(service, JournalRestored):
            store.heal()
        assert service.journal is not None
        service.journal.receipt().wait()
        assert service.journal.reason is None
        assert service.journal.dropped == 0
    ours = [row for row in memory.rows if row.kind == "GaveUp"]
    assert [row.call for row in ours] == [f"call-{number}" for number in range(1000)]
    assert names(heard) == ["JournalDegraded", "JournalRestored"]


def test_d8_a_store_that_fails_for_a_while_is_closed_once_at_the_end() -> None:
    store = FaultyStore(MemoryStore(), fail_at=3)
    with Recovery(store=store) as service, waiting_for(service, JournalRestored):
        service.bus.publish(gave_up())
    assert store.calls.count("close") == 1
    assert store.calls.count("open") == 2


def test_d8_each_change_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recovery.journal.writer.FIRST_PAUSE", 0.005)
    reasons = itertools.chain(["locked", "locked", "locked"], itertools.repeat("full"))
    store = FaultyStore(MemoryStore(), fail_at=1, sticky=True, error=lambda: OSError(next(reasons)))
    service = Recovery(store=store)
    heard, is_full = events_of(service, JournalDegraded), threading.Event()
    service.bus.subscribe(JournalDegraded, lambda event: is_full.set() if "full" in event.reason else None)
    with service:
        assert is_full.wait(20.0)
    assert [event.reason for event in heard if isinstance(event, JournalDegraded)] == [
        "OSError: locked",
        "OSError: full",
    ]


def test_d8_what_a_store_complains_about_is_said_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    away = OSError("smb://user:sesame@nas/calls.db is away")
    service = Recovery(store=FaultyStore(MemoryStore(), fail_at=1, sticky=True, error=lambda: away))
    with waiting_for(service, JournalDegraded), service:
        service.bus.publish(gave_up())
    assert service.journal is not None
    assert service.journal.reason == "OSError: smb://***@nas/calls.db is away"
    assert "smb://***@nas" in caplog.text
    assert "sesame" not in caplog.text


# Degraded means in memory (D11)


@pytest.mark.parametrize("sticky", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after its effect"])
@pytest.mark.parametrize("fail_at", range(1, 10))
def test_d11_whatever_store_call_fails_operations_do_not_notice(fail_at: int, sticky: bool, after: bool) -> None:
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
        assert service.journal is not None
        journal = service.journal
    assert results == ["done"] * 3
    counts = journal.counts
    assert counts.issued == counts.stored + counts.coalesced + counts.dropped
    assert counts.waiting == 0
    if not sticky:
        assert counts.dropped == 0
        assert sorted(row.number for row in memory.rows) == list(range(1, counts.issued + 1))


def test_d11_a_store_that_flaps_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recovery.journal.writer.FIRST_PAUSE", 0.005)

    class Flapping(MemoryStore):
        turns = 0

        async def append(self, rows: Sequence[Row]) -> None:
            self.turns += 1
            if self.turns % 2:
                raise OSError("flap")
            await super().append(rows)

    store = Flapping()
    with Recovery(store=store) as service:
        for number in range(3):
            with waiting_for(service, JournalRestored):
                service.bus.publish(gave_up(number))
    assert [row.call for row in store.rows if row.kind == "GaveUp"] == ["call-0", "call-1", "call-2"]


def test_d12_a_journal_that_is_degraded_when_it_is_closed_tries_once_more() -> None:
    memory = MemoryStore()
    store = FaultyStore(memory, fail_at=1)
    service = Recovery(store=store)
    with waiting_for(service, JournalDegraded), service:
        service.bus.publish(gave_up())
    assert "GaveUp" in kinds(memory)


def test_d12_what_cannot_be_written_at_the_close_is_tried_once_more() -> None:
    memory = MemoryStore()
    with Recovery(store=FaultyStore(memory, fail_at=3)) as service:  # open, unfinished, append
        service.bus.publish(gave_up())
    assert "GaveUp" in kinds(memory)
    assert service.journal is not None
    assert service.journal.dropped == 0


def test_the_starts_of_a_strict_operation_are_heard_by_the_journal_alone() -> None:
    with Recovery(store=MemoryStore()) as service:
        heard = events_of(service)
        service.recoverable("pay", durability="strict")(Script())()
        assert names(heard) == []
        assert service.bus.has_subscribers(OperationStarted, "pay", "")
