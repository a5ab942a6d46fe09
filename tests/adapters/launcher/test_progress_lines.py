"""A launch in lines, for a pipe: what begins, waits, fails and ends, and what is going on."""

from __future__ import annotations

import threading

import msgspec

from adapters.launcher.document import Command
from adapters.launcher.progress_lines import ProgressLines
from adapters.launcher.view import LaunchView
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.event import Event
from events.operation_events import (
    CallSteered,
    CheckpointSaved,
    GaveUp,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    Parked,
    RetryScheduled,
)
from tests.adapters.launcher.test_view import failed, of_call, started, view

PROGRESS = of_call(CheckpointSaved, data=msgspec.Raw(b'{"offset":40000000,"size":200000000}'))
RETRY = of_call(RetryScheduled, at=10.0, after=5.0, retry=1)


def said(*events: Event) -> list[str]:
    """The lines that *events* give."""
    seen, lines = view(), list[str]()
    printer = ProgressLines(seen, lines.append)
    for event in events:
        seen.feed(event)
        printer.feed(event)
    return lines


def summary(*events: Event, now: float = 10.0) -> str:
    return ProgressLines(view(*events), print).summary(now)


def test_what_begins_fails_and_ends_is_said_by_name() -> None:
    lines = said(started(), PROGRESS, failed(), RETRY, started(attempt=2), of_call(OperationSucceeded, attempt=2))
    assert [line.partition(":")[0] for line in lines] == ["model"] * 4
    assert [lines[0], lines[2], lines[3]] == [
        "model: begins", "model: attempt 2 begins", "model: done, 200.0 of 200.0 MB, 100%",
    ]  # fmt: skip


def test_a_step_that_is_called_token_is_said_like_any_other() -> None:
    seen, lines = LaunchView([Command(name="hf-token", run=("true",))]), list[str]()
    begun = started("hf-token")
    seen.feed(begun)
    ProgressLines(seen, lines.append).feed(begun)
    assert lines == ["hf-token: begins"]


def test_the_launch_itself_begins_and_ends_in_silence() -> None:
    assert said(of_call(OperationStarted, operation="launch"), of_call(OperationSucceeded, operation="launch")) == []


def test_of_calls_outside_the_plan_only_what_is_worth_a_line_is_said() -> None:
    assert said(of_call(CheckpointSaved, operation="launch", data=msgspec.Raw(b"1"))) == []
    [line] = said(of_call(OperationResumed, operation="launch", after=5.0))
    assert "resumed with attempt 1 in 5 s" in line


def test_what_is_going_on_has_megabytes_and_per_cent() -> None:
    assert summary(started(), PROGRESS) == "still going on, 0 of 2 over; model: 40.0 of 200.0 MB, 20%"


def test_what_waits_is_said_with_its_end() -> None:
    assert summary(started(), failed(), RETRY, now=12.5) == "still going on, 0 of 2 over; model: retry 1 in 2.5 s"


OPENED = CircuitOpened(at=9.0, operation="download", key="example.org", after=30.0, cause="unreachable: no")
HELD = of_call(Parked, key="example.org", after=29.0, why="circuit open: download[example.org]")
ENDED = of_call(
    GaveUp, key="example.org", reason="incident download[example.org]: the probes of other calls failed, unreachable"
)


def test_what_waits_for_an_incident_is_said_once_with_the_next_probe() -> None:
    incident = "incident download[example.org]: unreachable: no; 1 call waits, next probe in 29 s"
    assert summary(OPENED, started(), HELD) == f"still going on, 0 of 2 over; {incident}"


def test_the_lines_of_calls_that_wait_for_an_incident_or_end_with_it_are_short() -> None:
    half_open, closed = (
        kind(at=1.0, operation="download", key="example.org") for kind in (CircuitHalfOpened, CircuitClosed)
    )
    assert said(started(), OPENED, HELD, half_open, ENDED, closed)[2:] == [
        "model: waits for incident example.org", "model: gave up with incident example.org",
    ]  # fmt: skip


def test_what_is_paused_or_over_is_said_too() -> None:
    pause = of_call(CallSteered, command="pause")
    assert summary(started(), failed(), RETRY, pause) == "still going on, 0 of 2 over; model: paused"
    assert summary(started(), of_call(GaveUp, reason="permanent")) == "still going on, 1 of 2 over"


def test_the_heartbeat_says_again_and_again_what_is_going_on() -> None:
    beats, enough = list[str](), threading.Event()

    def say(line: str) -> None:
        beats.append(line)
        if len(beats) == 3:
            enough.set()

    with ProgressLines(view(started()), say).heartbeat(interval=0.001):
        assert enough.wait(10.0)
    assert beats[:3] == ["still going on, 0 of 2 over; model: 0.0 of 0.0 MB, 0%"] * 3
