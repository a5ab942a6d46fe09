"""What a journal tells of its calls: success rate, time lost, bytes saved, slow recoveries."""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import msgspec
import pytest
from click.testing import CliRunner

from adapters.cli.command import cli
from adapters.journals.report import Lost, Report, report_of
from adapters.sqlite.files import folder_of
from events.circuit_events import CircuitOpened
from events.event import Event
from events.evidence import Category
from events.operation_events import (
    CallRejected,
    CheckpointSaved,
    GaveUp,
    OperationCancelled,
    OperationRecovered,
    OperationResumed,
    OperationSucceeded,
    Parked,
    RetryScheduled,
)
from recovery.journal.errors import DamagedJournalError
from recovery.journal.history import Run
from recovery.policies.incidents import open_circuit
from tests.adapters.sqlite import journals
from tests.adapters.terminal.test_view import failed, of_call, started

HOST = "example.org"
RUN = Run(id="r1", boot="boot", monotonic=0.0, wall=1_700_000_000.0, pid=1)


def reported(folder: Path, *events: Event, since: float = 0.0) -> Report:
    path = folder / "calls.db"
    journals.write(path, journals.rows_of(events, run=RUN.id), run=RUN)
    return anyio.run(lambda: report_of(path, since=since))


def saved(**transfer: int) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(transfer))


def lost(found: Report) -> list[tuple[str, str, int, float, float]]:
    return [(one.key, one.category, one.failures, one.waited, one.failing) for one in found.lost]


def test_the_success_rate_is_that_of_the_calls_that_succeeded_or_failed(tmp_path: Path) -> None:
    found = reported(
        tmp_path,
        of_call(OperationSucceeded, call="a"),
        of_call(OperationRecovered, call="b"),
        of_call(GaveUp, call="c"),
        of_call(CallRejected, call="d", operation="clone"),
        of_call(OperationCancelled, call="e"),
        started(call="f"),
    )
    assert (found.success_rate, found.recovery_rate) == (0.5, 0.5)
    total = found.total
    assert (total.calls, total.succeeded, total.recovered, total.gave_up) == (6, 2, 1, 1)
    assert (total.rejected, total.cancelled, total.not_over) == (1, 1, 1)
    assert {one.operation: one.calls for one in found.operations} == {"download": 5, "clone": 1}


def test_without_a_call_that_ended_there_is_no_rate(tmp_path: Path) -> None:
    found = reported(tmp_path, started(), failed())
    assert (found.success_rate, found.recovery_rate) == (None, None)


def test_time_is_lost_in_waits_and_in_attempts_that_came_no_further(tmp_path: Path) -> None:
    found = reported(
        tmp_path,
        started(at=0.0, key=HOST),
        failed(at=5.0, key=HOST),
        of_call(RetryScheduled, at=5.0, key=HOST, after=10.0, retry=1),
        started(at=16.0, key=HOST, attempt=2),
        of_call(OperationRecovered, at=20.0, key=HOST, attempt=2),
    )
    assert lost(found) == [(HOST, "transient", 1, pytest.approx(11.0), pytest.approx(5.0))]
    assert (found.waited, found.failing) == (pytest.approx(11.0), pytest.approx(5.0))


def test_a_failed_attempt_that_came_further_is_not_lost(tmp_path: Path) -> None:
    found = reported(
        tmp_path,
        started(at=0.0),
        of_call(CheckpointSaved, at=4.0, data=saved(offset=10, size=30, start=0)),
        failed(at=5.0),
        started(at=6.0, attempt=2),
        of_call(CheckpointSaved, at=7.0, attempt=2, data=saved(offset=10, size=30, start=10)),
        failed(at=8.0, attempt=2),
        of_call(GaveUp, at=8.0, attempt=2),
    )
    assert lost(found) == [("download", "transient", 2, pytest.approx(1.0), pytest.approx(2.0))]


