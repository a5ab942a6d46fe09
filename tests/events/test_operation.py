from __future__ import annotations

import gc
import math
from collections.abc import Callable

import msgspec
import pytest

from events.attempt import Attempt, next_attempt, request_start
from events.bus import Bus
from events.call import Call, Progress
from events.codec import decode, encode
from events.errors import CallRejectedError
from events.event import FOREVER, NOTHING, Event
from events.evidence import Category, Evidence
from events.kinds import EVENTS, ON_REQUEST
from events.operation import Operation
from events.operation_events import (
    CallRejected,
    CheckpointSaved,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationFailed,
    OperationRecovered,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    Parked,
    RetryScheduled,
)
from events.runner_api import give_up, park, reject, resume
from events.verdicts import GiveUp, Park, Retry, Verdict
from recovery.testing.clock import VirtualClock

HELD: list[Verdict] = [Retry(5.0), Park(5.0, until=("disk",)), GiveUp("closed", 5.0)]


def operation(*answers: Verdict | None, key: str = "", clock: Callable[[], float] = lambda: 0.0) -> Operation:
    """An operation on a bus of its own; its failures are answered with *answers*, one after the other."""
    bus = Bus(clock=clock, run="run")
    left = list(answers)
    if left:
        bus.subscribe(OperationFailed, lambda _: left.pop(0))
    return Operation("fetch", bus, key=key)


def hearing(of: Operation, *kinds: type[Event]) -> list[Event]:
    """What is said of *of* from now on: of these kinds, or whatever comes out of a call."""
    heard: list[Event] = []
    of.bus.subscribe(kinds or [kind for kind in EVENTS if kind not in (OperationFailed, *ON_REQUEST)], heard.append)
    return heard


def holding(of: Operation, verdict: Verdict) -> None:
    of.bus.subscribe(OperationStarted, lambda _: verdict)


# By hand


def drive(fetch: Operation, tries: list[Exception | str]) -> tuple[str, list[float]]:
    """The driver that the module shows: what came out of *tries*, and the waits it was told to make."""
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


def test_the_driver_by_hand_goes_on_until_it_succeeds() -> None:
    fetch = operation(Retry(1.0), Park(2.0), Retry(3.0))
    assert drive(fetch, [OSError(), OSError(), OSError(), "content"]) == ("content", [1.0, 2.0, 3.0])


def test_the_driver_by_hand_tells_the_whole_story() -> None:
    fetch = operation(Retry(1.0), Park(2.0))
    heard = hearing(fetch, *EVENTS)
    drive(fetch, [OSError(), OSError(), "content"])
    assert [(type(event), event.attempt) for event in heard] == [  # type: ignore[attr-defined]
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


def test_the_driver_by_hand_gives_up_when_told_so() -> None:
    fetch = operation(Retry(1.0), GiveUp("enough"))
    last = OSError("the last")
    with pytest.raises(OSError) as caught:
        drive(fetch, [OSError("the first"), last, "content"])
    assert caught.value is last


# Starting


def test_every_start_is_a_call_of_its_own() -> None:
    fetch = operation()
    assert [fetch.start().call.id, fetch.start().call.id] == ["run-1", "run-2"]


def test_a_start_is_told_to_who_asked() -> None:
    fetch = operation(key="host", clock=lambda: 7.0)
    heard = hearing(fetch, OperationStarted)
    fetch.start()
    assert heard == [OperationStarted(at=7.0, operation="fetch", key="host", call="run-1")]


@pytest.mark.parametrize("held", HELD)
def test_a_call_held_back_is_rejected(held: Verdict) -> None:
    fetch = operation()
    holding(fetch, held)
    with pytest.raises(CallRejectedError) as caught:
        fetch.start()
    assert (caught.value.operation, caught.value.retry_after) == ("fetch", 5.0)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (Retry(5.0), "fetch[host] was not started: deferred; come back in 5.0 s"),
        (Park(5.0, until=("disk", "port")), "fetch[host] was not started: disk; port; come back in 5.0 s"),
        (GiveUp("closed", 5.0), "fetch[host] was not started: closed; come back in 5.0 s"),
        (GiveUp("closed", 0.0), "fetch[host] was not started: closed; come back in 0.0 s"),
        (GiveUp("closed"), "fetch[host] was not started: closed"),
        (Park(5.0), "fetch[host] was not started: deferred; come back in 5.0 s"),
    ],
)
def test_a_rejection_says_who_turned_the_call_away_and_when_to_come_back(held: Verdict, message: str) -> None:
    fetch = operation(key="host")
    holding(fetch, held)
    with pytest.raises(CallRejectedError) as caught:
        fetch.start()
    assert str(caught.value) == message


