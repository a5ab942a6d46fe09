"""Replaying the events of calls into their records, and what is left of a wait after a restart."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from events.circuit_events import CircuitOpened
from events.event import Event
from events.evidence import Category, Evidence
from events.journal_events import JournalDegraded
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
from recovery.journal.history import MAX_FAILURES_KEPT, TERMINAL, CallRecord, Run, replay
from recovery.journal.remaining import remaining

FIRST = Run(id="first", boot="monday", monotonic=1000.0, wall=50_000.0, pid=1)


def made(kind: type[Event], at: float = 0.0, attempt: int = 1, **given: Any) -> Any:
    return kind(**{"at": at, "operation": "fetch", "call": "a", "attempt": attempt, **given})


def started(at: float = 0.0, attempt: int = 1, arguments: bytes = b"[[],{}]", version: str = "") -> OperationStarted:
    return made(OperationStarted, at, attempt, arguments=msgspec.Raw(arguments), version=version)  # type: ignore[no-any-return]


def failed(at: float = 0.0, attempt: int = 1, retries: int = 0, message: str = "reset", **given: Any) -> Event:
    evidence = Evidence(type="builtins.OSError", message=message)
    return made(  # type: ignore[no-any-return]
        FailureClassified, at, attempt, retries=retries, category=Category.TRANSIENT, evidence=evidence, **given
    )


def scheduled(at: float = 0.0, attempt: int = 1, retry: int = 1, after: float = 5.0) -> Event:
    return made(RetryScheduled, at, attempt, retry=retry, after=after)  # type: ignore[no-any-return]


def parked(at: float = 0.0, attempt: int = 1, after: float = 5.0, **given: Any) -> Event:
    about = {"category": Category.RATE_LIMITED, "why": "rate limit", **given}
    return made(Parked, at, attempt, after=after, **about)  # type: ignore[no-any-return]


def steered(command: str, at: float = 0.0) -> Event:
    return made(CallSteered, at, 2, command=command)  # type: ignore[no-any-return]


def record_of(*events: Event, run: str = "first") -> CallRecord:
    return replay({}, run, events)["a"]


def fields(record: CallRecord, **expected: object) -> dict[str, object]:
    return {name: getattr(record, name) for name in expected}


def rebooted(wall: float = 50_000.0, monotonic: float = 3.0) -> Run:
    return Run(id="second", boot="tuesday", monotonic=monotonic, wall=wall, pid=2)


def restarted(monotonic: float = 1000.0, wall: float = 50_000.0) -> Run:
    return Run(id="second", boot="monday", monotonic=monotonic, wall=wall, pid=2)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([started()], {"state": "running", "attempt": 1, "retries": 0, "due": None, "arguments": b"[[],{}]"}),
        ([started(version="2")], {"version": "2", "is_resumable": True}),
        ([started(), started(attempt=2, arguments=b"")], {"arguments": b"[[],{}]"}),
        ([failed()], {"is_resumable": False}),  # no arguments
        ([failed(at=3.0, elapsed=2.0)], {"state": "waiting", "attempt": 2, "retries": 1, "elapsed": 2.0, "at": 3.0}),
        ([failed(), scheduled(at=3.0)], {"state": "waiting", "attempt": 2, "retries": 1, "due": 8.0, "delay": 5.0}),
        ([failed(), parked(at=3.0)], {"state": "waiting", "attempt": 2, "retries": 0, "due": 8.0, "delay": 5.0}),
        ([failed(attempt=4, retries=2), parked(attempt=4)], {"attempt": 5, "retries": 2}),
        ([failed(), parked(counts_as_retry=True)], {"retries": 1}),
        ([failed(), scheduled(), started(attempt=2)], {"state": "running", "attempt": 2, "retries": 1, "due": None}),
        ([started(), parked(category=None)], {"state": "waiting", "attempt": 1, "retries": 0, "due": None}),
        ([failed(), parked()], {"waits_for": "rate limit", "deadline": None}),
        ([failed(), parked(at=3.0, within=60.0)], {"deadline": 63.0}),
        ([failed(), parked(), started(attempt=2)], {"waits_for": ""}),
        ([failed(), scheduled(at=3.0), steered("pause", at=5.0)], {"state": "waiting", "paused_at": 5.0, "due": 8.0}),
        ([failed(), scheduled(at=3.0), steered("pause", at=5.0), steered("unpause", at=25.0)],
         {"paused_at": None, "due": 28.0}),
        ([failed(), parked(), steered("pause"), steered("unpause")], {"waits_for": "rate limit"}),
        ([failed(), scheduled(), steered("pause"), steered("retry now")], {"state": "waiting", "paused_at": None}),
        ([failed(), scheduled(), steered("pause"), started(attempt=2)], {"state": "running", "paused_at": None}),
        ([started(), made(CheckpointSaved, data=msgspec.Raw(b"7"))], {"state": "running", "saved": b"7"}),
        ([started(), made(OperationResumed)], {"resumes": 1}),
        ([started(), made(OperationSucceeded)], {"state": "succeeded"}),
        ([failed(), made(OperationRecovered, attempt=2)], {"state": "succeeded", "attempt": 2}),
        ([failed(), made(GaveUp, reason="out of retries (0)")], {"state": "gave up", "reason": "out of retries (0)"}),
        ([made(CallRejected, reason="circuit open")], {"state": "rejected", "reason": "circuit open"}),
        ([failed(), scheduled(), made(OperationCancelled, attempt=2)], {"state": "cancelled", "due": None}),
    ],
)  # fmt: skip
def test_the_record_of_a_call_follows_from_its_events(events: list[Event], expected: dict[str, object]) -> None:
    assert fields(record_of(*events), **expected) == expected


@pytest.mark.parametrize("kind", TERMINAL)
def test_events_after_the_outcome_change_nothing(kind: type[Event]) -> None:
    over = record_of(started(), made(kind))
    assert replay({"a": over}, "second", [started(attempt=2), failed(), made(GaveUp, reason="no")]) == {"a": over}
    assert not over.is_resumable


def test_only_the_latest_failures_are_kept_one_line_each() -> None:
    numbers = range(MAX_FAILURES_KEPT + 3)
    failures = record_of(*(failed(message=str(number)) for number in numbers)).failures
    assert failures == tuple(f"transient: OSError: {number}" for number in numbers[3:])
    assert record_of(failed(message="")).failures == ("transient: OSError",)


def test_calls_are_kept_apart_and_other_events_change_nothing() -> None:
    of_calls = [started(), made(OperationSucceeded, call="b"), made(GaveUp, call="c", key="host")]
    others = [CircuitOpened(at=0.0, operation="fetch", after=1.0), JournalDegraded(at=0.0, reason="")]
    assert {call: (record.state, record.key) for call, record in replay({}, "first", of_calls + others).items()} == {
        "a": ("running", ""),
        "b": ("succeeded", ""),
        "c": ("gave up", "host"),
    }


@pytest.mark.parametrize("wall", [0.0, 50_000.0, 1e12])
@pytest.mark.parametrize(("monotonic", "left"), [(1100.0, 60.0), (1120.0, 40.0), (1160.0, 0.0), (9999.0, 0.0)])
def test_within_a_boot_the_monotonic_clock_counts(monotonic: float, left: float, wall: float) -> None:
    record = record_of(failed(), scheduled(at=1100.0, after=60.0))
    assert remaining(record, {"first": FIRST}, restarted(monotonic, wall)) == left


def test_nothing_is_left_without_a_wait_or_of_one_in_an_unknown_run() -> None:
    assert remaining(record_of(started()), {"first": FIRST}, restarted()) == 0.0
    assert remaining(record_of(failed(), scheduled()), {}, restarted()) == 0.0


@pytest.mark.parametrize(
    ("wall", "left"), [(50_100.0, 60.0), (50_120.0, 40.0), (50_160.0, 0.0), (1e12, 0.0), (0.0, 60.0)]
)
def test_across_boots_the_wall_clock_counts_up_to_the_whole_delay(wall: float, left: float) -> None:
    record = record_of(failed(), scheduled(at=1100.0, after=60.0))
    assert remaining(record, {"first": FIRST}, rebooted(wall)) == left


def test_unknown_boots_are_not_the_same_boot() -> None:
    record = record_of(failed(), scheduled(at=1100.0, after=60.0))
    runs = {"first": msgspec.structs.replace(FIRST, boot="")}
    now = msgspec.structs.replace(rebooted(50_120.0, monotonic=1159.0), boot="")
    assert remaining(record, runs, now) == 40.0


def test_the_rest_of_a_wait_counts_on_the_clock_of_the_run_that_resumed() -> None:
    second = rebooted(50_110.0, monotonic=3.0)
    records = replay({}, "first", [failed(), scheduled(at=1100.0, after=60.0)])
    replay(records, "second", [made(OperationResumed, at=3.0, attempt=2, after=50.0)])
    third = Run(id="third", boot="tuesday", monotonic=23.0, wall=50_130.0, pid=3)
    assert remaining(records["a"], {"first": FIRST, "second": second}, third) == pytest.approx(30.0)
