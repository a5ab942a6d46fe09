"""Subscribers that act in the middle of a failure: the compiled path does with them what the general path does."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from events import Event, FailureClassified, GaveUp, OperationFailed, OperationRecovered, RetryScheduled
from events.bus_events import SubscriberFailed
from events.operation_events import OperationCancelled, Parked
from events.verdicts import GiveUp, Park, Retry
from recovery import Recovery
from recovery.testing.clock import VirtualClock
from tests.slow import few

ASKED = (OperationFailed, FailureClassified, RetryScheduled)
RECEIVED = (*ASKED, OperationRecovered)
KINDS: tuple[type[Event], ...] = (*RECEIVED, GaveUp, OperationCancelled, Parked, SubscriberFailed)

Act: TypeAlias = Callable[[Recovery, type[Event], type[Event]], Callable[[Event], object]]
"""Makes a subscriber of the first kind, which concerns those of the second."""


def closes_itself(service: Recovery, first: type[Event], second: type[Event]) -> Callable[[Event], object]:
    once = service.bus.subscribe((first, second), lambda event: once.close())
    return lambda event: None


def subscribes(service: Recovery, first: type[Event], second: type[Event]) -> Callable[[Event], object]:
    return lambda event: service.bus.subscribe(second, lambda event: Park(0.5)) and None


def closes(service: Recovery, first: type[Event], second: type[Event]) -> Callable[[Event], object]:
    other = service.bus.subscribe(second, lambda event: Park(0.5))
    return lambda event: other.close()


def connects(service: Recovery, first: type[Event], second: type[Event]) -> Callable[[Event], object]:
    def receive(sender: object, *, event: Event) -> Park:
        return Park(0.5)

    return lambda event: service.bus.signal(second).connect(receive, weak=False) and None


def mutes(service: Recovery, first: type[Event], second: type[Event]) -> Callable[[Event], object]:
    return lambda event: setattr(service.bus.signal(second), "is_muted", True)


def switches_off(service: Recovery, first: type[Event], second: type[Event]) -> Callable[[Event], object]:
    return lambda event: service.configure(enabled=False)


def forces(service: Recovery, first: type[Event], second: type[Event]) -> Callable[[Event], object]:
    service.bus.subscribe(Parked, lambda event: service.circuits.force("fetch", "auto"))
    return lambda event: service.circuits.force("fetch", "open")


def says(answer: object) -> Act:
    return lambda service, first, second: lambda event: answer


def stops(service: Recovery, first: type[Event], second: type[Event]) -> Callable[[Event], object]:
    def stop(event: Event) -> None:
        raise KeyboardInterrupt

    return stop


class Failing:
    def __call__(self, event: Event) -> object:
        raise ValueError(event.operation)


def fails(service: Recovery, first: type[Event], second: type[Event]) -> Callable[[Event], object]:
    return Failing()


def fails_for_good(service: Recovery, first: type[Event], second: type[Event]) -> Callable[[Event], object]:
    if first.asks:
        service.bus.subscribe(first, Failing(), on_error="give up")
    return lambda event: None


def retries(_: object, *, event: Event) -> None:
    """A receiver that blinker knows: calls then take the general path."""


def seen(is_compiled: bool, is_async: bool, act: Act, first: type[Event], second: type[Event], turn: int) -> Any:
    """What is heard of a call that fails twice, in which *act* acts at the event *first* number *turn*."""
    clock = VirtualClock()
    service = Recovery(clock=clock, rng=lambda: 0.5, run="run", enable_logging=False)
    failures = [ConnectionError("reset")]

    def body() -> str:
        if failures:
            raise failures.pop()
        return "done"

    async def async_body() -> str:
        return body()

    if not is_compiled:
        service.bus.signal(OperationFailed).connect(retries)
    function: Any = service.recoverable("fetch", max_retries=3, initial_delay=0.0)(async_body if is_async else body)
    call = (lambda: clock.run(function)) if is_async else function
    call()  # from now on it knows what the error means
    log: list[object] = []

    def note(event: Any) -> None:
        waiting, subscriber = getattr(event, "waiting", None), getattr(event, "subscriber", None)
        log.append((type(event).__name__, getattr(event, "call", None), getattr(event, "attempt", None), waiting))
        log.append(subscriber)

    service.bus.subscribe(KINDS, note, essential=True)
    does, turns = act(service, first, second), 0

    class Acting:
        """At its turn it does what it is to do, once."""

        def __call__(self, event: Event) -> object:
            nonlocal turns
            turns += 1
            return does(event) if turns == turn else None

    service.bus.subscribe(first, Acting())
    failures[:] = [ConnectionError("reset"), ConnectionError("reset")]
    try:
        log.append(call())
    except BaseException as error:
        log.append((type(error), str(error), getattr(error, "__notes__", None)))
    return log, service.operation("fetch").successes


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("turn", few([1, 2], 1))
@pytest.mark.parametrize("first", few(ASKED, every=2))
@pytest.mark.parametrize(
    "act",
    [closes_itself, subscribes, closes, connects, mutes, switches_off, forces, stops, fails, fails_for_good]
    + [says(answer) for answer in (Park(1.0), Park(0.0), GiveUp("no"), Retry(5.0), Retry(0.0), 7, (Retry(1.0),))],
)
def test_a_subscriber_that_acts_in_mid_call_changes_both_paths_alike(
    act: Act, first: type[Event], turn: int, is_async: bool
) -> None:
    for second in RECEIVED:
        compiled, general = (seen(one, is_async, act, first, second, turn) for one in (True, False))
        assert compiled == general


def test_the_log_names_the_subscriber_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "recovery.bus"):
        seen(True, False, fails, FailureClassified, FailureClassified, 1)
    assert "Acting failed on FailureClassified" in caplog.messages[0]


@pytest.mark.parametrize("kind", ASKED)
@pytest.mark.parametrize("does", [Failing(), lambda event: 7])
@pytest.mark.slow
def test_a_subscriber_that_fails_keeps_nothing_of_the_call_alive(
    monkeypatch: pytest.MonkeyPatch, does: Any, kind: type[Event]
) -> None:
    monkeypatch.setattr(logging.getLogger("recovery.bus"), "disabled", True)  # pytest keeps what is logged

    class Argument:
        pass

    service = Recovery(clock=VirtualClock(), enable_logging=False)
    failures = [ConnectionError("reset")]

    @service.recoverable("fetch", initial_delay=0.0)
    def fetch(argument: object) -> None:
        if failures:
            failures.pop()
            raise ConnectionError("reset")

    fetch(None)
    service.bus.subscribe(kind, does, essential=True)
    failures[:] = [ConnectionError(), ConnectionError()]
    argument = Argument()
    kept = weakref.ref(argument)
    gc.collect()
    gc.disable()
    try:
        fetch(argument)
        del argument
        assert kept() is None
    finally:
        gc.enable()


def test_a_call_that_is_cancelled_before_the_general_path_goes_on_has_an_end() -> None:
    service = Recovery(enable_logging=False)
    failures = [ConnectionError("reset")]

    @service.recoverable("fetch", initial_delay=0.0)
    async def fetch(*items: object) -> None:
        if failures:
            raise failures.pop()

    async def main() -> None:
        await fetch()
        ended: list[Event] = []
        service.bus.subscribe((OperationCancelled, OperationRecovered, GaveUp), ended.append)
        failures.append(ConnectionError("reset"))
        task = asyncio.create_task(fetch(iter("ab")))  # an iterator: the general path warns of it
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [type(one) for one in ended] == [OperationCancelled]

    asyncio.run(main())
