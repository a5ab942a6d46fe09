"""The story of a call names each attempt and wait, why it ended, and how long it took."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.journals.history import PastEvent
from adapters.journals.next_step import when
from adapters.journals.story import Passage, story_of
from events.event import CallEvent
from events.evidence import Category
from events.operation_events import (
    CallRejected,
    CallSteered,
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
from events.repeat_events import OperationRepeated
from tests.adapters.terminal.test_view import of_call, started
from tests.failures import a_failure

NOW = 100.0


def failed(at: float, attempt: int = 1, message: str = "reset", **given: Any) -> CallEvent:
    return a_failure(message, at=at, call="c1", attempt=attempt, **given)


def story(*events: CallEvent, is_alive: bool = True) -> tuple[Passage, ...]:
    past = [PastEvent(at=one.at, pid=7, run="r1", kind=type(one).__name__, event=one) for one in events]
    return story_of(past, is_alive=is_alive)


def lines(*events: CallEvent, is_alive: bool = True) -> list[str]:
    return [f"{part.at:g} {part.line(NOW)}" for part in story(*events, is_alive=is_alive)]


def test_attempts_and_waits_are_told_with_their_lengths_and_reasons() -> None:
    assert lines(
        started(at=1.0),
        failed(3.0),
        of_call(RetryScheduled, at=3.0, after=4.0, retry=1),
        started(at=7.0, attempt=2),
        failed(7.5, 2, "other"),
        of_call(Parked, at=7.5, attempt=2, after=0.0, why="disk space", category=Category.ENVIRONMENT),
        started(at=67.5, attempt=3),
    ) == [
        "1 attempt 1, 2 s: the connection failed: ConnectionError: reset",
        "3 waited 4 s before retry 1",
        "7 attempt 2, 0.5 s: the connection failed: ConnectionError: other",
        "7.5 waited 1 min for: disk space",
        "67.5 attempt 3, for 32 s: runs",
    ]


def test_a_wait_that_goes_on_has_no_length_yet_and_says_when_it_ends() -> None:
    waits = story(started(at=1.0), failed(2.0), of_call(RetryScheduled, at=2.0, after=9.0, retry=1))[-1]
    assert (waits.is_now, waits.lasted, waits.due) == (True, None, 11.0)
    assert waits.line(10.0) == f"waits before retry 1, until {when(11.0, 10.0)}"
    assert waits.line(NOW) == "waits before retry 1"  # it should have ended


def test_a_delay_that_is_paused_or_over_says_no_end() -> None:
    scheduled = of_call(RetryScheduled, at=2.0, after=9.0, retry=1)
    waits, _ = story(scheduled, of_call(CallSteered, at=3.0, command="pause"))
    assert (waits.due, waits.line(4.0)) == (None, "waits before retry 1")
    assert [part.due for part in story(scheduled, started(at=11.0, attempt=2))] == [None, None]
    assert [part.due for part in story(scheduled, is_alive=False)] == [None]


def test_the_beginning_of_an_attempt_that_was_not_journalled_follows_from_its_wait() -> None:
    assert lines(
        failed(5.0, elapsed=2.0),
        of_call(RetryScheduled, at=5.0, after=4.0, retry=1),
        failed(10.0, 2),
        of_call(RetryScheduled, at=10.0, attempt=2, after=4.0, retry=2),
        of_call(CallSteered, at=11.0, attempt=3, command="retry now", reason="it is up"),
        of_call(OperationRecovered, at=12.0, attempt=3),
    ) == [
        "3 attempt 1, 2 s: the connection failed: ConnectionError: reset",
        "5 waited 4 s before retry 1",
        "9 attempt 2, 1 s: failed in the same way",
        "10 waited 1 s before retry 2",
        "11 command retry now: it is up",
        "11 attempt 3, 1 s: succeeded",
    ]


def test_an_attempt_of_which_only_the_end_is_known_has_no_length() -> None:
    parked = of_call(Parked, at=2.0, after=0.0, why="disk space", category=Category.ENVIRONMENT)
    assert lines(failed(2.0), parked, failed(9.0, 2, "other"))[-1] == (
        "9 attempt 2: the connection failed: ConnectionError: other"
    )


def test_a_call_that_is_deferred_again_and_again_waits_once() -> None:
    deferred = [of_call(Parked, at=float(at), after=1.0, why="rate limit") for at in range(1, 9)]
    assert lines(*deferred, started(at=9.0)) == ["1 waited 8 s for: rate limit", "9 attempt 1, for 1 min 31 s: runs"]


def test_a_restart_ends_the_attempt_of_the_dead_process() -> None:
    assert lines(started(at=1.0), of_call(OperationResumed, at=5.0, attempt=2, after=2.0), started(at=7.0)) == [
        "1 attempt 1, 4 s: its process ended in it",
        "5 resumed by process 7",
        "5 waited 2 s for the rest of its delay",
        "7 attempt 1, for 1 min 33 s: runs",
    ]


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (of_call(OperationSucceeded, at=4.0), ["1 attempt 1, 3 s: succeeded"]),
        (of_call(OperationCancelled, at=4.0), ["1 attempt 1, 3 s: was cancelled", "4 cancelled in attempt 1"]),
        (of_call(OperationInterrupted, at=4.0), ["1 attempt 1, 3 s: its process ended in good order"]),
        (of_call(OperationQuarantined, at=4.0, reason="two died"),
         ["1 attempt 1, 3 s: its process ended in it", "4 quarantined: two died"]),
        (of_call(GaveUp, at=4.0, reason="given up by hand"),
         ["1 attempt 1, 3 s: its process ended in it", "4 gave up after 1 attempt: given up by hand"]),
    ],
)  # fmt: skip
def test_the_end_of_a_call_is_told(end: CallEvent, told: list[str]) -> None:
    assert lines(started(at=1.0), end) == told


def test_what_never_began_and_what_is_run_again_is_told() -> None:
    rejected = of_call(CallRejected, at=1.0, reason="circuit open")
    assert lines(rejected, of_call(OperationRepeated, at=2.0, by="b-1")) == [
        "1 not started: circuit open", "2 call b-1 runs it again",
    ]  # fmt: skip
    assert lines(of_call(OperationRepeated, at=2.0, former="a-1"), started(at=2.0))[0] == "2 runs call a-1 again"


@pytest.mark.parametrize("kind", ["attempt", "wait"])
def test_nothing_of_a_dead_process_goes_on(kind: str) -> None:
    waits = (failed(2.0), of_call(RetryScheduled, at=2.0, after=9.0, retry=1)) if kind == "wait" else ()
    last = story(started(at=1.0), *waits, is_alive=False)[-1]
    assert (last.kind, last.is_now) == (kind, False)
    assert last.line(NOW) == ("waited before retry 1" if waits else "attempt 1: its process ended in it")


def test_what_a_person_changed_is_told_and_without_secrets() -> None:
    edit = of_call(CallSteered, at=2.0, command="edit", changes="max_retries=9", reason="token=hunter22hunter22")
    assert lines(started(at=1.0), edit)[-1] == "2 command edit: max_retries=9; token=***"


def test_an_attempt_that_waits_before_it_begins_is_a_wait_however_often_it_is_looked_at() -> None:
    looks = [
        event
        for at in (1.0, 9.0, 20.0)
        for event in (started(at=at), of_call(Parked, at=at, after=0.05, why="an answer: yes"))
    ]
    assert lines(*looks) == ["1 waits for: an answer: yes"]
    assert lines(*looks, started(at=30.0)) == [
        "1 waited 29 s for: an answer: yes",
        "30 attempt 1, for 1 min 10 s: runs",
    ]


def test_a_success_after_a_failure_is_told_once() -> None:
    assert lines(
        started(at=1.0),
        failed(1.0),
        of_call(RetryScheduled, at=1.0, after=2.0, retry=1),
        started(at=3.0, attempt=2),
        of_call(OperationRecovered, at=4.0, attempt=2),
        of_call(OperationSucceeded, at=4.0, attempt=2, recovered=True),
    )[2:] == ["3 attempt 2, 1 s: succeeded"]
