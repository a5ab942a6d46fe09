"""Calls run by the runner: retries, delays, events, subscribers of one's own."""

from __future__ import annotations

import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from events.circuit_events import CircuitClosed
from events.errors import Permanent, Retryable
from events.evidence import Category, Evidence
from events.operation_events import FailureClassified, OperationRecovered, OperationStarted, OperationSucceeded, Parked
from events.verdicts import GiveUp, Park, Retry, Verdict
from recovery.service import Recovery
from recovery.testing import Script
from tests.recorded_events import events_of, names
from tests.recovery.execution.runtime import Runtime

FAST: dict[str, Any] = {"initial_delay": 0.0}
GROWING: dict[str, Any] = {"initial_delay": 1.0, "backoff_factor": 3.0, "jitter": "none"}
TEN: dict[str, Any] = {"initial_delay": 10.0, "backoff_factor": 1.0, "jitter": "none"}


def busy_is_transient(evidence: Evidence) -> Category | None:
    return Category.TRANSIENT if evidence.message == "busy" else None


def test_the_caller_gets_its_own_exception_with_a_note_of_what_was_tried(runtime: Runtime, service: Recovery) -> None:
    last = ConnectionError("last")
    script = Script(ConnectionError("first"), last)
    with pytest.raises(ConnectionError) as caught:
        runtime.decorate(service, script, "fetch", max_retries=1)()
    assert caught.value is last
    assert caught.value.__notes__ == [
        "recovery: fetch gave up after 2 attempts, out of retries (1): the connection failed (transient)",
        f"recovery: fetch call {service.bus.run}-1",
    ]
    assert last.__context__ is None


def test_notes_do_not_pile_up_on_an_object_that_is_raised_again(runtime: Runtime, service: Recovery) -> None:
    error = ConnectionError()
    for _ in range(3):
        with pytest.raises(ConnectionError):
            runtime.decorate(service, Script(error), "fetch", max_retries=0)()
    assert len(error.__notes__) == 2


@pytest.mark.parametrize(
    ("errors", "settings", "calls", "seconds"),
    [
        ([ConnectionError, TimeoutError], FAST, 3, 0.0),
        ([ValueError], FAST, 1, 0.0),
        ([ConnectionError] * 3, GROWING, 4, 1.0 + 3.0 + 9.0),
        ([ConnectionError] * 9, {**TEN, "max_retries": 2}, 3, 20.0),  # no wait follows the last attempt
        ([ConnectionError] * 9, {**TEN, "max_retries": None, "max_elapsed": 25.0}, 3, 20.0),  # or passes the deadline
        ([KeyError, ConnectionError] * 2, {**FAST, "retry_on": KeyError}, 2, 0.0),
        ([ValueError("busy"), ValueError], {**FAST, "classifier": busy_is_transient}, 2, 0.0),
        ([ValueError, KeyError], {**FAST, "enable_classification": False}, 3, 0.0),
        ([Retryable("busy", after=7.0), Permanent], FAST, 2, 7.0),
    ],
)
def test_a_call_is_tried_as_often_and_as_late_as_its_settings_say(
    errors: list[Any], settings: dict[str, Any], calls: int, seconds: float, runtime: Runtime, service: Recovery
) -> None:
    script = Script(*errors)
    call = runtime.decorate(service, script, **settings)
    if calls > len(errors):
        assert call() == "done"
    else:
        with pytest.raises(errors[calls - 1]):
            call()
    assert (script.calls, runtime.clock()) == (calls, pytest.approx(seconds))


def test_only_a_call_that_failed_publishes_its_recovery(runtime: Runtime, service: Recovery) -> None:
    events = events_of(service)
    runtime.decorate(service, Script(ConnectionError()), "sick", initial_delay=4.0, jitter="none")()
    assert names(events) == ["OperationFailed", "FailureClassified", "RetryScheduled", "OperationRecovered"]
    assert events[-1].elapsed == pytest.approx(4.0)  # type: ignore[attr-defined]
    runtime.decorate(service, Script(), "healthy")()
    assert len(events) == 4


