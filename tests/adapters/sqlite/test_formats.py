"""A journal of an earlier format is quarantined whole; one of a newer format is never written (D15)."""

from __future__ import annotations

import asyncio
import zlib
from pathlib import Path

import pytest

from adapters.journals.status import read_status
from adapters.sqlite.schema import SCHEMA_VERSION, TABLES, plain
from adapters.sqlite.store import SQLiteStore
from events.journal_events import JournalDegraded, JournalQuarantined
from recovery.journal.errors import DamagedJournalError
from recovery.service import Recovery
from recovery.testing import Script
from tests.adapters.sqlite import journals
from tests.adapters.sqlite.test_kill import eventually
from tests.recorded_events import events_of

EARLIER = f"has file format {SCHEMA_VERSION - 1}, and this release reads format {SCHEMA_VERSION}"


def test_d15_other_tables_need_another_format_number() -> None:
    assert (SCHEMA_VERSION, zlib.crc32("\n".join(map(plain, TABLES)).encode())) == (5, 3725848185)


def journal_of_format(number: int, path: Path) -> dict[str, bytes]:
    """Leave a journal of a killed process that says it has that format; the content of its files, by their ending."""
    path.parent.mkdir(exist_ok=True)
    journals.write(path, journals.rows_of([journals.started("c")]))
    with journals.plain(path) as connection:
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute(
            "INSERT INTO runs VALUES ('later', 'boot', 1.0, 2.0, 3, 4.0, 5)"
        )  # is in the log when it is copied
        ours = [path, path.with_name(f"{path.name}-wal")]
        found = {one.name.removeprefix(path.name): one.read_bytes() for one in ours}
    for ending, data in found.items():
        path.with_name(path.name + ending).write_bytes(data)
    return found


def quarantined(path: Path) -> dict[str, bytes]:
    """What is kept of the journal *path*, by the ending of its name."""
    kept = [one for one in path.parent.glob(f"{path.name}.damaged-*") if not one.name.endswith("-shm")]
    return {"-wal" if one.name.endswith("-wal") else "": one.read_bytes() for one in kept}


@pytest.mark.parametrize("name", ["calls.db", "calls.db.d/dead.db"], ids=["the journal", "of a dead process"])
def test_d15_a_file_of_an_earlier_format_is_quarantined_once(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = journal_of_format(SCHEMA_VERSION - 1, tmp_path / name)
    for _ in range(2):
        with Recovery(store=SQLiteStore(tmp_path / "calls.db")) as service:
            assert service.journal is not None
            assert service.journal.pending(5.0).calls == ()
            assert service.journal.reason is None
    assert quarantined(tmp_path / name) == before
    [record] = caplog.records
    assert EARLIER in record.message


def test_d15_status_does_not_read_an_earlier_format_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    before = journal_of_format(SCHEMA_VERSION - 1, path)
    with pytest.raises(DamagedJournalError, match=EARLIER):
        asyncio.run(read_status(path))
    assert {ending: path.with_name(path.name + ending).read_bytes() for ending in before} == before


def test_d15_a_newer_file_is_never_written_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    journals.write(path, journals.rows_of([journals.started("c")]))
    with journals.plain(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    service = Recovery(store=SQLiteStore(path))
    received = events_of(service, JournalDegraded, JournalQuarantined)
    with service:
        assert service.recoverable("fetch", initial_delay=0.0)(Script(ConnectionError()))() == "done"
        eventually(lambda: received)
    [event] = received
    assert isinstance(event, JournalDegraded)
    assert "newer release" in event.reason
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["calls.db"]
