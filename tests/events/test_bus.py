from __future__ import annotations

import gc
import math
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events.bus import MAX_CASCADE, Bus
from events.bus_events import SubscriberFailed
from events.circuit_events import CircuitOpened
from events.event import CallEvent, Event
from events.isolation import MAX_FAILURES
from events.kinds import EVENTS
from events.operation import Operation
from events.operation_events import GaveUp, OperationFailed, OperationStarted, OperationSucceeded, Parked
from events.verdicts import GiveUp, Park, Retry


def gave_up(operation: str = "fetch", key: str = "", call: str = "c") -> GaveUp:
    return GaveUp(at=0.0, operation=operation, key=key, call=call)


def failed() -> OperationFailed:
    return OperationFailed(at=0.0, operation="fetch", call="c", error=OSError())


def raising(event: Event) -> None:
    raise OSError(f"cannot bear {event}")


def hearing(bus: Bus, kind: type[Event] = SubscriberFailed) -> list[Event]:
    """What is said on *bus* from now on."""
    heard: list[Event] = []
    bus.subscribe(kind, heard.append)
    return heard


class Ears:
    """Something with a method, which blinker holds weakly."""

    def __init__(self) -> None:
        self.heard: list[Event] = []

    def hear(self, sender: str, event: Event) -> None:
        self.heard.append(event)


class Unlisted(CallEvent, frozen=True):
    """What somebody may think of, and no bus has a signal for."""


# Subscribing


def test_a_subscriber_hears_the_event_itself() -> None:
    bus = Bus()
    heard = hearing(bus, GaveUp)
    bus.publish(event := gave_up())
    assert heard[0] is event


def test_a_lambda_stays_subscribed() -> None:
    bus, heard = Bus(), []
    bus.subscribe(GaveUp, lambda event: heard.append(event))
    gc.collect()
    bus.publish(gave_up())
    assert heard == [gave_up()]


def test_a_subscribed_method_keeps_its_object() -> None:
    bus, recorded_events = Bus(), Ears()
    heard = recorded_events.heard
    bus.subscribe(GaveUp, partial(recorded_events.hear, "me"))
    del recorded_events
    gc.collect()
    bus.publish(gave_up())
    assert heard == [gave_up()]


def test_a_closed_subscription_frees_its_function() -> None:
    bus, recorded_events = Bus(), Ears()
    with bus.subscribe(GaveUp, partial(recorded_events.hear, "me")):
        bus.publish(gave_up())
    gone = weakref.ref(recorded_events)
    del recorded_events
    gc.collect()
    assert gone() is None


def test_subscribers_are_asked_in_the_order_they_came() -> None:
    bus, order = Bus(), []
    for number in range(20):
        bus.subscribe(GaveUp, lambda _, number=number: order.append(number))
    bus.publish(gave_up())
    assert order == list(range(20))


def test_one_function_may_sit_twice() -> None:
    bus, heard = Bus(), []
    first = bus.subscribe(GaveUp, heard.append)
    bus.subscribe(GaveUp, heard.append)
    bus.publish(gave_up())
    first.close()
    bus.publish(gave_up())
    assert len(heard) == 3


def test_a_closed_subscription_hears_nothing() -> None:
    bus, heard = Bus(), []
    bus.subscribe((GaveUp, Parked), heard.append).close()
    bus.publish(gave_up())
    bus.publish(Parked(at=0.0, call="c", after=1.0))
    assert heard == []


def test_closing_twice_is_harmless() -> None:
    bus = Bus()
    heard = hearing(bus, GaveUp)
    subscription = bus.subscribe(GaveUp, lambda event: None)
    subscription.close()
    subscription.close()
    bus.publish(gave_up())
    assert heard == [gave_up()]


def test_a_with_block_ends_the_subscription() -> None:
    bus, heard = Bus(), []
    with bus.subscribe(GaveUp, heard.append):
        bus.publish(gave_up(call="inside"))
    bus.publish(gave_up(call="outside"))
    assert heard == [gave_up(call="inside")]


