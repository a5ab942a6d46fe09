"""A journal whose files are removed, replaced, cut or overwritten while it is written (D3)."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from adapters.sqlite.lock import Lock, written_files
from adapters.sqlite.store import SQLiteStore
from events.journal_events import JournalDegraded, JournalRestored
from events.operation_events import GaveUp
from recovery.journal.config import JournalConfig
from recovery.journal.errors import JournalError, NotDurable
from recovery.journal.history import Run
from recovery.journal.store import Row
from recovery.service import Recovery
from tests.adapters.sqlite import journals
from tests.adapters.sqlite.test_kill import eventually
from tests.recorded_events import events_of, names
from tests.slow import few

RUN = Run(id="r1", boot="boot", monotonic=1.0, wall=2.0, pid=3)
OTHER = Run(id="r2", boot="boot", monotonic=1.0, wall=2.0, pid=4)
RESTORED = [f"restored-{number}" for number in range(600)]


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    path = tmp_path / "backup" / "backup.db"
    journals.write(path, journals.rows_of([journals.started(call) for call in RESTORED]))
    return path


def remove(*endings: str) -> Callable[[Path, Path], None]:
    def do(path: Path, _: Path) -> None:
        for name in path.parent.iterdir() if not endings else [path.with_name(path.name + end) for end in endings]:
            shutil.rmtree(name) if name.is_dir() else name.unlink()

    return do


def cut(ending: str, size: int) -> Callable[[Path, Path], None]:
    return lambda path, _: os.truncate(path.with_name(path.name + ending), size)


def move_backup(path: Path, backup: Path) -> None:
    shutil.copy(backup, path.with_name("backup.db"))
    path.with_name("backup.db").rename(path)


def copy_backup(path: Path, backup: Path) -> None:
    shutil.copyfile(backup, path)


def replace(ending: str) -> Callable[[Path, Path], None]:
    def do(path: Path, _: Path) -> None:
        other = path.with_name("other")
        other.write_bytes(b"other")
        other.rename(path.with_name(path.name + ending))

    return do


def overwrite_log(path: Path, _: Path) -> None:
    with path.with_name("calls.db-wal").open("r+b") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(200)
        log.write(b"no log" * (size // 6))


def move_away(path: Path, _: Path) -> None:
    path.rename(path.with_name("away.db"))


def move_folder(path: Path, _: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


WHOLE = {
    "the file is removed": remove(""),
    "the file is moved": move_away,
    "the folder is moved": move_folder,
    "a backup is moved there": move_backup,
    "the log is removed": remove("-wal"),
    "the log is replaced": replace("-wal"),
    "the index is removed": remove("-shm"),
    "the lock is removed": remove("-lock"),
    "the lock is replaced": replace("-lock"),
    "file and log are removed": remove("", "-wal"),
    "file and lock are removed": remove("", "-lock"),
    "all is removed": remove(),
}
"""After these, all that was acknowledged is still there."""
NOT_WHOLE = {
    "a backup is copied there": copy_backup,
    "the file is cut": cut("", 0),
    "the file is cut at a page": cut("", 4096),
    "the log is cut": cut("-wal", 0),
    "the log is cut in the middle": cut("-wal", 5000),
    "the log is overwritten": lambda path, _: path.with_name("calls.db-wal").write_bytes(b"no log" * 50_000),
    "the log is overwritten behind its beginning": overwrite_log,
}
"""These destroy something themselves."""


def found_in(folder: Path) -> dict[str, list[str]]:
    """The calls in each database below *folder*, each sound, as a kill at this moment leaves them."""
    with TemporaryDirectory() as copies:
        # By a process of its own: this one must not close a file on which its SQLite has locks.
        subprocess.run(["cp", "-r", folder, copies], check=True)
        files = [
            path for path in Path(copies).rglob("*") if path.is_file() and b"SQLite format" in path.read_bytes()[:16]
        ]
        whole = [path for path in files if ".damaged-" not in path.name]
        return {str(path.relative_to(Path(copies) / folder.name)): calls_in(path) for path in whole}


def calls_in(path: Path) -> list[str]:
    with journals.plain(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [call for (call,) in connection.execute("SELECT call FROM events WHERE call <> '' ORDER BY id")]


def acknowledge(service: Recovery, calls: list[str]) -> None:
    """Publish the end of each of *calls*, and wait until a receipt says that it is written."""
    assert service.journal is not None
    for call in calls:
        service.bus.publish(journals.gave_up(call))
        receipt, end = service.journal.receipt(), time.monotonic() + 10.0
        while receipt.why_not() is not None:
            assert time.monotonic() < end, receipt
            with suppress(NotDurable):
                receipt.wait(1.0)


FEW = ("a backup is moved there",)


@pytest.mark.parametrize("mishap", few([*WHOLE, *NOT_WHOLE], *FEW))
def test_d3_no_receipt_is_false_after_a_mishap_to_an_open_file(mishap: str, backup: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal" / "calls.db"
    early = [f"early-{number}" for number in range(2000)]  # enough for SQLite to write the log back
    before = [f"before-{number}" for number in range(50)]
    after = [f"after-{number}" for number in range(30)]
    with Recovery(store=SQLiteStore(path), journal_config=JournalConfig(first_pause=0.01, capacity=50_000)) as service:
        received = events_of(service, JournalDegraded, JournalRestored)
        for call in early:
            service.bus.publish(GaveUp(at=0.0, operation="render", call=call, reason="no " * 1000))
        acknowledge(service, before)
        assert path.stat().st_size > 100_000
        {**WHOLE, **NOT_WHOLE}[mishap](path, backup)
        acknowledge(service, after)
        found = found_in(tmp_path)
    said = names(received)
    assert (said[0], said[-1]) == ("JournalDegraded", "JournalRestored")
    assert found["journal/calls.db"][-30:] == after
    if mishap in WHOLE:
        assert {*early, *before, *after} <= {call for calls in found.values() for call in calls}
    if "backup" in mishap:
        assert found["journal/calls.db"][:-30] == RESTORED
    assert found_in(tmp_path) == found, "the close changed something"


class During(list[Row]):
    """Rows that let *happen* act while they are being written, in the middle of a transaction."""

    happen: Callable[[], object] = list

    def __getitem__(self, index: Any) -> Any:
        self.happen()
        return super().__getitem__(index)


@pytest.mark.parametrize(
    ("mishap", "batches"),
    # A young file has one page, and everything else is in its log.
    few(
        [(one, 2) for one in [*WHOLE, *NOT_WHOLE] if one != "the file is cut at a page"]
        + [(one, 20) for one in [*WHOLE, *NOT_WHOLE]],
        every=4,
    ),
)
def test_d3_a_mishap_in_the_middle_of_a_transaction_is_noticed_at_its_end(
    mishap: str, batches: int, backup: Path, tmp_path: Path
) -> None:
    path = tmp_path / "journal" / "calls.db"

    async def main() -> None:
        store = SQLiteStore(path)
        await store.open(RUN)
        for first in range(1, 100 * batches, 100):
            events = [GaveUp(at=0.0, operation="render", call=f"call-{n}", reason="no " * 1000) for n in range(100)]
            await store.append(journals.rows_of(events, first, run=RUN.id))
        rows = During(journals.rows_of([journals.gave_up("last")], 3001, run=RUN.id))
        rows.happen = lambda: {**WHOLE, **NOT_WHOLE}[mishap](path, backup)
        with pytest.raises(JournalError):
            await store.append(rows)
        with suppress(JournalError):  # a file is being overwritten
            await store.open(RUN)
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "mishap", few(["the lock is removed", "the log is removed", "a backup is moved there"], "a backup is moved there")
)
@pytest.mark.slow
def test_d3_an_idle_journal_notices_a_mishap_within_a_second(mishap: str, backup: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal" / "calls.db"
    with Recovery(store=SQLiteStore(path)) as service:
        received = events_of(service, JournalDegraded, JournalRestored)
        acknowledge(service, ["before"])
        time.sleep(0.6)  # it has come to rest
        WHOLE[mishap](path, backup)
        eventually(lambda: names(received) == ["JournalDegraded", "JournalRestored"], within=1.5)
        assert written_files(path) == [path]
        found = found_in(tmp_path)["journal/calls.db"]
    assert found == (RESTORED if "backup" in mishap else ["before"])


@pytest.mark.parametrize("first", [True, False], ids=["before another process", "after another process"])
def test_d3_a_process_whose_lock_was_removed_never_shares_its_file(first: bool, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"

    async def main() -> None:
        store, other = SQLiteStore(path), SQLiteStore(path)
        await store.open(RUN)
        await store.append(journals.rows_of([journals.started("call")], run=RUN.id))
        Lock(path).path.unlink()
        for one, run in [(store, RUN), (other, OTHER)] if first else [(other, OTHER), (store, RUN)]:
            if one is store:
                with pytest.raises(JournalError, match="another process may write"):
                    await store.append([])
            await one.open(run)
        assert (store.own == path, other.own == path) == (first, not first)
        await store.append(journals.rows_of([journals.gave_up("call")], 2, run=RUN.id))
        await other.append(journals.rows_of([journals.gave_up("other")], run=OTHER.id))
        await store.close()
        await other.close()

    asyncio.run(main())
    found = found_in(tmp_path)
    assert sorted(call for calls in found.values() for call in calls) == ["call", "call", "other"]


def test_d3_another_program_that_writes_by_sqlites_rules_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "journal" / "calls.db"
    script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.executescript(sys.argv[2])"
    with Recovery(store=SQLiteStore(path)) as service:
        received = events_of(service, JournalDegraded)
        for number in range(5):
            acknowledge(service, [f"before-{number}", f"after-{number}"])
            change = f"DELETE FROM events WHERE call = 'before-{number}'; PRAGMA wal_checkpoint(TRUNCATE); VACUUM;"
            subprocess.run([sys.executable, "-c", script, path, change], check=True)
        acknowledge(service, ["last"])
    assert not received
    assert found_in(tmp_path) == {"journal/calls.db": [*(f"after-{number}" for number in range(5)), "last"]}


CHECKPOINTS = """
import sqlite3, sys, time
end = time.monotonic() + 1.5
print("ready", flush=True)
while time.monotonic() < end:
    connection = sqlite3.connect(sys.argv[1])
    connection.execute(f"PRAGMA wal_checkpoint({sys.argv[2]})")
    connection.close()