def test_a_subscriber_of_starts_and_successes_receives_them(runtime: Runtime, service: Recovery) -> None:
    events = events_of(service, OperationStarted, OperationSucceeded)
    runtime.decorate(service, Script(ConnectionError()))()
    assert names(events) == ["OperationStarted", "OperationStarted", "OperationSucceeded"]


@pytest.mark.parametrize(
    ("verdict", "calls", "seconds"),
    [
        (GiveUp("enough"), 1, 0.0),
        (Retry(after=60.0), 4, 180.0),
        (Retry(after=0.0), 4, 0.0),  # no more retries than the policy allows
        (Park(1.0, until=("a cause",)), 4, 3.0),  # a park instead of a retry uses that retry
    ],
)
def test_a_subscriber_can_stop_or_delay_a_retry(
    verdict: Verdict, calls: int, seconds: float, runtime: Runtime, service: Recovery
) -> None:
    service.bus.subscribe(FailureClassified, lambda _: verdict)
    script = Script(*[ConnectionError()] * 9)
    with pytest.raises(ConnectionError):
        runtime.decorate(service, script, max_retries=3, breaker=None, **FAST)()
    assert (script.calls, runtime.clock()) == (calls, pytest.approx(seconds))


def test_a_closing_circuit_does_not_wake_a_call_that_waits_for_a_server(runtime: Runtime, service: Recovery) -> None:
    service.bus.subscribe(FailureClassified, lambda _: Park(50.0))
    service.bus.subscribe(Parked, lambda f: CircuitClosed(at=f.at, operation=f.operation))
    runtime.decorate(service, Script(ConnectionError()))()
    assert runtime.clock() >= 50.0


def test_an_async_zero_delay_still_yields_once() -> None:
    service = Recovery()
    order: list[str] = []
    call = service.recoverable(**FAST)(Script(ConnectionError()).as_async())

    async def main() -> None:
        async with anyio.create_task_group() as group:

            async def recover() -> None:
                await call()
                order.append("recovered")

            async def other() -> None:
                order.append("other")

            group.start_soon(recover)
            group.start_soon(other)

    anyio.run(main)
    assert order == ["other", "recovered"]


def test_calls_in_several_threads_recover_independently() -> None:
    scripts = [Script(ConnectionError()) for _ in range(8)]
    call = Recovery().recoverable("each", **FAST)(lambda script: script())
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(call, scripts))
    assert [script.calls for script in scripts] == [2] * 8


def test_the_traceback_leads_to_where_the_function_raised() -> None:
    def broken() -> None:
        raise ConnectionError

    call = Recovery().recoverable(max_retries=1, **FAST)(broken)
    with pytest.raises(ConnectionError) as caught:
        call()
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "broken"


@pytest.mark.parametrize(
    ("settings", "is_observed", "first"),
    [
        ({}, False, 0.0),  # no clock is read before the failure, so that a healthy call costs none
        ({}, True, 60.0),
        ({"max_elapsed": 600.0}, False, 60.0),
        ({"key": lambda: "host"}, False, 60.0),
    ],
    ids=["a plain function", "starts are observed", "max_elapsed", "key"],
)
def test_elapsed_counts_the_first_attempt_where_its_start_reads_the_clock(
    runtime: Runtime, service: Recovery, settings: dict[str, Any], first: float, *, is_observed: bool
) -> None:
    def body() -> None:
        runtime.clock.advance(60.0)
        if len(failed) == 0:
            raise ConnectionError

    failed = events_of(service, FailureClassified)
    ended = events_of(service, OperationRecovered)
    if is_observed:
        service.bus.subscribe(OperationStarted, lambda _: None)
    runtime.decorate(service, body, initial_delay=1.0, jitter="none", **settings)()
    assert [event.elapsed for event in (*failed, *ended)] == [first, first + 61.0]
