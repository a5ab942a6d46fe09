"""Subscribers with a queue: slow observers that publishing does not wait for."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.bus import Bus
from events.bus_events import EventsDropped, SubscriberFailed
from events.event import Event
from events.operation_events import FailureClassified, GaveUp, OperationFailed, OperationStarted
from events.verdicts import GiveUp
from recovery.service import Recovery
from tests.events.recorder import events_on, failed, gave_up, raising

ROOT = Path(__file__).parent.parent.parent
LOOPS = ["asyncio", "trio"]
every_loop = pytest.mark.parametrize("loop", LOOPS)


def numbered(count: int) -> list[Event]:
    return [gave_up(call=f"{number}") for number in range(count)]


class Slow:
    """A subscriber that waits for a gate before it takes its events."""

    def __init__(self) -> None:
        self.gate, self.began, self.received = threading.Event(), threading.Event(), list[Event]()

    def __call__(self, event: Event) -> None:
        self.began.set()
        assert self.gate.wait(5)
        self.received.append(event)


def test_publishing_does_not_wait_for_a_slow_subscriber(bus: Bus) -> None:
    slow, quick = Slow(), events_on(bus, GaveUp)
    with bus.subscribe(GaveUp, slow, queue=3):
        for event in numbered(3):
            bus.publish(event)
        assert (len(quick), slow.received) == (3, [])
        slow.gate.set()
    assert slow.received == quick


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 5), before=st.integers(0, 8), after=st.integers(0, 8), late=st.integers(0, 2))
def test_what_is_published_is_delivered_in_order_or_counted(size: int, before: int, after: int, late: int) -> None:
    bus, slow, events = Bus(), Slow(), numbered(before + after + late)
    subscription = bus.subscribe(GaveUp, slow, queue=size)
    for event in events[:before]:
        bus.publish(event)
    slow.gate.set()
    for event in events[before : before + after]:
        bus.publish(event)
    subscription.close()
    received = list(slow.received)
    for event in events[before + after :]:
        bus.publish(event)
    assert len(received) + subscription.dropped == before + after
    assert received == [event for event in events if event in received]
    assert slow.received == received  # nothing after the close


@every_loop
@given(size=st.integers(1, 4), counts=st.lists(st.integers(0, 6), max_size=4))
@settings(max_examples=15, deadline=None)
def test_the_loop_delivers_in_order_or_it_is_counted(loop: str, size: int, counts: list[int]) -> None:
    received: list[Event] = []

    async def slow(event: Event) -> None:
        await anyio.lowlevel.checkpoint()
        received.append(event)

    async def main() -> int:
        bus = Bus()
        async with bus.subscribe(GaveUp, slow, queue=size) as subscription:
            for count in counts:
                for event in numbered(count):
                    bus.publish(event)
                await anyio.lowlevel.checkpoint()
        ended = list(received)
        bus.publish(gave_up())
        await anyio.lowlevel.checkpoint()
        assert received == ended
        return subscription.dropped

    dropped = anyio.run(main, backend=loop)
    assert len(received) + dropped == sum(counts)
    if len(counts) == 1:
        assert received == numbered(counts[0])[: len(received)]


def test_a_full_queue_is_said_once_and_counted(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    slow, said = Slow(), events_on(bus, EventsDropped)
    subscription = bus.subscribe(GaveUp, slow, queue=1)
    bus.publish(gave_up())
    assert slow.began.wait(5)
    for event in numbered(4):
        bus.publish(event)
    slow.gate.set()
    subscription.close()
    assert (len(slow.received), subscription.dropped) == (2, 3)
    assert [event.reason for event in said] == ["its queue of 1 events is full"]  # type: ignore[attr-defined]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("events are dropped for subscriber Slow: ")


def test_a_raising_subscriber_with_a_queue_is_disabled(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    said, gate = events_on(bus, SubscriberFailed), threading.Event()
    subscription = bus.subscribe(GaveUp, lambda event: gate.wait(5) and raising(event), queue=50)
    for event in numbered(12):
        bus.publish(event)
    gate.set()
    subscription.close()
    assert [event.disabled for event in said] == [False] * 9 + [True]  # type: ignore[attr-defined]
    assert not bus.has_subscribers(GaveUp)
    assert subscription.dropped == 2


def test_a_subscriber_with_a_queue_that_decides_is_disabled_no_less(bus: Bus) -> None:
    subscription = bus.subscribe(OperationFailed, raising, queue=50)
    for _ in range(10):
        bus.publish(failed())
    subscription.close()
    assert not bus.has_subscribers(OperationFailed)


def test_failures_that_are_not_in_a_row_disable_no_subscriber(bus: Bus) -> None:
    calls: list[int] = []

    def fails_nine_times(event: Event) -> None:
        calls.append(1)
        if len(calls) % 10:
            raise OSError

    with bus.subscribe(GaveUp, fails_nine_times, queue=50) as subscription:
        for event in numbered(30):
            bus.publish(event)
    assert (len(calls), subscription.dropped) == (30, 0)


@pytest.mark.parametrize("answer", [GiveUp("no"), gave_up()])
def test_an_answer_of_a_subscriber_with_a_queue_is_an_error_said_once(answer: Any, bus: Bus) -> None:
    said, ended = events_on(bus, SubscriberFailed), events_on(bus, GaveUp)
    with bus.subscribe(OperationFailed, lambda event: answer, queue=50):
        for _ in range(20):
            assert bus.publish(failed()) is None
    assert [event.error for event in said] == ["TypeError"]  # type: ignore[attr-defined]
    assert ended == []


@every_loop
def test_an_async_function_runs_on_the_loop_that_runs_when_it_subscribes(loop: str) -> None:
    seen: list[object] = []
    name = contextvars.ContextVar("name", default="")

    async def main() -> None:
        name.set("of the subscription")

        async def observe(event: Event) -> None:
            await anyio.sleep(0)
            seen.extend((threading.get_ident() == here, name.get()))

        bus, here = Bus(), threading.get_ident()
        async with bus.subscribe(GaveUp, observe, queue=10):
            await anyio.to_thread.run_sync(bus.publish, gave_up())

    anyio.run(main, backend=loop)
    assert seen == [True, "of the subscription"]


@every_loop
def test_an_async_subscriber_that_raises_is_reported(loop: str) -> None:
    bus = Bus()
    said = events_on(bus, SubscriberFailed)

    async def observe(event: Event) -> None:
        raise OSError

    async def main() -> None:
        async with bus.subscribe(GaveUp, observe, queue=10):
            bus.publish(gave_up())

    anyio.run(main, backend=loop)
    assert [event.error for event in said] == ["OSError"]  # type: ignore[attr-defined]


@every_loop
def test_an_async_subscriber_that_fails_again_and_again_is_disabled(
    loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    bus = Bus()

    async def observe(event: Event) -> None:
        raise OSError

    async def main() -> int:
        async with bus.subscribe(GaveUp, observe, queue=50) as subscription:
            for event in numbered(12):
                bus.publish(event)
        return subscription.dropped

    assert anyio.run(main, backend=loop) == 2
    assert not bus.has_subscribers(GaveUp)
    assert "aclose" not in caplog.text


@every_loop
def test_a_close_on_the_loop_that_delivers_drops_and_says_so(loop: str, caplog: pytest.LogCaptureFixture) -> None:
    async def observe(event: Event) -> None: ...

    async def main() -> int:
        bus = Bus()
        with bus.subscribe(GaveUp, observe, queue=10) as subscription:
            bus.publish(gave_up())
        return subscription.dropped

    assert anyio.run(main, backend=loop) == 1
    assert "`await subscription.aclose()`" in caplog.text


@every_loop
@pytest.mark.parametrize("again", range(10))  # whether a task still begins is a matter of luck in trio
def test_events_at_the_end_of_the_loop_are_dropped_and_said(
    loop: str, again: int, caplog: pytest.LogCaptureFixture
) -> None:
    bus = Bus()

    async def main() -> Any:
        subscription = bus.subscribe(GaveUp, coroutine_function, queue=10)
        bus.publish(gave_up())
        return subscription

    subscription = anyio.run(main, backend=loop)
    subscription.close()
    assert subscription.dropped == ("dropped" in caplog.text)


@every_loop
def test_events_after_the_end_of_the_loop_are_counted(loop: str) -> None:
    bus = Bus()
    said = events_on(bus, EventsDropped)

    async def observe(event: Event) -> None: ...

    async def main() -> Any:
        return bus.subscribe(GaveUp, observe, queue=10)

    subscription = anyio.run(main, backend=loop)
    for event in numbered(3):
        bus.publish(event)
    assert (subscription.dropped, len(said)) == (3, 1)


async def coroutine_function(event: Event) -> None: ...


@pytest.mark.parametrize(
    ("function", "how", "error", "words"),
    [
        (coroutine_function, {}, TypeError, r"or queue=1000"),
        (coroutine_function, {"queue": 5}, RuntimeError, "no event loop runs here: subscribe coroutine_function in"),
        (print, {"queue": 0}, ValueError, "queue must be at least 1, not 0"),
        (print, {"queue": True}, TypeError, "queue must be a number of events, not True"),
        (print, {"queue": 2.5}, TypeError, "queue must be a number of events, not 2.5"),
        (print, {"queue": 5, "on_error": "give up"}, ValueError, "needs an event that asks .* and no queue"),
    ],
)
def test_a_queue_that_cannot_work_is_refused(
    function: Any, how: dict[str, Any], error: type[Exception], words: str, bus: Bus
) -> None:
    with pytest.raises(error, match=words):
        bus.subscribe(OperationStarted, function, **how)
    assert not bus.has_subscribers(OperationStarted)


def test_a_subscriber_may_close_itself(bus: Bus) -> None:
    received: list[Event] = []
    done = threading.Event()

    def once(event: Event) -> None:
        received.append(event)
        subscription.close()
        done.set()

    subscription = bus.subscribe(GaveUp, once, queue=5)
    for event in numbered(3):
        bus.publish(event)
    assert done.wait(5)
    assert (len(received), subscription.dropped) == (1, 2) or not bus.has_subscribers(GaveUp)


def test_the_close_of_a_service_delivers_what_is_queued() -> None:
    received: list[str] = []
    with Recovery(enable_logging=False) as service:
        service.bus.subscribe((FailureClassified, GaveUp), lambda event: received.append(type(event).__name__), queue=9)

        @service.recoverable("fetch", max_retries=1, initial_delay=0.0)
        def fetch() -> None:
            raise ConnectionError

        with pytest.raises(ConnectionError):
            fetch()
    assert received == ["FailureClassified", "FailureClassified", "GaveUp"]


@every_loop
def test_the_async_close_of_a_service_delivers_what_is_queued(loop: str) -> None:
    received: list[Event] = []

    async def observe(event: Event) -> None:
        await anyio.sleep(0.001)
        received.append(event)

    async def main() -> None:
        async with Recovery() as service:
            service.bus.subscribe(GaveUp, observe, queue=9)
            service.bus.publish(gave_up())

    anyio.run(main, backend=loop)
    assert len(received) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_delivers_its_own_events_alone(bus: Bus) -> None:
    slow = Slow()
    bus.subscribe(GaveUp, slow, queue=5)
    for event in numbered(3):
        bus.publish(event)
    assert slow.began.wait(5)
    child = os.fork()
    if child == 0:
        slow.gate.set()
        bus.publish(mine := gave_up(call="child"))
        subscription = next(iter(bus.signal(GaveUp).receivers.values()))
        subscription.close()
        os._exit(0 if slow.received == [mine] else 1)
    slow.gate.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_end_of_the_process_delivers_what_is_queued() -> None:
    program = """
import time
from events import Bus, GaveUp
def slow(event):
    time.sleep(0.01)
    print(event.call)
bus = Bus()
bus.subscribe(GaveUp, slow, queue=5)
for call in "abc":
    bus.publish(GaveUp(at=0.0, call=call))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.stdout.split(), done.stderr) == (["a", "b", "c"], "")


def test_the_loop_may_be_closed_with_events_in_the_queue(caplog: pytest.LogCaptureFixture) -> None:
    async def observe(event: Event) -> None:
        await asyncio.sleep(60)

    async def main() -> Any:
        subscription = bus.subscribe(GaveUp, observe, queue=9)
        for event in numbered(3):
            bus.publish(event)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return subscription

    bus = Bus()
    subscription = asyncio.run(main())
    subscription.close()
    assert subscription.dropped == 2  # the first was under way
    assert "events dropped for subscriber" in caplog.text
