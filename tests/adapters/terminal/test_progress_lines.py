"""A launch in lines, for a pipe: what begins, waits, fails and ends, and what is going on."""

from __future__ import annotations

import threading

import msgspec

from adapters.launcher.kinds.command import Command
from adapters.terminal.progress_lines import ProgressLines
from adapters.terminal.view import LaunchView
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
from tests.adapters.terminal.test_view import failed, of_call, started, view

PROGRESS = of_call(CheckpointSaved, data=msgspec.Raw(b'{"offset":40000000,"size":200000000}'))
RETRY = of_call(RetryScheduled, at=10.0, after=5.0, retry=1)


def said(*events: Event) -> list[str]:
    """The lines that *events* give."""
    seen, lines = view(), list[str]()
    printer = ProgressLines(seen, lines.append)
    for event in events:
        seen.feed(event)
        printer.feed(event)
    printer.flush()
    return lines


def summary(*events: Event, now: float = 10.0) -> str:
    return ProgressLines(view(*events), print).summary(now)


def test_what_begins_fails_and_ends_is_said_by_name() -> None:
    lines = said(started(), PROGRESS, failed(), RETRY, started(attempt=2), of_call(OperationSucceeded, attempt=2))
    assert [line.partition(":")[0] for line in lines] == ["model"] * 4
    assert [lines[0], lines[2], lines[3]] == [
        "model: begins", "model: attempt 2 begins", "model: done, 200.0 MB, 40.0 MB resumed, after 1 failure",
    ]  # fmt: skip


def test_a_step_that_is_called_token_is_said_like_any_other() -> None:
    seen, lines = LaunchView([Command(name="hf-token", run=("true",))]), list[str]()
    begun = started("hf-token")
    seen.feed(begun)
    with (printer := ProgressLines(seen, lines.append)).heartbeat():
        printer.feed(begun)
    assert lines == ["hf-token: begins"]


def test_the_launch_itself_begins_and_ends_in_silence() -> None:
    assert said(of_call(OperationStarted, operation="launch"), of_call(OperationSucceeded, operation="launch")) == []


def test_of_calls_outside_the_plan_only_what_is_worth_a_line_is_said() -> None:
    assert said(of_call(CheckpointSaved, operation="launch", data=msgspec.Raw(b"1"))) == []
    [line] = said(of_call(OperationResumed, operation="launch", after=5.0))
    assert "resumed with attempt 1 in 5 s" in line


def test_what_is_going_on_has_megabytes_and_per_cent() -> None:
    assert summary(started(), PROGRESS) == "0 of 2 done; model: 40.0 of 200.0 MB, 20 %"


def test_what_waits_is_said_with_its_end() -> None:
    assert summary(started(), failed(), RETRY, now=12.5) == "0 of 2 done; model: retry 1 in 2.5 s"


OPENED = CircuitOpened(at=9.0, operation="download", key="example.org", after=30.0, cause="unreachable: no")
HELD = of_call(Parked, key="example.org", after=29.0, why="circuit open: download[example.org]")
ENDED = of_call(
    GaveUp, key="example.org", reason="incident download[example.org]: the probes of other calls failed, unreachable"
)


def test_what_waits_for_an_incident_is_said_once_with_the_next_probe() -> None:
    incident = "incident download[example.org]: unreachable: no; 1 call waits, next probe in 29 s"
    assert summary(OPENED, started(), HELD) == f"0 of 2 done; {incident}"


def test_the_lines_of_calls_that_wait_for_an_incident_or_end_with_it_are_short() -> None:
    half_open, closed = (
        kind(at=1.0, operation="download", key="example.org") for kind in (CircuitHalfOpened, CircuitClosed)
    )
    assert said(started(), OPENED, HELD, half_open, ENDED, closed)[2:] == [
        "model: waits for incident example.org", "model: gave up with incident example.org",
    ]  # fmt: skip


def test_an_attempt_that_an_incident_holds_is_not_said_to_begin() -> None:
    assert said(OPENED, started(), started(attempt=2), HELD)[2:] == ["model: waits for incident example.org"]


