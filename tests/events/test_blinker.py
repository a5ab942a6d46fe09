"""Receivers that are connected to the signals themselves, as blinker documents it."""

from __future__ import annotations

import gc

import pytest

from events.bus import Bus
from events.event import Event
from events.isolation import MAX_FAILURES
from events.operation_events import GaveUp, OperationFailed
from events.verdicts import Retry
from tests.events.recorder import Recorder, events_on, failed, gave_up


def test_a_connected_receiver_is_called_as_blinker_documents() -> None:
    bus, received = Bus(), []

    def receiver(sender: str, event: Event) -> None:
        received.append((sender, event))

    bus.signal(GaveUp).connect(receiver)
    bus.publish(gave_up("fetch", "host"))
    assert received == [("fetch", gave_up("fetch", "host"))]


def test_a_weakly_connected_receiver_vanishes_with_its_owner() -> None:
    bus, recorder = Bus(), Recorder()
    received = recorder.events
    bus.signal(GaveUp).connect(recorder.receive)
    bus.publish(gave_up())
    del recorder
    gc.collect()
    bus.publish(gave_up())
    assert len(received) == 1


def test_a_strongly_connected_receiver_stays() -> None:
    bus, recorder = Bus(), Recorder()
    received = recorder.events
    bus.signal(GaveUp).connect(recorder.receive, weak=False)
    del recorder
    gc.collect()
    bus.publish(gave_up())
    assert len(received) == 1


@pytest.mark.parametrize("weak", [True, False])
@pytest.mark.parametrize("key", ["", "host"])
def test_a_connected_method_receives_each_event_once(weak: bool, key: str) -> None:
    bus, recorder = Bus(), Recorder()
    bus.signal(GaveUp).connect(recorder.receive, weak=weak)
    bus.publish(gave_up("fetch", key))
    assert recorder.events == [gave_up("fetch", key)]


def test_a_connected_receiver_may_choose_its_sender() -> None:
    bus, recorder = Bus(), Recorder()
    bus.signal(GaveUp).connect(recorder.receive, sender="b")
    for operation in "abc":
        bus.publish(gave_up(operation))
    assert recorder.events == [gave_up("b")]


def test_disconnecting_one_sender_ends_only_that() -> None:
    bus, recorder = Bus(), Recorder()
    for operation in "ab":
        bus.signal(GaveUp).connect(recorder.receive, sender=operation)
    bus.signal(GaveUp).disconnect(recorder.receive, sender="a")
    for operation in "ab":
        bus.publish(gave_up(operation))
    assert recorder.events == [gave_up("b")]


def test_a_receiver_connected_after_the_first_event_receives_the_second() -> None:
    bus, recorder = Bus(), Recorder()
    events_on(bus, GaveUp)
    bus.publish(gave_up())
    bus.signal(GaveUp).connect(recorder.receive)
    bus.publish(gave_up())
    assert len(recorder.events) == 1


def test_connected_to_lasts_as_long_as_its_block() -> None:
    bus, recorder = Bus(), Recorder()
    with bus.signal(GaveUp).connected_to(recorder.receive):
        bus.publish(gave_up(call="inside"))
    bus.publish(gave_up(call="outside"))
    assert recorder.events == [gave_up(call="inside")]


def test_connect_via_decorates() -> None:
    bus, received = Bus(), []

    @bus.signal(GaveUp).connect_via("fetch")
    def receiver(sender: str, event: Event) -> None:
        received.append(event)

    bus.publish(gave_up())
    assert received == [gave_up()]


def test_a_muted_signal_is_silent_until_the_block_ends() -> None:
    bus, recorder = Bus(), Recorder()
    received = events_on(bus, GaveUp)
    bus.signal(GaveUp).connect(recorder.receive)
    with bus.signal(GaveUp).muted():
        bus.publish(gave_up(call="muted"))
    bus.publish(gave_up(call="received"))
    assert received == recorder.events == [gave_up(call="received")]


def test_sending_through_blinker_reaches_subscribers() -> None:
    bus = Bus()
    subscription = bus.subscribe(OperationFailed, lambda _: Retry(1.0), operation="fetch")
    assert bus.signal(OperationFailed).send("fetch", event=failed()) == [(subscription, Retry(1.0))]


def test_a_signal_is_empty_once_all_subscriptions_are_closed() -> None:
    bus = Bus()
    for subscription in [bus.subscribe(GaveUp, print), bus.subscribe(GaveUp, print, operation="a", key="b")]:
        subscription.close()
    assert not bus.signal(GaveUp).receivers


def test_the_verdict_of_a_connected_receiver_counts() -> None:
    bus = Bus()

    def receiver(sender: str, event: Event) -> Retry:
        return Retry(4.0)

    bus.signal(OperationFailed).connect(receiver)
    assert bus.publish(failed()) == Retry(4.0)


def test_a_raising_receiver_is_reported_by_its_name() -> None:
    bus = Bus()
    received = events_on(bus)

    def receiver(sender: str, event: Event) -> None:
        raise OSError

    bus.signal(GaveUp).connect(receiver)
    bus.publish(gave_up())
    assert [event.subscriber.rpartition(".")[2] for event in received] == ["receiver"]  # type: ignore[attr-defined]


def test_a_connected_coroutine_function_is_reported() -> None:
    bus = Bus()
    received = events_on(bus)

    async def receiver(sender: str, event: Event) -> None: ...

    bus.signal(GaveUp).connect(receiver)
    bus.publish(gave_up())
    assert [event.error for event in received] == ["TypeError"]  # type: ignore[attr-defined]


def test_ten_failures_in_a_row_disconnect_a_receiver() -> None:
    bus = Bus()
    calls: list[str] = []

    def foreign(sender: str, event: Event) -> None:
        calls.append(sender)
        raise OSError

    bus.signal(GaveUp).connect(foreign)
    for _ in range(MAX_FAILURES + 5):
        bus.publish(gave_up())
    assert len(calls) == MAX_FAILURES
