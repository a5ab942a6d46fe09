"""Check the files of a journal, sound or not, without changing them."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.cli.command import cli
from adapters.journals.verify import Verified, verify_journal
from adapters.sqlite.command_inbox import submit_command
from adapters.sqlite.files import folder_of, quarantine
from adapters.sqlite.orders import keep_order
from adapters.sqlite.store import SQLiteStore
from recovery.journal.orders import Order
from recovery.journal.store import Command
from recovery.service import Recovery
from tests.adapters.sqlite import journals
from tests.adapters.sqlite.test_kill import eventually

EVENTS = [journals.started("over"), journals.succeeded("over"), journals.started("left")]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "calls.db"
    journals.write(path, journals.rows_of(EVENTS))
    return path


def verified(journal: Path) -> Verified:
    return anyio.run(verify_journal, journal)


def problems(journal: Path) -> list[str]:
    return [one.text for one in verified(journal).findings if one.kind == "problem"]


def notes(journal: Path) -> list[str]:
    return [one.text for one in verified(journal).findings if one.kind == "note"]


def verify(journal: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["verify", str(journal), *options])


def test_a_sound_journal_has_no_findings(journal: Path) -> None:
    found = verified(journal)
    assert (found.is_sound, found.findings) == (True, ())
    [file] = found.files
    assert (file.role, file.rows, file.pending, file.is_being_written) == ("journal", 3, 1, False)


def test_the_check_changes_nothing(tmp_path: Path) -> None:
    journal = tmp_path / "calls.db"
    journals.write_and_die(journal, journals.rows_of(EVENTS))
    before = journals.contents(tmp_path)
    assert verified(journal).is_sound
    assert journals.contents(tmp_path) == before


def test_a_flipped_bit_of_a_row_is_found(journal: Path) -> None:
    with journals.plain(journal) as connection:
        connection.execute(
            "UPDATE events SET body = CAST(replace(body, 'render', 'rendes') AS BLOB) WHERE call = 'left'"
        )
    assert problems(journal) == ["1 row not as written, of left"]
    assert not verified(journal).files[0].is_sound


def test_rows_of_an_unknown_process_are_found(journal: Path) -> None:
    with journals.plain(journal) as connection:
        connection.execute("DELETE FROM runs")
    assert problems(journal) == ["3 rows of processes of which nothing is known"]


def test_a_file_that_is_cut_is_found(journal: Path) -> None:
    os.truncate(journal, 5000)
    [problem] = problems(journal)
    assert "calls.db cannot be" in problem or "header" in problem


def test_a_damaged_log_with_commits_behind_the_damage_is_found(tmp_path: Path) -> None:
    journal = tmp_path / "calls.db"
    journals.write_and_die(journal, *(journals.rows_of([event], number) for number, event in enumerate(EVENTS, 1)))
    log = journal.with_name("calls.db-wal")
    data = bytearray(log.read_bytes())
    data[32 + 24 + 100] ^= 1
    log.write_bytes(data)
    assert problems(journal) == [f"the log of {journal} is damaged, and there are commits behind the damage"]


def test_a_log_without_its_file_is_found(tmp_path: Path) -> None:
    journal = tmp_path / "calls.db"
    journals.write_and_die(journal, journals.rows_of(EVENTS))
    journal.unlink()
    assert problems(journal) == [f"{journal} is gone or empty, but not its log"]


def test_the_database_of_another_program_is_no_journal(tmp_path: Path) -> None:
    journal = tmp_path / "calls.db"
    with journals.plain(journal) as connection:
        connection.execute("CREATE TABLE mine (x)")
    [problem] = problems(journal)
    assert "another application's database" in problem


def test_a_journal_that_is_a_link_is_a_problem_and_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "calls.db"
    journals.write_and_die(target, journals.rows_of(EVENTS))
    journal = tmp_path / "calls.db"
    journal.symlink_to(target)
    before = sorted(target.parent.iterdir())
    assert problems(journal) == ["it is a symbolic link: no process writes it"]
    assert sorted(target.parent.iterdir()) == before


def test_a_file_that_other_users_may_read_is_a_problem(journal: Path) -> None:
    journal.chmod(0o644)
    assert problems(journal) == ["other users of the machine may open it (mode 0644)"]


def test_what_a_dead_process_left_and_kept_copies_are_notes(journal: Path) -> None:
    side = folder_of(journal) / "other.db"
    journals.write(side, journals.rows_of(EVENTS))
    journals.write(side.with_name("bad.db"), journals.rows_of(EVENTS))
    quarantine(side.with_name("bad.db"))
    submit_command(journal, Command("retry", "left"))
    keep_order(journal, Order("cancel", "left"))
    said = notes(journal)
    assert said[0] == "the process that wrote it is dead"
    assert said[1].endswith("that were kept: the file was damaged")
    assert said[2].startswith("1 command in the inbox, the oldest ")
    assert said[3:] == ["1 order for calls that no process runs"]
    assert verified(journal).is_sound


def test_a_journal_is_checked_while_a_process_writes_it(tmp_path: Path) -> None:
    journal = tmp_path / "calls.db"
    with Recovery(store=SQLiteStore(journal)) as service:
        service.recoverable("render", durability="journal")(lambda: "done")()
        eventually(lambda: journal.exists() and verified(journal).files[0].rows == 2)
        found = verified(journal)
        assert (found.is_sound, found.files[0].is_being_written) == (True, True)


def test_the_exit_code_tells_whether_the_journal_is_sound(journal: Path) -> None:
    sound = verify(journal)
    assert (sound.exit_code, sound.stdout.splitlines()[-1]) == (0, "the journal is sound")
    with journals.plain(journal) as connection:
        connection.execute("DELETE FROM runs")
    unsound = verify(journal, "--json")
    said = msgspec.json.decode(unsound.stdout)
    assert (unsound.exit_code, said["format"], said["is_sound"]) == (1, "verified/1", False)
    missing = verify(journal.with_name("none.db"))
    assert (missing.exit_code, missing.stderr) == (
        2,
        f"recovery: there is no journal at {journal.with_name('none.db')}\n",
    )