"""


@pytest.mark.parametrize("mode", few(["PASSIVE", "FULL", "RESTART", "TRUNCATE"], "TRUNCATE"))
@pytest.mark.slow
def test_d3_another_program_that_writes_the_log_back_does_no_harm(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "journal" / "calls.db"
    with Recovery(store=SQLiteStore(path)) as service:
        received = events_of(service, JournalDegraded)
        acknowledge(service, ["first"])
        other = subprocess.Popen([sys.executable, "-c", CHECKPOINTS, path, mode], stdout=subprocess.PIPE)
        with other:
            assert other.stdout is not None
            other.stdout.readline()
            calls: list[str] = []
            while other.poll() is None:
                acknowledge(service, new := [f"call-{number}" for number in range(len(calls), len(calls) + 10)])
                calls += new
    assert other.returncode == 0
    assert not received
    assert found_in(tmp_path) == {"journal/calls.db": ["first", *calls]}


def test_d3_a_log_that_readers_keep_from_being_written_back_whole_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"

    async def main() -> None:
        store = SQLiteStore(path)
        await store.open(RUN)
        for first in range(1, 6000, 150):
            with journals.plain(path) as reader:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM events").fetchall()
                for number in range(first, first + 150, 50):
                    events = [GaveUp(at=0.0, operation="o", call=f"call-{n}", reason="no " * 1000) for n in range(50)]
                    await store.append(journals.rows_of(events, number, run=RUN.id))
        await store.close()

    asyncio.run(main())


def test_d3_a_removed_file_is_kept_as_soon_as_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"

    async def main() -> None:
        store = SQLiteStore(path)
        await store.open(RUN)
        await store.append(journals.rows_of([journals.started(f"call-{number}") for number in range(2000)]))
        path.unlink()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            with pytest.raises(JournalError, match="what it held cannot be kept"):
                await store.open(RUN)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        [kept] = await store.open(RUN)
        assert "what it held is kept as" in kept
        await store.close()

    asyncio.run(main())
    assert sorted(map(len, found_in(tmp_path).values())) == [0, 2000]