def test_a_subscription_says_whose_it_is() -> None:
    assert repr(Bus().subscribe(GaveUp, raising)) == "<Subscription of raising>"


@pytest.mark.parametrize(
    ("asked", "heard"),
    [
        ({}, {"a", "a[x]", "a[y]", "b"}),
        ({"operation": "a"}, {"a", "a[x]", "a[y]"}),
        ({"operation": "a", "key": "x"}, {"a[x]"}),
        ({"operation": "c"}, set()),
    ],
)
def test_a_subscription_can_be_narrowed(asked: dict[str, str], heard: set[str]) -> None:
    bus = Bus()
    seen: set[str] = set()
    bus.subscribe(GaveUp, lambda event: seen.add(f"{event.operation}[{event.key}]".removesuffix("[]")), **asked)  # type: ignore[arg-type]
    for operation, key in (("a", ""), ("a", "x"), ("a", "y"), ("b", "")):
        bus.publish(gave_up(operation, key))
    assert seen == heard


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


def test_an_operation_that_looks_like_a_key_of_another_is_not_observed_for_it() -> None:
    bus = Bus()
    lookalike = Operation("a[b]", bus)
    with bus.subscribe(OperationStarted, print, operation="a", key="b"):
        assert not lookalike.is_observed


@pytest.mark.parametrize(
    "name", [lambda bus: Operation("a\0b", bus), lambda bus: bus.subscribe(GaveUp, print, operation="a\0b")]
)
def test_a_name_with_a_nul_is_refused(name: Callable[[Bus], object]) -> None:
    with pytest.raises(ValueError, match="NUL"):
        name(Bus())


def test_a_narrow_and_a_wide_seat_keep_their_order() -> None:
    bus, order = Bus(), []
    bus.subscribe(GaveUp, lambda _: order.append("part"), operation="a", key="x")
    bus.subscribe(GaveUp, lambda _: order.append("all"))
    bus.subscribe(GaveUp, lambda _: order.append("whole"), operation="a")
    bus.publish(gave_up("a", "x"))
    assert order == ["part", "all", "whole"]


@pytest.mark.parametrize("asked", [{}, {"operation": "a"}, {"operation": "a", "key": "x"}])
def test_a_seat_taken_late_is_heard(asked: dict[str, str]) -> None:
    bus, heard = Bus(), []
    bus.publish(gave_up("a", "x"))
    bus.subscribe(GaveUp, heard.append, **asked)  # type: ignore[arg-type]
    bus.publish(gave_up("a", "x"))
    assert len(heard) == 1


def test_memory_is_bounded_for_any_number_of_keys() -> None:
    bus = Bus(max_ready=4)
    bus.subscribe(GaveUp, lambda event: None)
    tracemalloc.start()
    for number in range(5_000):
        bus.publish(gave_up("a", f"{number}"))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 300_000


def test_a_narrow_seat_can_be_closed() -> None:
    bus, heard = Bus(), []
    bus.subscribe(GaveUp, heard.append, operation="a", key="x").close()
    bus.publish(gave_up("a", "x"))
    assert heard == []
    assert not bus.signal(GaveUp).receivers


def test_a_key_without_an_operation_is_refused() -> None:
    with pytest.raises(TypeError, match="name the operation too"):
        Bus().subscribe(GaveUp, print, key="x")


def test_all_events_are_all_but_the_healthy_ones() -> None:
    bus = Bus()
    bus.subscribe(Event, lambda event: None)
    assert {kind for kind in EVENTS if not bus.has_subscribers(kind)} == {OperationStarted, OperationSucceeded}


def test_the_healthy_ones_can_be_asked_for_beside_all() -> None:
    bus = Bus()
    bus.subscribe((Event, OperationStarted, OperationSucceeded), lambda event: None)
    assert all(bus.has_subscribers(kind) for kind in EVENTS)


