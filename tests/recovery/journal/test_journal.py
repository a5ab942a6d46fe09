from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from adapters.memory import MemoryStore
from adapters.sqlite.store import SQLiteStore
from events.journal_events import JournalDegraded
from events.operation_events import GaveUp, RetryScheduled
from recovery.journal import writer
from recovery.journal.errors import JournalError, NotDurable
from recovery.journal.history import Run
from recovery.journal.journal import Journal
from recovery.journal.queue import CAPACITY
from recovery.journal.store import Row
from recovery.service import Recovery
from recovery.testing import Script
from recovery.waiting.waiters import ThreadWaiter
from tests.recorded_events import events_of, names

FAST = {"initial_delay": 0.0}


class GatedStore(MemoryStore):
    """Writes only while its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.latch = threading.Event()
        self.batches = 0

    async def append(self, rows: Sequence[Row]) -> None:
        self.latch.wait(30.0)
        self.batches += 1
        await super().append(rows)


class BrokenStore(MemoryStore):
    """Fails to write, from the start."""

    async def append(self, rows: Sequence[Row]) -> None:
        raise JournalError("no space left")


def kinds(store: MemoryStore) -> list[str]:
    return [row.kind for row in store.rows]


def gave_up(number: int = 0) -> GaveUp:
    return GaveUp(at=0.0, operation="fetch", call=f"call-{number}")


def test_a_lazy_journal_writes_nothing_for_a_call_that_succeeds_at_first() -> None:
    store = MemoryStore()
    with Recovery(store=store) as service:
        service.recoverable("fetch")(lambda: None)()
    assert kinds(store) == []


def test_a_lazy_journal_writes_how_a_call_that_failed_ended() -> None:
    store = MemoryStore()
    with Recovery(store=store) as service:
        script = Script(ConnectionError())
        service.recoverable("fetch", **FAST)(lambda: script())()
    assert kinds(store) == ["FailureClassified", "RetryScheduled", "OperationRecovered"]


def test_a_journalled_call_is_written_from_its_start() -> None:
    store = MemoryStore()
    with Recovery(store=store) as service:
        service.recoverable("fetch", durability="journal")(lambda: None)()
    assert kinds(store) == ["OperationStarted", "OperationSucceeded"]


def test_an_operation_defined_twice_is_written_once() -> None:
    store = MemoryStore()
    with Recovery(store=store) as service:
        for _ in range(2):
            call = service.recoverable("fetch", durability="journal")(lambda: None)
        call()
    assert kinds(store) == ["OperationStarted", "OperationSucceeded"]


def test_a_journalled_call_that_recovered_ends_once() -> None:
    store = MemoryStore()
    with Recovery(store=store) as service:
        script = Script(ConnectionError())
        service.recoverable("fetch", durability="journal", **FAST)(lambda: script())()
    assert kinds(store).count("OperationRecovered") == 1
    assert "OperationSucceeded" not in kinds(store)


@pytest.mark.parametrize("settings", [{"durability": "off"}, {"enable_persistence": False}])
def test_an_operation_with_durability_off_writes_nothing(settings: dict[str, object]) -> None:
    store = MemoryStore()
    with Recovery(store=store) as service:
        script = Script(ConnectionError())
        service.recoverable("fetch", **FAST, **settings)(lambda: script())()  # type: ignore[call-overload]
    assert kinds(store) == []


def test_events_are_written_in_the_order_published() -> None:
    store = MemoryStore()
    with Recovery(store=store) as service:
        for number in range(3000):
            service.bus.publish(gave_up(number))
    assert [row.call for row in store.rows] == [f"call-{number}" for number in range(3000)]


def test_a_stalled_store_does_not_hold_the_publisher() -> None:
    store = GatedStore()
    with Recovery(store=store) as service:
        began = time.monotonic()
        for number in range(1000):
            service.bus.publish(gave_up(number))
        assert time.monotonic() - began < 5.0
        assert store.batches == 0
        store.latch.set()
    assert len(store.rows) == 1000


def test_what_does_not_fit_into_the_queue_is_dropped_and_counted() -> None:
    store = GatedStore()
    with Recovery(store=store) as service:
        assert service.journal is not None
        for number in range(3 * CAPACITY):
            service.bus.publish(gave_up(number))
        dropped = service.journal.dropped
        store.latch.set()
    assert dropped >= CAPACITY
    assert len(store.rows) + dropped == 3 * CAPACITY


def test_one_commit_takes_what_came_during_the_last() -> None:
    store = GatedStore()
    with Recovery(store=store) as service:
        for number in range(400):
            service.bus.publish(gave_up(number))
        store.latch.set()
    assert store.batches <= 3


@pytest.mark.parametrize("linger", [0.0, writer.POLL_AFTER_BATCH])
def test_a_event_is_written_soon_whether_the_thread_rests_or_lingers(
    linger: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "POLL_AFTER_BATCH", linger)
    store = MemoryStore()
    with Recovery(store=store) as service:
        began = time.monotonic()
        for number in range(20):
            service.bus.publish(gave_up(number))
            while len(store.rows) <= number:
                time.sleep(0.001)
        took = time.monotonic() - began
    assert took < 20 * writer.COMMANDS_EVERY / 2  # whoever missed it would find it when it looks for orders


def test_who_waits_for_a_commit_is_woken_after_it_and_not_before() -> None:
    store = GatedStore()
    with Recovery(store=store) as service:
        journal = service.journal
        assert journal is not None
        service.bus.publish(gave_up())
        waiter, woken = ThreadWaiter(), threading.Event()
        journal.wake_when_settled(journal.position(), waiter)
        threading.Thread(target=lambda: (waiter.wait(30.0), woken.set())).start()
        assert not woken.wait(0.01)
        store.latch.set()
        assert woken.wait(10.0)
        assert len(store.rows) == 1


def test_the_next_attempt_of_a_journalled_call_waits_for_the_commit_of_its_schedule() -> None:
    store = GatedStore()
    script = Script(ConnectionError())
    with Recovery(store=store) as service:
        scheduled = threading.Event()
        service.bus.subscribe(RetryScheduled, lambda _: scheduled.set())
        call = service.recoverable("fetch", resumable=True, **FAST)(lambda: script())
        thread = threading.Thread(target=call)
        thread.start()
        assert scheduled.wait(10.0)
        time.sleep(0.01)
        calls_before_commit = script.calls
        store.latch.set()
        thread.join(10.0)
    assert (calls_before_commit, script.calls) == (1, 2)


def test_a_store_that_fails_is_reported_once_and_operations_go_on(caplog: pytest.LogCaptureFixture) -> None:
    service = Recovery(store=BrokenStore())
    heard = events_of(service, JournalDegraded)
    with service:
        script = Script(*[ConnectionError() for _ in range(2)])
        call = service.recoverable("fetch", resumable=True, **FAST)(lambda: script())
        assert call() == "done"
        assert call() == "done"
    assert names(heard) == ["JournalDegraded"]
    assert "no space left" in caplog.text


def test_a_directory_that_cannot_be_made_is_named_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "journal.db"
    with Recovery(store=SQLiteStore(path)) as service, caplog.at_level(logging.WARNING, "recovery"):
        assert service.journal is not None
        service.journal.pending(0.2)
        assert service.recoverable("fetch", resumable=True)(lambda: "done")() == "done"
    assert str(path.parent) in caplog.text


def test_closing_twice_and_from_two_threads_is_harmless() -> None:
    service = Recovery(store=MemoryStore()).__enter__()
    thread = threading.Thread(target=service.close)
    thread.start()
    service.close()
    thread.join(10.0)
    service.close()


def test_calls_after_the_close_run_unjournalled() -> None:
    store = MemoryStore()
    with Recovery(store=store) as service:
        script = Script(ConnectionError())
        call = service.recoverable("fetch", resumable=True, **FAST)(lambda: script())
    assert call() == "done"
    assert kinds(store) == []


def test_what_happens_after_the_close_is_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with Recovery(store=MemoryStore()) as service:
        pass
    assert service.journal is not None
    for _ in range(2):
        service.bus.publish(gave_up())
    assert service.journal.dropped == 2
    assert caplog.text.count("the journal is closed") == 1


STUCK = """
import asyncio
from adapters.memory import MemoryStore
from recovery import Recovery
from recovery.journal import journal
journal.CLOSE_TIMEOUT = 0.1
class Stuck(MemoryStore):
    async def append(self, rows):
        await asyncio.sleep(3600)
