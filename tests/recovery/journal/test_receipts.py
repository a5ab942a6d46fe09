"""What a receipt says, and the waits for it (D2)."""

from __future__ import annotations

import threading
from contextlib import closing

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.memory import MemoryStore
from events.bus import Bus
from events.operation_events import CheckpointSaved, GaveUp
from recovery.journal.errors import NotDurable
from recovery.journal.receipts import PositionWaiters
from recovery.service import Recovery
from recovery.testing import FaultyStore
from recovery.waiting.waiters import ThreadWaiter
from tests.recovery.journal.stores import Gated, core_of, gave_up, kinds


class Syncing(MemoryStore):
    """Notes how many rows it had when it was synced."""

    synced = -1

    async def sync(self) -> None:
        self.synced = len(self.rows)


def test_d2_a_receipt_is_true_once_it_is_committed_and_not_before() -> None:
    store = Gated()
    with Recovery(store=store) as service:
        service.bus.publish(gave_up())
        receipt = service.journal.receipt()
        assert store.asked.wait(10.0)
        with pytest.raises(NotDurable, match="took too long"):
            receipt.wait(0.01)
        assert repr(receipt) == "<Receipt for events 1 to 1: it took too long>"
        store.gate.set()
        receipt.wait()
        assert kinds(store) == ["GaveUp"]
        assert receipt.why_not() is None


async def test_d2_a_receipt_can_be_awaited(anyio_backend_name: str) -> None:
    store = MemoryStore()
    async with Recovery(store=store) as service:
        service.bus.publish(gave_up())
        await service.journal.receipt().committed()
        assert kinds(store) == ["GaveUp"]


async def test_d2_cancelling_the_wait_for_a_receipt_changes_nothing(anyio_backend_name: str) -> None:
    store, bus = Gated(), Bus()
    core = core_of(store, bus)
    bus.publish(gave_up())
    receipt = core.tracker.receipt()
    with anyio.move_on_after(0.01) as scope:
        await receipt.committed()
    assert scope.cancelled_caught
    assert core.tracker.waiting == 0
    store.gate.set()
    await receipt.committed()
    core.close()
    assert kinds(store) == ["GaveUp"]


def test_d2_a_receipt_for_nothing_is_true_at_once() -> None:
    with Recovery(store=MemoryStore()) as service:
        service.journal.receipt().wait(0.0)


def test_d2_synced_comes_after_committed() -> None:
    store = Syncing()
    with Recovery(store=store) as service:
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
        for number in range(2000):
            service.bus.publish(gave_up(number))
        service.journal.receipt().wait(synced=True)
        assert store.synced == 2000


def test_d2_a_receipt_says_why_the_journal_cannot_promise() -> None:
    with Recovery(store=FaultyStore(MemoryStore(), fail_at=1, sticky=True)) as service:
        service.bus.publish(gave_up())
        with pytest.raises(NotDurable, match="injected fault"):
            service.journal.receipt().wait()


def test_d2_a_receipt_does_not_cover_up_dropped_events() -> None:
    store, bus = Gated(), Bus()
    with closing(core_of(store, bus, capacity=10)) as core:
        for number in range(11):
            bus.publish(gave_up(number))
        receipt = core.tracker.receipt()
        store.gate.set()
        with pytest.raises(NotDurable, match="dropped"):
            receipt.wait()
        bus.publish(gave_up())
        core.tracker.receipt().wait()


def test_d2_a_receipt_is_not_taken_back_for_later_drops() -> None:
    with Recovery(store=MemoryStore()) as service:
        service.bus.publish(gave_up())
        receipt = service.journal.receipt()
    service.bus.publish(gave_up())
    receipt.wait()


def test_d2_a_receipt_covers_refusals_before_the_latest_commit() -> None:
    store = Gated()
    with Recovery(store=store) as service:
        service.bus.publish(gave_up(1))
        first = service.journal.receipt()
        assert store.asked.wait(10.0)
        service.journal.seal()
        service.bus.publish(gave_up(2))
        store.gate.set()
        first.wait()
        with pytest.raises(NotDurable):
            service.journal.receipt().wait()
        elsewhere = threading.Thread(target=lambda: service.journal.receipt().wait())
        elsewhere.start()  # pytest reports an exception there
        elsewhere.join()
    assert kinds(store) == ["GaveUp"]