def test_a_call_without_journalled_attempts_has_lost_its_planned_waits(tmp_path: Path) -> None:
    found = reported(
        tmp_path,
        failed(at=5.0),
        of_call(RetryScheduled, at=5.0, after=10.0, retry=1),
        failed(at=18.0, attempt=2),
        of_call(GaveUp, at=18.0, attempt=2),
    )
    assert lost(found) == [("download", "transient", 2, pytest.approx(10.0), pytest.approx(3.0))]


def test_a_wait_for_an_open_circuit_has_the_category_that_opened_it(tmp_path: Path) -> None:
    why = open_circuit("download", HOST)
    found = reported(
        tmp_path,
        CircuitOpened(at=1.0, operation="download", key=HOST, after=30.0, category=Category.UNREACHABLE),
        of_call(Parked, at=2.0, key=HOST, after=30.0, why=why),
        started(at=32.0, key=HOST),
        of_call(Parked, at=40.0, call="c2", key=HOST, after=1.0, why="a limit"),
        started(at=41.0, call="c2", key=HOST),
    )
    assert lost(found) == [
        (HOST, "unreachable", 0, pytest.approx(30.0), 0.0),
        (HOST, "held back", 0, pytest.approx(1.0), 0.0),
    ]


def test_resuming_saves_the_bytes_with_which_each_attempt_begins(tmp_path: Path) -> None:
    found = reported(
        tmp_path,
        started(at=0.0),
        of_call(CheckpointSaved, at=1.0, data=saved(offset=10, size=30, start=0)),
        failed(at=2.0),
        started(at=3.0, attempt=2),
        of_call(CheckpointSaved, at=4.0, attempt=2, data=saved(offset=15, size=30, start=10)),
        of_call(CheckpointSaved, at=5.0, attempt=2, data=saved(offset=20, size=30, start=10)),
        of_call(OperationResumed, at=90.0, attempt=3),
        started(at=90.0, attempt=3),
        of_call(CheckpointSaved, at=91.0, attempt=3, data=saved(offset=30, size=30, start=20)),
        of_call(OperationRecovered, at=92.0, attempt=3),
    )
    assert (found.saved_bytes, found.received_bytes) == (30, 30)


def test_each_restart_saves_bytes_although_the_attempt_keeps_its_number(tmp_path: Path) -> None:
    found = reported(
        tmp_path,
        started(at=0.0),
        of_call(CheckpointSaved, at=1.0, data=saved(offset=10, size=30, start=0)),
        of_call(OperationResumed, at=2.0),
        of_call(CheckpointSaved, at=3.0, data=saved(offset=20, size=30, start=10)),
        of_call(OperationResumed, at=4.0),
        of_call(CheckpointSaved, at=5.0, data=saved(offset=30, size=30, start=20)),
        of_call(OperationSucceeded, at=6.0),
    )
    assert (found.saved_bytes, found.received_bytes) == (30, 30)


def test_what_is_left_of_a_wait_after_a_restart_is_lost_too(tmp_path: Path) -> None:
    found = reported(
        tmp_path,
        started(at=0.0, key=HOST),
        failed(at=5.0, key=HOST),
        of_call(RetryScheduled, at=5.0, key=HOST, after=60.0, retry=1),
        of_call(OperationResumed, at=25.0, key=HOST, after=40.0),  # the process had died at once
        started(at=65.0, key=HOST, attempt=2),
        of_call(OperationRecovered, at=70.0, key=HOST, attempt=2),
    )
    assert lost(found) == [(HOST, "transient", 1, 60.0, 5.0)]


def test_the_slowest_recoveries_come_first(tmp_path: Path) -> None:
    events = [
        one
        for number in (1, 3, 2)
        for one in (
            started(f"model-{number}", at=0.0, call=f"c{number}"),
            failed(at=0.5, call=f"c{number}"),
            of_call(OperationRecovered, at=float(number), call=f"c{number}", attempt=2),
        )
    ]
    found = reported(tmp_path, *events)
    assert [(one.name, one.seconds, one.failures) for one in found.slowest] == [
        ("model-3", 3.0, 1), ("model-2", 2.0, 1), ("model-1", 1.0, 1),
    ]  # fmt: skip


