"""Where the journal's file cannot be written for a while (D8), each time for a real cause."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import gc
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, cast

import aiosqlite
import msgspec
import pytest

from adapters.sqlite.reading import Reader
from adapters.sqlite.store import SQLiteStore
from events.journal_events import JournalDegraded, JournalRestored
from recovery.journal.config import JournalConfig
from recovery.journal.errors import DamagedJournalError, JournalError
from recovery.service import Recovery
from recovery.testing import Script
from tests.adapters.sqlite import journals
from tests.adapters.sqlite.test_kill import eventually
from tests.recorded_events import events_of, names
from tests.slow import few
from tests.small_disk import small_disk

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
"""


@contextmanager
def holding(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has begun a transaction, and was stopped."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.wait(10)
        assert process.stdin is not None
        process.stdin.close()
        process.stdout.close()  # type: ignore[union-attr]


def calls_of(path: Path) -> list[str]:
    with journals.plain(path) as connection:
        return [call for (call,) in connection.execute("SELECT call FROM events WHERE kind = 'GaveUp' ORDER BY id")]


def publish(service: Recovery, first: int, count: int) -> float:
    """Publish *count* events; how many seconds the slowest took, without the collector: other tests left much to it."""
    slowest = 0.0
    gc.disable()
    try:
        for number in range(first, first + count):
            began = time.perf_counter()
            service.bus.publish(journals.gave_up(f"call-{number}"))
            slowest = max(slowest, time.perf_counter() - began)
    finally:
        gc.enable()
    return slowest


@pytest.mark.parametrize("end", few(["goes on", "is killed"], "is killed"))
@pytest.mark.slow
def test_d8_a_lock_of_another_program_is_waited_out_in_memory(end: str, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    assert signature(SQLiteStore).parameters["busy_timeout"].default == 5.0  # as promised
    service = Recovery(store=SQLiteStore(path, busy_timeout=0.5))
    received = events_of(service, JournalDegraded, JournalRestored)
    with service:
        journal = service.journal
        assert journal is not None
        publish(service, 0, 100)
        journal.receipt().wait(5.0)
        with holding(path) as holder:
            began = time.monotonic()
            slowest = publish(service, 100, 1000)
            assert service.recoverable("fetch", initial_delay=0.0)(Script(ConnectionError()))() == "done"
            eventually(lambda: journal.reason is not None)
            assert 0.45 < time.monotonic() - began < 4.5
            assert "locked" in str(journal.reason)
            slowest = max(slowest, publish(service, 1100, 1000))
            if end == "goes on":
                holder.send_signal(signal.SIGCONT)
                assert holder.stdin is not None
                holder.stdin.write("\n")
                holder.stdin.flush()
            else:
                holder.kill()
            eventually(lambda: journal.reason is None)
        journal.receipt().wait(5.0)
        assert journal.counts.dropped == 0
    assert slowest < 0.1
    assert names(received) == ["JournalDegraded", "JournalRestored"]
    assert calls_of(path) == [f"call-{number}" for number in range(2100)]


@contextmanager
def nearly_full(_: Path) -> Iterator[tuple[Path, Callable[[], object]]]:
    """A file system of one megabyte that is nearly full, and a function that makes room."""
    with small_disk("1m") as folder:
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(800_000))
        yield folder, ballast.unlink


@contextmanager
def small_files(folder: Path) -> Iterator[tuple[Path, Callable[[], object]]]:
    """A limit on the size of files, and a function that lifts it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    lift = partial(resource.setrlimit, resource.RLIMIT_FSIZE, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        yield folder, lift
    finally:
        lift()


@pytest.mark.parametrize(("limiting", "reason"), [(nearly_full, "full"), (small_files, "disk I/O error")])
def test_d8_a_full_disk_is_waited_out_in_memory(limiting: Any, reason: str, tmp_path: Path) -> None:
    with limiting(tmp_path) as (disk, make_room):
        path = disk / "journal" / "calls.db"
        service = Recovery(store=SQLiteStore(path))
        received = events_of(service, JournalDegraded, JournalRestored)
        with service:
            journal = service.journal
            assert journal is not None
            publish(service, 0, 1500)
            eventually(lambda: journal.reason is not None)
            assert reason in str(journal.reason)
            publish(service, 1500, 100)
            make_room()
            eventually(lambda: journal.reason is None)
            journal.receipt().wait(5.0)
            assert journal.counts.dropped == 0
        assert names(received) == ["JournalDegraded", "JournalRestored"]
        assert calls_of(path) == [f"call-{number}" for number in range(1600)]


@pytest.mark.parametrize(("code", "is_damage"), [(10, False), (266, False), (7, False), (11, True), (267, True)])
def test_d8_a_page_that_the_disk_does_not_give_is_no_damage(code: int, is_damage: bool, tmp_path: Path) -> None:
    class FailingDisk:  # which cannot be had here; that is how SQLite's check reports it
        async def execute_fetchall(self, _pragma: str) -> list[tuple[str]]:
            return [(f"*** in database main ***\nTree 2 page 3: unable to get the page. error code={code}",)]

    async def main() -> None:
        await Reader(cast("aiosqlite.Connection", FailingDisk())).check(tmp_path)

    with pytest.raises(JournalError, match="unable to get the page") as raised:
        asyncio.run(main())
    assert isinstance(raised.value, DamagedJournalError) == is_damage


# In a process of its own

UNPRIVILEGED = """
import json, os, sys, tempfile, time
from adapters.sqlite.store import SQLiteStore
from events.operation_events import GaveUp
from events.journal_events import JournalDegraded, JournalRestored
from recovery.journal.config import JournalConfig
from recovery.service import Recovery
from recovery.testing import Script

path = sys.argv[1]
with tempfile.TemporaryDirectory() as elsewhere, Recovery(store=SQLiteStore(elsewhere + "/calls.db")) as service:
    service.bus.publish(GaveUp(at=0.0, operation="fetch", call="first"))
    service.journal.receipt().wait(5.0)  # what is imported late is imported now, while it may be read
    service.close()
if os.geteuid() == 0:
    os.setuid(65534)

class Store(SQLiteStore):
    tries = 0

    async def open(self, run):
        self.tries += 1
        return await super().open(run)

store = Store(path)
service, received = Recovery(store=store, journal_config=JournalConfig(first_pause=0.01)), []
service.bus.subscribe((JournalDegraded, JournalRestored), lambda event: received.append(type(event).__name__))
with service:
    for number in range(100):
        service.bus.publish(GaveUp(at=0.0, operation="fetch", call=f"call-{number}"))
    assert service.recoverable("fetch", initial_delay=0.0)(Script(ConnectionError()))() == "done"
    end = time.monotonic() + 10.0
    while not (service.journal.reason and store.tries > 3):
        assert time.monotonic() < end
        time.sleep(0.005)
    print(json.dumps({"received": received, "reason": service.journal.reason}))
"""


def run(script: str, path: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return msgspec.json.decode(done.stdout, type=dict[str, Any])


@pytest.mark.parametrize("exists", [False, True], ids=["new", "there"])
def test_d8_a_folder_that_may_only_be_read_means_memory_and_is_said_once(exists: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if exists:
            journals.write(folder / "calls.db", journals.rows_of([journals.started("c")]))
        for one in folder.iterdir():
            one.chmod(0o444)
        folder.chmod(0o555)
        before = {one.name: one.read_bytes() for one in folder.iterdir()}
        output = run(UNPRIVILEGED, folder / "calls.db")
        assert {one.name: one.read_bytes() for one in folder.iterdir()} == before
        folder.chmod(0o755)
    assert output["received"] == ["JournalDegraded"]
    # Where root runs the tests, the file that is there is root's.
    expected = "belongs to another user" if exists and os.getuid() == 0 else "ermission denied"
    assert expected in output["reason"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_d8_a_file_system_without_locks_means_memory_and_is_said_once(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # There is no network file system here. What it answers is known, and all that we see of it.
    asked: list[int] = []

    def flock(file: int, _operation: int) -> None:
        asked.append(file)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    service = Recovery(store=SQLiteStore(tmp_path / "calls.db"), journal_config=JournalConfig(first_pause=0.01))
    received = events_of(service, JournalDegraded)
    with service:
        publish(service, 0, 10)
        assert service.recoverable("fetch", initial_delay=0.0)(Script(ConnectionError()))() == "done"
        eventually(lambda: len(caplog.records) > 0 and len(asked) > 3)  # it is tried again and again
    assert names(received) == ["JournalDegraded"]
    assert "a journal needs a local disk" in caplog.text
    assert not (tmp_path / "calls.db").exists()
