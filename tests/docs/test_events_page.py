"""docs/reference/events.md has every event with its fields, and says in which order they come."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import events
from events import (
    CallEvent,
    CallRejectedError,
    Condition,
    Event,
    GiveUp,
    OperationStarted,
    OperationSucceeded,
    Park,
    Retry,
)
from events.kinds import EVENTS
from recovery import BreakerPolicy, Recovery, Strategy
from recovery.testing import Script
from tests.docs.events_page import BEGIN, PAGE, SECTIONS, WHEN, all_events, all_fields, fields_of, tables

RETRIED = ["OperationStarted 1", "OperationFailed 1", "FailureClassified 1", "RetryScheduled 1", "OperationStarted 2"]
RECOVERED = ["OperationRecovered 2", "OperationSucceeded 2"]


def test_the_page_has_the_fields_of_events_and_what_a_journal_keeps():
    assert PAGE.read_text(encoding="utf-8").partition(BEGIN)[2] == tables(), "run `python -m tests.docs.events_page`"


def test_the_page_has_every_event_once():
    public = [kind.__name__ for kind in EVENTS if kind.__name__ in events.__all__]
    assert sorted(all_events()) == sorted(public)  # also: no kind is twice in EVENTS
    assert sorted(WHEN) == sorted(public)
    assert len(SECTIONS) == len(set(SECTIONS))


@pytest.mark.parametrize("kind", EVENTS)
def test_the_docstring_of_an_event_describes_its_fields(kind: type[Event]):
    assert all(fields_of(kind).values())


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_has_each_field_that_the_page_lists_for_it_and_no_other(kind: type[Event]):
    public = {name for name in dir(kind) if not name.startswith("_") and not callable(getattr(kind, name))}
    assert set(all_fields(kind)) == public - {"ends", "asks"}


def recorded(service: Recovery) -> list[str]:
    """The events of *service* from now on: each with the number of its attempt."""
    seen: list[str] = []

    def see(event: Event) -> None:
        seen.append(f"{type(event).__name__} {event.attempt}" if isinstance(event, CallEvent) else type(event).__name__)

    service.bus.subscribe((Event, OperationStarted, OperationSucceeded), see)
    return seen


def run_of(script: Script[Any], **settings: Any) -> list[str]:
    """The events of one call of *script*."""
    service = Recovery(enable_logging=False)
    seen = recorded(service)
    call = service.recoverable("example", **{"initial_delay": 0.0, **settings})(script)
    try:
        call()
    except (ConnectionError, CallRejectedError) as error:
        seen.append(type(error).__name__)
    return seen


def test_a_call_that_succeeds():
    assert run_of(Script("x")) == ["OperationStarted 1", "OperationSucceeded 1"]


def test_a_call_that_recovers():
    assert run_of(Script(ConnectionError(), "x")) == [*RETRIED, *RECOVERED]


def test_a_call_that_gives_up_and_opens_a_circuit():
    assert run_of(Script(ConnectionError()), max_retries=0, breaker=BreakerPolicy(failure_threshold=1)) == [
        "OperationStarted 1", "OperationFailed 1", "FailureClassified 1", "GaveUp 1",
        "CircuitOpened", "IncidentOpened", "ConnectionError",
    ]  # fmt: skip


def test_an_attempt_that_opens_a_circuit_and_the_probe_that_closes_it():
    policy = BreakerPolicy(failure_threshold=1, counts="attempts", break_duration=0.01)
    assert run_of(Script(ConnectionError(), "x"), breaker=policy, when_open="wait") == [
        "OperationStarted 1", "OperationFailed 1", "FailureClassified 1", "CircuitOpened", "IncidentOpened", "Parked 1",
        "OperationStarted 2", "CircuitHalfOpened", *RECOVERED, "CircuitClosed", "IncidentClosed",
    ]  # fmt: skip


def test_a_call_that_waits_for_a_condition():
    looks = [False, True]
    room = Condition("room", lambda: looks.pop(0), every=0.01)
    strategies = {"transient": Strategy(wait_for=(room,))}
    assert run_of(Script(ConnectionError(), "x"), per_category=strategies) == [
        *("Parked 1" if one == "RetryScheduled 1" else one for one in RETRIED),
        *RECOVERED,
    ]


def at_start(attempt: int, verdict: Retry | Park | GiveUp) -> Callable[[OperationStarted], object]:
    """A subscriber that answers the first start of that *attempt* with *verdict*."""
    verdicts = [verdict]
    return lambda event: verdicts.pop() if event.attempt == attempt and verdicts else None


@pytest.mark.parametrize(
    ("attempt", "verdict", "follows"),
    [
        (1, Retry(0.01), ["Parked 1", "OperationStarted 1", "OperationSucceeded 1"]),
        (1, Park(0.01, ("a cause",)), ["Parked 1", "OperationStarted 1", "OperationSucceeded 1"]),
        (1, GiveUp("no"), ["CallRejected 1"]),
        (2, Retry(0.01), ["Parked 2", "OperationStarted 2", *RECOVERED]),
        (2, GiveUp("no"), ["GaveUp 1"]),
    ],
)
def test_a_verdict_on_a_start(attempt: int, verdict: Any, follows: list[str]):
    service = Recovery(enable_logging=False)
    seen = recorded(service)
    service.bus.subscribe(OperationStarted, at_start(attempt, verdict))
    script = Script(ConnectionError(), "x") if attempt == 2 else Script("x")
    call = service.recoverable("example", initial_delay=0.0)(script)
    if isinstance(verdict, GiveUp):
        with pytest.raises((CallRejectedError, ConnectionError)):
            call()
    else:
        call()
    assert seen == [*(RETRIED if attempt == 2 else ["OperationStarted 1"]), *follows]


def test_a_command_comes_before_what_it_leads_to():
    service = Recovery(enable_logging=False)
    seen = recorded(service)
    call = service.recoverable("example", initial_delay=60.0, jitter="none")(Script(ConnectionError(), "x"))
    service.bus.subscribe(events.RetryScheduled, lambda _: threading.Thread(target=retry, daemon=True).start())

    def retry() -> None:
        while not (waiting := service.calls.waiting()):
            pass
        service.calls.retry_now(waiting[0].call)

    call()
    assert seen == [*RETRIED[:4], "CallSteered 2", "OperationStarted 2", *RECOVERED]


def test_an_answer_is_published_when_every_subscriber_has_the_event():
    service = Recovery(enable_logging=False)
    seen: list[str] = []
    answer = events.SubscriberFailed(at=0.0, subscriber="s", received="r", error="e")
    service.bus.subscribe(OperationSucceeded, lambda _: answer)
    service.bus.subscribe(OperationSucceeded, lambda _: seen.append("the second subscriber"))
    service.bus.subscribe(events.SubscriberFailed, lambda _: seen.append("the answer"))
    service.recoverable("example")(Script("x"))()
    assert seen == ["the second subscriber", "the answer"]