def test_overlapping_kinds_are_heard_once() -> None:
    bus, heard = Bus(), []
    bus.subscribe([Event, CallEvent, GaveUp, GaveUp], heard.append)
    bus.publish(gave_up())
    assert len(heard) == 1


def test_nobody_listens_to_what_nobody_asked_for() -> None:
    bus = Bus()
    bus.subscribe(GaveUp, print, operation="a", key="x")
    asked = [bus.has_subscribers(GaveUp, *part) for part in (("a", "x"), ("a", "y"), ("a", ""), ("b", "x"), ("", ""))]
    assert asked == [True, False, False, False, False]


async def coroutine_function(event: Event) -> None: ...


class AsyncCall:
    async def __call__(self, event: Event) -> None: ...

    async def method(self, event: Event) -> None: ...


@pytest.mark.parametrize(
    "function",
    [coroutine_function, AsyncCall(), AsyncCall().method, partial(coroutine_function)],
    ids=["function", "object", "method", "partial"],
)
def test_a_coroutine_function_is_refused(function: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match="coroutine function"):
        Bus().subscribe(GaveUp, function)


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot be called"):
        Bus().subscribe(GaveUp, "print")  # type: ignore[arg-type]


@pytest.mark.parametrize("kinds", [int, "GaveUp", [GaveUp, int], gave_up(), Unlisted])
def test_what_nobody_can_hear_is_refused(kinds: object) -> None:
    with pytest.raises(TypeError):
        Bus().subscribe(kinds, print)  # type: ignore[arg-type]


def test_a_refused_subscription_leaves_nothing_behind() -> None:
    bus = Bus()
    with pytest.raises(TypeError):
        bus.subscribe([GaveUp, int], print)  # type: ignore[list-item]
    assert not bus.has_subscribers(GaveUp)


# Verdicts


def test_the_strictest_verdict_is_returned() -> None:
    bus = Bus()
    for verdict in (Retry(5.0), None, Park(1.0, until=("disk",)), Retry(2.0)):
        bus.subscribe(OperationFailed, lambda _, verdict=verdict: verdict)
    assert bus.publish(failed()) == Park(5.0, until=("disk",), counts_as_retry=True)


def test_without_an_opinion_there_is_no_verdict() -> None:
    bus = Bus()
    bus.subscribe(OperationFailed, lambda _: None)
    assert bus.publish(failed()) is None


def test_a_verdict_on_a_caused_event_counts_too() -> None:
    bus = Bus()
    bus.subscribe(OperationFailed, lambda _: OperationStarted(at=0.0, operation="fetch", call="c"))
    bus.subscribe(OperationStarted, lambda _: Retry(3.0))
    assert bus.publish(failed()) == Retry(3.0)


def test_a_verdict_on_an_outcome_is_ignored_and_counted() -> None:
    bus = Bus()
    bus.subscribe(GaveUp, lambda _: Retry())
    assert (bus.publish(gave_up()), bus.ignored_verdicts) == (None, 1)


def test_a_subscriber_may_give_several_answers() -> None:
    bus = Bus()
    bus.subscribe(OperationFailed, lambda _: [Retry(1.0), (gave_up(), None), GiveUp("no")])
    assert bus.cascade(event := failed()) == (GiveUp("no"), [event, gave_up()])