def test_a_rejection_is_a_event() -> None:
    fetch = operation()
    heard = hearing(fetch)
    holding(fetch, GiveUp("closed", 5.0))
    with pytest.raises(CallRejectedError):
        fetch.start()
    assert heard == [CallRejected(at=0.0, operation="fetch", call="run-1", reason="closed", retry_after=5.0)]


def test_a_start_that_nobody_answers_begins() -> None:
    fetch = operation()
    fetch.bus.subscribe(OperationStarted, lambda _: None)
    fetch.start().succeed()
    assert fetch.successes == 1


# Failing


def test_nobody_answers_is_giving_up() -> None:
    assert operation().start().fail(OSError()) == GiveUp("no subscriber answered")


def test_no_opinion_is_giving_up() -> None:
    assert operation(None).start().fail(OSError()) == GiveUp("no subscriber answered")


def test_a_failure_tells_all_that_is_known_of_it() -> None:
    clock = VirtualClock(10.0)
    fetch = operation(Retry(3.0), None, key="host", clock=clock)
    attempt = fetch.start()
    attempt.fail(OSError())
    clock.advance(4.0)
    attempt = attempt.next()
    heard = hearing(fetch, OperationFailed)
    attempt.fail(error := OSError())
    about = {"operation": "fetch", "key": "host", "call": "run-1", "attempt": 2}
    assert heard == [OperationFailed(at=14.0, **about, error=error, retries=1, elapsed=4.0, waited=3.0)]  # type: ignore[arg-type]


def test_a_call_that_took_no_time_when_it_began_is_timed_from_its_first_failure() -> None:
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
def test_the_outcome_is_a_event(verdict: Verdict | None, outcome: Event) -> None:
    fetch = operation(verdict)
    heard = hearing(fetch)
    fetch.start().fail(OSError())
    assert heard == [outcome]


@pytest.mark.parametrize("verdict", [Retry(math.inf), Park(math.inf)])
def test_a_wait_without_end_is_told_in_a_number_that_can_be_written(verdict: Verdict) -> None:
    fetch = operation(verdict)
    heard = hearing(fetch)
    assert fetch.start().fail(OSError()) == verdict
    assert [decode(encode(event)).after for event in heard] == [FOREVER]  # type: ignore[attr-defined]


def test_a_rejection_for_ever_is_told_in_a_number_that_can_be_written() -> None:
    fetch = operation()
    heard = hearing(fetch)
    assert reject(fetch.start(), GiveUp("closed", math.inf)).retry_after == math.inf
    assert [decode(encode(event)).retry_after for event in heard] == [FOREVER]  # type: ignore[attr-defined]


def test_nobody_hears_an_overruled_opinion() -> None:
    fetch = operation(Retry(1.0))
    heard = hearing(fetch)
    fetch.bus.subscribe(OperationFailed, lambda _: GiveUp("no"))
    fetch.start().fail(OSError())
    assert [type(event) for event in heard] == [GaveUp]


def test_an_outcome_says_how_the_failure_was_classified() -> None:
    fetch = operation(Retry(1.0))
    heard = hearing(fetch, RetryScheduled)
    evidence = Evidence(type="x.Lost", message="gone")
    fetch.bus.subscribe(
        OperationFailed, lambda f: FailureClassified(at=f.at, call=f.call, category=Category.LOST, evidence=evidence)
    )
    fetch.start().fail(OSError())
    assert [(event.category, event.error) for event in heard] == [(Category.LOST, "Lost: gone")]  # type: ignore[attr-defined]


def test_an_outcome_is_told_after_all_that_led_to_it() -> None:
    fetch = operation(GiveUp("no"))
    heard = hearing(fetch)
    fetch.bus.subscribe(OperationFailed, lambda f: Parked(at=f.at, call=f.call, after=0.0))
    fetch.start().fail(OSError())
    assert [type(event) for event in heard] == [Parked, GaveUp]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit(), OSError, "error", None])
