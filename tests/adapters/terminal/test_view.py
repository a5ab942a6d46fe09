from __future__ import annotations

from typing import Any

import msgspec
import pytest

from adapters.launcher.kinds.command import Command
from adapters.launcher.kinds.download import Download
from adapters.launcher.launch import Outcome
from adapters.terminal.view import SEEN, LaunchView, Line
from events.bus import Bus
from events.circuit_events import CircuitOpened
from events.codec import decode, encode
from events.event import CallEvent, Event
from events.evidence import Category, Evidence
from events.operation_events import (
    CallRejected,
    CallSteered,
    CheckpointSaved,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationRecovered,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    Parked,
    RetryScheduled,
)
from tests.failures import a_failure, about_failure

STEPS = (
    Download(name="model", url="https://example.org/model", destination="model", size=100),
    Command(name="install", run=("true",), needs=("model",)),
)


def of_call(kind: type[CallEvent], *, at: float = 10.0, operation: str = "download", **fields: Any) -> CallEvent:
    return kind(**{"at": at, "operation": operation, "call": "c1", **fields})


def started(name: str = "model", **fields: Any) -> CallEvent:
    return of_call(OperationStarted, arguments=msgspec.Raw(msgspec.json.encode([[name, "url"], {}])), **fields)


def failed(**fields: Any) -> CallEvent:
    evidence = Evidence(type="httpx2.ReadError", message="reset")
    return of_call(FailureClassified, category=Category.TRANSIENT, evidence=evidence, **fields)


WHY = "the connection failed: ConnectionError: reset"
"""What ``about_failure`` says, sentence first."""


def view(*events: Event) -> LaunchView:
    seen = LaunchView(STEPS)
    for event in events:
        seen.feed(event)
    return seen


def line(*events: Event) -> Line:
    return view(started(), *events).lines["model"]


def test_at_first_every_operation_of_the_plan_is_queued() -> None:
    lines = view().lines
    assert [(one.name, one.needs, one.state, one.size) for one in lines.values()] == [
        ("model", (), "queued", 100),
        ("install", ("model",), "queued", None),
    ]


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([], "running"),
        ([failed(), of_call(RetryScheduled, after=1.0, retry=1)], "waiting"),
        ([failed(), of_call(Parked, after=1.0, why="rate limit", **about_failure())], "waiting"),
        ([failed(), of_call(RetryScheduled, after=1.0, retry=1), started(attempt=2)], "running"),
        ([of_call(OperationSucceeded)], "done"),
        ([of_call(OperationRecovered, attempt=2)], "done"),
        ([of_call(GaveUp, reason="permanent")], "failed"),
        ([of_call(OperationCancelled)], "cancelled"),
    ],
)
def test_the_latest_event_says_how_an_operation_stands(events: list[Event], state: str) -> None:
    assert line(*events).state == state


def test_a_wait_ends_on_the_clock_of_the_events() -> None:
    waiting = line(failed(), of_call(RetryScheduled, at=10.0, after=2.5, retry=1, **about_failure()))
    assert (waiting.until, waiting.waits_for, waiting.why) == (12.5, "retry 1", WHY)


PAUSE = of_call(CallSteered, at=12.0, attempt=2, command="pause")


def test_a_paused_operation_is_paused_and_does_not_count_down() -> None:
    paused = line(failed(), of_call(RetryScheduled, at=10.0, after=5.0, retry=1, **about_failure()), PAUSE)
    assert (paused.state, paused.left, paused.waits_for, paused.why) == ("paused", 3.0, "retry 1", WHY)


def test_an_operation_that_is_unpaused_waits_for_the_rest() -> None:
    unpause = of_call(CallSteered, at=100.0, attempt=2, command="unpause")
    waiting = line(failed(), of_call(RetryScheduled, at=10.0, after=5.0, retry=1), PAUSE, unpause)
    assert (waiting.state, waiting.until, waiting.left) == ("waiting", 103.0, None)


def test_a_wait_for_a_cause_has_the_least_wait_and_its_beginning() -> None:
    parked = line(failed(), of_call(Parked, at=10.0, after=0.0, why="disk space", within=60.0, **about_failure()))
    assert (parked.bound, parked.since, parked.until, parked.deadline) == ("causes", 10.0, 10.0, 70.0)


def test_a_deferred_operation_keeps_the_reason_of_its_failure() -> None:
    deferred = line(
        of_call(RetryScheduled, after=1.0, retry=1, **about_failure()),
        started(attempt=2),
        of_call(Parked, attempt=2, after=5.0, why="circuit open"),
    )
    assert (deferred.waits_for, deferred.why, deferred.until) == ("circuit open", WHY, 15.0)


def test_what_is_over_waits_for_nothing() -> None:
    over = line(of_call(RetryScheduled, after=1.0, retry=1, **about_failure()), of_call(OperationRecovered, attempt=2))
    assert (over.waits_for, over.until, over.why) == ("", None, "")


