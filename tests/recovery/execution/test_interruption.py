"""Ctrl-C while the library works on a failure: the call has exactly one end, and nothing is left to be resumed."""

from __future__ import annotations

import contextvars
import sys
from contextvars import copy_context
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import events
import recovery
from adapters.memory import MemoryStore
from events.bus import Bus
from events.event import CallEvent, Event
from events.operation_events import (
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationFailed,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
    RetryScheduled,
)
from recovery.journal.history import TERMINAL
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of, names
from tests.recovery.execution.runtime import Runtime
from tests.recovery.joining.callers import Body, in_thread, joined
from tests.slow import few

LIBRARY = tuple(str(Path(package.__file__).parent) for package in (events, recovery))
TELLING = {Bus.publish.__code__, Bus.cascade.__code__}
"""A few instructions before the first subscriber, and those between two, are not safe."""


def interrupt(_: Event) -> None:
    raise KeyboardInterrupt


def ends_of(some: list[Event]) -> list[str]:
    """The ends among them; a call that succeeded says so twice where it had failed before."""
    return [name for name in names([one for one in some if isinstance(one, TERMINAL)]) if name != "OperationSucceeded"]


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        (OperationStarted, "OperationCancelled"),
        (OperationFailed, "OperationCancelled"),
        (FailureClassified, "OperationCancelled"),
        (RetryScheduled, "OperationCancelled"),
        (GaveUp, "GaveUp"),
        (OperationRecovered, "OperationRecovered"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
@pytest.mark.parametrize("settings", [{}, {"resumable": True}], ids=["a plain call", "a resumable call"])
def test_a_call_that_is_interrupted_has_one_end_for_every_subscriber(
    runtime: Runtime, settings: dict[str, Any], moment: type[Event], end: str
) -> None:
    store = MemoryStore()
    script = Script(ConnectionError(), ConnectionError()) if moment is GaveUp else Script(ConnectionError())
    with Recovery(store=store, clock=runtime.clock) as service:
        before = events_of(service, *TERMINAL)
        service.bus.subscribe(moment, interrupt)
        after = events_of(service, *TERMINAL)
        with pytest.raises(KeyboardInterrupt):
            runtime.decorate(service, script, "fetch", max_retries=1, **settings)()
    assert (ends_of(before), ends_of(after)) == ([end], [end])
    calls = script.calls
    with Recovery(store=store, clock=runtime.clock) as service:
        call = runtime.decorate(service, script, "fetch", **settings)
        service.resume()
        assert (script.calls, call()) == (calls, "done")


def interrupted_at(number: int, outcomes: int) -> tuple[bool, list[Event]]:
    """Whether there is such a moment, and the events of a call that is interrupted at it.

    A moment is where CPython looks for signals: a call of a Python function, or the return of another.
    """
    moments = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal moments
        code = frame.f_code
        if event in ("call", "c_return") and code.co_filename.startswith(LIBRARY) and code not in TELLING:
            moments += 1
            if moments == number:
                sys.setprofile(None)
                raise KeyboardInterrupt

    clock, previous = VirtualClock(), sys.getprofile()
    with Recovery(store=MemoryStore(), clock=clock, enable_logging=False) as service:
        fetch = service.recoverable("fetch", max_retries=1, durability="journal")(Script(*[OSError(5)] * outcomes))
        seen: list[Event] = []
        kinds = (OperationStarted, OperationSucceeded, CallEvent)
        service.bus.subscribe(kinds, seen.append, essential=True)  # a built-in function: it is never interrupted
        sys.setprofile(profile)
        try:
            contextvars.copy_context().run(fetch)  # the interruption may come where the context is put back
        except (KeyboardInterrupt, OSError):
            pass
        finally:
            sys.setprofile(previous)
    return moments >= number, seen


@pytest.mark.parametrize(("outcomes", "every"), few([(1, 3), (2, 4), (1, 1), (2, 1)], (1, 3)))
def test_an_interruption_at_any_moment_leaves_the_call_with_one_end(outcomes: int, every: int) -> None:
    number, is_reached = 0, True  # one call recovers, one gives up
    while is_reached:
        number += every
        is_reached, seen = copy_context().run(interrupted_at, number, outcomes)  # the call may leave its own behind
        if any(isinstance(one, OperationStarted | OperationFailed) for one in seen):
            assert len(ends_of(seen)) == 1, f"interrupted at moment {number}: {names(seen)}"
    assert number > 300


@pytest.mark.parametrize(
    ("moment", "runs"), [(FailureClassified, 2), (GaveUp, 1)], ids=["in its failure", "as it gives up"]
)
def test_another_caller_goes_on_where_one_is_interrupted(moment: type[Event], runs: int) -> None:
    body = Body(ConnectionError("reset"), "paid")
    with Recovery(store=MemoryStore()) as service:
        ended = events_of(service, *TERMINAL)
        retries = 0 if moment is GaveUp else 1
        settings: dict[str, Any] = {"max_retries": retries, "initial_delay": 0.0, "idempotency_key": lambda: "order"}
        pay = service.recoverable("pay", **settings)(lambda: body())
        first = in_thread(pay)
        body.begun.acquire()
        second = in_thread(pay)
        joined(service, 1)
        once = service.bus.subscribe(moment, lambda event: (once.close(), interrupt(event)))
        body.go_on.set()
        assert isinstance(first.exception(10.0), KeyboardInterrupt)
        if moment is GaveUp:
            assert str(second.exception(10.0)) == "reset"
        else:
            assert second.result(10.0) == "paid"
    assert (len(body.runs), len(ends_of(ended))) == (runs, 1)
    assert OperationCancelled not in map(type, ended)


def test_by_hand_an_attempt_that_is_interrupted_as_it_fails_may_be_cancelled_and_has_no_next() -> None:
    service = Recovery()
    ended = events_of(service, *TERMINAL)
    service.bus.subscribe(OperationFailed, interrupt)
    attempt = service.operation("fetch").start()
    with pytest.raises(KeyboardInterrupt):
        attempt.fail(OSError())
    with pytest.raises(RuntimeError, match="has no next"):
        attempt.next()
    attempt.cancel()
    attempt.cancel()
    assert names(ended) == ["OperationCancelled"]
