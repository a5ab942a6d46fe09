"""Attempts by hand: fail, succeed, cancel, next, checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import pytest

from events.attempt import Attempt, next_attempt
from events.call import Call
from events.codec import decode, encode
from events.event import FOREVER, Event
from events.evidence import Category, Evidence
from events.kinds import EVENTS
from events.operation import Operation
from events.operation_events import (
    CheckpointSaved,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationFailed,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
    Parked,
    RetryScheduled,
)
from events.runner_api import park
from events.verdicts import GiveUp, Park, Retry, Verdict
from recovery.testing.clock import VirtualClock
from tests.events.calls import (
    cancel,
    cancel_while_waiting,
    end_for_good,
    events_of,
    fail,
    operation,
    retry,
    succeed,
    turn_away,
)


def drive(fetch: Operation, tries: list[Exception | str]) -> tuple[str, list[float]]:
    """The loop that ``events.operation`` shows: what came out of *tries*, and the waits that it asked for."""
    waits: list[float] = []
    attempt = fetch.start()
    while isinstance(error := tries.pop(0), Exception):
        match attempt.fail(error):
            case Retry(after) | Park(after):
                waits.append(after)
                attempt = attempt.next()
            case GiveUp():
                raise error
    attempt.succeed()
    return error, waits


def test_a_loop_by_hand_publishes_every_step() -> None:
    fetch = operation(Retry(1.0), Park(2.0))
    events = events_of(fetch, *EVENTS)
    assert drive(fetch, [OSError(), OSError(), "content"]) == ("content", [1.0, 2.0])
    assert [(type(event), event.attempt) for event in events] == [  # type: ignore[attr-defined]
        (OperationStarted, 1),
        (OperationFailed, 1),
        (RetryScheduled, 1),
        (OperationStarted, 2),
        (OperationFailed, 2),
        (Parked, 2),
        (OperationStarted, 3),
        (OperationRecovered, 3),
        (OperationSucceeded, 3),
    ]


def test_a_loop_by_hand_gives_up_on_a_give_up() -> None:
    fetch = operation(Retry(1.0), GiveUp("enough"))
    last = OSError("the last")
    with pytest.raises(OSError) as caught:
        drive(fetch, [OSError("the first"), last, "content"])
    assert caught.value is last


@pytest.mark.parametrize("answers", [[], [None]])
def test_a_failure_without_a_verdict_gives_up(answers: list[None]) -> None:
    assert operation(*answers).start().fail(OSError()) == GiveUp("no subscriber answered")


def test_a_failure_is_published_with_all_its_fields() -> None:
    clock = VirtualClock(10.0)
    fetch = operation(Retry(3.0), None, key="host", clock=clock)
    attempt = fetch.start()
    attempt.fail(OSError())
    clock.advance(4.0)
    attempt = attempt.next()
    events = events_of(fetch, OperationFailed)
    attempt.fail(error := OSError())
    about = {"operation": "fetch", "key": "host", "call": "run-1", "attempt": 2}
    assert events == [OperationFailed(at=14.0, **about, error=error, retries=1, elapsed=4.0, waited=3.0, began=14.0)]  # type: ignore[arg-type]


def test_a_call_without_a_beginning_is_timed_from_its_first_failure() -> None:
    attempt = Attempt(Call(operation(clock=lambda: 9.0), "a"))
    attempt.fail(OSError())
    assert attempt.call.began == 9.0


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [
        (Retry(3.0), RetryScheduled(at=0.0, operation="fetch", call="run-1", after=3.0, retry=1)),
        (Park(3.0, until=("a", "b")), Parked(at=0.0, operation="fetch", call="run-1", after=3.0, why="a; b")),
        (GiveUp(("a", "b")), GaveUp(at=0.0, operation="fetch", call="run-1", reason="a; b")),
        (None, GaveUp(at=0.0, operation="fetch", call="run-1", reason="no subscriber answered")),
    ],
)
def test_the_outcome_of_a_failure_is_published(verdict: Verdict | None, outcome: Event) -> None:
    fetch = operation(verdict)
    events = events_of(fetch)
    fetch.start().fail(OSError())
    assert events == [outcome]


@pytest.mark.parametrize("verdict", [Retry(math.inf), Park(math.inf)])
def test_a_wait_without_end_is_published_as_a_finite_number(verdict: Verdict) -> None:
    fetch = operation(verdict)
    events = events_of(fetch)
    assert fetch.start().fail(OSError()) == verdict
    assert [decode(encode(event)).after for event in events] == [FOREVER]  # type: ignore[attr-defined]


def test_an_overruled_verdict_is_not_published() -> None:
    fetch = operation(Retry(1.0))
    events = events_of(fetch)
    fetch.bus.subscribe(OperationFailed, lambda _: GiveUp("no"))
    fetch.start().fail(OSError())
    assert [type(event) for event in events] == [GaveUp]


def test_an_outcome_says_how_the_failure_was_classified() -> None:
    fetch = operation(Retry(1.0))
    events = events_of(fetch, RetryScheduled)
    evidence = Evidence(type="x.Lost", message="gone")
    fetch.bus.subscribe(
        OperationFailed, lambda f: FailureClassified(at=f.at, call=f.call, category=Category.LOST, evidence=evidence)
    )
    fetch.start().fail(OSError())
    assert [(event.category, event.error) for event in events] == [(Category.LOST, "Lost: gone")]  # type: ignore[attr-defined]


def test_an_outcome_is_published_last() -> None:
    fetch = operation(GiveUp("no"))
    events = events_of(fetch)
    fetch.bus.subscribe(OperationFailed, lambda f: Parked(at=f.at, call=f.call, after=0.0))
    fetch.start().fail(OSError())
    assert [type(event) for event in events] == [Parked, GaveUp]


GROUP = BaseExceptionGroup("both", [OSError(), KeyboardInterrupt()])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit(), GROUP, OSError, "error", None])
def test_an_attempt_fails_with_an_exception_only(error: object, fetch: Operation) -> None:
    attempt = fetch.start()
    with pytest.raises(TypeError, match="cancel"):
        attempt.fail(error)  # type: ignore[arg-type]
    attempt.succeed()  # it is not over
    assert fetch.successes == 1


def test_a_retry_uses_a_retry_and_a_park_none() -> None:
    retried, parked = operation(Retry()).start(), operation(Park()).start()
    retried.fail(OSError())
    parked.fail(OSError())
    assert (retried.next().call.retries, parked.next().call.retries) == (1, 0)


def test_the_next_attempt_belongs_to_the_same_call() -> None:
    attempt = operation(Retry(3.0), clock=lambda: 5.0).start()
    attempt.fail(OSError())
    after = attempt.next()
    assert (after.call, after.number, after.waited) == (attempt.call, 2, 3.0)


@pytest.mark.parametrize("again", [fail, succeed, end_for_good, turn_away])
@pytest.mark.parametrize("end", [fail, succeed, cancel, end_for_good, turn_away])
def test_an_attempt_ends_once(end: Callable[[Attempt], object], again: Callable[[Attempt], object]) -> None:
    attempt = operation(Retry()).start()
    end(attempt)
    with pytest.raises(RuntimeError, match="attempt 1 of run-1 has ended already"):
        again(attempt)


def test_an_attempt_shows_its_number_its_call_and_its_state() -> None:
    attempt = operation(Retry()).start()
    begun = repr(attempt)
    attempt.fail(OSError())
    assert begun == f"<Attempt 1 of call run-1 of {attempt.call.operation.name}: begun>"
    assert repr(attempt).endswith(": ended>")


@pytest.mark.parametrize("before", [repr, fail, succeed, cancel, end_for_good, turn_away, cancel_while_waiting, retry])
def test_only_a_retry_or_a_park_has_a_next_attempt(before: Callable[[Attempt], object]) -> None:
    attempt = operation(GiveUp("no")).start() if before is fail else operation(Retry()).start()
    before(attempt)
    with pytest.raises(RuntimeError, match="has no next"):
        attempt.next()


def test_a_cancellation_is_published_and_is_no_failure(fetch: Operation) -> None:
    events = events_of(fetch)
    fetch.start().cancel()
    assert events == [OperationCancelled(at=0.0, operation="fetch", call="run-1")]


@pytest.mark.parametrize("begins_next", [False, True])
def test_a_call_can_be_cancelled_while_it_waits(begins_next: bool) -> None:
    fetch = operation(Retry(1.0))
    attempt = fetch.start()
    fail(attempt)
    events = events_of(fetch)
    cancelled = next_attempt(attempt) if begins_next else attempt
    cancelled.cancel()
    attempt.cancel()  # ended, or has a next one: that does nothing
    assert events == [
        OperationCancelled(at=0.0, operation="fetch", call="run-1", attempt=cancelled.number, waiting=True)
    ]


@pytest.mark.parametrize("end", [fail, succeed, cancel, end_for_good, turn_away, cancel_while_waiting])
def test_cancelling_a_call_that_has_ended_does_nothing(end: Callable[[Attempt], object]) -> None:
    fetch = operation(GiveUp("no"))
    attempt = fetch.start()
    end(attempt)
    events = events_of(fetch)
    attempt.cancel()
    assert events == []


def test_only_successes_are_counted(fetch: Operation) -> None:
    for end in (fail, cancel, end_for_good, turn_away, succeed, succeed):
        end(fetch.start())
    assert fetch.successes == 2


@pytest.mark.parametrize("failures", [0, 1])
def test_a_success_says_whether_an_attempt_had_failed(failures: int) -> None:
    fetch = operation(Retry())
    events = events_of(fetch, OperationSucceeded)
    attempt = fetch.start()
    for _ in range(failures):
        attempt.fail(OSError())
        attempt = attempt.next()
    attempt.succeed()
    assert [event.recovered for event in events] == [failures > 0]  # type: ignore[attr-defined]


def test_a_recovery_says_how_long_it_took() -> None:
    clock = VirtualClock(10.0)
    fetch = operation(Retry(), clock=clock)
    events = events_of(fetch, OperationRecovered)
    attempt = fetch.start()
    attempt.fail(OSError())
    clock.advance(4.0)
    attempt.next().succeed()
    assert events == [OperationRecovered(at=14.0, operation="fetch", call="run-1", attempt=2, elapsed=4.0, lag=4.0)]


def test_a_checkpoint_is_published_and_kept(fetch: Operation) -> None:
    events = events_of(fetch)
    attempt = fetch.start()
    attempt.checkpoint(b'{"offset":7}')
    assert events == [CheckpointSaved(at=0.0, operation="fetch", call="run-1", data=msgspec.Raw(b'{"offset":7}'))]
    assert attempt.call.saved == b'{"offset":7}'


@pytest.mark.parametrize("end", [fail, succeed, cancel, end_for_good, turn_away])
def test_a_checkpoint_after_the_end_is_ignored(end: Callable[[Attempt], object]) -> None:
    fetch = operation(Retry())
    attempt = fetch.start()
    attempt.checkpoint(b"1")
    end(attempt)
    events = events_of(fetch)
    attempt.checkpoint(b"2")
    assert (attempt.call.saved, events) == (b"1", [])


def recovered_after(*times: float, answers: tuple[Verdict, ...]) -> float:
    """The lag that is published: the clock reads the next of *times* at each failure and at each beginning."""
    left = [0.0, *times, times[-1]]
    now = [0.0]

    def tick() -> None:
        now[0] = left.pop(0)

    fetch = operation(*answers, clock=lambda: now[0])
    events = events_of(fetch, OperationRecovered)
    attempt = fetch.start()
    for _ in answers:
        tick()
        attempt.fail(OSError())
        tick()
        attempt = attempt.next()
    now[0] += 100.0  # however long it takes itself
    attempt.succeed()
    [event] = events
    assert isinstance(event, OperationRecovered)
    return event.lag


@pytest.mark.parametrize(
    ("times", "answers", "lag"),
    [
        ([5.0], (Retry(5.0),), 0.0),
        ([7.0], (Retry(5.0),), 2.0),
        ([1.0], (Retry(5.0),), 0.0),
        ([7.0, 10.0, 16.0, 20.0, 25.0], (Retry(5.0), Retry(5.0), Retry(5.0)), 2.0),  # the longest counts
        ([700.0], (Park(5.0),), 0.0),
    ],
)
def test_the_lag_of_a_retry_is_the_time_beyond_its_delay(
    times: list[float], answers: tuple[Verdict, ...], lag: float
) -> None:
    assert recovered_after(*times, answers=answers) == lag


@pytest.mark.parametrize("end", [succeed, cancel, end_for_good, turn_away, cancel_while_waiting, fail])
@pytest.mark.parametrize("answer", [Retry(), Park(), GiveUp("no")])
def test_an_event_without_a_subscriber_is_not_built(answer: Verdict, end: Callable[[Attempt], object]) -> None:
    readings: list[float] = []
    fetch = operation(answer, clock=lambda: readings.append(0.0) or 0.0)  # type: ignore[func-returns-value]
    attempt = fetch.start()
    attempt.checkpoint(b"1")
    park(attempt, Park())
    end(attempt)
    # Every event is built with a reading of the clock: one is for the start, one for the failure.
    assert len(readings) == 1 + (end in (fail, cancel_while_waiting))


def test_an_event_is_built_for_each_subscriber_once(fetch: Operation) -> None:
    one, other = events_of(fetch), events_of(fetch)
    end_for_good(fetch.start())
    assert one[0] is other[0]


def test_a_healthy_call_reads_the_clock_only_when_it_begins() -> None:
    readings = iter([1.0])
    operation(clock=lambda: next(readings)).start().succeed()
    assert list(readings) == []