def test_attempts_and_failures_are_counted() -> None:
    counted = line(failed(), started(attempt=2), failed(attempt=2), started(attempt=3))
    assert (counted.attempts, len(counted.failures)) == (3, 2)


def test_progress_is_that_of_the_latest_checkpoint() -> None:
    progress = line(of_call(CheckpointSaved, data=msgspec.Raw(b'{"offset":40,"size":200}')))
    assert (progress.offset, progress.size) == (40, 200)


def test_a_call_that_is_resumed_is_known_by_its_arguments() -> None:
    resumed = view(
        of_call(OperationResumed, attempt=3, after=4.0, arguments=msgspec.Raw(b'[["model"],{}]')),
        of_call(OperationSucceeded, attempt=3),
    ).lines["model"]
    assert (resumed.resumed, resumed.state) == (1, "done")


def test_a_failure_says_why_it_was_given_up() -> None:
    gave_up = line(of_call(GaveUp, attempt=4, reason="out of retries (3)", **about_failure()))
    assert gave_up.why == f"{WHY}; gave up after 4 attempts: out of retries (3)"


def test_a_failure_is_kept_in_plain_words() -> None:
    [failure] = line(a_failure(call="c1")).failures
    assert failure == "the connection failed"


@pytest.mark.parametrize(
    "event",
    [
        started("unknown"),
        started(operation="launch"),
        of_call(OperationStarted),
        of_call(OperationStarted, arguments=msgspec.Raw(b"[[],{}]")),
        of_call(OperationStarted, arguments=msgspec.Raw(b"[[1],{}]")),
        of_call(RetryScheduled, call="never started", after=1.0, retry=1),
    ],
)
def test_what_is_not_of_the_plan_changes_nothing(event: Event) -> None:
    assert view(event).lines == view().lines


HELD = {"key": "example.org", "why": "circuit open: download[example.org]", "after": 5.0}


def test_a_call_that_waits_for_an_incident_names_its_host_and_waits_in_it() -> None:
    opened = CircuitOpened(at=1.0, operation="download", key="example.org", after=30.0, cause="unreachable")
    seen = view(opened, started(key="example.org"), of_call(Parked, **HELD))
    assert (seen.lines["model"].state, seen.lines["model"].incident) == ("waiting", "example.org")
    assert seen.incidents["download", "example.org"].waiting == {"c1"}
    seen.feed(started(key="example.org"))
    assert (seen.lines["model"].state, seen.lines["model"].incident) == ("running", "")
    assert seen.incidents["download", "example.org"].waiting == set()


def test_an_attempt_that_an_incident_holds_is_not_counted_as_a_try() -> None:
    assert line(failed(), started(attempt=2), of_call(Parked, attempt=2, **HELD)).attempts == 1


@pytest.mark.parametrize("kind", [GaveUp, CallRejected])
def test_a_call_that_ends_with_an_incident_says_so_in_short(kind: type[CallEvent]) -> None:
    reason = "incident download[example.org]: the probes of other calls failed, unreachable: no; out of retries (3)"
    ended = line(of_call(Parked, **HELD), of_call(kind, key="example.org", reason=reason))
    assert (ended.state, ended.why) == ("failed", "gave up with incident example.org")


def test_no_secret_of_a_failure_is_shown() -> None:
    seen = line(
        of_call(GaveUp, reason="out of retries (3)", **about_failure(a_failure("GET https://user:hunter22@host/x")))
    )
    assert "https://***@host/x" in seen.why
    assert "hunter22" not in seen.why


def test_the_launch_has_the_last_word() -> None:
    seen = view(started(), of_call(OperationSucceeded))
    seen.end({"model": Outcome("done"), "install": Outcome("skipped", "needs model"), "unknown": Outcome("done")})
    assert [(one.state, one.why) for one in seen.lines.values()] == [("done", ""), ("skipped", "needs model")]


def test_the_cause_that_was_seen_says_more_than_the_outcome() -> None:
    seen = view(started(), of_call(GaveUp, reason="no use", **about_failure()))
    seen.end({"model": Outcome("failed", "ConnectionError: reset"), "install": Outcome("failed", "in an earlier run")})
    whys = [one.why for one in seen.lines.values()]
    assert whys == [f"{WHY}; gave up after 1 attempt: no use", "in an earlier run"]


def test_events_from_another_process_give_the_same_view() -> None:
    events = [started(), failed(), of_call(RetryScheduled, after=1.0, retry=1), started(attempt=2)]
    assert view(*(decode(encode(event)) for event in events)).lines == view(*events).lines


def test_a_view_on_a_bus_sees_all_it_needs() -> None:
    bus, seen = Bus(clock=lambda: 0.0), LaunchView(STEPS)
    bus.subscribe(SEEN, seen.feed)
    for event in (started(), failed(), of_call(OperationSucceeded, attempt=2)):
        bus.publish(event)
    assert (seen.lines["model"].state, len(seen.lines["model"].failures)) == ("done", 1)
