"""What goes wrong, and how it ends, in the standard library's logging."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

import pytest

from events.alert_events import AlertCleared, AlertRaised
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.event import CallEvent, Event
from events.evidence import Category, Evidence
from events.incident_events import IncidentClosed
from events.operation_events import (
    CallRejected,
    CallSteered,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationFailed,
    OperationInterrupted,
    OperationRecovered,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    Parked,
    RetryScheduled,
)
from recovery.redact import MAX_READ
from recovery.service import Recovery
from recovery.subscribers.log import Log, Redacted, describe
from recovery.testing import Script, VirtualClock
from tests.failures import a_failure, about_failure


def made(kind: type[Event], **given: Any) -> Any:
    call = {"call": "a"} if issubclass(kind, CallEvent) else {}
    return kind(**{"at": 0.0, "operation": "fetch", "key": "host", **call, **given})


GAVE_UP = made(GaveUp, attempt=4, reason="out of retries (3)", **about_failure())
FAILED = "fetch[host] a: the connection failed (transient): ConnectionError: reset; "


@pytest.mark.parametrize(
    ("event", "level", "line"),
    [
        (
            made(RetryScheduled, attempt=2, after=1.234, retry=2, **about_failure()),
            "WARNING",
            f"{FAILED}attempt 2 failed, retry 2 of 3 in 1.2 s",
        ),
        (
            made(Parked, after=30.0, why="rate limit", **about_failure()),
            "WARNING",
            f"{FAILED}attempt 1 failed, waits for: rate limit, at least 30 s",
        ),
        (GAVE_UP, "ERROR", f"{FAILED}gave up after 4 attempts: out of retries (3)"),
        (made(OperationRecovered, attempt=2), "INFO", "fetch[host] a: recovered with attempt 2 after 0 s"),
        (made(OperationResumed, attempt=2), "INFO", "fetch[host] a: resumed with attempt 2 at once"),
        (
            made(OperationInterrupted, attempt=2),
            "INFO",
            "fetch[host] a: stays pending: another caller, or the next run, goes on with attempt 2",
        ),
        (made(OperationCancelled, attempt=2), "INFO", "fetch[host] a: cancelled in attempt 2"),
        (made(CallSteered, command="give up", reason="late"), "INFO", "fetch[host] a: command: give up (late)"),
        (made(CallRejected, reason="circuit open"), "WARNING", "fetch[host] a: not started: circuit open"),
        (made(CircuitOpened, after=30.0, failures=1), "ERROR", "circuit fetch[host] opened for 30 s after 1 failure"),
        (made(CircuitHalfOpened), "INFO", "circuit fetch[host] half-open, a probe may begin"),
        (
            made(CircuitOpened, after=60.0, times=2, cause="unreachable: OSError"),
            "ERROR",
            "circuit fetch[host] opened again for 1 min: a probe failed, unreachable: OSError; "
            "the calls that need it wait",
        ),
        (made(CircuitClosed), "DEBUG", "circuit fetch[host] closed"),
        (CircuitClosed(at=0.0, operation="get_token"), "DEBUG", "circuit get_token closed"),  # it is no secret
        (
            made(IncidentClosed, lasted=1200.0, calls=30, gave_up=2),
            "INFO",
            "incident fetch[host] is over after 20 min, recovered; 30 calls waited, 2 gave up",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Event) else "",
)
def test_an_event_is_one_line_at_its_level(
    event: Event, level: str, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "recovery")
    Log(most_retries=lambda _: 3)(event)
    assert [(one.name, one.levelname, one.getMessage()) for one in caplog.records] == [("recovery", level, line)]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            AlertRaised(at=0.0, alert="success", value=0.8, threshold=0.9, count=120, operation="fetch", cause="lost"),
            "fetch: success rate 80 % is below 90 % (of 120 calls); most failures are lost",
        ),
        (
            AlertRaised(at=0.0, alert="success", value=0.8, threshold=0.9, cause="transient", failure=a_failure()),
            "all operations: success rate 80 % is below 90 %; most failures are transient, as that of call a: "
            "the connection failed: ConnectionError: reset",
        ),
        (
            AlertRaised(at=0.0, alert="overhead", value=0.0712, threshold=0.05, count=30),
            "all operations: time that recovery adds 7.12 % is above 5 % (of 30 samples)",
        ),
        (
            AlertRaised(at=0.0, alert="lag", value=0.81, threshold=0.5, count=40),
            "all operations: delay of retries beyond their schedule (95th percentile) 0.81 s is above 0.5 s "
            "(of 40 recovered calls)",
        ),
        (
            AlertRaised(at=0.0, alert="memory", value=6.14e6, threshold=5e6, count=1),
            "all operations: memory of waiting calls and the write queue 6.14 MB is above 5 MB",
        ),
        (
            AlertCleared(at=0.0, alert="success", value=0.95, threshold=0.93, count=120, lasted=65.0),
            "all operations: success rate 95 % is above 93 % again (of 120 calls); the alert was on for 1 min 5 s",
        ),
    ],
    ids=lambda value: value.alert if isinstance(value, AlertRaised | AlertCleared) else "",
)
def test_an_alert_says_what_was_measured_and_of_how_much(event: Event, line: str) -> None:
    assert describe(event) == line


LONG_DELAY: dict[str, Any] = {"initial_delay": 60.0, "jitter": "none", "max_retries": 1}


def lines_of(caplog: pytest.LogCaptureFixture, choice: bool | None, level: int, **settings: Any) -> list[str]:
    """The levels of what a call logs that recovers, and of one that gives up."""
    caplog.set_level(level, "recovery")
    caplog.clear()
    clock = VirtualClock()
    service = Recovery(clock=clock, enable_logging=choice)
    for errors in (1, 2):
        call = service.recoverable("fetch", **settings)(Script(*[ConnectionError("reset")] * errors).as_async())
        with contextlib.suppress(ConnectionError):
            clock.run(call)
    return [record.levelname for record in caplog.records]


@pytest.mark.parametrize(
    ("choice", "at_info", "at_warning"),
    [
        (True, ["WARNING", "INFO", "WARNING", "ERROR"], ["WARNING", "WARNING", "ERROR"]),
        (None, ["INFO", "INFO", "INFO", "ERROR"], ["ERROR"]),
        (False, [], []),
    ],
)
def test_a_service_logs_everything_or_what_matters_or_nothing(
    choice: bool | None, at_info: list[str], at_warning: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"initial_delay": 0.0, "max_retries": 1}
    assert lines_of(caplog, choice, logging.INFO, **settings) == at_info
    assert lines_of(caplog, choice, logging.WARNING, **settings) == at_warning


def test_by_default_a_long_wait_is_told_and_a_short_one_only_at_info(caplog: pytest.LogCaptureFixture) -> None:
    assert lines_of(caplog, None, logging.WARNING, **LONG_DELAY) == ["WARNING", "WARNING", "ERROR"]


def test_by_default_a_circuit_that_opens_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    Log(lambda _: None)(made(CircuitOpened, after=30.0, failures=5))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_call_that_recovers_builds_nothing_for_the_log_unless_it_wants_details() -> None:
    bus = Recovery().bus
    logger = logging.getLogger("recovery")
    wanted = []
    try:
        for level in (logging.WARNING, logging.INFO, logging.WARNING):
            logger.setLevel(level)
            wanted.append([bus.has_subscribers(kind, "fetch") for kind in (RetryScheduled, OperationRecovered, GaveUp)])
    finally:
        logger.setLevel(logging.NOTSET)
    assert wanted == [[False, False, True], [True, True, True], [False, False, True]]


def test_a_service_that_logs_nothing_has_no_subscriber_for_it() -> None:
    bus = Recovery(enable_logging=False).bus
    assert not any(bus.has_subscribers(kind, "fetch", is_detail=False) for kind in (RetryScheduled, CallSteered))


def test_configure_switches_the_log_on_and_off(caplog: pytest.LogCaptureFixture) -> None:
    service = Recovery()
    seen = []
    for choice in (None, True, None, False, None):
        service.configure(enable_logging=choice)
        caplog.clear()
        service.recoverable("fetch", initial_delay=0.0)(Script(ConnectionError("reset")))()
        seen.append(len(caplog.records))
    assert seen == [0, 1, 1, 0, 0]  # None changes nothing


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
    Log(wanted=lambda operation: operation == "clone")(GAVE_UP)
    assert caplog.records == []


def test_another_logger_gets_no_secrets_either(caplog: pytest.LogCaptureFixture) -> None:
    Log(logger=logging.getLogger("mine"))(
        made(GaveUp, reason="no", **about_failure(a_failure("GET https://example.org/?token=abcdefgh123")))
    )
    assert [record.name for record in caplog.records] == ["mine"]
    assert "abcdefgh123" not in caplog.text


def test_a_line_is_printable_for_any_event(caplog: pytest.LogCaptureFixture) -> None:
    Log()(made(GaveUp, reason="no\nway", **about_failure(a_failure("\x1b[2J\u202egnp.exe %s"))))
    assert caplog.messages == [
        "fetch[host] a: the connection failed (transient): ConnectionError: [2J gnp.exe %s; "
        "gave up after 1 attempt: no way"
    ]


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


def test_of_a_record_of_many_megabytes_the_beginning_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    huge = "token=abcdefgh " * 1_000_000
    began = time.thread_time()
    try:
        raise ValueError(huge)
    except ValueError:
        logging.getLogger("recovery").exception("refused: %s", huge)
    assert time.thread_time() - began < 5.0  # most of it formats the traceback
    assert "abcdefgh" not in caplog.text
    assert len(caplog.text) < 4 * MAX_READ


def test_a_record_that_cannot_be_formatted_breaks_no_handler() -> None:
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError("mute")

    assert Redacted().filter(logging.makeLogRecord({"msg": "%s", "args": (Mute(),)}))


ENDED = made(GaveUp, reason="incident fetch[host]: the probes of other calls failed, unreachable; out of retries (3)")


def test_the_calls_that_end_with_an_incident_are_one_error_and_a_line_each_at_info(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "recovery")
    log = Log()
    rejected = made(CallRejected, reason=ENDED.reason)
    for event in (ENDED, rejected, ENDED, GAVE_UP):
        log(event)
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO", "INFO", "INFO", "ERROR"]
    assert caplog.messages[0] == f"{ENDED.reason}; the calls that wait for it give up, each with a line at INFO"
    assert "out of retries (3)" in caplog.messages[4]


def test_of_the_calls_that_an_open_circuit_rejects_the_first_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "recovery")
    log = Log()
    rejected = made(CallRejected, reason="circuit open: fetch[host]")
    for event in (rejected, rejected, made(CallRejected, reason="circuit open: fetch[two]", key="two"), rejected):
        log(event)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING", "INFO"]


@pytest.mark.parametrize("between", [made(CircuitOpened, after=9.0, times=3), made(IncidentClosed, lasted=9.0)])
def test_calls_that_end_with_a_later_probe_are_told_of_again(between: Event, caplog: pytest.LogCaptureFixture) -> None:
    log = Log()
    for event in (ENDED, ENDED, between, ENDED, ENDED):
        log(event)
    assert sum("each with a line at INFO" in line for line in caplog.messages) == 2
