"""Calls run by the runner: retries, delays, events, subscribers of one's own."""

from __future__ import annotations

import threading
import traceback
from typing import Any

import anyio
import pytest

from events.circuit_events import CircuitClosed
from events.errors import Permanent, Retryable
from events.evidence import Category
from events.operation_events import (
    FailureClassified,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
    Parked,
)
from events.verdicts import GiveUp, Park, Retry
from recovery.service import Recovery
from recovery.testing import Script
from tests.recorded_events import events_of, names
from tests.recovery.execution.runtime import Runtime

FAST: dict[str, Any] = {"initial_delay": 0.0}


def test_a_transient_failure_is_retried_until_it_succeeds(runtime: Runtime, service: Recovery) -> None:
    script = Script(ConnectionError(), TimeoutError())
    assert runtime.decorate(service, script)() == "done"
    assert script.calls == 3


def test_a_permanent_failure_is_tried_once(runtime: Runtime, service: Recovery) -> None:
    script = Script(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        runtime.decorate(service, script)()
    assert script.calls == 1


def test_the_caller_gets_its_own_exception_with_a_note_of_what_was_tried(runtime: Runtime, service: Recovery) -> None:
    last = ConnectionError("last")
    script = Script(ConnectionError("first"), last)
    with pytest.raises(ConnectionError) as caught:
        runtime.decorate(service, script, "fetch", max_retries=1)()
    assert caught.value is last
    assert caught.value.__notes__ == ["recovery: fetch gave up after attempt 2: out of retries (1)"]
    assert last.__context__ is None


def test_notes_do_not_pile_up_on_an_object_that_is_raised_again(runtime: Runtime, service: Recovery) -> None:
    error = ConnectionError()
    for _ in range(3):
        with pytest.raises(ConnectionError):
            runtime.decorate(service, Script(error), "fetch", max_retries=0)()
    assert len(error.__notes__) == 1


def test_the_delays_are_those_of_the_policy(runtime: Runtime, service: Recovery) -> None:
    script = Script(*[ConnectionError() for _ in range(3)])
    runtime.decorate(service, script, initial_delay=1.0, backoff_factor=3.0, jitter="none")()
    assert runtime.clock() == pytest.approx(1 + 3 + 9)


def test_no_wait_follows_the_last_attempt(runtime: Runtime, service: Recovery) -> None:
    script = Script(*[ConnectionError() for _ in range(5)])
    with pytest.raises(ConnectionError):
        runtime.decorate(service, script, max_retries=2, initial_delay=10.0, backoff_factor=1.0, jitter="none")()
    assert (script.calls, runtime.clock()) == (3, pytest.approx(20.0))


def test_no_wait_passes_the_deadline(runtime: Runtime, service: Recovery) -> None:
    script = Script(*[ConnectionError() for _ in range(9)])
    with pytest.raises(ConnectionError) as caught:
        runtime.decorate(service, script, max_retries=None, max_elapsed=25.0, initial_delay=10.0, backoff_factor=1.0,
                        jitter="none")()  # fmt: skip
    assert runtime.clock() == pytest.approx(20.0)
    assert "out of time" in caught.value.__notes__[0]


def test_a_recovered_call_publishes_its_recovery(runtime: Runtime, service: Recovery) -> None:
    events = events_of(service)
    runtime.decorate(service, Script(ConnectionError()))()
    assert names(events) == ["OperationFailed", "FailureClassified", "RetryScheduled", "OperationRecovered"]


def test_a_healthy_call_publishes_nothing(runtime: Runtime, service: Recovery) -> None:
    events = events_of(service)
    runtime.decorate(service, Script())()
    assert events == []


def test_a_subscriber_of_starts_and_successes_receives_them(runtime: Runtime, service: Recovery) -> None:
    events = events_of(service, OperationStarted, OperationSucceeded)
    runtime.decorate(service, Script(ConnectionError()))()
    assert names(events) == ["OperationStarted", "OperationStarted", "OperationSucceeded"]


def test_a_subscriber_can_stop_a_retry(runtime: Runtime, service: Recovery) -> None:
    service.bus.subscribe(FailureClassified, lambda _: GiveUp("enough"))
    script = Script(ConnectionError())
    with pytest.raises(ConnectionError):
        runtime.decorate(service, script)()
    assert script.calls == 1


def test_a_subscriber_can_delay_a_retry(runtime: Runtime, service: Recovery) -> None:
    service.bus.subscribe(FailureClassified, lambda _: Retry(after=60.0))
    runtime.decorate(service, Script(ConnectionError()))()
    assert runtime.clock() == pytest.approx(60.0)


def test_a_subscriber_cannot_cause_more_retries_than_the_policy(runtime: Runtime, service: Recovery) -> None:
    service.bus.subscribe(FailureClassified, lambda _: Retry(after=0.0))
    script = Script(*[ConnectionError() for _ in range(9)])
    with pytest.raises(ConnectionError):
        runtime.decorate(service, script, max_retries=1)()
    assert script.calls == 2


def test_a_park_instead_of_a_retry_uses_that_retry(runtime: Runtime, service: Recovery) -> None:
    service.bus.subscribe(FailureClassified, lambda _: Park(1.0, until=("a cause",)))
    script = Script(*[ConnectionError() for _ in range(99)])
    with pytest.raises(ConnectionError):
        runtime.decorate(service, script, max_retries=3)()
    assert script.calls == 4  # as many as the policy allows


def test_a_closing_circuit_does_not_wake_a_call_that_waits_for_a_server(runtime: Runtime, service: Recovery) -> None:
    service.bus.subscribe(FailureClassified, lambda _: Park(50.0))
    service.bus.subscribe(Parked, lambda f: CircuitClosed(at=f.at, operation=f.operation))
    runtime.decorate(service, Script(ConnectionError()))()
    assert runtime.clock() >= 50.0


def test_only_errors_in_retry_on_are_retried(runtime: Runtime, service: Recovery) -> None:
    script = Script(KeyError(), ConnectionError(), ConnectionError())
    with pytest.raises(ConnectionError):
        runtime.decorate(service, script, retry_on=KeyError)()
    assert script.calls == 2


def test_a_classifier_is_asked_before_the_built_in_rules(runtime: Runtime, service: Recovery) -> None:
    script = Script(ValueError("busy"), ValueError("wrong"))
    judge = lambda evidence: Category.TRANSIENT if evidence.message == "busy" else None  # noqa: E731
    with pytest.raises(ValueError, match="wrong"):
        runtime.decorate(service, script, classifier=judge)()
    assert script.calls == 2


def test_without_classification_every_exception_is_transient(runtime: Runtime, service: Recovery) -> None:
    script = Script(ValueError(), KeyError())
    assert runtime.decorate(service, script, enable_classification=False)() == "done"


def test_permanent_and_retryable_mean_what_they_say(runtime: Runtime, service: Recovery) -> None:
    script = Script(Retryable("busy", after=7.0), Permanent("gone"))
    with pytest.raises(Permanent):
        runtime.decorate(service, script, **FAST)()
    assert (script.calls, runtime.clock()) == (2, pytest.approx(7.0))


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


def test_a_recovery_has_the_elapsed_time(runtime: Runtime, service: Recovery) -> None:
    events = events_of(service, OperationRecovered)
    runtime.decorate(service, Script(ConnectionError()), initial_delay=4.0, jitter="none")()
    [event] = events
    assert isinstance(event, OperationRecovered)
    assert event.elapsed == pytest.approx(4.0)


def test_calls_in_several_threads_recover_independently() -> None:
    service = Recovery()
    scripts = [Script(ConnectionError()) for _ in range(8)]
    call = service.recoverable("each", **FAST)(lambda script: script())
    threads = [threading.Thread(target=call, args=(script,)) for script in scripts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [script.calls for script in scripts] == [2] * 8


def test_the_traceback_leads_to_where_the_function_raised() -> None:
    def broken() -> None:
        raise ConnectionError

    call = Recovery().recoverable(max_retries=1, **FAST)(broken)
    with pytest.raises(ConnectionError) as caught:
        call()
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "broken"
