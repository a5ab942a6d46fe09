"""Delete old calls of a journal: through its process, or without one."""

from __future__ import annotations

from pathlib import Path

import anyio
import msgspec
from click.testing import CliRunner

from adapters.cli.command import cli
from adapters.journals.prune import prune_journal
from adapters.journals.status import read_status
from adapters.sqlite.files import folder_of
from adapters.sqlite.retention import Retention
from adapters.sqlite.store import SQLiteStore
from events.event import Event
from recovery.journal.config import JournalConfig
from recovery.service import Recovery
from tests.adapters.sqlite import journals
from tests.adapters.sqlite.corruptions import PAGE, overwrite, pages_by_kind, random_bytes
from tests.adapters.sqlite.test_kill import eventually

NOTHING = Retention(calls=0)
LONG = 30.0
"""Seconds for an answer, which comes at once where nothing else runs."""


def over(count: int) -> list[Event]:
    calls = [f"over-{number}" for number in range(count)]
    return [event for call in calls for event in (journals.started(call), journals.succeeded(call))]


def calls_of(journal: Path) -> set[str]:
    return {call.call for call in anyio.run(read_status, journal).calls}


def test_calls_that_are_over_are_deleted_and_others_stay(tmp_path: Path) -> None:
    journal = tmp_path / "calls.db"
    left = [journals.started("gave-up"), journals.gave_up("gave-up"), journals.started("left")]
    journals.write(journal, journals.rows_of([*over(3), *left]))
    removed = prune_journal(journal, NOTHING, timeout=LONG)
    assert (removed.is_done, removed.calls, removed.rows) == (True, 3, 6)
    assert calls_of(journal) == {"gave-up", "left"}


def test_the_disk_gets_the_room_back(tmp_path: Path) -> None:
    journal = tmp_path / "calls.db"
    journals.write(journal, journals.rows_of(over(2000)))
    before = journal.stat().st_size
    removed = prune_journal(journal, NOTHING, timeout=LONG)
    assert removed.calls == 2000
    assert removed.freed == before - journal.stat().st_size > before / 2
    assert removed.bytes == journal.stat().st_size


def test_what_dead_processes_wrote_beside_the_file_is_deleted_too(tmp_path: Path) -> None:
    journal = tmp_path / "calls.db"
    journals.write(journal, journals.rows_of([journals.started("left")]))
    side = folder_of(journal) / "other.db"
    journals.write(side, journals.rows_of(over(3)))
    assert prune_journal(journal, NOTHING, timeout=LONG).calls == 3
    assert not side.exists()
    assert calls_of(journal) == {"left"}


def test_a_damaged_journal_is_left_where_it_is(tmp_path: Path) -> None:
    journal = tmp_path / "calls.db"
    journals.write(journal, journals.rows_of(over(400)))
    [leaf, *_] = pages_by_kind(journal)["index leaf"]
    overwrite(journal, (leaf - 1) * PAGE + PAGE - 40, random_bytes(2, 40))  # that index is not read for the status
    before = journal.read_bytes()
    said = CliRunner().invoke(cli, ["prune", str(journal)])
    assert (said.exit_code, said.stderr.startswith(f"recovery: {journal} cannot be")) == (2, True)
    assert journal.read_bytes() == before


def test_the_process_that_writes_a_journal_deletes_in_it(tmp_path: Path) -> None:
    journal = tmp_path / "calls.db"
    journals.write(journal, journals.rows_of(over(1200)))
    config = JournalConfig(command_interval=0.01)
    with Recovery(store=SQLiteStore(journal), journal_config=config) as service:
        assert service.journal is not None
        eventually(lambda: anyio.run(read_status, journal).living)
        removed = prune_journal(journal, NOTHING, timeout=LONG)
        assert (removed.is_done, removed.calls, removed.rows) == (True, 1200, 2400)
        assert "1 process that runs did it" in removed.said
        assert calls_of(journal) == set()
        assert service.journal.reason is None


def test_the_command_says_what_was_deleted(tmp_path: Path) -> None:
    journal = tmp_path / "calls.db"
    journals.write(journal, journals.rows_of(over(2)))
    kept = CliRunner().invoke(cli, ["prune", str(journal), "--json"])
    assert msgspec.json.decode(kept.stdout)["calls"] == 0  # they ended a moment ago
    said = CliRunner().invoke(cli, ["prune", str(journal), "--keep", "1"])
    assert said.exit_code == 0
    assert said.stdout.startswith("1 call deleted (2 rows)")


def test_a_time_span_needs_its_unit(tmp_path: Path) -> None:
    said = CliRunner().invoke(cli, ["prune", str(tmp_path / "calls.db"), "--older-than", "7"])
    assert said.exit_code == 2
    assert "'7' is no time span: write 90s, 30min, 12h or 7d" in said.stderr