def test_a_launch_is_no_call_of_its_own(tmp_path: Path) -> None:
    launch = of_call(OperationSucceeded, operation="launch", call="l")
    assert reported(tmp_path, launch, of_call(GaveUp)).success_rate == 0.0


def test_calls_that_began_earlier_are_left_out(tmp_path: Path) -> None:
    early = [started(at=1.0, call="early"), of_call(OperationSucceeded, at=50.0, call="early")]
    late = [started(at=60.0, call="late"), of_call(GaveUp, at=70.0, call="late")]
    found = reported(tmp_path, *early, *late, since=RUN.wall + 40.0)
    assert (found.total.calls, found.total.gave_up, found.success_rate) == (1, 1, 0.0)


def test_a_row_that_is_in_two_files_counts_once(tmp_path: Path) -> None:
    rows = journals.rows_of([started(), failed(), of_call(GaveUp)], run=RUN.id)
    journals.write(tmp_path / "calls.db", rows, run=RUN)
    journals.write(folder_of(tmp_path / "calls.db") / "side.db", rows, run=RUN)
    found = anyio.run(report_of, tmp_path / "calls.db")
    assert (found.total.calls, found.total.failures) == (1, 1)


def test_a_damaged_row_is_counted_as_one(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    journals.write(path, journals.rows_of([started(), failed()], run=RUN.id), run=RUN)
    with journals.plain(path) as connection:
        connection.execute("UPDATE events SET sum = sum + 1 WHERE kind = 'FailureClassified'")
    found = anyio.run(report_of, path)
    assert (found.unreadable, found.total.failures) == (1, 0)


def test_a_journal_that_cannot_be_read_is_no_empty_one(tmp_path: Path) -> None:
    reported(tmp_path, *(started(call=f"{number}") for number in range(200)))
    journal = tmp_path / "calls.db"
    journal.write_bytes(journal.read_bytes()[:20_480] + bytes(journal.stat().st_size - 20_480))
    with pytest.raises(DamagedJournalError):
        anyio.run(report_of, journal)


def test_a_side_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    reported(tmp_path, started())
    side = folder_of(tmp_path / "calls.db") / "other.db"
    side.parent.mkdir()
    side.write_bytes(b"no journal")
    found = anyio.run(report_of, tmp_path / "calls.db")
    assert (found.damaged, found.total.calls) == ((str(side),), 1)
    written = CliRunner().invoke(cli, ["report", str(tmp_path / "calls.db")]).output
    assert f"{side} could not be read: see `recovery verify`" in " ".join(written.split())


def test_the_command_says_it_in_words_and_in_json(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    now = Run(id="r1", boot="boot", monotonic=0.0, wall=time.time() - 60.0, pid=1)
    events = [started(), failed(key=HOST), of_call(GaveUp, at=15.0, key=HOST)]
    journals.write(path, journals.rows_of(events, run=now.id), run=now)
    said = CliRunner().invoke(cli, ["report", str(path)])
    assert said.exit_code == 0
    assert said.stdout.startswith("1 call: 1 gave up\n")
    assert "success: 0 % of the calls that ended" in said.stdout
    json = CliRunner().invoke(cli, ["report", str(path), "--since", "1h", "--json"])
    shape = msgspec.json.decode(json.stdout)
    assert (shape["format"], shape["total"]["gave_up"]) == ("report/1", 1)
    assert msgspec.convert(shape["lost"], list[Lost])[0].key == HOST
    assert CliRunner().invoke(cli, ["report", str(path.with_name("none.db"))]).exit_code == 2


def test_json_has_no_mark_of_direction(tmp_path: Path) -> None:
    reported(tmp_path, started(at=0.0, key="a\u202eb\x7f\U000e0001"), failed(at=5.0, key="a\u202eb\x7f\U000e0001"))
    printed = CliRunner().invoke(cli, ["report", str(tmp_path / "calls.db"), "--json"]).stdout.rstrip("\n")
    assert printed.isprintable()
    assert msgspec.json.decode(printed)["lost"][0]["key"] == "a\u202eb\x7f\U000e0001"
