"""Receivers that are connected to the signals themselves, as blinker documents it."""

from __future__ import annotations

import gc
from collections.abc import Callable

import blinker
import pytest

from events.bus import Bus
from events.event import Event
from events.isolation import MAX_FAILURES
from events.operation_events import GaveUp, OperationFailed
from events.verdicts import Retry
from tests.events.recorder import Recorder, events_on, failed, gave_up


def test_a_connected_receiver_is_called_as_blinker_documents(bus: Bus) -> None:
    received: list[object] = []

    @bus.signal(GaveUp).connect_via("fetch")
    def receiver(sender: str, event: Event) -> None:
        received.append((sender, event))

    bus.publish(gave_up("fetch", "host"))
    bus.publish(gave_up("other"))
    assert received == [("fetch", gave_up("fetch", "host"))]


@pytest.mark.parametrize("weak", [True, False])
def test_only_a_weakly_connected_receiver_vanishes_with_its_owner(bus: Bus, weak: bool) -> None:
    recorder = Recorder()
    received = recorder.events
    bus.signal(GaveUp).connect(recorder.receive, weak=weak)
    bus.publish(gave_up())
    del recorder
    gc.collect()
    bus.publish(gave_up())
    assert len(received) == (1 if weak else 2)


@pytest.mark.parametrize("weak", [True, False])
@pytest.mark.parametrize("key", ["", "host"])
def test_a_connected_method_receives_each_event_once(weak: bool, key: str) -> None:
    bus, recorder = Bus(), Recorder()
    bus.signal(GaveUp).connect(recorder.receive, weak=weak)
    bus.publish(gave_up("fetch", key))
    assert recorder.events == [gave_up("fetch", key)]


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


def test_a_muted_signal_is_silent_until_the_block_ends() -> None:
    bus, recorder = Bus(), Recorder()
    received = events_on(bus, GaveUp)
    bus.signal(GaveUp).connect(recorder.receive)
    with bus.signal(GaveUp).muted():
        bus.publish(gave_up(call="muted"))
    bus.publish(gave_up(call="received"))
    assert received == recorder.events == [gave_up(call="received")]


def test_sending_through_blinker_reaches_subscribers(bus: Bus) -> None:
    subscription = bus.subscribe(OperationFailed, lambda _: Retry(1.0), operation="fetch")
    assert bus.signal(OperationFailed).send("fetch", event=failed()) == [(subscription, Retry(1.0))]


@pytest.mark.parametrize("sender", [blinker.ANY, "a"])
def test_a_subscription_can_be_disconnected_as_any_receiver(bus: Bus, sender: object) -> None:
    signal = bus.signal(GaveUp)
    subscription = bus.subscribe(GaveUp, print, operation="a")
    signal.disconnect(subscription, sender="b")
    seen = [bus.has_subscribers(GaveUp, "a"), signal.has_receivers_for("a"), bool(signal.receivers)]
    signal.disconnect(subscription, sender)
    left = [bus.has_subscribers(GaveUp, "a"), signal.has_receivers_for("a"), bool(signal.receivers)]
    assert (seen, left) == ([True] * 3, [False] * 3)


def test_a_signal_is_empty_once_all_subscriptions_are_closed(bus: Bus) -> None:
    for subscription in [bus.subscribe(GaveUp, print), bus.subscribe(GaveUp, print, operation="a", key="b")]:
        subscription.close()
    assert not bus.signal(GaveUp).receivers


def test_the_verdict_of_a_connected_receiver_counts(bus: Bus) -> None:
    receiver = lambda sender, event: Retry(4.0)  # noqa: E731  # referenced, or blinker forgets it
    bus.signal(OperationFailed).connect(receiver)
    assert bus.publish(failed()) == Retry(4.0)


async def coroutine_function(sender: str, event: Event) -> None: ...


def raising_receiver(sender: str, event: Event) -> None:
    raise OSError


@pytest.mark.parametrize(("receiver", "error"), [(coroutine_function, "TypeError"), (raising_receiver, "OSError")])
def test_a_receiver_that_fails_is_reported_by_its_name(receiver: Callable[..., object], error: str, bus: Bus) -> None:
    received = events_on(bus)
    bus.signal(GaveUp).connect(receiver)
    bus.publish(gave_up())
    assert [(event.subscriber, event.error) for event in received] == [(receiver.__name__, error)]  # type: ignore[attr-defined]


def test_ten_failures_in_a_row_disconnect_a_receiver(bus: Bus) -> None:
    calls: list[str] = []

    def foreign(sender: str, event: Event) -> None:
        calls.append(sender)
        raise OSError

    bus.signal(GaveUp).connect(foreign)
    for _ in range(MAX_FAILURES + 5):
        bus.publish(gave_up())
    assert len(calls) == MAX_FAILURES