def test_an_attempt_fails_with_an_exception_only(error: object) -> None:
    with pytest.raises(TypeError, match="cancel"):
        operation().start().fail(error)  # type: ignore[arg-type]


def test_a_group_with_a_cancellation_is_no_failure() -> None:
    with pytest.raises(TypeError):
        operation().start().fail(BaseExceptionGroup("both", [OSError(), KeyboardInterrupt()]))  # type: ignore[arg-type]


def test_a_refused_failure_leaves_the_attempt_open() -> None:
    fetch = operation()
    attempt = fetch.start()
    with pytest.raises(TypeError):
        attempt.fail(KeyboardInterrupt())  # type: ignore[arg-type]
    attempt.succeed()
    assert fetch.successes == 1


# Going on


def test_a_retry_uses_up_a_retry_and_a_park_none() -> None:
    retried, parked = operation(Retry()).start(), operation(Park()).start()
    retried.fail(OSError())
    parked.fail(OSError())
    assert (retried.next().call.retries, parked.next().call.retries) == (1, 0)


def test_the_next_attempt_belongs_to_the_same_call() -> None:
    attempt = operation(Retry(3.0), clock=lambda: 5.0).start()
    attempt.fail(OSError())
    after = attempt.next()
    assert (after.call, after.number, after.waited) == (attempt.call, 2, 3.0)


def test_the_next_attempt_is_announced_and_the_following_not() -> None:
    fetch = operation(Retry(), Retry())
    heard = hearing(fetch, OperationStarted)
    attempt = fetch.start()
    attempt.fail(OSError())
    attempt = attempt.next()
    attempt.fail(OSError())
    next_attempt(attempt)
    assert [event.attempt for event in heard] == [1, 2]  # type: ignore[attr-defined]


def fail(attempt: Attempt) -> None:
    attempt.fail(OSError())


def succeed(attempt: Attempt) -> None:
    attempt.succeed()


def cancel(attempt: Attempt) -> None:
    attempt.cancel()


def end_for_good(attempt: Attempt) -> None:
    give_up(attempt, GiveUp("no"))


def turn_away(attempt: Attempt) -> None:
    reject(attempt, GiveUp("no"))


def cancel_while_waiting(attempt: Attempt) -> None:
    fail(attempt)
    cancel(attempt)


def nothing(attempt: Attempt) -> None: ...


@pytest.mark.parametrize("again", [fail, succeed, end_for_good, turn_away])
@pytest.mark.parametrize("end", [fail, succeed, cancel, end_for_good, turn_away])
def test_an_attempt_ends_once(end: Callable[[Attempt], None], again: Callable[[Attempt], None]) -> None:
    attempt = operation(Retry()).start()
    end(attempt)
    with pytest.raises(RuntimeError, match="attempt 1 of run-1 has ended already"):
        again(attempt)


@pytest.mark.parametrize("before", [nothing, succeed, cancel, end_for_good, turn_away, cancel_while_waiting])
def test_only_a_failure_that_may_go_on_has_a_next(before: Callable[[Attempt], None]) -> None:
    attempt = operation(Retry()).start()
    before(attempt)
    with pytest.raises(RuntimeError, match="has no next"):
        attempt.next()


def test_giving_up_has_no_next() -> None:
    attempt = operation(GiveUp("no")).start()
    fail(attempt)
    with pytest.raises(RuntimeError, match="has no next"):
        attempt.next()


def test_an_attempt_has_one_next() -> None:
    attempt = operation(Retry()).start()
    fail(attempt)
    attempt.next()
    with pytest.raises(RuntimeError, match="has no next"):
        attempt.next()


# Ending


def test_a_cancellation_is_a_event_and_no_failure() -> None:
    fetch = operation()
    heard = hearing(fetch)
    fetch.start().cancel()
    assert heard == [OperationCancelled(at=0.0, operation="fetch", call="run-1")]


def test_a_call_can_be_cancelled_while_it_waits() -> None:
    fetch = operation(Retry(1.0))
    heard = hearing(fetch)
    cancel_while_waiting(fetch.start())
    assert [type(event) for event in heard] == [RetryScheduled, OperationCancelled]


