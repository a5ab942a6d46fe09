"""The steps of a call that only a runner takes."""

from __future__ import annotations

import math

import msgspec
import pytest

from events.attempt import Attempt, next_attempt, request_start
from events.call import Call, Progress
from events.codec import decode, encode
from events.event import FOREVER
from events.operation import Operation
from events.operation_events import GaveUp, OperationRecovered, OperationStarted, Parked
from events.runner_api import give_up, park, reject
from events.verdicts import GiveUp, Park, Retry, Verdict
from tests.events.calls import events_of, operation
from tests.failures import a_failure, about_failure


def test_a_rejection_for_ever_is_published_as_a_finite_number(fetch: Operation) -> None:
    events = events_of(fetch)
    assert reject(fetch.start(), GiveUp("closed", math.inf)).retry_after == math.inf
    assert [decode(encode(event)).retry_after for event in events] == [FOREVER]  # type: ignore[attr-defined]


def test_next_attempt_publishes_no_start() -> None:
    fetch = operation(Retry(), Retry())
    events = events_of(fetch, OperationStarted)
    attempt = fetch.start()
    attempt.fail(OSError())
    attempt = attempt.next()
    attempt.fail(OSError())
    next_attempt(attempt)
    assert [event.attempt for event in events] == [1, 2]  # type: ignore[attr-defined]


def test_give_up_ends_a_call_before_its_attempt(fetch: Operation) -> None:
    events = events_of(fetch)
    attempt = fetch.start()
    attempt.call.failure = a_failure()
    attempt.call.idempotency_key = "m-1"
    give_up(attempt, GiveUp(("a", "b")))
    about = {"operation": "fetch", "call": "run-1", "idempotency_key": "m-1", **about_failure()}
    assert events == [GaveUp(at=0.0, reason="a; b", **about)]  # type: ignore[arg-type]


def test_a_call_that_gives_up_while_it_waits_has_made_the_attempts_before() -> None:
    fetch = operation(Retry())
    events = events_of(fetch, GaveUp)
    attempt = fetch.start()
    attempt.fail(OSError())
    give_up(next_attempt(attempt), GiveUp("given up by hand"))
    assert [event.attempt for event in events] == [1]  # type: ignore[attr-defined]


def test_a_start_has_the_arguments_and_the_version(fetch: Operation) -> None:
    events = events_of(fetch, OperationStarted)
    request_start(Attempt(Call(fetch, "run-1", arguments=b"[[1],{}]", version="2")))
    arguments = msgspec.Raw(b"[[1],{}]")
    assert events == [OperationStarted(at=0.0, operation="fetch", call="run-1", arguments=arguments, version="2")]


@pytest.mark.parametrize(
    ("deferred", "after", "why"),
    [(Retry(2.0), 2.0, ""), (Park(2.0, until=("a", "b")), 2.0, "a; b"), (GiveUp("no"), 0.0, "")],
)
def test_a_parked_attempt_is_published_and_may_still_begin(
    deferred: Verdict, after: float, why: str, fetch: Operation
) -> None:
    events = events_of(fetch)
    attempt = Attempt(Call(fetch, "run-1"))
    park(attempt, deferred)
    attempt.succeed()
    assert events == [Parked(at=0.0, operation="fetch", call="run-1", after=after, why=why)]


def test_the_next_attempt_starts_afresh() -> None:
    fetch = operation(Retry(1.0))
    first = fetch.start()
    first.progress(7.0)
    assert first.call.progress is not None
    first.call.progress.on_progress = lambda: None
    first.fail(OSError())
    second = next_attempt(first)
    assert msgspec.structs.asdict(second) == msgspec.structs.asdict(Attempt(first.call, 2, 1.0))
    assert msgspec.structs.asdict(first.call.progress) == msgspec.structs.asdict(Progress(done=7.0))


def test_a_deferral_does_not_count_as_lag() -> None:
    now = [0.0]
    fetch = operation(Retry(5.0), clock=lambda: now[0])
    events = events_of(fetch, OperationRecovered)
    first = fetch.start()
    first.fail(OSError())
    again = next_attempt(first)
    now[0] = 6.0
    request_start(again)
    now[0] = 600.0
    request_start(again)
    again.succeed()
    assert [event.lag for event in events] == [1.0]  # type: ignore[attr-defined]


def test_only_what_is_farther_than_ever_before_is_progress() -> None:
    progress = Progress(done=5.0)
    progress.reach(5.0)
    assert (progress.progressed, progress.done) == (False, 5.0)
    progress.reach(6.0)
    assert (progress.progressed, progress.done) == (True, 6.0)
