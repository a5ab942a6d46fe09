"""Steer a call from the command line: what it says, and what becomes of the call, in a real process or without one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.cli.command import cli
from adapters.journals.status import CallStatus, read_status
from adapters.journals.steering import Steered, steer, steer_all
from adapters.sqlite.command_files import inbox_of
from adapters.sqlite.store import SQLiteStore
from events.codec import decode
from events.event import Event
from events.operation_events import CallSteered, OperationQuarantined, OperationStarted, OperationSucceeded
from recovery import JournalConfig
from recovery.journal.store import Command
from recovery.service import Recovery
from tests.adapters.sqlite import journals
from tests.adapters.sqlite.test_kill import child, eventually
from tests.slow import few
from tests.until import wait_until

WAITING = """
import sys
from adapters.sqlite.store import SQLiteStore
from recovery import JournalConfig, Recovery
answers = [ConnectionError(), "done"]
def fetch(name):
    answer = answers.pop(0)
    if isinstance(answer, Exception): raise answer
    print(answer, flush=True)
with Recovery(store=SQLiteStore(sys.argv[1]), journal_config=JournalConfig(command_interval=0.05), run="r") as service:
    settings = {"initial_delay": 3600.0, "max_delay": 3600.0, "jitter": "none", "resumable": True}
    service.recoverable("download", **settings)(fetch)("model")
"""
NOT_RESUMABLE = OperationStarted(at=1.0, operation="render", call="dead-9")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


def recovery(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


def said(result: Result) -> tuple[int, str, str]:
    return result.exit_code, result.stdout, result.stderr


def states(journal: Path) -> dict[str, str]:
    return {call.call: call.state for call in calls(journal)}


def calls(journal: Path) -> tuple[CallStatus, ...]:
    return anyio.run(read_status, journal).calls if journal.exists() else ()


@contextmanager
def waiting(journal: Path) -> Iterator[Path]:
    """A process with the call r-1 of the operation "model", which waits for an hour; the file that it writes to."""
    with child(out := journal.with_name("out"), "-c", WAITING, journal) as process:
        eventually(lambda: states(journal) == {"r-1": "waiting"})
        yield out
        if process.poll() is None:
            process.kill()


@pytest.mark.parametrize("call", few(["r-1", "model"], "model"))
def test_the_command_line_steers_a_call_of_a_running_process(journal: Path, call: str) -> None:
    with waiting(journal) as out:
        paused = recovery("pause", journal, call, "--reason", "to pause")
        assert said(paused) == (0, f"model: paused; `recovery unpause {journal} {call}` continues it\n", "")
        eventually(lambda: states(journal) == {"r-1": "paused"})
        unpaused = recovery("unpause", journal, call, "--reason", "to unpause")
        assert said(unpaused)[0] == 0
        assert said(unpaused)[1].startswith("model: goes on waiting, for 3")
        retried = recovery("retry", journal, call, "--reason", "to retry")
        assert said(retried) == (0, "model: attempt 2 starts now\n", "")
        eventually(lambda: "done" in out.read_text().splitlines())
        eventually(lambda: states(journal) == {"r-1": "succeeded"})
    with journals.plain(journal) as connection:
        query = "SELECT body FROM events WHERE kind = 'CallSteered' ORDER BY id"
        events = [decode(body) for (body,) in connection.execute(query)]
    assert [(event.command, event.reason) for event in events if isinstance(event, CallSteered)] == [
        ("pause", "to pause"), ("unpause", "to unpause"), ("retry now", "to retry"),
    ]  # fmt: skip


def test_a_command_that_changes_nothing_is_refused_with_its_reason(journal: Path) -> None:
    with waiting(journal):
        assert said(recovery("unpause", journal, "model")) == (
            1, "", "recovery: cannot unpause model: it is not paused\n",
        )  # fmt: skip
        assert recovery("pause", journal, "model").exit_code == 0
        assert said(recovery("pause", journal, "r-1")) == (
            1, "", "recovery: cannot pause model: it is paused already\n",
        )  # fmt: skip


def test_a_call_is_edited_reset_and_cancelled_from_another_process(journal: Path) -> None:
    with waiting(journal):
        edited = recovery("edit", journal, "model", "--set", "max_retries=20", "--set", "jitter=full")
        assert said(edited) == (
            0, "model: from its next failure on it decides with max_retries=20, jitter=full\n", ""
        )  # fmt: skip
        assert said(recovery("edit", journal, "model", "--set", "max_retries=many")) == (
            1, "", "recovery: cannot edit model: max_retries must be a whole number, not 'many'\n",
        )  # fmt: skip
        assert said(recovery("reset", journal, "model")) == (0, "model: its retries and its time begin again\n", "")
        assert said(recovery("cancel", journal, "model")) == (0, "model: cancelled\n", "")
        eventually(lambda: states(journal) == {"r-1": "cancelled"})


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ((), "edit needs what to change"),
        (("--set", "x"), "is not NAME=JSON"),
        (("--set", "=3"), "is not NAME=JSON"),
        (("--set", "x=1", "--timeout", "nan"), "is no number of seconds"),
    ],
)
def test_an_edit_without_settings_is_a_wrong_usage(journal: Path, settings: tuple[str, ...], why: str) -> None:
    journal.touch()
    code, _, errors = said(recovery("edit", journal, "model", *settings))
    assert code == 2
    assert why in errors


@pytest.fixture(scope="module")
def of_another(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The journal of one waiting process for all tests that change nothing in it."""
    journal = tmp_path_factory.mktemp("waiting") / "calls.db"
    with waiting(journal):
        yield journal


