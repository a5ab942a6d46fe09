"""What goes wrong, and how it ends, in the standard library's logging."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.event import CallEvent, Event
from events.evidence import Category, Evidence
from events.operation_events import (
    CallRejected,
    CallSteered,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationFailed,
    OperationRecovered,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    Parked,
    RetryScheduled,
)
from recovery.service import Recovery
from recovery.subscribers.log import Log, Redacted, describe
from tests.failures import a_failure, about_failure


def made(kind: type[Event], **given: Any) -> Any:
    call = {"call": "a"} if issubclass(kind, CallEvent) else {}
    return kind(**{"at": 0.0, "operation": "fetch", "key": "host", **call, **given})


GAVE_UP = made(GaveUp, attempt=4, reason="out of retries (3)", **about_failure())


@pytest.mark.parametrize(
    ("event", "level", "line"),
    [
        (
            made(RetryScheduled, attempt=2, after=1.234, retry=2, **about_failure()),
            "WARNING",
            "fetch[host]: attempt 2 failed (ConnectionError: reset); retry 2 in 1.23 s",
        ),
        (
            made(Parked, after=30.0, why="rate limit", **about_failure()),
            "WARNING",
            "fetch[host]: attempt 1 failed (ConnectionError: reset); waiting up to 30.0 s for: rate limit",
        ),
        (made(Parked, after=6.0, why="circuit open"), "WARNING", "fetch[host]: waiting up to 6.0 s for: circuit open"),
        (GAVE_UP, "ERROR", "fetch[host]: gave up after attempt 4, out of retries (3): ConnectionError: reset"),
        (
            made(OperationRecovered, attempt=2, elapsed=3.0),
            "INFO",
            "fetch[host]: recovered with attempt 2 after 3.00 s",
        ),
        (made(OperationResumed, attempt=2, after=3.0), "INFO", "fetch[host]: resumed with attempt 2 in 3.00 s"),
        (made(OperationCancelled, attempt=2), "INFO", "fetch[host]: cancelled in attempt 2"),
        (made(OperationCancelled, attempt=2, waiting=True), "INFO", "fetch[host]: cancelled before attempt 2"),
        (made(CallSteered, command="pause"), "INFO", "fetch[host]: command pause"),
        (made(CallSteered, command="give up", reason="late"), "INFO", "fetch[host]: command give up, late"),
        (made(CallRejected, reason="circuit open"), "WARNING", "fetch[host]: not started, circuit open"),
        (
            made(CircuitOpened, after=30.0, failures=5),
            "ERROR",
            "fetch[host]: circuit opened for 30.0 s after 5 failures",
        ),
        (made(CircuitHalfOpened), "INFO", "fetch[host]: circuit half-open, a probe may begin"),
        (made(CircuitClosed), "INFO", "fetch[host]: circuit closed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Event) else "",
)
def test_a_event_is_one_line_at_its_level(
    event: Event, level: str, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "recovery")
    Log()(event)
    assert [(one.name, one.levelname, one.getMessage()) for one in caplog.records] == [("recovery", level, line)]


def test_success_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "recovery")
    evidence = Evidence(type="builtins.OSError")
    for event in (
        made(OperationStarted),
        made(OperationSucceeded),
        made(OperationFailed, error=OSError()),
        made(FailureClassified, category=Category.TRANSIENT, evidence=evidence),
    ):
        Log()(event)
    assert caplog.records == []


def test_only_operations_that_are_wanted_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    Log(wanted={"clone": True}.get)(GAVE_UP)  # type: ignore[arg-type]
    assert caplog.records == []


def test_another_logger_gets_no_secrets_either(caplog: pytest.LogCaptureFixture) -> None:
    Log(logger=logging.getLogger("mine"))(
        made(GaveUp, reason="no", **about_failure(a_failure("GET https://example.org/?token=abcdefgh123")))
    )
    assert [record.name for record in caplog.records] == ["mine"]
    assert "abcdefgh123" not in caplog.text


def test_a_line_is_printable_for_any_event(caplog: pytest.LogCaptureFixture) -> None:
    Log()(made(GaveUp, reason="no\nway", **about_failure(a_failure("\x1b[2J\u202egnp.exe %s"))))
    assert caplog.messages == ["fetch[host]: gave up after attempt 1, no way: ConnectionError: [2J gnp.exe %s"]


@pytest.mark.parametrize("event", [made(GaveUp, reason="nobody answered"), made(RetryScheduled, after=1.0, retry=1)])
def test_an_unclassified_failure_is_called_so(event: Event) -> None:
    assert "None" not in str(describe(event))


def test_the_traceback_of_a_subscriber_that_failed_is_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Event) -> None:
        raise ConnectionError("https://user:sesame@example.org/")

    service = Recovery()
    service.bus.subscribe(GaveUp, fail)
    service.bus.publish(GaveUp(at=0.0, operation="fetch", call="c"))
    assert "Traceback" in caplog.text
    assert "https://***@example.org/" in caplog.text
    assert "sesame" not in caplog.text


def test_a_record_that_cannot_be_formatted_breaks_no_handler() -> None:
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError("mute")

    assert Redacted().filter(logging.makeLogRecord({"msg": "%s", "args": (Mute(),)}))
