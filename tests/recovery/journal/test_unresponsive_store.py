"""No call waits for a journal that cannot do what the call waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from adapters.memory import MemoryStore
from events.bus import Bus
from events.journal_events import JournalDegraded, JournalRestored
from events.operation_events import GaveUp
from recovery.journal.core import JournalCore
from recovery.journal.errors import NotDurable
from recovery.journal.history import Run
from recovery.journal.receipts import CommitTracker
from recovery.journal.store import Row
from recovery.service import Recovery
from recovery.testing import FaultyStore, Script
from tests.recorded_events import events_of


@contextmanager
def at_once() -> Iterator[None]:
    """The body does not wait for the journal: any such wait would take 5 s."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 2.5


class Stuck(MemoryStore):
    """Hangs while it writes, until the latch opens."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.latch = threading.Event(), threading.Event()

    async def append(self, rows: Sequence[Row]) -> None:
        self.asked.set()
        self.latch.wait(30.0)


def gave_up() -> GaveUp:
    return GaveUp(at=0.0, operation="fetch", call="a")


def test_a_strict_call_does_not_wait_for_a_closed_journal() -> None:
    service = Recovery(store=MemoryStore())
    call = service.recoverable("pay", durability="strict")(Script())
    service.close()
    with at_once():
        assert call() == "done"
        assert service.resume().wait(10.0)


def test_closing_a_journal_that_never_began_ends_the_wait_for_a_receipt() -> None:
    core = JournalCore(MemoryStore(), Bus(), lambda _: None)
    core.tracker = CommitTracker(core.queue, core.writer, start=lambda: None)
    core.queue.put(gave_up())
    threading.Timer(0.01, core.close).start()
    with at_once(), pytest.raises(NotDurable, match="the journal is closed"):
        core.tracker.receipt().wait()
    assert core.queue.counts.dropped == 1


def test_a_strict_call_does_not_wait_for_a_journal_that_hangs_in_its_close() -> None:
    store = Stuck()
    service = Recovery(store=store)
    service.bus.publish(gave_up())
    assert store.asked.wait(10.0)
    closing = threading.Thread(target=service.close)
    closing.start()
    while "closed" not in repr(service.journal):
        time.sleep(0.001)
    with at_once():
        assert service.recoverable("pay", durability="strict")(Script())() == "done"
    store.latch.set()
    closing.join()


async def test_a_service_closed_before_resume_still_ends(anyio_backend_name: str) -> None:
    with anyio.fail_after(10.0):
        async with Recovery(store=MemoryStore()) as service:
            service.close()
            resumption = service.resume()
            await resumption.loaded.opened()
            assert list(resumption.calls) == []


def test_a_subscriber_on_the_journals_thread_does_not_wait_for_that_thread() -> None:
    store = FaultyStore(MemoryStore(), fail_at=1)
    service, done = Recovery(store=store), threading.Event()
    call = service.recoverable("alert", durability="strict", remember=60.0, idempotency_key=lambda: "k")(Script())

    def alert(_: object) -> None:
        call()
        service.calls.find("unknown")
        done.set()

    service.bus.subscribe(JournalRestored, alert)
    with at_once(), service:
        assert done.wait(10.0)


class Locked(Stuck):
    """Fails to open, then hangs in the next attempt to."""

    async def open(self, run: Run) -> Sequence[str]:
        if not self.asked.is_set():
            self.asked.set()
            raise OSError("locked")
        self.tried.set()
        self.latch.wait(30.0)
        return await super().open(run)

    def __init__(self) -> None:
        super().__init__()
        self.tried = threading.Event()


def test_a_call_does_not_wait_for_a_result_while_the_journal_cannot_be_read() -> None:
    store = Locked()
    with Recovery(store=store) as service:
        assert store.tried.wait(10.0)
        call = service.recoverable("job", remember=60.0, idempotency_key=str)(lambda _: "done")
        with at_once():
            assert call(1) == "done"
        store.latch.set()


def test_without_a_thread_calls_run_and_the_next_one_starts_the_journal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_more(_: object) -> None:
        raise RuntimeError("can't start new thread")

    store = MemoryStore()
    service = Recovery(store=store)
    degraded = events_of(service, JournalDegraded)
    settings: dict[str, Any] = {"durability": "strict"}
    with monkeypatch.context() as without_threads:
        without_threads.setattr(threading.Thread, "start", no_more)
        with at_once():
            service.recoverable("pay", **settings)(Script())()
            assert service.calls.find("unknown") is None
    assert [event.reason for event in degraded if isinstance(event, JournalDegraded)] == [
        "RuntimeError: can't start new thread"
    ]
    service.recoverable("pay again", **settings)(Script())()
    service.close()
    assert [row.kind for row in store.rows if row.call] == ["OperationStarted", "OperationSucceeded"] * 2