@pytest.mark.parametrize("call", ["x-1", "r-99", "nothing"])
@pytest.mark.parametrize("verb", ["retry", "pause", "unpause", "give-up"])
def test_a_call_that_is_unknown_is_refused_at_once(of_another: Path, verb: str, call: str) -> None:
    began = time.monotonic()
    code, out, errors = said(recovery(verb, of_another, call, "--timeout", "60"))
    assert time.monotonic() - began < 10.0
    assert (code, out) == (1, "")
    assert errors.startswith(f"recovery: cannot {verb.replace('-', ' ')} {call}: ")
    assert not list(inbox_of(of_another).glob("*")) if inbox_of(of_another).exists() else True


def test_a_call_that_is_over_is_refused_at_once(journal: Path) -> None:
    journals.write(journal, journals.rows_of([journals.started("dead-1"), journals.succeeded("dead-1")]))
    refused = "recovery: cannot retry call dead-1: it is over: succeeded\n"
    assert said(recovery("retry", journal, "dead-1")) == (1, "", refused)


def test_a_name_of_several_pending_calls_is_refused_with_their_ids(journal: Path) -> None:
    events = [journals.started("dead-1"), journals.started("dead-2"), journals.started("dead-3")]
    over = OperationSucceeded(at=2.0, operation="render", call="dead-2")
    journals.write(journal, journals.rows_of([*events, over]))
    listed = "dead-1 (render, dead-1, left), dead-3 (render, dead-3, left); give one of these ids\n"
    code, out, errors = said(recovery("give-up", journal, "render"))
    assert (code, out, errors.endswith(f"2 calls of {journal} that are not over: {listed}")) == (1, "", True)


QUARANTINED = OperationQuarantined(at=2.0, operation="render", call="dead-9", reason="4 processes died in it")