def test_d2_a_receipt_after_the_close_promises_nothing() -> None:
    with Recovery(store=MemoryStore()) as service:
        service.bus.publish(gave_up())
    service.journal.receipt().wait()
    service.bus.publish(gave_up())
    with pytest.raises(NotDurable, match="closed"):
        service.journal.receipt().wait()


def test_d2_an_unwritable_event_fails_its_receipt_and_no_neighbour() -> None:
    store = Gated()
    with Recovery(store=store) as service:
        service.bus.publish(gave_up())
        assert store.asked.wait(10.0)  # later events are one batch
        service.bus.publish(gave_up(1))
        before = service.journal.receipt()
        service.bus.publish(GaveUp(at=0.0, operation="fetch", call="x", reason="half a character: \ud800"))
        receipt = service.journal.receipt()
        service.bus.publish(gave_up(2))
        store.gate.set()
        before.wait()
        with pytest.raises(NotDurable, match="an event cannot be written"):
            receipt.wait()
        service.journal.receipt().wait()
        assert (service.journal.counts.stored, service.journal.counts.dropped) == (3, 1)
    assert [row.call for row in store.rows] == ["call-0", "call-1", "call-2"]


def test_d2_a_dropped_checkpoint_fails_the_receipt_right_after_it() -> None:
    store, bus = Gated(), Bus()
    with closing(core_of(store, bus, capacity=3)) as core:
        bus.publish(gave_up())
        assert store.asked.wait(10.0)
        bus.publish(CheckpointSaved(at=0.0, operation="fetch", call="a", data=msgspec.Raw(b"7")))
        receipt = core.tracker.receipt()
        for number in range(2):
            bus.publish(gave_up(number))
        store.gate.set()
        with pytest.raises(NotDurable, match="events were dropped"):
            receipt.wait()


def test_a_waiter_is_woken_after_the_commit_and_not_before() -> None:
    store, bus = Gated(), Bus()
    with closing(core_of(store, bus)) as core:
        bus.publish(gave_up())
        waiter, woken = ThreadWaiter(), threading.Event()
        core.tracker.wake_when_settled(core.queue.issued, waiter)
        threading.Thread(target=lambda: (waiter.wait(30.0), woken.set())).start()
        assert not woken.wait(0.01)
        store.gate.set()
        assert woken.wait(10.0)
        assert len(store.rows) == 1


# The heap of waiters


class Waiting:
    """A waiter that nothing waits with."""

    def wake(self) -> None: ...

    def close(self) -> None: ...


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans())), st.lists(st.integers(0, 60)))
def test_a_waiter_is_taken_once_when_its_position_is_reached(waits: list[tuple[int, bool]], reached: list[int]) -> None:
    waiters, added = PositionWaiters(), [Waiting() for _ in waits]
    for waiter, (position, _) in zip(added, waits, strict=True):
        waiters.add(position, waiter)
    staying = {}
    for waiter, (position, leaves) in zip(added, waits, strict=True):
        if leaves:
            waiters.forget(waiter)
        else:
            staying[waiter] = position
    for up_to in reached:
        taken = waiters.take(up_to.__ge__)
        assert [staying[waiter] for waiter in taken] == sorted(at for at in staying.values() if at <= up_to)
        for waiter in taken:
            del staying[waiter]
        assert len(waiters) == len(staying)


def test_a_position_without_waiters_is_not_asked_about() -> None:
    waiters, asked = PositionWaiters(), list[int]()
    gone = Waiting()
    waiters.add(1, gone)
    waiters.add(2, Waiting())
    waiters.forget(gone)

    def is_settled(position: int) -> bool:
        asked.append(position)
        return False

    assert waiters.take(is_settled) == []
    assert asked == [2]


def test_of_many_waiters_each_step_looks_only_at_those_it_wakes() -> None:
    waiters, asked = PositionWaiters(), list[int]()
    for position in range(1000):
        waiters.add(position, Waiting())

    def is_settled(position: int) -> bool:
        asked.append(position)
        return position < 3

    assert len(waiters.take(is_settled)) == 3
    assert asked == [0, 1, 2, 3]  # and at one more
