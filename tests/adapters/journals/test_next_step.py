"""What happens next with a call, and what a person can do about it, as data and as sentences."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from adapters.journals.incidents import IncidentLine
from adapters.journals.next_step import command_of, next_step, said
from adapters.journals.status import CallStatus, JournalStatus
from events.circuit_events import CircuitHalfOpened, CircuitOpened
from tests.adapters.journals.test_find import call as a_call

NOW = time.mktime((2026, 3, 1, 12, 0, 0, 0, 0, -1))
ENDED = "incident download[example.org]: the probes of other calls failed, unreachable; out of retries (3)"


def call(state: str, **changes: Any) -> CallStatus:
    return a_call("a-1", state, **{"seen": NOW - 5.0, "attempt": 4, "reason": "why", "pid": 123} | changes)


def journal(**changes: Any) -> JournalStatus:
    known: dict[str, Any] = {"path": "calls.db", "is_being_written": True, "circuits": {}, "unreadable": 0, "calls": ()}
    return JournalStatus(**known | changes)


@pytest.mark.parametrize(
    ("state", "changes", "actions"),
    [
        ("running", {}, ("cancel",)),
        ("waiting", {"due": NOW + 5.0}, ("retry", "pause", "give up", "cancel")),
        ("waiting", {"waits_for": "a person to say retry or give up"}, ("retry", "give up", "cancel")),
        ("waiting", {"waits_for": "an answer: token:hf"}, ("retry", "pause", "give up", "cancel")),
        ("waiting", {"waits_for": "rate limit: fetch"}, ("pause", "give up", "cancel")),
        ("paused", {}, ("unpause", "retry", "give up", "cancel")),
        ("left", {}, ("give up", "cancel")),
        ("unreadable", {}, ("give up",)),
        ("quarantined", {}, ("retry", "give up")),
        ("gave up", {}, ("again",)),
        ("gave up", {"is_resumable": False}, ()),
        ("gave up", {"by": "b-1"}, ()),
        ("cancelled", {}, ("again",)),
        ("rejected", {"is_resumable": False}, ()),
        ("failed", {"operation": "launch"}, ()),
        ("succeeded", {}, ()),
    ],
)
def test_only_what_the_state_allows_is_offered(state: str, changes: dict[str, Any], actions: tuple[str, ...]) -> None:
    assert next_step(call(state, **changes), journal(), NOW).actions == actions


def test_the_step_leaves_its_times_to_the_reader_that_counts_down() -> None:
    step = next_step(call("waiting", due=NOW + 75.0), journal(), NOW)
    assert (step.text, step.due) == ("attempt 4", NOW + 75.0)
    assert step.line(NOW) == "attempt 4 in 1 min 15 s, at 12:01:15"


def test_a_call_that_waits_for_an_incident_names_its_next_probe() -> None:
    incident = IncidentLine(operation="download", key="example.org")
    incident.take(CircuitOpened(at=NOW - 5.0, operation="download", key="example.org", after=45.0, cause="no"))
    held, status = call("waiting", waits_for="circuit open: download[example.org]"), journal(incidents=(incident,))
    line = next_step(held, status, NOW).line(NOW)
    assert line == "waits for incident example.org, since 11:59:55, next try 12:00:40"
    incident.take(CircuitHalfOpened(at=NOW, operation="download", key="example.org"))
    assert next_step(held, status, NOW).due is None


@pytest.mark.parametrize(
    ("state", "changes", "needs_person"),
    [
        ("waiting", {"waits_for": "disk space"}, False),
        ("waiting", {"waits_for": "an answer: token:hf"}, True),
        ("running", {}, False),
        ("paused", {}, True),
        ("left", {}, True),
        ("gave up", {"reason": ENDED}, True),
        ("cancelled", {}, False),
    ],
)
def test_a_step_says_whether_it_needs_a_person(state: str, changes: dict[str, Any], needs_person: bool) -> None:
    assert next_step(call(state, **changes), journal(), NOW).needs_person is needs_person


def test_a_left_call_is_resumed_by_a_run_unless_a_process_runs() -> None:
    is_dead = next_step(call("left"), journal(is_being_written=False), NOW)
    assert [one.verb for one in is_dead.offers] == ["run", "give up", "cancel", "retry", "pause"]
    assert is_dead.text == "process 123 left it"
    assert "the running one has not resumed it" in next_step(call("left"), journal(), NOW).text


def test_a_call_that_is_run_again_names_the_new_one() -> None:
    assert next_step(call("gave up", by="b-7"), journal(), NOW).text == "nothing: call b-7 runs it again"


def test_offers_are_commands_that_can_be_pasted() -> None:
    one = call("gave up")
    run, again = next_step(one, journal(), NOW).offers
    assert command_of(again, Path("my calls.db"), one) == "recovery again 'my calls.db' a-1"
    assert said(run, Path("launch.toml"), one) == "`recovery run launch.toml` tries it again"
    assert said(run, Path("my calls.db"), one) == "running the program again tries it again"
    end = next_step(call("waiting"), journal(), NOW).offers[-2]
    assert command_of(end, Path("calls.db"), one) == "recovery give-up calls.db a-1"


def test_a_call_that_nothing_helps_says_so_in_plain_words() -> None:
    step = next_step(call("gave up", reason="permanent (NotFoundError)"), journal(), NOW)
    assert step.text == "it fails in the same way until its cause is gone"
