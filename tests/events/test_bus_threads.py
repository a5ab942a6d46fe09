"""One bus, several threads."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from events.bus import Bus
from events.event import Event
from events.operation import Operation
from events.operation_events import GaveUp, OperationStarted
from events.subscription import Subscription
from tests.events.recorder import Recorder, events_on, gave_up

KINDS = (GaveUp, OperationStarted)


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
def test_only_open_subscriptions_receive_events_on_any_thread(bus: Bus) -> None:

    def open_and_close(name: str) -> None:
        for number in range(100):
            here, gone = f"{name}-{number}", f"{name}-{number}-gone"
            received: set[str] = set()
            with bus.subscribe(Event, lambda event, received=received: received.add(event.call)):
                bus.publish(gave_up(call=here))
            bus.publish(gave_up(call=gone))
            assert here in received
            assert gone not in received

    assert together(*(partial(open_and_close, name) for name in "abcd")) == []


@pytest.mark.usefixtures("hasty_threads")
def test_a_subscription_misses_nothing_while_others_open_and_close(bus: Bus) -> None:
    received = events_on(bus, GaveUp)

    def open_and_close(name: str) -> None:
        for number in range(300):
            bus.subscribe(GaveUp, lambda event: None, operation=f"{name}-{number}").close()

    def publish(name: str) -> None:
        for number in range(300):
            bus.publish(gave_up(call=f"{name}-{number}"))

    works = [partial(work, name) for work in (open_and_close, publish) for name in "ab"]
    assert together(*works) == []
    assert len(received) == 600


@pytest.mark.usefixtures("hasty_threads")
def test_a_connected_receiver_receives_at_once_while_others_publish(bus: Bus) -> None:
    over = threading.Event()

    def open_and_close() -> None:
        try:
            for number in range(200):
                received: set[str] = set()
                with bus.signal(GaveUp).connected_to(lambda sender, event, received=received: received.add(event.call)):
                    bus.publish(gave_up(call=f"{number}"))
                assert f"{number}" in received
        finally:
            over.set()

    def publish() -> None:
        while not over.is_set():
            bus.publish(gave_up())

    assert together(open_and_close, publish, publish) == []


def connect(bus: Bus, recorder: Recorder) -> None:
    bus.signal(GaveUp).connect(recorder.receive)


def subscribe(bus: Bus, recorder: Recorder) -> None:
    bus.subscribe(GaveUp, partial(recorder.receive, "me"))


@pytest.mark.parametrize("come", [connect, subscribe])
def test_a_subscription_during_a_look_up_receives_later_events(
    come: Callable[[Bus, Recorder], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, recorder, came = Bus(), Recorder(), threading.Event()
    look_up = bus.signal(GaveUp).receivers_for

    def interrupted_look_up(sender: str) -> list[Callable[..., object]]:
        found = list(look_up(sender))
        if other.ident is None:
            other.start()
            came.wait(0.01)  # in vain, where a lock is held here
        return found

    other = threading.Thread(target=lambda: (come(bus, recorder), came.set()))
    monkeypatch.setattr(bus.signal(GaveUp), "receivers_for", interrupted_look_up)
    bus.publish(gave_up())
    other.join(5)
    bus.publish(gave_up(call="later"))
    assert recorder.events == [gave_up(call="later")]


def test_only_one_thread_at_a_time_changes_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    bus, left = Bus(), threading.Event()
    subscription = bus.subscribe(GaveUp, lambda event: None)
    signal = bus.signal(GaveUp)
    inside: list[str] = []
    add, disconnect = signal.add, signal.disconnect

    def add_slowly(*args: object) -> None:
        inside.append("connecting")
        other.start()
        left.wait(0.01)  # in vain, where a lock is held here
        inside.append("connected")
        add(*args)  # type: ignore[arg-type]

    def disconnect_noticed(*args: object) -> None:
        inside.append("disconnected")
        disconnect(*args)  # type: ignore[arg-type]

    other = threading.Thread(target=lambda: (subscription.close(), left.set()))
    monkeypatch.setattr(signal, "add", add_slowly)
    monkeypatch.setattr(signal, "disconnect", disconnect_noticed)
    bus.subscribe(GaveUp, lambda event: None)
    other.join(5)
    assert inside == ["connecting", "connected", "disconnected"]


@pytest.mark.usefixtures("hasty_threads")
def test_operations_may_be_created_while_subscriptions_open_and_close(bus: Bus) -> None:
    operations: list[Operation] = []

    def make() -> None:
        operations.extend(Operation(f"{number}", bus) for number in range(100))

    def open_and_close() -> None:
        for _ in range(50):
            bus.subscribe(OperationStarted, lambda event: None).close()

    assert together(make, open_and_close, make, open_and_close) == []
    assert not any(operation.is_observed for operation in operations)


@pytest.mark.usefixtures("hasty_threads")
def test_is_observed_is_right_after_threads_have_subscribed(bus: Bus) -> None:
    operations = [Operation(name, bus) for name in "abcd"]

    def open_and_close(operation: Operation) -> None:
        for _ in range(100):
            with bus.subscribe(OperationStarted, lambda event: None, operation=operation.name):
                assert operation.is_observed
            assert not operation.is_observed

    assert together(*(partial(open_and_close, operation) for operation in operations)) == []


@pytest.mark.usefixtures("hasty_threads")
def test_thousands_of_keys_come_and_go_on_several_threads(bus: Bus) -> None:
    received: set[str] = set()
    wrong: list[str] = []

    def note(event: Event) -> None:
        received.add(event.key)

    def come_and_go(name: str) -> None:
        rng, still_open = random.Random(name), list[tuple[Operation, Subscription]]()
        for number in range(300):
            operation = Operation("fetch", bus, key=f"{name}-{number}")
            still_open.append((operation, bus.subscribe(KINDS, note, operation="fetch", key=operation.key)))
            bus.publish(gave_up("fetch", operation.key))
            if len(still_open) > 20 or number == 299:
                ended, subscription = still_open.pop(rng.randrange(len(still_open)))
                subscription.close()
                wrong.extend([ended.key] if ended.is_observed else [])
            wrong.extend(one.key for one, _ in still_open if not one.is_observed)
        for _, subscription in still_open:
            subscription.close()

    def come_and_go_widely() -> None:
        for _ in range(100):
            bus.subscribe(GaveUp, lambda event: None, operation="fetch").close()
            bus.subscribe(GaveUp, lambda event: None).close()

    assert together(*(partial(come_and_go, name) for name in "abc"), come_and_go_widely) == []
    assert (wrong, len(received)) == ([], 900)
    assert not any(bus.signal(kind).receivers for kind in KINDS)


@pytest.mark.usefixtures("hasty_threads")
def test_call_ids_are_unique_on_any_thread(bus: Bus) -> None:
    calls: list[str] = []
    together(*[lambda: calls.extend(bus.new_call_id() for _ in range(30_000))] * 4)
    assert len(set(calls)) == 120_000
