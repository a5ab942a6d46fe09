"""Damaged files and files that are no journal (D9), and damaged rows (D10)."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from adapters.journals.status import read_status
from adapters.sqlite.store import SQLiteStore
from events.journal_events import JournalQuarantined
from recovery.journal.config import JournalConfig
from recovery.journal.store import Row
from recovery.service import Recovery
from recovery.testing import Script
from tests.adapters.sqlite import journals
from tests.adapters.sqlite.corruptions import DAMAGED, FOREIGN, Corruption, flip
from tests.adapters.sqlite.test_kill import eventually
from tests.recorded_events import events_of
from tests.slow import few

IN_FILE = [f"dead-{number}" for number in range(500, 520)]
IN_LOG = [f"dead-{number}" for number in range(600, 610)]
"""Calls that were not over, in the order of their commits."""


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of a killed process: finished and pending calls in the file, more pending ones in its log."""
    path = tmp_path_factory.mktemp("sound") / "calls.db"
    finished = [f"dead-{number}" for number in range(400)]
    events = [event for call in finished for event in (journals.started(call), journals.succeeded(call))]
    events += [journals.started(call) for call in IN_FILE] + [journals.circuit_opened("render")]
    journals.write(path, journals.rows_of(events))
    doomed = journals.rows_of([journals.started(f"old-{number}") for number in range(400)], 2000)
    journals.write(path, doomed)
    with journals.plain(path) as connection:
        connection.execute("DELETE FROM events WHERE call LIKE 'old-%'")  # leaves pages that are free
    journals.write_and_die(
        path, *[journals.rows_of([journals.started(call)], 5000 + n) for n, call in enumerate(IN_LOG)]
    )
    return path


@pytest.mark.parametrize("corruption", [*few(DAMAGED, every=9), *FOREIGN], ids=lambda corruption: corruption.name)
def test_d9_a_damaged_file_is_kept_or_refused_and_the_service_works(
    corruption: Corruption, sound: Path, tmp_path: Path
) -> None:
    path = tmp_path / "journal" / "calls.db"
    shutil.copytree(sound.parent, path.parent)
    path.with_name("calls.db-lock").unlink(missing_ok=True)
    corruption.do(path)
    before = journals.contents(path.parent)
    service = Recovery(store=SQLiteStore(path), journal_config=JournalConfig(first_pause=0.02))
    quarantined = events_of(service, JournalQuarantined)
    began = time.monotonic()
    with service:
        call = service.recoverable("fetch", resumable=True, initial_delay=0.0)(lambda script: script())
        assert call(Script(ConnectionError())) == "done"
        assert service.journal is not None
        took = time.monotonic() - began
        # Of one that is refused nothing will be known, however long one waits; by then it has been tried three times.
        pending = service.journal.pending(timeout=0.1 if corruption.fates == ("refused",) else 1.0)
        reason = service.journal.reason
        if reason is None:
            service.journal.receipt().wait(5.0)
    assert took < 2.0
    after = journals.contents(path.parent)

    kept = {name for name in after if ".damaged-" in name}
    assert bool(kept) == bool(quarantined), (kept, quarantined)
    calls = [record.call for record in pending.calls]
    known = {*calls, *pending.unreadable}
    assert len(calls) == len(set(calls))
    assert set(calls) <= {*IN_FILE, *IN_LOG}, "a call that is over is resumed"
    if reason is not None:
        fate = "refused"
        assert {name: after.get(name) for name in before} == before
    elif kept:
        fate = "kept"
        assert {*before.values()} <= {*after.values()}, "what was there is not kept as it was"
        assert not known, "a file that is not believed was read"
    else:
        fate = "used"
        there = [call for call in IN_LOG if call in known]
        assert known >= {*IN_FILE, *(() if corruption.cuts else IN_LOG)}, "committed calls are lost silently"
        assert there == IN_LOG[: len(there)]
    assert fate in corruption.fates, (fate, reason, quarantined)
    if reason is None:
        with journals.plain(path) as connection:
            ours = "SELECT count(*) FROM events WHERE run = ? AND kind = 'OperationRecovered'"
            assert connection.execute(ours, (service.bus.run,)).fetchone() == (1,)
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# A row that is not as it was written (D10)

ROW = b"dead" + b"dead-507" + b"OperationStarted"
PAYLOAD = len(ROW)


