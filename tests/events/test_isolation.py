"""A subscriber that raises breaks nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from events.bus import MAX_CASCADE, Bus
from events.bus_events import SubscriberFailed
from events.event import Event
from events.evidence import Category, Evidence
from events.isolation import MAX_FAILURES
from events.operation import Operation
from events.operation_events import FailureClassified, GaveUp, OperationFailed, OperationStarted, OperationSucceeded
from events.verdicts import GiveUp, Retry
from tests.events.recorder import events_on, failed, gave_up, raising


def test_a_raising_subscriber_does_not_stop_the_others(bus: Bus) -> None:
    bus.subscribe(OperationFailed, raising)
    bus.subscribe(OperationFailed, lambda _: Retry(1.0))
    assert bus.publish(failed()) == Retry(1.0)


def test_a_raising_subscriber_is_reported_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    bus = Bus(clock=lambda: 7.0)
    received = events_on(bus)
    bus.subscribe(GaveUp, raising)
    bus.publish(gave_up("fetch", "host"))
    about = {"operation": "fetch", "key": "host", "subscriber": "raising", "received": "GaveUp", "error": "OSError"}
    assert received == [SubscriberFailed(at=7.0, **about)]  # type: ignore[arg-type]
    assert caplog.messages == ["subscriber raising failed on GaveUp"]
    assert "Traceback" in caplog.text
    assert "OSError: cannot bear GaveUp" in caplog.text


async def nothing() -> None: ...


async def numbers() -> Iterator[int]:  # type: ignore[misc]
    yield 1


@pytest.mark.parametrize("answer", [nothing, numbers, lambda: True, lambda: 0, lambda: "no", dict, lambda: Retry])
def test_an_answer_of_a_wrong_type_is_reported(answer: Callable[[], object], bus: Bus) -> None:
    received = events_on(bus)
    bus.subscribe(OperationFailed, lambda _: answer())
    bus.subscribe(OperationFailed, lambda _: Retry(1.0))
    verdict = bus.publish(failed())
    assert (verdict, [event.error for event in received]) == (Retry(1.0), ["TypeError"])  # type: ignore[attr-defined]


def test_several_coroutines_are_all_closed(bus: Bus) -> None:
    answers = [nothing(), nothing()]
    bus.subscribe(GaveUp, lambda _: answers)
    bus.publish(gave_up())
    closed = [answer.cr_frame is None for answer in answers]
    for answer in answers:
        answer.close()
    assert closed == [True, True]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interruption_is_no_failure_of_a_subscriber(interruption: type[BaseException], bus: Bus) -> None:

    def interrupted(event: Event) -> None:
        raise interruption

    bus.subscribe(GaveUp, interrupted)
    with pytest.raises(interruption):
        bus.publish(gave_up())


def test_a_failure_on_subscriber_failed_is_not_reported() -> None:
    bus, received = Bus(), []

    def receive(event: SubscriberFailed) -> None:
        received.append(event)
        raise OSError

    bus.subscribe(SubscriberFailed, receive)
    bus.subscribe(GaveUp, raising)
    bus.publish(gave_up())
    assert len(received) == 1


def test_a_loop_by_way_of_another_event_comes_to_an_end(bus: Bus) -> None:
    bus.subscribe(SubscriberFailed, lambda _: gave_up())
    bus.subscribe(GaveUp, raising, essential=True)
    _, events = bus.cascade(gave_up())
    assert len(events) == MAX_CASCADE


@pytest.mark.parametrize("answer", [raising, lambda _: "answer"])
def test_ten_failures_in_a_row_disable_a_subscriber(
    answer: Callable[[Event], object], bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    received = events_on(bus)
    bus.subscribe(GaveUp, answer)
    for _ in range(MAX_FAILURES + 5):
        bus.publish(gave_up())
    assert [event.disabled for event in received] == [False] * 9 + [True]  # type: ignore[attr-defined]
    assert "10 times in a row: it is disabled" in caplog.messages[-1]
    assert not bus.has_subscribers(GaveUp)


def test_a_subscriber_disabled_on_subscriber_failed_is_reported(bus: Bus) -> None:
    received = events_on(bus)
    bus.subscribe(Event, raising)
    for _ in range(MAX_FAILURES):
        bus.publish(gave_up())
    assert [event.disabled for event in received].count(True) == 1  # type: ignore[attr-defined]


def test_one_success_resets_the_count_of_failures() -> None:
    bus, answers = Bus(), ["no"] * 9 + [None] + ["no"] * 9
    received = events_on(bus)
    bus.subscribe(GaveUp, lambda _: answers.pop(0))
    while answers:
        bus.publish(gave_up())
    assert bus.has_subscribers(GaveUp)
    assert len(received) == 18


def test_an_essential_subscriber_is_never_disabled(bus: Bus) -> None:
    received = events_on(bus)
    bus.subscribe(GaveUp, raising, essential=True)
    for _ in range(MAX_FAILURES * 2):
        bus.publish(gave_up())
    assert [event.disabled for event in received] == [False] * 20  # type: ignore[attr-defined]


def test_a_disabled_subscriber_no_longer_observes(bus: Bus) -> None:
    operation = Operation("fetch", bus)
    bus.subscribe(OperationSucceeded, raising)
    for _ in range(MAX_FAILURES):
        operation.start().succeed()
    assert not operation.is_observed


ASKING = [OperationStarted, OperationFailed, FailureClassified]
"""What decides about calls."""


def about(kind: type[Event]) -> Event:
    """An event of that *kind*."""
    if kind is OperationFailed:
        return failed()
    fields = {"category": Category.TRANSIENT, "evidence": Evidence(type="OSError")} if kind is FailureClassified else {}
    return kind(at=0.0, operation="fetch", call="a", **fields)


@pytest.mark.parametrize("connect", ["subscribe", "subscribe with others", "signal"])
@pytest.mark.parametrize("kind", ASKING)
def test_a_subscriber_that_decides_about_calls_is_never_disabled(
    kind: type[Event], connect: str, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    if connect == "signal":
        bus.signal(kind).connect(lambda _, event: raising(event), weak=False)
    else:
        bus.subscribe(kind if connect == "subscribe" else (GaveUp, kind), raising)
    received = events_on(bus)
    assert [bus.publish(about(kind)) for _ in range(50)] == [None] * 50
    assert [event.disabled for event in received] == [False] * 50  # type: ignore[attr-defined]
    assert len(caplog.messages) == 1


def test_a_subscriber_that_decides_about_calls_is_logged_once_a_minute_with_a_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    bus = Bus(clock=lambda: now[0])
    bus.subscribe(OperationFailed, raising)
    for second in (0.0, 1.0, 59.9, 60.0, 61.0, 120.0, 180.0):
        now[0] = second
        bus.publish(failed())
    line = "subscriber raising failed on OperationFailed"
    more = (f", and {count} since the line before" for count in ("2 times", "1 time"))
    assert caplog.messages == [line, *(line + one for one in more), line]


def test_a_subscriber_that_fails_now_and_then_is_logged_once_a_minute_too(caplog: pytest.LogCaptureFixture) -> None:
    bus, answers = Bus(clock=lambda: 0.0), ["no", None] * 9
    bus.subscribe(OperationFailed, lambda _: answers.pop())
    while answers:
        bus.publish(failed())
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("kind", ASKING)
def test_a_subscriber_may_end_the_call_when_it_raises(kind: type[Event], bus: Bus) -> None:
    bus.subscribe((kind, GaveUp), raising, on_error="give up")
    bus.subscribe(kind, lambda _: Retry(1.0))
    assert [bus.publish(about(kind)) for _ in range(20)] == [GiveUp("subscriber raising failed, OSError")] * 20
    assert bus.publish(gave_up()) is None
    assert bus.ignored_verdicts == 0


@pytest.mark.parametrize(("kind", "on_error"), [(OperationFailed, "GiveUp"), (GaveUp, "give up")])
def test_what_a_subscriber_answers_on_an_error_is_checked(kind: type[Event], on_error: Any, bus: Bus) -> None:
    with pytest.raises(ValueError, match=r"^on_error"):
        bus.subscribe(kind, raising, on_error=on_error)