@pytest.mark.parametrize("end", [fail, succeed, cancel, end_for_good, turn_away, cancel_while_waiting])
def test_cancelling_what_is_over_does_nothing(end: Callable[[Attempt], None]) -> None:
    fetch = operation(GiveUp("no"))
    attempt = fetch.start()
    end(attempt)
    heard = hearing(fetch)
    attempt.cancel()
    assert heard == []


def test_cancelling_an_attempt_that_has_a_next_does_nothing() -> None:
    fetch = operation(Retry())
    attempt = fetch.start()
    fail(attempt)
    attempt.next()
    heard = hearing(fetch)
    attempt.cancel()
    assert heard == []


def test_a_call_can_be_given_up_before_its_attempt() -> None:
    fetch = operation()
    heard = hearing(fetch)
    attempt = fetch.start()
    attempt.call.error = "OSError: disk"
    give_up(attempt, GiveUp(("a", "b")))
    assert heard == [GaveUp(at=0.0, operation="fetch", call="run-1", reason="a; b", error="OSError: disk")]


def test_a_success_is_counted_and_nothing_else_is() -> None:
    fetch = operation()
    for end in (fail, cancel, end_for_good, turn_away, succeed, succeed):
        end(fetch.start())
    assert fetch.successes == 2


@pytest.mark.parametrize("troubles", [0, 1])
def test_a_success_says_whether_something_had_gone_wrong(troubles: int) -> None:
    fetch = operation(Retry())
    heard = hearing(fetch, OperationSucceeded)
    attempt = fetch.start()
    for _ in range(troubles):
        attempt.fail(OSError())
        attempt = attempt.next()
    attempt.succeed()
    assert [event.recovered for event in heard] == [troubles > 0]  # type: ignore[attr-defined]


def test_a_recovery_says_how_long_it_took() -> None:
    clock = VirtualClock(10.0)
    fetch = operation(Retry(), clock=clock)
    heard = hearing(fetch, OperationRecovered)
    attempt = fetch.start()
    attempt.fail(OSError())
    clock.advance(4.0)
    attempt.next().succeed()
    assert heard == [OperationRecovered(at=14.0, operation="fetch", call="run-1", attempt=2, elapsed=4.0, lag=4.0)]


def test_a_healthy_call_recovers_from_nothing() -> None:
    fetch = operation()
    heard = hearing(fetch)
    fetch.start().succeed()
    assert heard == []


# What a journal wants to know


def test_a_checkpoint_is_a_event_and_is_kept() -> None:
    fetch = operation()
    heard = hearing(fetch)
    attempt = fetch.start()
    attempt.checkpoint(b'{"offset":7}')
    assert heard == [CheckpointSaved(at=0.0, operation="fetch", call="run-1", data=msgspec.Raw(b'{"offset":7}'))]
    assert attempt.call.saved == b'{"offset":7}'


@pytest.mark.parametrize("end", [fail, succeed, cancel, end_for_good, turn_away])
def test_a_checkpoint_that_comes_too_late_is_not_noted(end: Callable[[Attempt], None]) -> None:
    fetch = operation(Retry())
    attempt = fetch.start()
    attempt.checkpoint(b"1")
    end(attempt)
    heard = hearing(fetch)
    attempt.checkpoint(b"2")
    assert (attempt.call.saved, heard) == (b"1", [])


@pytest.mark.parametrize(("given", "told"), [(None, NOTHING), (b"[[1],{}]", msgspec.Raw(b"[[1],{}]"))])
def test_a_resumed_call_publishes_its_arguments(given: bytes | None, told: msgspec.Raw) -> None:
    fetch = operation()
    heard = hearing(fetch, OperationResumed)
    resume(Attempt(Call(fetch, "old-1", arguments=given), 3), 4.0)
    assert heard == [OperationResumed(at=0.0, operation="fetch", call="old-1", attempt=3, after=4.0, arguments=told)]


def test_an_announcement_tells_the_arguments_and_the_version() -> None:
    fetch = operation()
    heard = hearing(fetch, OperationStarted)
    request_start(Attempt(Call(fetch, "run-1", arguments=b"[[1],{}]", version="2")))
    told = msgspec.Raw(b"[[1],{}]")
    assert heard == [OperationStarted(at=0.0, operation="fetch", call="run-1", arguments=told, version="2")]


