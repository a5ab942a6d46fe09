"""What a journal writes, what it does at the end and in a forked child, and what users see of it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.memory import MemoryStore
from adapters.sqlite.reading import reading
from adapters.sqlite.store import SQLiteStore
from events.bus import Bus
from events.journal_events import JournalDegraded
from events.operation_events import RetryScheduled
from recovery.journal.config import JOURNAL_DEFAULTS, JournalConfig
from recovery.journal.errors import NotDurable
from recovery.service import Recovery
from recovery.testing import FaultyStore, Script
from tests.recorded_events import events_of, names
from tests.recovery.journal.stores import Gated, core_of, gave_up, kinds
from tests.slow import few

FAST = {"initial_delay": 0.0}
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


# What is written


def test_the_evidence_of_a_failure_is_written_once() -> None:
    store = MemoryStore()
    with Recovery(store=store) as service, pytest.raises(ConnectionError):
        service.recoverable("fetch", max_retries=1, **FAST)(Script(*[ConnectionError("reset")] * 2))()
    written = [(row.kind, row.body.count(b"reset")) for row in store.rows]
    assert written == [("FailureClassified", 1), ("RetryScheduled", 0), ("FailureClassified", 1), ("GaveUp", 0)]


@pytest.mark.parametrize(
    ("settings", "at_first", "after_a_failure"),
    [
        ({}, [], ["FailureClassified", "RetryScheduled", "OperationRecovered"]),
        (
            {"durability": "journal"},
            ["OperationStarted", "OperationSucceeded"],
            ["OperationStarted", "FailureClassified", "RetryScheduled", "OperationStarted", "OperationRecovered"],
        ),
        ({"durability": "off"}, [], []),
        ({"enable_persistence": False}, [], []),
    ],
)
def test_the_durability_of_an_operation_says_what_is_written(
    settings: dict[str, Any], at_first: list[str], after_a_failure: list[str]
) -> None:
    for errors, written in (([], at_first), ([ConnectionError()], after_a_failure)):
        store = MemoryStore()
        with Recovery(store=store) as service:
            for _ in range(2):  # an operation that is defined twice is written once
                call = service.recoverable("fetch", **FAST, **settings)(lambda script: script())
            call(Script(*errors))
        assert kinds(store) == written


def test_events_are_written_in_the_order_published() -> None:
    store = Gated()
    with Recovery(store=store) as service:
        began = time.monotonic()
        for number in range(3000):
            service.bus.publish(gave_up(number))
        assert time.monotonic() - began < 5.0  # the store that stalls does not hold the publisher
        assert store.batches == 0
        store.gate.set()
    assert [row.call for row in store.rows] == [f"call-{number}" for number in range(3000)]


def test_a_batch_holds_all_that_arrived_during_the_last() -> None:
    store = Gated()
    with Recovery(store=store) as service:
        for number in range(400):
            service.bus.publish(gave_up(number))
        store.gate.set()
    assert store.batches <= 3


@pytest.mark.parametrize("poll_after_batch", [0.0, JOURNAL_DEFAULTS.poll_after_batch])
def test_d6_an_event_is_written_soon_whether_the_writer_rests_or_polls(poll_after_batch: float) -> None:
    bus, took = Bus(), []
    with closing(core_of(MemoryStore(), bus, poll_after_batch=poll_after_batch)) as core:
        bus.publish(gave_up())
        core.tracker.receipt().wait()  # the thread runs
        for number in range(20):
            began = time.monotonic()
            bus.publish(gave_up(number))
            while core.queue.counts.waiting:
                time.sleep(0.0005)
            took.append(time.monotonic() - began)
    assert sorted(took)[len(took) // 2] < 0.02 + 0.02  # the flush interval, and a commit on a busy machine


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
    service = Recovery(store=FaultyStore(MemoryStore(), fail_at=3, sticky=True))
    received = events_of(service, JournalDegraded)
    with service:
        call = service.recoverable("fetch", resumable=True, **FAST)(lambda script: script())
        assert [call(Script(ConnectionError())) for _ in range(2)] == ["done", "done"]
    assert names(received) == ["JournalDegraded"]
    assert "injected fault" in caplog.text


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "journal.db"
    with Recovery(store=SQLiteStore(path)) as service, caplog.at_level(logging.WARNING, "recovery"):
        service.journal.pending(0.2)
        assert service.recoverable("fetch", resumable=True)(lambda: "done")() == "done"
    assert str(path.parent) in caplog.text


def test_skipping_the_pending_calls_ends_the_wait_for_a_failing_store() -> None:
    with Recovery(store=FaultyStore(MemoryStore(), fail_at=1, sticky=True)) as service:
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


@pytest.mark.parametrize("calls_before", [0, 1])
def test_d12_calls_after_the_close_run_unjournalled_and_do_not_wait(calls_before: int) -> None:
    store = MemoryStore()
    with Recovery(store=store) as service:
        call = service.recoverable("fetch", resumable=True, **FAST)(lambda script: script())
        for _ in range(calls_before):
            call(Script())
    began = time.monotonic()
    assert call(Script(ConnectionError())) == "done"
    with pytest.raises(NotDurable, match="closed"):
        service.journal.receipt().wait()
    assert time.monotonic() - began < 2.0
    assert len(store.rows) == 2 * calls_before


def test_events_after_the_close_are_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    service = Recovery(store=MemoryStore())
    service.close()
    for _ in range(2):
        service.bus.publish(gave_up())
    assert service.journal.counts.dropped == 2
    assert caplog.text.count("the journal is closed") == 1


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
    assert done.stderr.count("did not end in 0.1 s") == 1


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
    "end",
    few(["", "sys.exit(0)", "raise SystemExit", "import os, signal; os.kill(os.getpid(), signal.SIGINT)"], every=3),
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
    async with reading(path) as reader:
        return [row.kind for row in await reader.rows()]


# Forks


@needs_fork
def test_d13_a_forked_child_and_its_parent_go_on_at_once_even_if_one_store_cannot_be_forked() -> None:
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
        for call in calls:
            call(Script())


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


def test_a_journal_shows_a_user_eleven_names_and_its_state() -> None:
    with Recovery(store=MemoryStore()) as service:
        service.bus.publish(gave_up())
        service.journal.receipt().wait()
        assert repr(service.journal) == "<Journal: 1 events stored, 0 waiting>"
    service.bus.publish(gave_up())
    assert repr(service.journal) == "<Journal: closed, 1 events stored, 0 waiting, 1 dropped>"
    assert [name for name in dir(service.journal) if not name.startswith("_")] == [
        *("backlog", "close", "counts", "is_closed", "pending"),
        *("reason", "receipt", "run", "seal", "skip_pending", "store"),
    ]


@pytest.mark.parametrize("field", JournalConfig.__struct_fields__)
def test_a_limit_that_is_no_number_from_zero_on_is_refused_by_name(field: str) -> None:
    for value, error in (("much", TypeError), (-1, ValueError)):
        with pytest.raises(error, match=field):
            JournalConfig(**{field: value})


def test_a_journal_config_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a JournalConfig"):
        Recovery(journal_config={"capacity": 5})
