"""The state of a journal for people: what they can say of each call at 80 columns, and what to do about it."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from adapters.journals.incidents import IncidentLine
from adapters.journals.status import CallStatus, JournalStatus
from adapters.launcher.launch import Outcome
from adapters.launcher.progress import Transfer
from adapters.terminal.status_table import MOST_FINISHED, fitting_table, status_table
from events.circuit_events import CircuitOpened

NOW = time.mktime((2026, 3, 1, 12, 0, 0, 0, 0, -1))
CAUSE = (
    "the server example.org is overloaded or out of order (HTTP 503): "
    "Server error '503 Service Unavailable' for url 'https://example.org/model'"
)
STATES = (
    "running", "waiting", "paused", "left", "quarantined", "unreadable", "gave up", "rejected", "failed", "cancelled",
    "succeeded",
)  # fmt: skip


def call(**changes: Any) -> CallStatus:
    known: dict[str, Any] = {
        "call": "1a2b3c4d-17", "operation": "download", "key": "example.org", "name": "model", "state": "gave up",
        "attempt": 4, "retries": 3, "restarts": 1, "failures": ("one", "two"), "cause": CAUSE, "pid": 123, "which": "https://example.org/model",
        "reason": "out of retries (3)", "seen": NOW - 5.0,
    }  # fmt: skip
    return CallStatus(**known | changes)


def drawn(
    *calls: CallStatus, width: int = 160, source: str = "launch.toml", show_all: bool = False, **changes: Any
) -> str:
    known: dict[str, Any] = {"path": "calls.db", "is_being_written": False, "circuits": {}, "unreadable": 0}
    console = Console(file=io.StringIO(), width=width, record=True)
    status = JournalStatus(calls=calls, **known | changes)
    console.print(status_table(status, Path(source), now=NOW, show_all=show_all))
    return console.export_text()


def test_a_server_that_runs_says_where_it_is():
    server = call(state="running", operation="server", name="app", note="ready at http://127.0.0.1:8188")
    assert "ready at http://127.0.0.1:8188" in drawn(server)


def test_a_call_that_asks_says_how_it_is_answered():
    shown = drawn(call(state="waiting", waits_for="a person to say retry or give up"))
    for said in (
        "waits for a person to say retry or give up",
        "`recovery retry launch.toml 1a2b3c4d-17` retries it",
        "`recovery give-up launch.toml 1a2b3c4d-17` ends it",
    ):
        assert said in " ".join(shown.split())


def words(*calls: CallStatus, **changes: Any) -> str:
    """What is drawn, as if it were not wrapped."""
    return " ".join(drawn(*calls, **changes).split())


@pytest.mark.parametrize("at", [1e308, -1e308, 2.0**63, -(2.0**62)])
@pytest.mark.parametrize("waits_for", ["", "disk space"])
def test_a_time_that_no_calendar_has_is_shown_as_unknown(at: float, waits_for: str) -> None:
    text = words(call(state="waiting", seen=at, due=at, deadline=at, waits_for=waits_for))
    assert "call 1a2b3c4d-17, at an unknown time" in text


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("state", [state for state in STATES if state not in ("failed", "succeeded")])
def test_state_operation_id_and_the_whole_cause_are_seen_at_any_width(width: int, state: str) -> None:
    text = drawn(call(state=state), width=width)
    assert max(map(len, text.splitlines())) <= width
    seen = " ".join(text.split())
    assert [part for part in (state, "download model", "1a2b3c4d-17", CAUSE) if part not in seen] == []
    assert "…" not in text


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"state": "waiting", "due": NOW + 75.0}, "attempt 4 in 1 min 15 s, at 12:01:15"),
        ({"state": "waiting", "waits_for": "disk space"}, "waits for: disk space, since 11:59:55"),
        ({"state": "waiting", "waits_for": "disk space", "deadline": NOW + 60.0},
         "waits for: disk space, since 11:59:55; gives up at 12:01:00"),
        ({"state": "waiting", "waits_for": "rate limit", "due": NOW + 60.0},
         "waits for: rate limit, since 11:59:55, next try 12:01:00"),
        ({"state": "waiting", "waits_for": "an answer: token:civitai"}, "waits for: an answer: token:civitai, since "
         "11:59:55; `recovery answer launch.toml` shows the question, and how to answer it"),
        ({"state": "paused"}, "its clock is stopped; `recovery unpause launch.toml 1a2b3c4d-17` continues it"),
        ({"state": "left"}, "process 123 left it; `recovery run launch.toml` resumes it, "
         "`recovery give-up launch.toml 1a2b3c4d-17` ends it"),
        ({"state": "left", "is_resumable": False}, "no process can resume it, since its arguments were not "
         "stored; `recovery give-up launch.toml 1a2b3c4d-17` ends it"),
        ({"state": "quarantined", "reason": "4 processes died in it"}, "no process resumes it until it is "
         "freed: 4 processes died in it; `recovery retry launch.toml 1a2b3c4d-17` frees it, "
         "`recovery give-up launch.toml 1a2b3c4d-17` ends it"),
        ({"state": "unreadable"}, "no process can resume it, since a row of it is damaged"),
        ({"state": "gave up"}, "it gave up: out of retries (3); `recovery run launch.toml` tries it again"),
        ({"state": "rejected", "reason": "circuit open"}, "it was not started: circuit open"),
    ],
)  # fmt: skip
def test_what_happens_next_is_said_with_what_to_do(changes: dict[str, Any], step: str) -> None:
    assert step in words(call(**changes), width=80)


def test_what_a_running_process_has_not_resumed_is_said() -> None:
    text = words(call(state="left"), width=80, is_being_written=True)
    assert "process 123 left it, and the running one has not resumed it" in text


def test_for_a_journal_without_a_plan_the_program_is_to_be_run() -> None:
    text = words(call(state="left"), source="my calls.db")
    assert "running the program again resumes it, `recovery give-up 'my calls.db' 1a2b3c4d-17` ends it" in text


def test_a_call_without_a_name_in_a_plan_is_told_by_its_argument() -> None:
    assert "download[example.org] (https://example.org/model) attempt 4" in words(call(name=None))


def test_several_failures_are_counted() -> None:
    assert "2 failures, last: the server" in words(call())
    assert "failures" not in words(call(failures=("one",)))


def test_a_launch_says_what_is_done_and_what_was_skipped_and_why() -> None:
    outcomes = {
        "a": Outcome("done"), "b": Outcome("done"), "bad": Outcome("failed", "why"),
        "after": Outcome("skipped", "needs bad"),
    }  # fmt: skip
    text = words(call(operation="launch", name=None, key="", state="failed", outcomes=outcomes), width=80)
    assert "done: 2 of 4, 1 failed, 1 skipped" in text
    assert "failed: bad" in text
    assert "skipped: after, which needs bad" in text
    again = "what is there is kept, and commands without `creates` run again"
    assert f"`recovery run launch.toml` begins a new launch: {again}" in text


def test_a_launch_that_succeeded_says_which_optional_operations_failed() -> None:
    outcomes = {"a": Outcome("done"), "lora": Outcome("failed", "why", optional=True)}
    text = words(call(operation="launch", name=None, key="", state="succeeded", outcomes=outcomes), width=80)
    assert "done: 1 of 2, 1 failed failed: lora (optional)" in text


def test_a_download_says_how_far_it_is() -> None:
    assert "1.2 of 4.0 GB, 30 %, 1.1 GB resumed" in words(call(transfer=Transfer(1_200_000_000, 4 * 10**9, 11 * 10**8)))


def test_what_needs_a_reader_comes_first_and_the_latest_of_the_rest() -> None:
    calls = [call(name=state, state=state, seen=NOW - number) for number, state in enumerate(reversed(STATES))]
    older = call(name="older", state="succeeded", seen=NOW - 99.0)
    rows = [row for row in drawn(older, *calls).splitlines() if "download" in row]
    assert [row.split()[0] for row in rows] == [
        "quarantined", "unreadable", "left", "paused", "waiting", "running", "gave", "rejected", "failed",
        "succeeded", "cancelled", "succeeded",
    ]  # fmt: skip
    assert "older" in rows[-1]


def test_of_what_is_done_the_latest_are_shown_and_the_others_counted() -> None:
    calls = [call(name=f"n{number}", state="succeeded", seen=NOW - number) for number in range(MOST_FINISHED + 5)]
    text = drawn(call(state="left"), *calls)
    assert (f"n{MOST_FINISHED - 1}" in text, f"n{MOST_FINISHED}" in text) == (True, False)
    assert "and 5 more that succeeded or were cancelled; --all shows them" in text
    assert "n14" in drawn(*calls, show_all=True)


@pytest.mark.parametrize("show_all", [False, True])
def test_a_table_that_is_redrawn_is_no_higher_than_the_terminal(show_all: bool) -> None:
    console = Console(file=io.StringIO(), width=80, height=24, record=True)
    status = JournalStatus(
        calls=(call(),) * 500, path="calls.db", is_being_written=False, circuits={}, unreadable=0, more={"left": 7}
    )
    console.print(fitting_table(status, Path("launch.toml"), now=NOW, show_all=show_all, console=console))
    lines = console.export_text().splitlines()
    count = sum("1a2b3c4d-17" in line and "attempt" in line for line in lines)
    assert 12 < len(lines) < 24
    assert f"and {500 - count} more: gave up; the terminal has no lines for them" in lines
    assert lines[-1] == "journal calls.db: no process is writing it"


def test_the_day_is_said_where_it_is_not_today() -> None:
    assert "2026-02-27 12:00:00" in words(call(seen=NOW - 2 * 86_400))


def test_a_journal_without_calls_says_so() -> None:
    assert "no calls" in drawn()


def test_circuits_unreadable_rows_and_the_writer_are_shown() -> None:
    text = drawn(circuits={"download[a.org]": "open"}, unreadable=2, is_being_written=True)
    assert "circuit download[a.org]: open" in text
    assert "2 rows cannot be read" in text
    assert "journal calls.db: a running process is writing it" in text


ENDED = "incident download[example.org]: the probes of other calls failed, unreachable; out of retries (3)"


def incident() -> IncidentLine:
    line = IncidentLine(operation="download", key="example.org", waiting={"c1"})
    line.take(CircuitOpened(at=NOW - 5.0, operation="download", key="example.org", after=45.0, cause="unreachable: no"))
    return line


@pytest.mark.parametrize("width", [80, 120])
def test_an_incident_is_one_line_above_the_calls_and_the_calls_that_wait_for_it_are_folded(width: int) -> None:
    held = [
        call(call=f"c-{one}", state="waiting", waits_for="circuit open: download[example.org]", cause="no")
        for one in range(30)
    ]
    shown = drawn(*held, width=width, incidents=(incident(),), circuits={"download[example.org]": "open"})
    assert shown.startswith("incident download[example.org]: unreachable: no; ")
    assert "next may probe in 40 s" in " ".join(shown.split())
    assert shown.count("waits for incident example.org, since 11:59:55") == 3
    assert "and 27 more wait for incident download[example.org]; --all shows them" in " ".join(shown.split())
    assert len(shown.splitlines()) <= 15
    assert "circuit " not in shown
    assert drawn(*held, show_all=True).count("waits for incident") == 30


def test_calls_of_a_dead_process_that_waited_for_an_incident_are_folded_too() -> None:
    left = [call(call=f"c-{one}", state="left", waits_for="circuit open: download[example.org]") for one in range(5)]
    shown = words(*left, call(call="other", state="left"))
    assert shown.count("process 123 left it") == 4
    assert "and 2 more were left as they waited for incident download[example.org]; --all shows them" in shown


@pytest.mark.parametrize("state", ["gave up", "rejected"])
def test_the_calls_that_gave_up_with_an_incident_are_folded_and_nothing_else_is(state: str) -> None:
    ended = [call(call=f"c-{one}", state=state, reason=ENDED) for one in range(5)]
    shown = words(*ended, call(call="other"), call(call="done", state="succeeded"))
    assert shown.count("gave up with incident example.org; `recovery run launch.toml` tries it again") == 3
    assert "and 2 more gave up with incident download[example.org]; --all shows them" in shown
    assert "call other" in shown
    assert "more that succeeded" not in shown


@pytest.mark.parametrize("evil", ["[/red]", "[bold]x", ":bug:", "\x1b[31m", "a\nb", "\u202eabc", "\r"])
def test_text_from_the_journal_is_drawn_as_it_is_and_moves_no_cursor(evil: str) -> None:
    text = drawn(call(call=evil, name=evil, cause=evil, reason=evil), circuits={evil: "open"})
    assert not {"\x1b", "\r", "\u202e"} & set(text)
    assert len(text.splitlines()) == 5
    if evil.isprintable():
        assert text.count(evil) == 5