@pytest.mark.parametrize(
    ("hold", "after", "why"),
    [(Retry(2.0), 2.0, ""), (Park(2.0, until=("a", "b")), 2.0, "a; b"), (GiveUp("no"), 0.0, "")],
)
def test_a_held_attempt_says_so_and_goes_on(hold: Verdict, after: float, why: str) -> None:
    fetch = operation()
    heard = hearing(fetch)
    attempt = Attempt(Call(fetch, "run-1"))
    park(attempt, hold)
    attempt.succeed()
    assert heard == [Parked(at=0.0, operation="fetch", call="run-1", after=after, why=why)]


def test_what_was_the_last_attempts_own_is_not_the_next_ones() -> None:
    fetch = operation(Retry(1.0))
    first = fetch.start()
    first.progress(7.0)
    assert first.call.progress is not None
    first.call.progress.on_progress = lambda: None
    first.fail(OSError())
    second = next_attempt(first)
    assert msgspec.structs.asdict(second) == msgspec.structs.asdict(Attempt(first.call, 2, 1.0))
    assert msgspec.structs.asdict(first.call.progress) == msgspec.structs.asdict(Progress(done=7.0))


def test_a_call_that_is_cancelled_between_two_attempts_was_waiting() -> None:
    fetch = operation(Retry(1.0))
    attempt = fetch.start()
    attempt.fail(OSError())
    heard = hearing(fetch, OperationCancelled)
    next_attempt(attempt).cancel()
    assert heard == [OperationCancelled(at=0.0, operation="fetch", call="run-1", attempt=2, waiting=True)]


# Parts


def test_a_part_speaks_for_itself() -> None:
    whole = operation(Retry(1.0))
    part = Operation("fetch", whole.bus, key="host")
    heard = hearing(whole)
    part.start().fail(OSError())
    assert [(event.operation, event.key) for event in heard] == [("fetch", "host")]


def test_a_part_counts_for_itself() -> None:
    whole = operation()
    part = Operation("fetch", whole.bus, key="host")
    part.start().succeed()
    assert (whole.successes, part.successes) == (0, 1)


def test_an_operation_says_what_it_is() -> None:
    assert repr(operation(key="host")) == "<Operation fetch[host]>"


# Watched


@pytest.mark.parametrize("kind", ON_REQUEST)
def test_an_operation_is_watched_as_long_as_somebody_listens(kind: type[Event]) -> None:
    fetch = operation()
    before = fetch.is_observed
    with fetch.bus.subscribe(kind, lambda event: None):
        during = fetch.is_observed
    assert (before, during, fetch.is_observed) == (False, True, False)


@pytest.mark.parametrize("kind", ON_REQUEST)
def test_a_foreign_receiver_watches_as_long_as_it_is_connected(kind: type[Event]) -> None:
    fetch = operation()
    before = fetch.is_observed
    with fetch.bus.signal(kind).connected_to(lambda sender, event: None):
        during = fetch.is_observed
    assert (before, during, fetch.is_observed) == (False, True, False)


def test_who_disconnects_from_one_sender_no_longer_watches_it() -> None:
    fetch = operation()

    def receiver(sender: str, event: Event) -> None: ...

    signal = fetch.bus.signal(OperationStarted)
    signal.connect(receiver, sender="fetch")
    signal.disconnect(receiver, sender="fetch")
    assert not fetch.is_observed


def test_an_operation_made_later_is_watched_too() -> None:
    bus = Bus()
    bus.subscribe(OperationStarted, lambda event: None)
    assert Operation("fetch", bus).is_observed


def test_the_last_watcher_to_leave_ends_the_watch() -> None:
    fetch = operation()
    seats = [fetch.bus.subscribe(kind, lambda event: None) for kind in (*ON_REQUEST, *ON_REQUEST)]
    is_observed = []
    for subscription in seats:
        subscription.close()
        is_observed.append(fetch.is_observed)
    assert is_observed == [True, True, True, False]


