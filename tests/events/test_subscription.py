"""Subscriptions: which events reach a subscriber, and until when."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events.bus import Bus
from events.event import CallEvent, Event
from events.kinds import EVENTS
from events.operation import Operation
from events.operation_events import GaveUp, OperationStarted, OperationSucceeded, Parked
from tests.events.recorder import Recorder, Unlisted, gave_up


def test_a_subscribed_method_keeps_its_object(bus: Bus) -> None:
    recorder = Recorder()
    received = recorder.events
    bus.subscribe(GaveUp, partial(recorder.receive, "me"))
    del recorder
    gc.collect()
    bus.publish(event := gave_up())
    assert received[0] is event


def test_a_closed_subscription_frees_its_function() -> None:
    bus, recorder = Bus(), Recorder()
    with bus.subscribe(GaveUp, partial(recorder.receive, "me")):
        bus.publish(gave_up())
    gone = weakref.ref(recorder)
    del recorder
    gc.collect()
    assert gone() is None


def test_subscribers_are_called_in_the_order_of_their_subscriptions() -> None:
    bus, order = Bus(), []
    for number in range(20):
        bus.subscribe(GaveUp, lambda _, number=number: order.append(number))
    bus.publish(gave_up())
    assert order == list(range(20))


def test_one_function_may_subscribe_twice(bus: Bus) -> None:
    received: list[int] = []

    def note(event: Event) -> None:
        received.append(1)

    first = bus.subscribe(GaveUp, note)
    bus.subscribe(GaveUp, note)
    bus.publish(gave_up())
    first.close()
    bus.publish(gave_up())
    assert (len(received), repr(first).rpartition(".")[2]) == (3, "note>")


@pytest.mark.parametrize("asked", [{}, {"operation": "a", "key": "x"}])
def test_a_with_block_ends_the_subscription(asked: dict[str, str], bus: Bus) -> None:
    received: list[Event] = []
    with bus.subscribe((GaveUp, Parked), received.append, **asked) as subscription:  # type: ignore[arg-type]
        bus.publish(gave_up("a", "x", call="inside"))
    subscription.close()  # once more: that is harmless
    bus.publish(gave_up("a", "x", call="outside"))
    bus.publish(Parked(at=0.0, operation="a", key="x", call="c", after=1.0))
    assert received == [gave_up("a", "x", call="inside")]
    assert not bus.signal(GaveUp).receivers


@pytest.mark.parametrize(
    ("asked", "received"),
    [
        ({}, {"a", "a[x]", "a[y]", "b"}),
        ({"operation": "a"}, {"a", "a[x]", "a[y]"}),
        ({"operation": "a", "key": "x"}, {"a[x]"}),
        ({"operation": "c"}, set()),
    ],
)
def test_a_subscription_can_be_narrowed(asked: dict[str, str], received: set[str], bus: Bus) -> None:
    seen: set[str] = set()
    bus.subscribe(GaveUp, lambda event: seen.add(f"{event.operation}[{event.key}]".removesuffix("[]")), **asked)  # type: ignore[arg-type]
    for operation, key in (("a", ""), ("a", "x"), ("a", "y"), ("b", "")):
        bus.publish(gave_up(operation, key))
    assert seen == received


AWKWARD = st.text(st.sampled_from("ab[]\0"), min_size=1, max_size=4)


@given(
    operation=AWKWARD.filter(lambda name: "\0" not in name),
    key=AWKWARD,
    event=st.tuples(AWKWARD, AWKWARD | st.just("")),
)
@example(operation="a", key="b", event=("a[b]", ""))
@example(operation="a", key="b", event=("a\0b", ""))
def test_only_events_of_its_operation_and_key_reach_a_subscription(
    operation: str, key: str, event: tuple[str, str]
) -> None:
    bus = Bus()
    narrow = bus.subscribe(GaveUp, lambda _: None, operation=operation, key=key)
    assert bus.has_subscribers(GaveUp, operation, key)
    assert bus.has_subscribers(GaveUp, *event) == (event == (operation, key))
    narrow.close()
    bus.subscribe(GaveUp, lambda _: None, operation=operation)
    assert bus.has_subscribers(GaveUp, *event) == (event[0] == operation)


@pytest.mark.parametrize(
    "name", [lambda bus: Operation("a\0b", bus), lambda bus: bus.subscribe(GaveUp, print, operation="a\0b")]
)
def test_a_name_with_a_nul_is_refused(name: Callable[[Bus], object]) -> None:
    with pytest.raises(ValueError, match="NUL"):
        name(Bus())


def test_narrow_and_wide_subscriptions_keep_their_order() -> None:
    bus, order = Bus(), []
    bus.subscribe(GaveUp, lambda _: order.append("part"), operation="a", key="x")
    bus.subscribe(GaveUp, lambda _: order.append("all"))
    bus.subscribe(GaveUp, lambda _: order.append("whole"), operation="a")
    bus.publish(gave_up("a", "x"))
    assert order == ["part", "all", "whole"]


@pytest.mark.parametrize("asked", [{}, {"operation": "a"}, {"operation": "a", "key": "x"}])
def test_a_subscription_after_the_first_event_receives_the_second(asked: dict[str, str]) -> None:
    bus, received = Bus(), []
    bus.publish(gave_up("a", "x"))
    bus.subscribe(GaveUp, received.append, **asked)  # type: ignore[arg-type]
    bus.publish(gave_up("a", "x"))
    assert len(received) == 1


def test_memory_is_bounded_for_any_number_of_keys() -> None:
    bus = Bus()
    bus.subscribe(GaveUp, lambda event: None)
    tracemalloc.start()
    for number in range(5_000):
        bus.publish(gave_up("a", f"{number}"))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 300_000


def test_the_base_class_stands_for_all_but_starts_and_successes(bus: Bus) -> None:
    bus.subscribe(Event, lambda event: None)
    assert {kind for kind in EVENTS if not bus.has_subscribers(kind)} == {OperationStarted, OperationSucceeded}
    bus.subscribe((Event, OperationStarted, OperationSucceeded), lambda event: None)
    assert all(bus.has_subscribers(kind) for kind in EVENTS)


def test_overlapping_kinds_are_received_once() -> None:
    bus, received = Bus(), []
    bus.subscribe([Event, CallEvent, GaveUp, GaveUp], received.append)
    bus.publish(gave_up())
    assert len(received) == 1


def test_only_a_matching_event_has_subscribers(bus: Bus) -> None:
    bus.subscribe(GaveUp, print, operation="a", key="x")
    asked = [bus.has_subscribers(GaveUp, *part) for part in (("a", "x"), ("a", "y"), ("a", ""), ("b", "x"), ("", ""))]
    assert asked == [True, False, False, False, False]


async def coroutine_function(event: Event) -> None: ...


class AsyncCall:
    async def __call__(self, event: Event) -> None: ...

    async def method(self, event: Event) -> None: ...


@pytest.mark.parametrize(
    ("function", "key", "words"),
    [
        (coroutine_function, None, "coroutine function"),
        (AsyncCall(), None, "coroutine function"),
        (AsyncCall().method, None, "coroutine function"),
        (partial(coroutine_function), None, "coroutine function"),
        ("print", None, "cannot be called"),
        (print, "x", "name the operation too"),
    ],
)
def test_a_subscription_that_cannot_work_is_refused(function: Any, key: str | None, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        Bus().subscribe(GaveUp, function, key=key)


@pytest.mark.parametrize(
    ("kinds", "function", "message"),
    [
        ("GaveUp", print, "'GaveUp' is not a kind of event; pass the class: from events import GaveUp"),
        ("gaveup", print, "'gaveup' is not a kind of event; pass the class: from events import GaveUp"),
        (
            ["RetrySchedule"],
            print,
            "'RetrySchedule' is not a kind of event; pass the class: from events import RetryScheduled",
        ),
        ("*", print, "'*' is not a kind of event; pass a class of events"),
        (print, GaveUp, "the kind of event comes first: subscribe(GaveUp, function)"),
        (lambda _: None, Event, "the kind of event comes first: subscribe(Event, function)"),
        (3, print, "3 is not a kind of event"),
    ],
)
def test_a_mistaken_subscription_is_refused_with_the_right_one(
    kinds: Any, function: Any, message: str, bus: Bus
) -> None:
    with pytest.raises(TypeError) as refused:
        bus.subscribe(kinds, function)
    assert str(refused.value) == message


def test_a_bus_shows_its_run_and_its_subscribers() -> None:
    bus = Bus(run="run")
    bus.subscribe((GaveUp, Parked), print)
    bus.subscribe(GaveUp, print)
    assert repr(bus) == "<Bus: run run, 2 subscribers>"


@pytest.mark.parametrize("kinds", [int, "GaveUp", [GaveUp, int], gave_up(), Unlisted])
def test_kinds_that_are_no_events_are_refused(kinds: object, bus: Bus) -> None:
    with pytest.raises(TypeError):
        bus.subscribe(kinds, print)  # type: ignore[arg-type]
    assert not bus.has_subscribers(GaveUp)


def test_a_subscriber_may_subscribe_and_close_while_it_is_called() -> None:
    bus, received = Bus(), []

    def once(event: Event) -> None:
        subscription.close()
        bus.subscribe(GaveUp, received.append)

    subscription = bus.subscribe(GaveUp, once)
    for _ in range(3):
        bus.publish(gave_up())
    assert len(received) == 2


def test_a_subscription_to_one_operation_observes_no_other(bus: Bus) -> None:
    one, other = Operation("one", bus), Operation("one[x]", bus)
    with bus.subscribe(OperationStarted, print, operation="one"):
        assert (one.is_observed, other.is_observed) == (True, False)
    with bus.subscribe(OperationStarted, print, operation="one", key="x"):
        assert (one.is_observed, other.is_observed) == (False, False)


def test_an_operation_is_named_by_a_text(bus: Bus) -> None:
    with pytest.raises(TypeError, match=r"named by a text, not by <Operation fetch>"):
        bus.subscribe(GaveUp, print, operation=Operation("fetch", bus))  # type: ignore[call-overload]
