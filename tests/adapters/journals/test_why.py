"""Why a call stands as it does, read from real journals of dead and of living processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.journals.history import read_events
from adapters.journals.next_step import GONE
from adapters.journals.reading_why import read_why, read_whys
from adapters.journals.status import JournalStatus
from adapters.journals.why import Why, why
from adapters.sqlite.store import SQLiteStore
from events.circuit_events import CircuitOpened
from events.event import Event
from events.evidence import Category, Evidence, Remedy, Room
from events.lease_events import OutcomeHeld
from events.operation_events import (
    CallRejected,
    CallSteered,
    CheckpointSaved,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationInterrupted,
    OperationQuarantined,
    OperationRecovered,
    OperationResumed,
    OperationSucceeded,
    Parked,
    RetryScheduled,
)
from events.question_events import QuestionAsked
from recovery.explain import explain
from recovery.journal.history import Run
from recovery.questions import cause_of
from tests.adapters.journals.calls_written import RUN, WALL, journal_of
from tests.adapters.journals.test_find import call
from tests.adapters.sqlite.journals import rows_of
from tests.adapters.terminal.test_view import failed, of_call, started
from tests.failures import a_failure

NOW = WALL + 100.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # aiosqlite knows no other


FAILED = a_failure("GET https://host/x", call="c1", at=10.0, operation="download")
SENTENCE = explain(FAILED).sentence
WAITS = FAILED, of_call(RetryScheduled, at=90.0, after=60.0, retry=1)


def why_of(folder: Path, *events: Event, is_alive: bool = True, text: str = "c1") -> Why:
    with journal_of(folder, *events, is_alive=is_alive) as path:
        return read_why(path, text, now=NOW)


@pytest.mark.parametrize(
    ("events", "is_alive", "state", "sentence", "next_line"),
    [
        ([started()], True, "running", "nothing has failed", "attempt 1 runs"),
        ([started(operation="launch")], True, "running", "nothing has failed in the launch itself", "attempt 1 runs"),
        ([started(), *WAITS], True, "waiting", SENTENCE, "attempt 2 in 50 s, at "),
        ([started(), *WAITS, of_call(CallSteered, command="pause", reason="lunch")], True, "paused",
         f"by hand: lunch; its latest failure: {SENTENCE}", "nothing by itself: its clock is stopped"),
        ([started()], False, "left",
         "its program (process PID) ended before it was done: it was stopped, it crashed, or the power went",
         "nothing until its program is started again"),
        ([started(), of_call(OperationInterrupted)], False, "left",
         "its program (process PID) ended in good order", "nothing until its program is started again"),
        ([started(), *WAITS], False, "left", f"its latest failure: {SENTENCE}",
         "nothing until its program is started again"),
        ([started(), of_call(OperationQuarantined, reason="2 processes died in it")], False, "quarantined",
         "2 processes died in it", "nothing by itself: no process resumes it until it is freed"),
        ([started(), FAILED, of_call(GaveUp, reason="out of retries (0)")], False, "gave up",
         SENTENCE, "nothing by itself: it gave up: out of retries (0)"),
        ([of_call(Parked, at=90.0, after=1.0, why="circuit open: download[host]")], True, "waiting",
         "nothing has failed in it, but other calls of download failed too often", "waits for incident download, "),
        ([of_call(CallRejected, at=90.0, reason="circuit open: download[host]", retry_after=30.0)], False, "rejected",
         "calls of download failed too often: no new one may begin for now (circuit open: download[host])",
         "nothing by itself: it was not started; a new call may begin in 20 s, at "),
        ([of_call(CallRejected, at=10.0, reason="busy", retry_after=30.0)], False, "rejected", "busy",
         "nothing by itself: it was not started; a new call may begin now"),
        ([started(), of_call(OperationCancelled)], False, "cancelled", "it was cancelled, by its program or by hand",
         "nothing: it was cancelled"),
        ([started(), of_call(CallSteered, command="cancel", reason="wrong file"), of_call(OperationCancelled)], False,
         "cancelled", "by hand: wrong file", "nothing: it was cancelled"),
        ([started(), FAILED, of_call(OperationRecovered, attempt=2)], False, "succeeded",
         "it succeeded with attempt 2, after 1 failure", "nothing: it is done"),
        ([started(), of_call(OperationSucceeded)], True, "succeeded", "it succeeded with attempt 1",
         "nothing: it is done"),
    ],
)  # fmt: skip
def test_each_state_says_why_and_what_happens_next(
    tmp_path: Path, events: list[Event], is_alive: bool, state: str, sentence: str, next_line: str
) -> None:
    why = why_of(tmp_path, *events, is_alive=is_alive)
    assert (why.state, why.is_written) == (state, is_alive)
    assert why.sentence.endswith(sentence.replace("PID", f"{os.getpid()}"))
    assert why.next_line.startswith(next_line.replace("PID", f"{os.getpid()}"))
    assert why.story


def test_the_evidence_of_the_latest_failure_is_shown_with_names_and_without_secrets(tmp_path: Path) -> None:
    stderr = "one\ntwo\nthree\nfour\nfive\nfatal: unable to access\nnote: done\n"
    cause = Evidence(type="builtins.OSError", message="GET https://user:hunter22@host/x", stderr=stderr)
    evidence = Evidence(
        type="adapters.processes.command.CommandError", message="git ended", errno=28, status=503, code="SlowDown",
        exit_code=-9, retry_after=7.0, bytes_done=5, room=Room("models", 6_200_000_000), cause=cause,
    )  # fmt: skip
    failure = of_call(FailureClassified, category=Category.TRANSIENT, evidence=evidence, rule="exit_code", why="w")
    why = why_of(tmp_path, started(), failure)
    assert why.proof is not None
    found = {name: value for name, value in msgspec.structs.asdict(why.proof).items() if name != "type"}
    assert found == {
        "message": "git ended", "errno": "28 ENOSPC", "status": 503, "code": "SlowDown", "exit_code": "-9 SIGKILL",
        "retry_after": 7.0, "bytes_done": 5, "room": "6.2 GB in models",
        "output": ("three", "four", "five", "fatal: unable to access", "note: done"),
        "causes": ("OSError: GET https://***@host/x",),
    }  # fmt: skip
    assert (why.said, why.rule) == ("fatal: unable to access", "exit_code: w")


def test_the_failures_of_a_call_that_succeeded_are_told_as_its_story_alone(tmp_path: Path) -> None:
    remedy = Remedy("Log in.")
    why = why_of(tmp_path, started(), failed(remedy=remedy), of_call(OperationRecovered, at=11.0, attempt=2))
    assert (why.category, why.remedy) == ("transient", "")
    assert "ReadError: reset" in why.story[0].text


def test_a_question_for_which_a_call_waits_is_shown_with_its_text(tmp_path: Path) -> None:
    name = "token:hf"
    asked = QuestionAsked(
        at=9.0, operation="download", name=name, kind="secret", text="Make a token", link="https://hf"
    )
    other = QuestionAsked(at=9.0, operation="download", name="other", kind="text")
    parked = of_call(Parked, after=0.0, why=cause_of(name), category=Category.AUTH)
    why = why_of(tmp_path, started(), asked, other, failed(), parked)
    assert [(one.name, one.kind, one.text) for one in why.questions] == [(name, "secret", "Make a token")]
    assert why.commands[0].command.startswith("recovery answer ")


def test_the_incident_for_which_a_call_waits_is_told_with_its_next_probe(tmp_path: Path) -> None:
    opened = CircuitOpened(at=80.0, operation="download", key="hf.co", after=45.0, cause="unreachable: no")
    parked = of_call(Parked, key="hf.co", at=81.0, after=0.0, why="circuit open: download[hf.co]")
    why = why_of(tmp_path, started(key="hf.co"), failed(key="hf.co"), opened, parked)
    assert why.due == pytest.approx(WALL + 125.0)
    assert "next probe in 25 s" in why.incident


def test_a_call_left_beside_a_living_program_goes_on_once_that_has_ended() -> None:
    left = call("a-1", "left", pid=123)
    status = JournalStatus(path="a", is_being_written=True, calls=(left,), circuits={}, unreadable=0)
    told = why(left, status, (), source=Path("a"), now=NOW)
    assert told.next == (
        "nothing by itself: the program that runs now has not taken it over; "
        "when the program that runs now has ended, start it again: it resumes this"
    )


def test_the_policy_is_what_the_journal_knows(tmp_path: Path) -> None:
    edit = of_call(CallSteered, command="edit", changes="max_retries=20", reason="slow host")
    assert why_of(tmp_path, started(), *WAITS, edit).policy == (
        "its settings are in its program: the journal does not hold them",
        "retry 1 comes next",
        "by hand: edit max_retries=20, slow host",
    )


PLAN = """
[[operation]]
name = "weights"
kind = "download"
url = "https://example.org/weights"
destination = "weights"
retry.max_retries = 7
"""


def test_the_policy_of_a_plan_and_its_commands_name_the_plan(tmp_path: Path) -> None:
    plan = tmp_path / "launch.toml"
    plan.write_text(PLAN)
    operation: dict[str, Any] = {"operation": "download weights", "key": "example.org"}
    (tmp_path / ".recovery").mkdir()
    with journal_of(tmp_path / ".recovery", started("weights", **operation), failed(**operation)) as path:
        path.rename(path.with_name("launch.db"))
    why = read_why(plan, "weights", now=NOW)
    assert why.name == "download weights"
    assert why.policy[0].startswith("at most 7 retries, ")
    assert why.policy[0].endswith("as launch.toml says now")
    assert why.commands[0].command == f"recovery run {plan}"


def test_how_far_a_download_came_is_told(tmp_path: Path) -> None:
    saved = of_call(CheckpointSaved, data=msgspec.Raw(b'{"offset":1200000000,"size":4000000000}'))
    assert why_of(tmp_path, started(), saved).progress == "1.2 of 4.0 GB, 30 %"


OUTCOMES = (
    b'{"outcomes":{"a":{"state":"done","why":""},"b":{"state":"failed","why":"no room"},'
    b'"c":{"state":"skipped","why":"needs b"}}}'
)
LAUNCH = (
    of_call(OperationResumed, operation="launch"),
    of_call(CheckpointSaved, operation="launch", data=msgspec.Raw(OUTCOMES)),
    of_call(OperationSucceeded, operation="launch"),
)


def test_a_launch_that_failed_says_which_operations_failed_and_why(tmp_path: Path) -> None:
    why = why_of(tmp_path, *LAUNCH, text="launch")
    *outcomes, more = why.outcomes
    assert (why.state, outcomes) == (
        "failed", ["done: 1 of 3, 1 failed, 1 skipped", "failed: b: no room", "skipped: c, which needs b"],
    )  # fmt: skip
    assert more == f"`recovery why {tmp_path / 'calls.db'} b` says more of it"


def test_an_operation_that_was_not_begun_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="c was not begun in launch c1: it needs b"):
        why_of(tmp_path, *LAUNCH, text="c")


def test_texts_of_the_journal_move_no_cursor(tmp_path: Path) -> None:
    evil = "\x1b[31mred\u202eabc\nnext"
    evidence = Evidence(type="X", message=evil, stderr=evil)
    failure = of_call(FailureClassified, category=Category.PERMANENT, evidence=evidence, rule=evil, why=evil)
    why = why_of(tmp_path, started(), failure, of_call(GaveUp, reason=evil))
    text = str(msgspec.to_builtins(why))
    assert not {"\x1b", "\u202e", "\n"} & set(text)
    assert "\\x1b" not in text


def test_what_is_not_in_the_journal_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="has the id or name 'nothing'"):
        why_of(tmp_path, started(), text="nothing")
    with pytest.raises(FileNotFoundError, match="there is no journal at"):
        read_why(tmp_path / "none.db", "c1")


@pytest.mark.anyio
async def test_the_history_of_a_call_in_two_files_is_in_time_order(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    later = Run(id="a-later", boot="boot", monotonic=0.0, wall=WALL, pid=7)
    for file, run, events in (
        (path, later, [of_call(OperationSucceeded, at=30.0)]),
        (tmp_path / "calls.db.d" / "z.db", RUN, [started(at=10.0), failed(at=11.0)]),
    ):
        file.parent.mkdir(exist_ok=True)
        store = SQLiteStore(file)
        await store.open(run)
        await store.append(rows_of(events, run=run.id))
        await store.close()
    found = await read_events(path, "c1")
    assert [one.kind for one in found] == ["OperationStarted", "FailureClassified", "OperationSucceeded"]
    assert [one.pid for one in found] == [RUN.pid, RUN.pid, 7]


LEG = {"call": "render/k@12", "operation": "render"}
OUTCOME = {"call": "render/k@12 outcome", "operation": "render"}


def test_the_cluster_goes_on_with_its_call_when_the_process_is_gone(tmp_path: Path) -> None:
    found = why_of(tmp_path, started(**LEG, leased=True, idempotency_key="k"), is_alive=False, text="render")
    assert found.sentence == f"its program (process {RUN.pid}) {GONE}"
    assert found.next_line == "nothing here: the cluster goes on with it"
    assert (found.commands, found.remedy) == ((), "")
    assert [one.text for one in found.story] == ["its process ended in it"]


@pytest.mark.parametrize("text", ["render/k@12", "render/k", "render"])
@pytest.mark.parametrize("has_ended", [True, False])
@pytest.mark.parametrize("is_alive", [True, False])
def test_an_outcome_that_is_kept_is_told_with_its_call(
    tmp_path: Path, text: str, has_ended: bool, is_alive: bool
) -> None:
    ends = [of_call(OperationSucceeded, **LEG)] if has_ended else []
    held = of_call(OutcomeHeld, **OUTCOME, of="render/k", fence=12, data=b"{}")
    found = why_of(tmp_path, started(**LEG, leased=True), *ends, held, is_alive=is_alive, text=text)
    assert found.call == "render/k@12"
    assert found.next == "its outcome is kept until a server of the cluster answers"
    assert found.commands == ()
    assert any("keeps its outcome: the servers have not taken it" in one.text for one in found.story)


def test_calls_that_are_not_done_have_an_outcome_that_is_kept_once(tmp_path: Path) -> None:
    held = of_call(OutcomeHeld, **OUTCOME, of="render/k", fence=12, data=b"{}")
    with journal_of(tmp_path, started(**LEG, leased=True), of_call(OperationSucceeded, **LEG), held) as path:
        whys, more = read_whys(path, now=NOW)
    assert ([one.call for one in whys], more) == (["render/k@12"], 0)