@pytest.mark.parametrize(
    "events",
    [[journals.started("dead-9")], [NOT_RESUMABLE], [journals.started("dead-9"), QUARANTINED]],
    ids=["left", "never resumable", "quarantined"],
)
def test_what_no_process_runs_is_given_up_without_one(
    journal: Path, events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    journals.write(journal, journals.rows_of(events))
    result = recovery("give-up", journal, "dead-9", "--reason", "no use")
    assert said(result) == (0, "call dead-9: given up: no process resumes it any more\n", "")
    assert caplog.messages == []  # it is said once
    [call] = calls(journal)
    assert (call.state, call.reason) == ("gave up", "given up by hand: no use")


def test_a_quarantined_call_is_freed_without_a_process_and_the_next_resumes_it(journal: Path) -> None:
    journals.write(journal, journals.rows_of([journals.started("dead-9"), QUARANTINED]))
    freed = "call dead-9: it leaves the quarantine: run the program again, which resumes it\n"
    assert said(recovery("retry", journal, "dead-9")) == (0, freed, "")
    with Recovery(store=SQLiteStore(journal)) as service:
        service.recoverable("render", resumable=True)(lambda *_: "done")
        resumption = service.resume()
        assert resumption.wait(10.0)
    assert ([call.result for call in resumption.calls], resumption.quarantined) == (["done"], [])


def test_what_a_killed_process_left_in_a_side_file_is_given_up_too(journal: Path) -> None:
    journals.write(journal, journals.rows_of([journals.started("first-1")]))
    side, run = journal.with_name("calls.db.d") / "side.db", msgspec.structs.replace(journals.DEAD, id="side")
    journals.write_and_die(side, journals.rows_of([journals.started("side-9")], run="side"), run=run)
    assert recovery("give-up", journal, "side-9").exit_code == 0
    assert states(journal) == {"first-1": "left", "side-9": "gave up"}


LEAVES = """
import sys, time
from adapters.sqlite.store import SQLiteStore
from recovery import JournalConfig, Recovery
with Recovery(store=SQLiteStore(sys.argv[1]), journal_config=JournalConfig(command_interval=0.05), run="r") as service:
    service.resume().wait()
    print("resumed", flush=True)
    time.sleep(60)
"""


def test_a_running_process_gives_up_what_it_has_left(journal: Path, tmp_path: Path) -> None:
    journals.write(journal, journals.rows_of([NOT_RESUMABLE]))
    with child(tmp_path / "out", "-c", LEAVES, journal):
        eventually(lambda: "resumed" in (tmp_path / "out").read_text())
        refused = "recovery: cannot pause call dead-9: this process does not resume it, and can only give it up\n"
        assert said(recovery("pause", journal, "dead-9")) == (1, "", refused)
        given_up = "call dead-9: given up: it is not resumed any more\n"
        assert said(recovery("give-up", journal, "dead-9")) == (0, given_up, "")
        eventually(lambda: states(journal) == {"dead-9": "gave up"})


def test_a_call_that_the_running_process_has_not_resumed_says_when_it_can_be_steered(journal: Path) -> None:
    journals.write(journal, journals.rows_of([journals.started("dead-9")]))
    with Recovery(store=SQLiteStore(journal)):
        eventually(lambda: anyio.run(read_status, journal).is_being_written and states(journal) == {"dead-9": "left"})
        steered = steer(journal, Command(name="retry", call="dead-9"), timeout=0.05)
    assert steered.said == "the running process has not resumed it: retry it once that has ended"


@pytest.mark.parametrize("verb", ["retry", "pause", "unpause", "give-up"])
def test_every_verb_has_json(journal: Path, verb: str) -> None:
    journals.write(journal, journals.rows_of([journals.started("dead-1"), journals.succeeded("dead-1")]))
    result = recovery(verb, journal, "dead-1", "--json")
    steered = Steered(command=verb.replace("-", " "), call="dead-1", said="it is over: succeeded")  # type: ignore[arg-type]
    assert (result.exit_code, result.stderr) == (1, "")
    found = msgspec.json.decode(result.stdout)
    assert (found["format"], found["command"]) == ("steered/1", steered.command)
    assert msgspec.convert(found["calls"], list[Steered]) == [steered]


def test_a_process_that_began_meanwhile_carries_the_command_out_itself(journal: Path) -> None:
    journals.write(journal, journals.rows_of([journals.started("dead-1")]))
    before = anyio.run(read_status, journal)
    quick = JournalConfig(command_interval=0.01)
    with Recovery(store=SQLiteStore(journal), journal_config=quick) as service:
        service.recoverable("render", resumable=True)(lambda _: time.sleep(0.3))
        service.resume()
        wait_until(service.calls.running)
        [steered] = steer_all(journal, before, before.calls, Command("cancel", ""), timeout=5.0)
        assert steered.said.startswith("asked to end")


def test_steering_needs_a_journal(journal: Path) -> None:
    result = recovery("pause", journal, "x")
    assert result.exit_code == 2
    assert f"no journal at {journal}" in result.stderr