def test_watching_one_part_leaves_the_others_alone() -> None:
    fetch = operation()
    parts = [fetch, *(Operation("fetch", fetch.bus, key=key) for key in "xy"), Operation("other", fetch.bus, key="x")]
    fetch.bus.subscribe(OperationStarted, lambda event: None, operation="fetch", key="x")
    assert [part.is_observed for part in parts] == [False, True, False, False]


def test_who_listens_to_everything_else_does_not_watch() -> None:
    fetch = operation()
    hearing(fetch, Event)
    assert not fetch.is_observed


@pytest.mark.parametrize("kind", ON_REQUEST)
def test_a_watcher_that_was_collected_no_longer_watches(kind: type[Event]) -> None:
    fetch = operation()

    def receiver(sender: str, event: Event) -> None: ...

    fetch.bus.signal(kind).connect(receiver)
    del receiver
    gc.collect()
    fetch.start().succeed()  # the bus may notice it only now
    assert not fetch.is_observed


# How late a retry began


def recovered_after(*times: float, answers: tuple[Verdict, ...]) -> float:
    """How late a call says that it was: the clock reads the next of *times* at each failure, and each beginning."""
    left = [0.0, *times, times[-1]]
    now = [0.0]

    def tick() -> None:
        now[0] = left.pop(0)

    fetch = operation(*answers, clock=lambda: now[0])
    heard = hearing(fetch, OperationRecovered)
    attempt = fetch.start()
    for _ in answers:
        tick()
        attempt.fail(OSError())
        tick()
        attempt = attempt.next()
    now[0] += 100.0  # however long it takes itself
    attempt.succeed()
    [event] = heard
    assert isinstance(event, OperationRecovered)
    return event.lag


@pytest.mark.parametrize(("began", "late"), [(5.0, 0.0), (7.0, 2.0), (1.0, 0.0)])
def test_a_retry_is_late_by_what_passed_beyond_its_delay(began: float, late: float) -> None:
    assert recovered_after(began, answers=(Retry(5.0),)) == late


def test_of_several_retries_the_latest_counts() -> None:
    assert recovered_after(7.0, 10.0, 16.0, 20.0, 25.0, answers=(Retry(5.0), Retry(5.0), Retry(5.0))) == 2.0


def test_a_parked_call_waits_for_its_causes_and_is_never_late() -> None:
    assert recovered_after(700.0, answers=(Park(5.0),)) == 0.0


def test_what_holds_a_retry_back_when_it_asks_does_not_make_it_late() -> None:
    now = [0.0]
    fetch = operation(Retry(5.0), clock=lambda: now[0])
    heard = hearing(fetch, OperationRecovered)
    first = fetch.start()
    first.fail(OSError())
    again = next_attempt(first)
    now[0] = 6.0
    request_start(again)
    now[0] = 600.0
    request_start(again)
    again.succeed()
    assert [event.lag for event in heard] == [1.0]  # type: ignore[attr-defined]


# What nobody hears


@pytest.mark.parametrize("end", [succeed, cancel, end_for_good, turn_away, cancel_while_waiting, fail])
@pytest.mark.parametrize("answer", [Retry(), Park(), GiveUp("no")])
def test_an_event_without_a_subscriber_is_not_built(answer: Verdict, end: Callable[[Attempt], None]) -> None:
    readings: list[float] = []
    fetch = operation(answer, clock=lambda: readings.append(0.0) or 0.0)  # type: ignore[func-returns-value]
    attempt = fetch.start()
    attempt.checkpoint(b"1")
    park(attempt, Park())
    resume(attempt, 0.0)
    end(attempt)
    # Every event is built with a reading of the clock: one is for the start, one for the failure.
    assert len(readings) == 1 + (end in (fail, cancel_while_waiting))


def test_an_event_is_built_for_each_subscriber_once() -> None:
    fetch = operation()
    one, other = hearing(fetch), hearing(fetch)
    end_for_good(fetch.start())
    assert one[0] is other[0]


def test_a_healthy_call_reads_the_clock_only_when_it_begins() -> None:
    readings = iter([1.0])
    operation(clock=lambda: next(readings)).start().succeed()
    assert list(readings) == []


def test_an_attempt_is_followed_once() -> None:
    attempt = operation(Retry()).start()
    attempt.fail(OSError())
    attempt.next()
    with pytest.raises(RuntimeError, match="has no next"):
        attempt.next()
