"""Journals of every released format stay recoverable; one of a newer format is never written (D15)."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from adapters.launcher.status import read_status
from adapters.sqlite.formats import SCHEMA_VERSION
from adapters.sqlite.store import SQLiteStore
from events.journal_events import JournalDegraded, JournalQuarantined
from recovery import context
from recovery.service import Recovery
from recovery.testing import Script
from tests.adapters.sqlite import journals
from tests.adapters.sqlite.test_kill import eventually
from tests.recorded_events import facts_of, names

GOLDEN = Path(__file__).parents[2] / "golden"
RELEASED = sorted(GOLDEN.glob("journal-*.db"))


def test_d15_every_format_has_a_golden_file() -> None:
    assert [path.name for path in RELEASED] == [f"journal-{number}.db" for number in range(1, SCHEMA_VERSION + 1)]


@pytest.fixture(params=RELEASED, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "journal" / "calls.db"
    path.parent.mkdir()
    shutil.copy(request.param, path)
    return path


def test_d15_a_call_that_an_older_release_left_is_carried_on_and_the_file_is_brought_up_to_date(old: Path) -> None:
    seen = []
    service = Recovery(store=SQLiteStore(old))
    damaged = facts_of(service, JournalQuarantined)

    @service.recoverable("render", resumable=True)
    def render(scene: str, *, fails: int = 0) -> str:
        seen.append((scene, fails, context.attempt(), context.saved()))
        return scene

    with service:
        resumed = service.resume()
        assert resumed.wait(10.0)
        assert service.journal is not None
        service.journal.receipt().wait(5.0)
    assert seen == [("last", 1, 2, {"frame": 100})]
    assert [call.result for call in resumed.calls] == ["last"]
    assert (names(damaged), resumed.left) == ([], [])
    with journals.plain(old) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with Recovery(store=SQLiteStore(old)) as service:  # and it stays a sound one
        assert service.journal is not None
        damaged = facts_of(service, JournalQuarantined)
        assert service.journal.pending(5.0).calls == ()
        assert (service.journal.reason, names(damaged)) == (None, [])


def test_d15_status_reads_an_older_file_as_it_is(old: Path) -> None:
    before = old.read_bytes()
    status = asyncio.run(read_status(old))
    assert [call.state for call in status.calls if call.operation == "render"] == [
        "succeeded",
        "succeeded",
        "gave up",
        "left",
    ]
    assert (status.circuits, status.unreadable) == ({"fetch[example.org]": "open"}, 0)
    assert old.read_bytes() == before
    assert [one.name for one in old.parent.iterdir()] == ["calls.db"]


def test_d15_what_an_older_release_recorded_is_remembered(old: Path) -> None:
    with journals.plain(old) as connection:
        if connection.execute("PRAGMA user_version").fetchone() == (1,):
            pytest.skip("format 1 recorded no results")
    service = Recovery(store=SQLiteStore(old))
    script = Script()
    buy = service.recoverable("buy", resumable=True, idempotency_key=str, remember=1e9)(lambda item: script())
    with service:
        assert buy("bread") == ["bread", "bought"]
    assert script.calls == 0


def test_d15_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "calls.db"
    shutil.copy(GOLDEN / "journal-1.db", path)
    monkeypatch.setattr("adapters.sqlite.formats.checksum", lambda *_: "no number")  # refused at the last moment
    service = Recovery(store=SQLiteStore(path))
    heard = facts_of(service, JournalDegraded)
    with service:
        eventually(lambda: heard)
    with journals.plain(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall() == [
            ("runs",),
            ("facts",),
        ]
        assert connection.execute("SELECT count(*) FROM facts").fetchone() == (30,)


def test_d15_a_newer_file_is_never_written_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    journals.write(path, journals.rows_of([journals.started("c")]))
    with journals.plain(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    service = Recovery(store=SQLiteStore(path))
    heard = facts_of(service, JournalDegraded, JournalQuarantined)
    with service:
        assert service.recoverable("fetch", initial_delay=0.0)(Script(ConnectionError()))() == "done"
        eventually(lambda: heard)
    [said] = heard
    assert isinstance(said, JournalDegraded)
    assert "newer release" in said.reason
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["calls.db"]