def find(path: Path, what: bytes) -> int:
    data = path.read_bytes()
    assert data.count(what) == 1
    return data.index(what)


@pytest.mark.parametrize("bit", few([0, 2, 5, 7], 5))
def test_d10_a_flipped_bit_in_a_payload_makes_one_call_unreadable(bit: int, sound: Path, tmp_path: Path) -> None:
    for place in range(0, 60, 7):
        path = tmp_path / str(place) / "calls.db"
        shutil.copytree(sound.parent, path.parent)
        flip(path, find(path, ROW) + PAYLOAD + place, bit)
        with Recovery(store=SQLiteStore(path)) as service:
            assert service.journal is not None
            pending = service.journal.pending(timeout=5.0)
        assert pending.unreadable == ("dead-507",)
        assert {record.call for record in pending.calls} == {*IN_FILE, *IN_LOG} - {"dead-507"}


@pytest.mark.parametrize("column", ["run", "call", "kind", "number"])
def test_d9_a_row_that_contradicts_an_index_has_the_file_kept(column: str, sound: Path, tmp_path: Path) -> None:
    body = journals.rows_of([journals.started("dead-507")])[0].body
    place = {"run": 0, "call": 11, "kind": 12, "number": len(ROW + body) + 1}[column]
    path = tmp_path / "journal" / "calls.db"
    shutil.copytree(sound.parent, path.parent)
    flip(path, find(path, ROW + body) + place)
    before = journals.contents(path.parent)
    with Recovery(store=SQLiteStore(path)) as service:
        assert service.journal is not None
        pending = service.journal.pending(timeout=5.0)
    assert (pending.calls, pending.unreadable) == ((), ())
    kept = {name: one for name, one in journals.contents(path.parent).items() if ".damaged-" in name}
    assert {*kept.values()} == {*before.values()}


