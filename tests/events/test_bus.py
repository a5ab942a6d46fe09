"""Publishing: verdicts, cascades and call ids."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import pytest

from events.bus import MAX_CASCADE, Bus
from events.circuit_events import CircuitOpened
from events.event import CallEvent, Event
from events.operation_events import GaveUp, OperationFailed, OperationStarted, Parked
from events.verdicts import GiveUp, Park, Retry
from tests.events.recorder import Unlisted, events_on, failed, gave_up

# Verdicts


def test_the_strictest_verdict_is_returned(bus: Bus) -> None:
    for verdict in (Retry(5.0), None, Park(1.0, until=("disk",)), Retry(2.0)):
        bus.subscribe(OperationFailed, lambda _, verdict=verdict: verdict)
    assert bus.publish(failed()) == Park(5.0, until=("disk",), counts_as_retry=True)


def test_a_verdict_on_a_caused_event_counts_too(bus: Bus) -> None:
    bus.subscribe(OperationFailed, lambda _: OperationStarted(at=0.0, operation="fetch", call="c"))
    bus.subscribe(OperationStarted, lambda _: Retry(3.0))
    assert bus.publish(failed()) == Retry(3.0)


def test_a_verdict_on_an_outcome_is_ignored_and_counted(bus: Bus) -> None:
    bus.subscribe(GaveUp, lambda _: Retry())
    assert (bus.publish(gave_up()), bus.ignored_verdicts) == (None, 1)


def test_a_subscriber_may_give_several_answers(bus: Bus) -> None:
    bus.subscribe(OperationFailed, lambda _: [Retry(1.0), (gave_up(), None), GiveUp("no")])
    assert bus.cascade(event := failed()) == (GiveUp("no"), [event, gave_up()])


MALFORMED: list[Callable[[], object]] = [
    lambda: Unlisted(at=0.0, call="c"),
    lambda: Retry(None),  # type: ignore[arg-type]
    lambda: Park(after="soon"),  # type: ignore[arg-type]
    lambda: Retry(1.0, None),  # type: ignore[arg-type]
    lambda: GiveUp(None),  # type: ignore[arg-type]
    lambda: GiveUp("no", "soon"),  # type: ignore[arg-type]
    lambda: GiveUp(("no", None)),  # type: ignore[arg-type]
    lambda: Park(1.0, until=7),  # type: ignore[arg-type]
    lambda: Retry(math.nan),
]


@pytest.mark.parametrize("answer", MALFORMED)
def test_an_answer_that_is_no_verdict_breaks_nothing(answer: Callable[[], object], bus: Bus) -> None:
    bus.subscribe(OperationFailed, lambda _: Retry(1.0))
    bus.subscribe(OperationFailed, lambda _: answer())
    assert bus.publish(failed()) == Retry(1.0)


# Cascades


def test_an_event_that_a_subscriber_returns_is_published(bus: Bus) -> None:
    received = events_on(bus, CircuitOpened)
    opened = CircuitOpened(at=0.0, operation="fetch", after=1.0)
    bus.subscribe(GaveUp, lambda _: opened)
    bus.publish(gave_up())
    assert received == [opened]


def test_an_event_reaches_all_before_the_events_that_it_causes() -> None:
    bus, order = Bus(), []
    bus.subscribe(GaveUp, lambda _: Parked(at=0.0, call="c", after=1.0))
    bus.subscribe(Event, lambda event: order.append(type(event)))
    bus.publish(gave_up())
    assert order == [GaveUp, Parked]


def test_events_that_answer_each_other_come_to_an_end(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    bus.subscribe(GaveUp, lambda event: [event, event])
    _, events = bus.cascade(gave_up())
    assert (len(events), bus.dropped_events) == (MAX_CASCADE, MAX_CASCADE + 1)
    bus.publish(gave_up())  # the log says it once
    assert caplog.messages == ["events cause events without end, the latest GaveUp; dropped"]


def test_a_dropped_event_does_not_stop_the_verdicts(bus: Bus) -> None:
    bus.subscribe(OperationFailed, lambda _: [gave_up()] * MAX_CASCADE)
    bus.subscribe(OperationFailed, lambda _: Retry(1.0))
    assert bus.publish(failed()) == Retry(1.0)


@pytest.mark.parametrize("ask", [Bus.signal, Bus.has_subscribers])
@pytest.mark.parametrize("kind", [Event, CallEvent, Unlisted, int])
def test_only_events_have_a_signal(ask: Callable[..., object], kind: type) -> None:
    with pytest.raises(TypeError):
        ask(Bus(), kind)


# Call ids


def test_call_ids_begin_with_the_run() -> None:
    assert Bus(run="r1").new_call_id().startswith("r1-")
    assert Bus().run != Bus().run


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_call_ids_of_a_forked_child_are_its_own(bus: Bus) -> None:
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.write(writing, bus.new_call_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with open(reading, encoding="ascii") as answer:
        assert answer.read() != bus.new_call_id()
