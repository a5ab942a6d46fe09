"""Follow a journal: read again when its files change, told in lines where no terminal is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from adapters.cli.command import cli
from adapters.journals.status import CallStatus, JournalStatus
from adapters.journals.watch import LOOK_AGAIN, changed, only_failed, watched
from adapters.terminal.status_lines import status_line
from tests.adapters.sqlite import journals
from tests.adapters.sqlite.test_kill import child, eventually
from tests.adapters.terminal.test_status_table import NOW, call


def journal_of(*calls: CallStatus, **more: int) -> JournalStatus:
    return JournalStatus(path="calls.db", is_being_written=False, calls=calls, circuits={}, unreadable=0, more=more)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "calls.db"
    journals.write(path, journals.rows_of([journals.started("a")]))
    return path


def seen(journal: Path, *pauses: Callable[[], object], clock: Callable[[], float] = lambda: 0.0) -> list[list[str]]:
    """The calls of each status that is yielded while *pauses* happen, one after another."""
    left = list(pauses)

    def pause() -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop(0)()

    found = []
    try:
        for status in watched(journal, pause=pause, clock=clock):
            found.append([one.call for one in status.calls])
    except KeyboardInterrupt:
        return found
    raise AssertionError("it has ended by itself")


def test_a_journal_is_read_again_when_its_files_have_changed(journal: Path) -> None:
    def write() -> None:
        journals.write(journal, journals.rows_of([journals.started("b")], 7))

    assert seen(journal, lambda: None, write, lambda: None) == [["a"], ["a", "b"]]


def test_a_journal_is_read_again_after_a_while_since_its_process_may_have_died(journal: Path) -> None:
    times = iter([0.0, 0.0, 1.0, LOOK_AGAIN, LOOK_AGAIN, LOOK_AGAIN + 1.0])
    assert seen(journal, *[lambda: None] * 3, clock=lambda: next(times)) == [["a"], ["a"]]


def test_a_journal_that_takes_long_to_read_is_read_less_often(journal: Path) -> None:
    def write() -> None:
        journals.write(journal, journals.rows_of([journals.started("b")], 7))

    times = iter([0.0, 2.0, 3.0, 7.9, 8.0, 8.0])  # the first reading takes two seconds
    assert seen(journal, write, lambda: None, lambda: None, clock=lambda: next(times)) == [["a"], ["a", "b"]]


def test_a_journal_that_is_moved_meanwhile_is_looked_for_again(journal: Path) -> None:
    away = journal.with_name("away")
    assert seen(journal, lambda: journal.rename(away), lambda: away.rename(journal)) == [["a"]]


def test_a_call_that_stands_as_before_is_not_told_again() -> None:
    before = journal_of(call(call="a", state="running"), call(call="b", state="waiting"))
    after = journal_of(call(call="a", state="running", seen=NOW), call(call="b", state="running"), call(call="c"))
    assert [one.call for one in changed(before, after)] == ["b", "c"]


def test_at_first_what_goes_on_and_what_failed_is_told() -> None:
    found = journal_of(call(call="a", state="running"), call(call="b", state="succeeded"), call(call="c"))
    assert [one.call for one in changed(None, found)] == ["a", "c"]


@pytest.mark.parametrize("state", ["quarantined", "unreadable", "gave up", "rejected", "failed"])
def test_what_went_wrong_for_good_is_failed(state: str) -> None:
    found = only_failed(journal_of(call(call="a", state=state), call(call="b", state="left"), succeeded=3, rejected=2))
    assert [one.call for one in found.calls] == ["a"]
    assert found.more == {"rejected": 2}


def test_a_line_has_the_state_the_cause_and_what_can_be_done() -> None:
    waiting = call(state="waiting", waits_for="a person to say retry or give up", cause="no room\x1b[31m")
    said = status_line(waiting, journal_of(waiting), Path("launch.toml"), NOW)
    assert said == (
        "11:59:55 download model 1a2b3c4d-17: waiting, attempt 4; no room [31m; waits for a person to say retry or "
        "give up, since 11:59:55; `recovery retry launch.toml 1a2b3c4d-17` retries it; "
        "`recovery give-up launch.toml 1a2b3c4d-17` ends it with its last error"
    )


def test_the_exit_code_tells_whether_calls_have_failed(tmp_path: Path) -> None:
    journal = tmp_path / "calls.db"
    journals.write(journal, journals.rows_of([journals.started("a"), journals.gave_up("b")]))
    failed = CliRunner().invoke(cli, ["status", str(journal), "--failed", "--json"])
    shape = msgspec.json.decode(failed.stdout)
    assert (failed.exit_code, [one["call"] for one in shape["calls"]]) == (1, ["b"])
    assert CliRunner().invoke(cli, ["status", str(journal)]).exit_code == 0


@pytest.mark.slow
def test_the_command_tells_each_change_until_it_is_interrupted(journal: Path) -> None:
    with child(out := journal.with_name("out"), "-m", "adapters", "status", "--watch", journal) as process:
        eventually(lambda: "left, attempt 1" in out.read_text())
        journals.write(journal, journals.rows_of([journals.gave_up("a")], 7))
        eventually(lambda: "gave up, attempt 1" in out.read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(10.0) == 130
    assert out.read_text().splitlines()[-1] == "recovery: interrupted"


def test_watching_begins_with_what_is_there(journal: Path) -> None:
    assert [len(status.calls) for status in islice(watched(journal), 1)] == [1]
    with pytest.raises(FileNotFoundError):
        next(watched(journal.with_name("none.db")))


def test_a_watched_status_ends_without_a_word_when_its_reader_is_gone(journal: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "adapters", "status", str(journal), "--watch"]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=20.0, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, b"")