service = Recovery(store=Stuck())
with service:
    try: service.recoverable("fetch", max_retries=0)(lambda: open("/nonexistent"))()
    except OSError: pass
"""


def test_d12_a_store_that_hangs_does_not_hold_the_exit_longer_than_it_may() -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", STUCK], timeout=60, check=True, capture_output=True, text=True)
    assert time.monotonic() - began < 10.0
    assert done.stderr.count("did not finish within 0.1 s") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_goes_on_in_memory_at_once() -> None:
    store = MemoryStore()
    with Recovery(store=store) as service:
        call = service.recoverable("fetch", resumable=True, **FAST)(lambda script: script())
        call(Script())
        child = os.fork()
        if child == 0:
            began = time.monotonic()
            call(Script(ConnectionError(), ConnectionError()))
            os._exit(0 if time.monotonic() - began < 2.0 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        call(Script())


def test_d12_who_calls_after_a_close_before_the_first_call_waits_for_nothing() -> None:
    service = Recovery(store=MemoryStore())
    service.close()
    began = time.monotonic()
    service.recoverable("fetch", resumable=True, **FAST)(lambda script: script())(Script(ConnectionError()))
    assert service.journal is not None
    with pytest.raises(NotDurable, match="closed"):
        service.journal.receipt().wait()
    assert time.monotonic() - began < 2.0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_d13_a_store_that_cannot_be_forked_is_no_trouble_for_others() -> None:
    class Rooted(MemoryStore):
        def forked(self) -> Rooted:
            raise OSError("there is one of me")

    with Recovery(store=Rooted()) as rooted, Recovery(store=MemoryStore()) as service:
        calls = [one.recoverable("fetch", resumable=True, **FAST)(lambda script: script()) for one in (rooted, service)]
        for call in calls:
            call(Script())
        child = os.fork()
        if child == 0:
            began = time.monotonic()
            for call in calls:
                call(Script(ConnectionError(), ConnectionError()))
            assert service.journal is not None
            service.journal.receipt().wait(2.0)
            os._exit(0 if time.monotonic() - began < 2.0 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_service_without_a_store_has_no_thread() -> None:
    before = threading.active_count()
    with Recovery() as service:
        script = Script(ConnectionError())
        service.recoverable(**FAST)(lambda: script())()
        assert threading.active_count() == before


PROGRAM = """
import sys
from adapters.sqlite.store import SQLiteStore
from recovery import Recovery
service = Recovery(store=SQLiteStore(sys.argv[1]))
@service.recoverable("fetch", max_retries=0)
def fetch(): raise ConnectionError
try: fetch()
except ConnectionError: pass
{end}
"""


@pytest.mark.parametrize(
    "end", ["", "sys.exit(0)", "raise SystemExit", "import os, signal; os.kill(os.getpid(), signal.SIGINT)"]
)
def test_a_journal_that_nobody_closed_is_written_and_does_not_hold_the_exit(end: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", PROGRAM.format(end=end), str(path)], timeout=30, check=False, capture_output=True
    )
    assert time.monotonic() - began < 10.0
    assert anyio.run(rows_in, path) == ["FailureClassified", "GaveUp"]


async def rows_in(path: Path) -> list[str]:
    store = SQLiteStore(path)
    from adapters.sqlite.reading import reading

    async with reading(store.path) as reader:
        return [row.kind for row in await reader.rows()]


def test_importing_recovery_loads_nothing_heavy() -> None:
    program = (
        "import sys, recovery; print([m for m in ('asyncio', 'sqlite3', 'trio', 'aiosqlite') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


def test_the_run_says_what_its_clocks_meant() -> None:
    run: Run = Journal(MemoryStore(), Recovery().bus, {}.get).run
    assert run.pid == os.getpid()
    assert abs(run.wall - time.time()) < 60.0