def test_d10_status_counts_what_cannot_be_read(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal" / "calls.db"
    shutil.copytree(sound.parent, path.parent)
    flip(path, find(path, ROW) + 40)
    status = asyncio.run(read_status(path))
    assert status.unreadable == 1
    assert {call.call for call in status.calls if call.state == "left"} == {*IN_FILE, *IN_LOG} - {"dead-507"}
    assert [call.call for call in status.calls if call.state == "unreadable"] == ["dead-507"]


# Damage that is met later (D9)


@pytest.mark.parametrize("way", ["zeroes", "cut", "tables"])
def test_d9_damage_met_while_writing_is_quarantined(way: str, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    events = [
        event for number in range(2000) for event in (journals.started(f"c-{number}"), journals.gave_up(f"c-{number}"))
    ]
    journals.write(path, journals.rows_of(events))
    service = Recovery(store=SQLiteStore(path))
    quarantined = events_of(service, JournalQuarantined)
    with service:
        assert service.journal is not None
        service.bus.publish(journals.gave_up("before"))
        service.journal.receipt().wait(5.0)
        script = {
            "zeroes": "f = open(path, 'r+b'); f.seek(4096); f.write(bytes(os.path.getsize(path) - 4096)); f.close()",
            "cut": "os.truncate(path, 4096 * 3)",
            "tables": "c = sqlite3.connect(path); c.execute('DROP TABLE events'); c.commit(); c.close()",
        }[way]
        # In a process of its own, for closing the file in this one would give up SQLite's locks.
        subprocess.run([sys.executable, "-c", f"import os, sqlite3; path = {str(path)!r}; {script}"], check=True)
        deadline = time.monotonic() + 10.0
        number = 0
        while not quarantined and time.monotonic() < deadline:
            number += 1
            service.bus.publish(journals.gave_up(f"meanwhile-{number}"))
            time.sleep(0.005)
        assert quarantined, service.journal.reason
        eventually(lambda: service.journal.reason is None)
        service.journal.receipt().wait(10.0)
        assert service.journal.counts.dropped == 0
    with journals.plain(path) as connection:
        found = [
            row[0] for row in connection.execute("SELECT call FROM events WHERE call LIKE 'meanwhile-%' ORDER BY id")
        ]
    assert found
    assert [name for name in tmp_path.iterdir() if ".damaged-" in name.name]
    assert found == [f"meanwhile-{one}" for one in range(number - len(found) + 1, number + 1)]


def test_d9_a_file_that_is_removed_while_it_is_written_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    with Recovery(store=SQLiteStore(path)) as service:
        assert service.journal is not None
        service.bus.publish(journals.gave_up("before"))
        service.journal.receipt().wait(5.0)
        for name in tmp_path.iterdir():
            name.unlink()
        service.bus.publish(journals.gave_up("after"))
        eventually(path.exists)
        eventually(lambda: service.journal.reason is None)
        service.journal.receipt().wait(10.0)
    with journals.plain(path) as connection:
        assert connection.execute("SELECT call FROM events WHERE kind = 'GaveUp'").fetchall() == [("after",)]


def test_d2_a_receipt_that_is_synced_leaves_sqlite_its_locks(tmp_path: Path) -> None:
    """Else another program that reads the file removes the log that we are writing."""
    path = tmp_path / "calls.db"
    look = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM events').fetchall(); c.close()"
    )
    with Recovery(store=SQLiteStore(path)) as service:
        assert service.journal is not None
        service.bus.publish(journals.gave_up("first"))
        service.journal.receipt().wait(5.0, synced=True)
        subprocess.run([sys.executable, "-c", look, path], check=True)
        service.bus.publish(journals.gave_up("second"))
        service.journal.receipt().wait(5.0, synced=True)
        for name in ("calls.db", "calls.db-wal"):  # as a process that is killed leaves them
            shutil.copy(tmp_path / name, tmp_path / f"copy-of-{name}")
    with journals.plain(tmp_path / "copy-of-calls.db") as connection:
        assert [row[0] for row in connection.execute("SELECT call FROM events ORDER BY id")] == ["first", "second"]


class Unsteady(SQLiteStore):
    """Meets damage while it writes, as often as *fails* says, though the file looks sound when it is opened again."""

    fails = 0

    async def append(self, rows: Sequence[Row]) -> None:
        if self.fails:
            self.fails -= 1
            rows = [msgspec.structs.replace(row, run=Malformed()) for row in rows]
        await super().append(rows)


class Malformed(str):
    def __format__(self, spec: str) -> str:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT  # as SQLite's own, for a disk that answers otherwise each time
        raise error


def test_d9_damage_met_twice_is_quarantined_though_the_file_looks_sound(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    store = Unsteady(path)
    service = Recovery(store=store)
    quarantined = events_of(service, JournalQuarantined)
    with service:
        assert service.journal is not None
        service.bus.publish(journals.gave_up("first"))
        service.journal.receipt().wait(5.0)
        store.fails = 2
        service.bus.publish(journals.gave_up("again"))
        eventually(lambda: quarantined and service.journal.reason is None)
        service.journal.receipt().wait(5.0)
    assert len(quarantined) == 1
    assert [one for one in tmp_path.iterdir() if ".damaged-" in one.name]


@pytest.mark.parametrize("bit", [0, 3, 7])
@pytest.mark.parametrize("place", range(0, 8, 3))
def test_d10_a_flipped_bit_in_the_clock_of_a_run_makes_that_run_unknown(
    place: int, bit: int, sound: Path, tmp_path: Path
) -> None:
    path = tmp_path / "journal" / "calls.db"
    shutil.copytree(sound.parent, path.parent)
    path.with_name("calls.db-wal").unlink()
    flip(path, find(path, b"dead" + b"boot" + struct.pack(">d", journals.DEAD.monotonic)) + 16 + place, bit)
    status = asyncio.run(read_status(path))
    assert {call.call for call in status.calls if call.state == "left"} == set(IN_FILE)
    assert {(call.seen, call.pid) for call in status.calls} == {(0.0, 0)}
    assert status.unreadable == 1
    for _ in range(2):
        with Recovery(store=SQLiteStore(path)) as service:
            assert service.journal is not None
            pending = service.journal.pending(timeout=5.0)
            assert {record.call for record in pending.calls} == set(IN_FILE)
            assert "dead" not in pending.runs


def test_d10_a_process_whose_own_run_is_damaged_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"

    async def main() -> None:
        store = SQLiteStore(path)
        await store.open(journals.DEAD)
        with journals.plain(path) as connection:
            connection.execute("UPDATE runs SET wall = 1e300")
        await store.open(journals.DEAD)
        await store.append(journals.rows_of([journals.started("c")]))
        assert (await store.unfinished())[0] == [journals.DEAD]
        await store.close()

    asyncio.run(main())