def test_what_is_paused_or_over_is_said_too() -> None:
    pause = of_call(CallSteered, command="pause")
    assert summary(started(), failed(), RETRY, pause) == "0 of 2 done; model: paused"
    assert summary(started(), of_call(GaveUp, reason="permanent")) == "0 of 2 done, 1 failed"


def arrived(at: float, megabytes: int, **more: int) -> Event:
    data = {"offset": megabytes * 1_000_000, "size": 200_000_000} | more
    return of_call(CheckpointSaved, at=at, data=msgspec.Raw(msgspec.json.encode(data)))


def beats(lines: ProgressLines, seen: LaunchView, *events: Event) -> list[tuple[float, str]]:
    """What the heartbeat says each 5 s for two minutes in which *events* happen, with its time."""
    coming, found = list(events), list[tuple[float, str]]()
    for now in range(0, 125, 5):
        while coming and coming[0].at <= now:
            seen.feed(coming.pop(0))
        if (line := lines.beat(now)) is not None:
            found.append((now, line))
    return found


def test_the_heartbeat_says_how_fast_bytes_arrive_and_when_all_are_there() -> None:
    seen = view()
    events = [started(at=0.0), *(arrived(at, at * 10, start=5_000_000) for at in range(1, 13))]
    said = beats(ProgressLines(seen, print), seen, *events)
    assert said[0] == (5, "0 of 2 done; model: 50.0 of 200.0 MB, 25 %, 9.0 MB/s, 17 s left, 5.0 MB resumed")
    assert said[1] == (10, "0 of 2 done; model: 100.0 of 200.0 MB, 50 %, 9.5 MB/s, 11 s left, 5.0 MB resumed")


def test_the_heartbeat_is_quiet_for_half_a_minute_where_nothing_arrives() -> None:
    seen = view()
    said = beats(ProgressLines(seen, print), seen, started(at=0.0), *(arrived(at, at * 10) for at in range(1, 13)))
    assert [now for now, _ in said] == [5, 10, 15, 45, 75, 105]
    assert said[3][1] == "0 of 2 done; model: 120.0 of 200.0 MB, 60 %, stalled"


def test_a_command_that_says_nothing_is_said_to_run_twice_a_minute() -> None:
    seen = view()
    said = beats(ProgressLines(seen, print), seen, started("install", at=0.0, operation="command"))
    assert said[:2] == [(30, "0 of 2 done; install: for 30 s"), (60, "0 of 2 done; install: for 1 min")]


def test_of_many_operations_those_that_receive_bytes_are_named_and_others_counted() -> None:
    steps = [Command(name=f"c{number}", run=("true",)) for number in range(20)]
    seen = LaunchView(steps)
    for line in seen.lines.values():
        line.state = "running"
    seen.lines["c19"].samples = ((0.0, 0),)
    said = ProgressLines(seen, print).summary(0.0)
    assert said.startswith("0 of 20 done; c19: running; c0: running; ")
    assert said.endswith("; c6: running; 12 more")


def test_the_same_line_about_several_operations_is_said_once() -> None:
    steps = [Command(name=f"c{number}", run=("true",)) for number in range(12)]
    seen, lines = LaunchView(steps), list[str]()
    printer = ProgressLines(seen, lines.append)
    for step in steps:
        event = started(step.name, call=step.name, operation="command")
        seen.feed(event)
        printer.feed(event)
    printer.flush()
    assert lines == ["c0, c1, c2, c3, c4 and 7 more: begins"]


def test_lines_wait_for_a_moment_and_are_said_from_a_thread() -> None:
    said, enough = list[str](), threading.Event()

    def say(line: str) -> None:
        said.append(line)
        enough.set()

    seen = view(started())
    with (printer := ProgressLines(seen, say)).heartbeat(interval=0.001):
        printer.feed(started())
        assert enough.wait(10.0)
    assert said == ["model: begins"]
