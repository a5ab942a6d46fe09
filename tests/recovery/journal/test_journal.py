"""What a journal writes, what it does at the end and in a forked child, and what users see of it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from adapters.memory import MemoryStore
from adapters.sqlite.store import SQLiteStore
from events.bus import Bus
from events.journal_events import JournalDegraded
from events.operation_events import RetryScheduled
from recovery.journal.config import JOURNAL_DEFAULTS
from recovery.journal.errors import JournalError, NotDurable
from recovery.journal.history import Run
from recovery.journal.store import Row
from recovery.service import Recovery
from recovery.testing import Script
from tests.recorded_events import events_of, names
from tests.recovery.journal.stores import Gated, core_of, gave_up, kinds

FAST = {"initial_delay": 0.0}
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


class BrokenStore(MemoryStore):
    """Fails to write, from the start."""

    async def append(self, rows: Sequence[Row]) -> None:
        raise JournalError("no space left")


# What is written


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
        service.recoverable("fetch", **FAST, **settings)(lambda: script())()
    assert kinds(store) == []


def test_events_are_written_in_the_order_published() -> None:
    store = MemoryStore()
    with Recovery(store=store) as service:
        for number in range(3000):
            service.bus.publish(gave_up(number))
    assert [row.call for row in store.rows] == [f"call-{number}" for number in range(3000)]


def test_a_stalled_store_does_not_hold_the_publisher() -> None:
    store = Gated()
    with Recovery(store=store) as service:
        began = time.monotonic()
        for number in range(1000):
            service.bus.publish(gave_up(number))
        assert time.monotonic() - began < 5.0
        assert store.batches == 0
        store.gate.set()
    assert len(store.rows) == 1000


def test_events_that_do_not_fit_into_the_queue_are_counted() -> None:
    store, bus = Gated(), Bus()
    with closing(core_of(store, bus, capacity=100)) as core:
        for number in range(300):
            bus.publish(gave_up(number))
        dropped = core.queue.dropped
        store.gate.set()
    assert dropped >= 100
    assert len(store.rows) + dropped == 300


def test_a_batch_holds_all_that_arrived_during_the_last() -> None:
    store = Gated()
    with Recovery(store=store) as service:
        for number in range(400):
            service.bus.publish(gave_up(number))
        store.gate.set()
    assert store.batches <= 3


@pytest.mark.parametrize("poll_after_batch", [0.0, JOURNAL_DEFAULTS.poll_after_batch])
def test_an_event_is_written_soon_whether_the_writer_rests_or_polls(poll_after_batch: float) -> None:
    store, bus = MemoryStore(), Bus()
    with closing(core_of(store, bus, poll_after_batch=poll_after_batch)):
        began = time.monotonic()
        for number in range(20):
            bus.publish(gave_up(number))
            while len(store.rows) <= number:
                time.sleep(0.001)
        took = time.monotonic() - began
    assert (
        took < 20 * JOURNAL_DEFAULTS.command_interval / 2
    )  # an event that woke nothing is found at the next look for commands


def test_a_journalled_call_tries_again_after_the_commit_of_its_schedule() -> None:
    store = Gated()
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
        store.gate.set()
        thread.join(10.0)
    assert (calls_before_commit, script.calls) == (1, 2)


# A store that fails


def test_a_failing_store_is_reported_once_and_operations_go_on(caplog: pytest.LogCaptureFixture) -> None:
    service = Recovery(store=BrokenStore())
    heard = events_of(service, JournalDegraded)
    with service:
        script = Script(*[ConnectionError() for _ in range(2)])
        call = service.recoverable("fetch", resumable=True, **FAST)(lambda: script())
        assert call() == "done"
        assert call() == "done"
    assert names(heard) == ["JournalDegraded"]
    assert "no space left" in caplog.text


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "journal.db"
    with Recovery(store=SQLiteStore(path)) as service, caplog.at_level(logging.WARNING, "recovery"):
        service.journal.pending(0.2)
        assert service.recoverable("fetch", resumable=True)(lambda: "done")() == "done"
    assert str(path.parent) in caplog.text


def test_skipping_the_pending_calls_ends_the_wait_for_a_failing_store() -> None:
    class Away(MemoryStore):
        async def open(self, run: Run) -> Sequence[str]:
            raise OSError("away")

    with Recovery(store=Away()) as service:
        resumption = service.resume()
        assert not resumption.loaded.wait(0.01)
        service.journal.skip_pending()
        assert resumption.wait(10.0)
    assert resumption.calls == []


# The close


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


def test_events_after_the_close_are_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with Recovery(store=MemoryStore()) as service:
        pass
    for _ in range(2):
        service.bus.publish(gave_up())
    assert service.journal.dropped == 2
    assert caplog.text.count("the journal is closed") == 1


def test_d12_a_call_after_a_close_before_the_first_call_does_not_wait() -> None:
    service = Recovery(store=MemoryStore())
    service.close()
    began = time.monotonic()
    service.recoverable("fetch", resumable=True, **FAST)(lambda script: script())(Script(ConnectionError()))
    with pytest.raises(NotDurable, match="closed"):
        service.journal.receipt().wait()
    assert time.monotonic() - began < 2.0


STUCK = """
import asyncio
from adapters.memory import MemoryStore
from recovery import Recovery
from recovery.journal.config import JournalConfig
class Stuck(MemoryStore):
    async def append(self, rows):
        await asyncio.sleep(3600)
service = Recovery(store=Stuck(), journal_config=JournalConfig(close_timeout=0.1))
with service:
    try: service.recoverable("fetch", max_retries=0)(lambda: open("/nonexistent"))()
    except OSError: pass
"""


def test_d12_a_store_that_hangs_holds_the_exit_no_longer_than_it_may() -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", STUCK], timeout=60, check=True, capture_output=True, text=True)
    assert time.monotonic() - began < 10.0
    assert done.stderr.count("did not finish within 0.1 s") == 1


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
def test_a_journal_that_is_never_closed_is_written_at_the_exit(end: str, tmp_path: Path) -> None:
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


# Forks


@needs_fork
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


@needs_fork
def test_d13_a_store_that_cannot_be_forked_does_not_hinder_others() -> None:
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
            service.journal.receipt().wait(2.0)
            os._exit(0 if time.monotonic() - began < 2.0 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# What users see


def test_a_service_without_a_store_has_no_thread() -> None:
    before = threading.active_count()
    with Recovery() as service:
        script = Script(ConnectionError())
        service.recoverable(**FAST)(lambda: script())()
        assert threading.active_count() == before


def test_importing_recovery_loads_nothing_heavy() -> None:
    program = (
        "import sys, recovery; print([m for m in ('asyncio', 'sqlite3', 'trio', 'aiosqlite') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


def test_the_run_says_what_its_clocks_mean() -> None:
    run = Recovery(store=MemoryStore()).journal.run
    assert run.pid == os.getpid()
    assert abs(run.wall - time.time()) < 60.0


def test_a_journal_shows_a_user_ten_names_and_its_state() -> None:
    with Recovery(store=MemoryStore()) as service:
        service.bus.publish(gave_up())
        service.journal.receipt().wait()
        assert repr(service.journal) == "<Journal: 1 events stored, 0 waiting>"
    service.bus.publish(gave_up())
    assert repr(service.journal) == "<Journal: closed, 1 events stored, 0 waiting, 1 dropped>"
    assert [name for name in dir(service.journal) if not name.startswith("_")] == [
        *("backlog", "close", "counts", "dropped", "pending"),
        *("reason", "receipt", "run", "seal", "skip_pending"),
    ]