MALFORMED: list[Callable[[], object]] = [
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
def test_a_malformed_verdict_breaks_nobody(answer: Callable[[], object]) -> None:
    bus = Bus()
    bus.subscribe(OperationFailed, lambda _: Retry(1.0))
    bus.subscribe(OperationFailed, lambda _: answer())
    assert bus.publish(failed()) == Retry(1.0)


# Cascades


def test_what_a_event_causes_is_published_too() -> None:
    bus = Bus()
    heard = hearing(bus, CircuitOpened)
    opened = CircuitOpened(at=0.0, operation="fetch", after=1.0)
    bus.subscribe(GaveUp, lambda _: opened)
    bus.publish(gave_up())
    assert heard == [opened]


def test_everybody_hears_a_event_before_what_it_causes() -> None:
    bus, order = Bus(), []
    bus.subscribe(GaveUp, lambda _: Parked(at=0.0, call="c", after=1.0))
    bus.subscribe(Event, lambda event: order.append(type(event)))
    bus.publish(gave_up())
    assert order == [GaveUp, Parked]


def test_events_that_answer_each_other_come_to_an_end() -> None:
    bus = Bus()
    bus.subscribe(GaveUp, lambda event: [event, event])
    _, events = bus.cascade(gave_up())
    assert (len(events), bus.dropped_events) == (MAX_CASCADE, MAX_CASCADE + 1)


def test_an_endless_cascade_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    bus = Bus()
    bus.subscribe(GaveUp, lambda event: [event, event])
    bus.publish(gave_up())
    bus.publish(gave_up())
    assert [record.getMessage() for record in caplog.records] == [
        "events cause events without end, the latest GaveUp; dropped"
    ]


def test_a_dropped_event_does_not_stop_the_verdicts() -> None:
    bus = Bus()
    bus.subscribe(OperationFailed, lambda _: [gave_up()] * MAX_CASCADE)
    bus.subscribe(OperationFailed, lambda _: Retry(1.0))
    assert bus.publish(failed()) == Retry(1.0)


def test_a_event_that_nobody_listed_breaks_nobody() -> None:
    bus = Bus()
    bus.subscribe(OperationFailed, lambda _: Unlisted(at=0.0, call="c"))
    bus.subscribe(OperationFailed, lambda _: Retry(1.0))
    assert bus.publish(failed()) == Retry(1.0)


@pytest.mark.parametrize("ask", [Bus.signal, Bus.has_subscribers])
@pytest.mark.parametrize("kind", [Event, CallEvent, Unlisted, int])
def test_only_events_have_a_signal(ask: Callable[..., object], kind: type) -> None:
    with pytest.raises(TypeError):
        ask(Bus(), kind)


# Isolation


def test_a_raising_subscriber_does_not_keep_others_from_hearing() -> None:
    bus = Bus()
    bus.subscribe(OperationFailed, raising)
    bus.subscribe(OperationFailed, lambda _: Retry(1.0))
    assert bus.publish(failed()) == Retry(1.0)


def test_a_raising_subscriber_is_reported() -> None:
    bus = Bus(clock=lambda: 7.0)
    heard = hearing(bus)
    bus.subscribe(GaveUp, raising)
    bus.publish(gave_up("fetch", "host"))
    assert heard == [
        SubscriberFailed(
            at=7.0, operation="fetch", key="host", subscriber="raising", received="GaveUp", error="OSError"
        )
    ]


def test_a_raising_subscriber_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    bus = Bus()
    bus.subscribe(GaveUp, raising)
    bus.publish(gave_up())
    (record,) = caplog.records
    assert record.getMessage() == "subscriber raising failed on GaveUp"
    assert "Traceback" in caplog.text
    assert "OSError: cannot bear GaveUp" in caplog.text


async def nothing() -> None: ...


async def numbers() -> Iterator[int]:  # type: ignore[misc]
    yield 1


@pytest.mark.parametrize("rubbish", [nothing, numbers, lambda: True, lambda: 0, lambda: "no", dict, lambda: Retry])
def test_what_is_no_answer_is_reported(rubbish: Callable[[], object]) -> None:
    bus = Bus()
    heard = hearing(bus)
    bus.subscribe(OperationFailed, lambda _: rubbish())
    bus.subscribe(OperationFailed, lambda _: Retry(1.0))
    verdict = bus.publish(failed())
    assert (verdict, [event.error for event in heard]) == (Retry(1.0), ["TypeError"])  # type: ignore[attr-defined]


def test_several_coroutines_are_all_closed() -> None:
    bus = Bus()
    answers = [nothing(), nothing()]
    bus.subscribe(GaveUp, lambda _: answers)
    bus.publish(gave_up())
    closed = [answer.cr_frame is None for answer in answers]
    for answer in answers:
        answer.close()
    assert closed == [True, True]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interruption_is_no_failure_of_a_subscriber(interruption: type[BaseException]) -> None:
    bus = Bus()

    def interrupted(event: Event) -> None:
        raise interruption

    bus.subscribe(GaveUp, interrupted)
    with pytest.raises(interruption):
        bus.publish(gave_up())


def test_a_failure_to_hear_of_failures_is_not_reported() -> None:
    bus, heard = Bus(), []

    def hear(event: SubscriberFailed) -> None:
        heard.append(event)
        raise OSError

    bus.subscribe(SubscriberFailed, hear)
    bus.subscribe(GaveUp, raising)
    bus.publish(gave_up())
    assert len(heard) == 1


def test_a_loop_by_way_of_another_event_comes_to_an_end() -> None:
    bus = Bus()
    bus.subscribe(SubscriberFailed, lambda _: gave_up())
    bus.subscribe(GaveUp, raising, essential=True)
    _, events = bus.cascade(gave_up())
    assert len(events) == MAX_CASCADE


def test_ten_failures_in_a_row_set_a_subscriber_aside() -> None:
    bus, heard = Bus(), []
    bus.subscribe(GaveUp, lambda event: heard.append(event) or raising(event))  # type: ignore[func-returns-value]
    for _ in range(MAX_FAILURES + 5):
        bus.publish(gave_up())
    assert len(heard) == MAX_FAILURES == 10


def test_being_set_aside_is_logged_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    bus = Bus()
    heard = hearing(bus)
    bus.subscribe(GaveUp, raising)
    for _ in range(MAX_FAILURES):
        bus.publish(gave_up())
    assert [event.disabled for event in heard] == [False] * 9 + [True]  # type: ignore[attr-defined]
    assert "10 times in a row: it is disabled" in caplog.messages[-1]


def test_being_set_aside_while_hearing_of_a_failure_is_reported_too() -> None:
    bus = Bus()
    heard = hearing(bus)
    bus.subscribe(Event, raising)
    for _ in range(MAX_FAILURES):
        bus.publish(gave_up())
    assert [event.disabled for event in heard].count(True) == 1  # type: ignore[attr-defined]


def test_one_success_makes_up_for_all_failures() -> None:
    bus, answers = Bus(), ["no"] * 9 + [None] + ["no"] * 9
    heard = hearing(bus)
    bus.subscribe(GaveUp, lambda _: answers.pop(0))
    while answers:
        bus.publish(gave_up())
    assert bus.has_subscribers(GaveUp)
    assert len(heard) == 18


def test_rubbish_answers_set_a_subscriber_aside_too() -> None:
    bus = Bus()
    bus.subscribe(GaveUp, lambda _: "rubbish")
    for _ in range(MAX_FAILURES):
        bus.publish(gave_up())
    assert not bus.has_subscribers(GaveUp)


def test_an_essential_subscriber_is_never_set_aside() -> None:
    bus = Bus()
    heard = hearing(bus)
    bus.subscribe(GaveUp, raising, essential=True)
    for _ in range(MAX_FAILURES * 2):
        bus.publish(gave_up())
    assert [event.disabled for event in heard] == [False] * 20  # type: ignore[attr-defined]


def test_who_is_set_aside_no_longer_watches() -> None:
    bus = Bus()
    operation = Operation("fetch", bus)
    bus.subscribe(OperationSucceeded, raising)
    for _ in range(MAX_FAILURES):
        operation.start().succeed()
    assert not operation.is_observed


# Blinker, used honestly


def test_a_foreign_receiver_hears_as_blinker_documents() -> None:
    bus, heard = Bus(), []

    def receiver(sender: str, event: Event) -> None:
        heard.append((sender, event))

    bus.signal(GaveUp).connect(receiver)
    bus.publish(gave_up("fetch", "host"))
    assert heard == [("fetch", gave_up("fetch", "host"))]


def test_a_weakly_connected_receiver_vanishes_with_its_owner() -> None:
    bus, recorded_events = Bus(), Ears()
    heard = recorded_events.heard
    bus.signal(GaveUp).connect(recorded_events.hear)
    bus.publish(gave_up())
    del recorded_events
    gc.collect()
    bus.publish(gave_up())
    assert len(heard) == 1


def test_a_strongly_connected_receiver_stays() -> None:
    bus, recorded_events = Bus(), Ears()
    heard = recorded_events.heard
    bus.signal(GaveUp).connect(recorded_events.hear, weak=False)
    del recorded_events
    gc.collect()
    bus.publish(gave_up())
    assert len(heard) == 1


@pytest.mark.parametrize("weak", [True, False])
@pytest.mark.parametrize("key", ["", "host"])
def test_a_connected_method_hears_each_event_once(weak: bool, key: str) -> None:
    bus, recorded_events = Bus(), Ears()
    bus.signal(GaveUp).connect(recorded_events.hear, weak=weak)
    bus.publish(gave_up("fetch", key))
    assert recorded_events.heard == [gave_up("fetch", key)]


def test_a_foreign_receiver_may_choose_its_sender() -> None:
    bus, recorded_events = Bus(), Ears()
    bus.signal(GaveUp).connect(recorded_events.hear, sender="b")
    for operation in "abc":
        bus.publish(gave_up(operation))
    assert recorded_events.heard == [gave_up("b")]


def test_disconnecting_one_sender_ends_only_that() -> None:
    bus, recorded_events = Bus(), Ears()
    for operation in "ab":
        bus.signal(GaveUp).connect(recorded_events.hear, sender=operation)
    bus.signal(GaveUp).disconnect(recorded_events.hear, sender="a")
    for operation in "ab":
        bus.publish(gave_up(operation))
    assert recorded_events.heard == [gave_up("b")]


def test_a_foreign_receiver_that_comes_late_is_heard() -> None:
    bus, recorded_events = Bus(), Ears()
    hearing(bus, GaveUp)
    bus.publish(gave_up())
    bus.signal(GaveUp).connect(recorded_events.hear)
    bus.publish(gave_up())
    assert len(recorded_events.heard) == 1


def test_connected_to_lasts_as_long_as_its_block() -> None:
    bus, recorded_events = Bus(), Ears()
    with bus.signal(GaveUp).connected_to(recorded_events.hear):
        bus.publish(gave_up(call="inside"))
    bus.publish(gave_up(call="outside"))
    assert recorded_events.heard == [gave_up(call="inside")]


def test_connect_via_decorates() -> None:
    bus, heard = Bus(), []

    @bus.signal(GaveUp).connect_via("fetch")
    def receiver(sender: str, event: Event) -> None:
        heard.append(event)

    bus.publish(gave_up())
    assert heard == [gave_up()]


def test_a_muted_signal_is_silent_until_the_block_ends() -> None:
    bus, recorded_events = Bus(), Ears()
    heard = hearing(bus, GaveUp)
    bus.signal(GaveUp).connect(recorded_events.hear)
    with bus.signal(GaveUp).muted():
        bus.publish(gave_up(call="muted"))
    bus.publish(gave_up(call="heard"))
    assert heard == recorded_events.heard == [gave_up(call="heard")]


def test_sending_through_blinker_reaches_subscribers() -> None:
    bus = Bus()
    subscription = bus.subscribe(OperationFailed, lambda _: Retry(1.0), operation="fetch")
    assert bus.signal(OperationFailed).send("fetch", event=failed()) == [(subscription, Retry(1.0))]


def test_a_signal_is_empty_again_when_all_have_left() -> None:
    bus = Bus()
    for subscription in [bus.subscribe(GaveUp, print), bus.subscribe(GaveUp, print, operation="a", key="b")]:
        subscription.close()
    assert not bus.signal(GaveUp).receivers


def test_the_verdict_of_a_foreign_receiver_counts() -> None:
    bus = Bus()

    def receiver(sender: str, event: Event) -> Retry:
        return Retry(4.0)

    bus.signal(OperationFailed).connect(receiver)
    assert bus.publish(failed()) == Retry(4.0)


def test_a_raising_foreign_receiver_is_reported_by_its_name() -> None:
    bus = Bus()
    heard = hearing(bus)

    def receiver(sender: str, event: Event) -> None:
        raise OSError

    bus.signal(GaveUp).connect(receiver)
    bus.publish(gave_up())
    assert [event.subscriber.rpartition(".")[2] for event in heard] == ["receiver"]  # type: ignore[attr-defined]


def test_a_foreign_coroutine_function_is_reported() -> None:
    bus = Bus()
    heard = hearing(bus)

    async def receiver(sender: str, event: Event) -> None: ...

    bus.signal(GaveUp).connect(receiver)
    bus.publish(gave_up())
    assert [event.error for event in heard] == ["TypeError"]  # type: ignore[attr-defined]


# Threads


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads that interrupt each other as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def together(*works: Callable[[], None]) -> list[BaseException]:
    """Run *works* at the same time, each on a thread of its own; what they raised."""
    ready = threading.Barrier(len(works))
    errors: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        ready.wait(5)
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return errors


@pytest.mark.usefixtures("hasty_threads")
def test_whoever_comes_hears_and_whoever_left_does_not_on_any_thread() -> None:
    bus = Bus()

    def come_and_go(name: str) -> None:
        for number in range(100):
            here, gone = f"{name}-{number}", f"{name}-{number}-gone"
            heard: set[str] = set()
            with bus.subscribe(Event, lambda event, heard=heard: heard.add(event.call)):
                bus.publish(gave_up(call=here))
            bus.publish(gave_up(call=gone))
            assert here in heard
            assert gone not in heard

    assert together(*(partial(come_and_go, name) for name in "abcd")) == []


@pytest.mark.usefixtures("hasty_threads")
def test_who_stays_misses_nothing_while_others_come_and_go() -> None:
    bus = Bus()
    heard = hearing(bus, GaveUp)

    def come_and_go(name: str) -> None:
        for number in range(300):
            bus.subscribe(GaveUp, lambda event: None, operation=f"{name}-{number}").close()

    def publish(name: str) -> None:
        for number in range(300):
            bus.publish(gave_up(call=f"{name}-{number}"))

    works = [partial(work, name) for work in (come_and_go, publish) for name in "ab"]
    assert together(*works) == []
    assert len(heard) == 600


@pytest.mark.usefixtures("hasty_threads")
def test_a_foreign_receiver_hears_at_once_while_others_publish() -> None:
    bus = Bus()
    over = threading.Event()

    def come_and_go() -> None:
        try:
            for number in range(200):
                heard: set[str] = set()
                with bus.signal(GaveUp).connected_to(lambda sender, event, heard=heard: heard.add(event.call)):
                    bus.publish(gave_up(call=f"{number}"))
                assert f"{number}" in heard
        finally:
            over.set()

    def publish() -> None:
        while not over.is_set():
            bus.publish(gave_up())

    assert together(come_and_go, publish, publish) == []


def connect(bus: Bus, recorded_events: Ears) -> None:
    bus.signal(GaveUp).connect(recorded_events.hear)


def subscribe(bus: Bus, recorded_events: Ears) -> None:
    bus.subscribe(GaveUp, partial(recorded_events.hear, "me"))


@pytest.mark.parametrize("come", [connect, subscribe])
def test_who_comes_in_the_middle_of_a_look_up_is_heard_from_then_on(
    come: Callable[[Bus, Ears], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, recorded_events, came = Bus(), Ears(), threading.Event()
    look_up = bus.signal(GaveUp).receivers_for

    def interrupted_look_up(sender: str) -> list[Callable[..., object]]:
        found = list(look_up(sender))
        if other.ident is None:
            other.start()
            came.wait(0.01)  # in vain, where a lock is held here
        return found

    other = threading.Thread(target=lambda: (come(bus, recorded_events), came.set()))
    monkeypatch.setattr(bus.signal(GaveUp), "receivers_for", interrupted_look_up)
    bus.publish(gave_up())
    other.join(5)
    bus.publish(gave_up(call="later"))
    assert recorded_events.heard == [gave_up(call="later")]


def test_blinker_is_never_changed_by_two_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bus, left = Bus(), threading.Event()
    subscription = bus.subscribe(GaveUp, lambda event: None)
    signal = bus.signal(GaveUp)
    inside: list[str] = []
    connect, disconnect = signal.connect, signal.disconnect

    def connect_slowly(*args: object, **kwargs: object) -> object:
        inside.append("connecting")
        other.start()
        left.wait(0.01)  # in vain, where a lock is held here
        inside.append("connected")
        return connect(*args, **kwargs)  # type: ignore[arg-type]

    def disconnect_noticed(*args: object) -> None:
        inside.append("disconnected")
        disconnect(*args)  # type: ignore[arg-type]

    other = threading.Thread(target=lambda: (subscription.close(), left.set()))
    monkeypatch.setattr(signal, "connect", connect_slowly)
    monkeypatch.setattr(signal, "disconnect", disconnect_noticed)
    bus.subscribe(GaveUp, lambda event: None)
    other.join(5)
    assert inside == ["connecting", "connected", "disconnected"]


@pytest.mark.usefixtures("hasty_threads")
def test_operations_may_be_made_while_watchers_come_and_go() -> None:
    bus = Bus()
    operations: list[Operation] = []

    def make() -> None:
        operations.extend(Operation(f"{number}", bus) for number in range(100))

    def come_and_go() -> None:
        for _ in range(50):
            bus.subscribe(OperationStarted, lambda event: None).close()

    assert together(make, come_and_go, make, come_and_go) == []
    assert not any(operation.is_observed for operation in operations)


@pytest.mark.usefixtures("hasty_threads")
def test_watched_is_right_after_threads_have_come_and_gone() -> None:
    bus = Bus()
    operations = [Operation(name, bus) for name in "abcd"]

    def come_and_go(operation: Operation) -> None:
        for _ in range(100):
            with bus.subscribe(OperationStarted, lambda event: None, operation=operation.name):
                assert operation.is_observed
            assert not operation.is_observed

    assert together(*(partial(come_and_go, operation) for operation in operations)) == []


@pytest.mark.usefixtures("hasty_threads")
def test_call_ids_are_unique_on_any_thread() -> None:
    bus = Bus()
    calls: list[str] = []
    together(*[lambda: calls.extend(bus.new_call_id() for _ in range(30_000))] * 4)
    assert len(set(calls)) == 120_000


def test_call_ids_begin_with_the_run() -> None:
    assert Bus(run="r1").new_call_id().startswith("r1-")


def test_two_buses_are_two_runs() -> None:
    assert Bus().run != Bus().run


def test_a_subscriber_may_subscribe_and_close_while_it_hears() -> None:
    bus, heard = Bus(), []

    def once(event: Event) -> None:
        subscription.close()
        bus.subscribe(GaveUp, heard.append)

    subscription = bus.subscribe(GaveUp, once)
    for _ in range(3):
        bus.publish(gave_up())
    assert len(heard) == 2


def test_a_seat_on_one_operation_leaves_the_others_unwatched() -> None:
    bus = Bus()
    one, other = Operation("one", bus), Operation("other", bus)
    with bus.subscribe(OperationStarted, print, operation="one"):
        assert (one.is_observed, other.is_observed) == (True, False)
    assert (one.is_observed, other.is_observed) == (False, False)


def test_a_foreign_receiver_that_keeps_raising_is_set_aside() -> None:
    bus = Bus()
    calls: list[str] = []

    def foreign(sender: str, event: Event) -> None:
        calls.append(sender)
        raise OSError

    bus.signal(GaveUp).connect(foreign)
    for _ in range(MAX_FAILURES + 5):
        bus.publish(gave_up())
    assert len(calls) == MAX_FAILURES
