"""What kind of trouble a failure is, from real exceptions: ``classify``, and the stage around it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import http.client
import json
import socket
import ssl
import subprocess
import urllib.error
from email.message import Message
from typing import Any

import httpcore2
import httpx2
import pytest

from events.bus import Bus
from events.errors import CallRejectedError, Permanent, Retryable
from events.evidence import Category, Evidence
from events.operation_events import FailureClassified, OperationFailed
from events.verdicts import Park
from recovery.policies.classification import SEVERITY, Classification, by_exit_code, by_status, classify, worst
from recovery.policies.retry import RetryPolicy, decide
from recovery.settings import ConfigOf, Defaults, Settings, make_config
from recovery.subscribers.budget import RetryBudgets
from recovery.subscribers.classification import Classify
from recovery.subscribers.evidence_extraction import extract_evidence
from recovery.subscribers.exhausted import mark_exhausted
from recovery.subscribers.retry import Schedule

TRANSIENT, UNREACHABLE, RATE_LIMITED, ENVIRONMENT, AUTH, LOST, PERMANENT, EXHAUSTED, CANCELLED = Category


class UnknownError(Exception):
    """A user's own."""


def answered(status: int, **headers: str) -> httpx2.HTTPStatusError:
    request = httpx2.Request("GET", "http://host/")
    response = httpx2.Response(
        status, request=request, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    return httpx2.HTTPStatusError(f"{status}", request=request, response=response)


def from_urllib(status: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("http://host/", status, "no", Message(), None)


def died(code: int) -> subprocess.CalledProcessError:
    return subprocess.CalledProcessError(code, ["git", "clone"], stderr=b"fatal: early EOF")


@pytest.mark.parametrize(
    ("error", "category", "rule"),
    [
        (OSError(errno.ECONNRESET, "reset"), TRANSIENT, "errno ECONNRESET"),
        (OSError(errno.ETIMEDOUT, "late"), TRANSIENT, "errno ETIMEDOUT"),
        (OSError(errno.EIO, "I/O"), TRANSIENT, "errno EIO"),
        (OSError(errno.EBUSY, "busy"), TRANSIENT, "errno EBUSY"),
        (OSError(errno.ENETUNREACH, "net"), UNREACHABLE, "errno ENETUNREACH"),
        (OSError(errno.EHOSTUNREACH, "host"), UNREACHABLE, "errno EHOSTUNREACH"),
        (OSError(errno.ENOSPC, "full"), ENVIRONMENT, "errno ENOSPC"),
        (OSError(errno.EADDRINUSE, "port"), ENVIRONMENT, "errno EADDRINUSE"),
        (OSError(errno.EMFILE, "files"), ENVIRONMENT, "errno EMFILE"),
        (OSError(errno.EROFS, "read-only"), ENVIRONMENT, "errno EROFS"),
        (OSError(errno.ENAMETOOLONG, "long"), PERMANENT, "errno ENAMETOOLONG"),
        (OSError(12345, "who knows"), TRANSIENT, "unknown error"),
        (OSError("only text"), TRANSIENT, "unknown error"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), TRANSIENT, "errno ECONNRESET"),
        (ConnectionAbortedError("by hand"), TRANSIENT, "ConnectionError"),
        (BrokenPipeError(errno.EPIPE, "pipe"), TRANSIENT, "errno EPIPE"),
        (TimeoutError(), TRANSIENT, "TimeoutError"),
        (EOFError(), TRANSIENT, "EOFError"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), UNREACHABLE, "socket.gaierror"),
        (socket.gaierror(socket.EAI_AGAIN, "again"), UNREACHABLE, "socket.gaierror"),
        (ssl.SSLCertVerificationError(1, "expired"), PERMANENT, "ssl.SSLCertVerificationError"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), TRANSIENT, "ssl.SSLError"),
        (ssl.SSLError(1, "[SSL: BAD_RECORD_MAC]"), TRANSIENT, "ssl.SSLError"),
        (http.client.RemoteDisconnected("closed"), TRANSIENT, "ConnectionError"),
        (http.client.IncompleteRead(b""), TRANSIENT, "unknown error"),
        (asyncio.IncompleteReadError(b"", 5), TRANSIENT, "EOFError"),
        (MemoryError(), PERMANENT, "MemoryError"),
        (RecursionError(), PERMANENT, "RecursionError"),
        (KeyError("k"), PERMANENT, "LookupError"),
        (ZeroDivisionError(), PERMANENT, "ArithmeticError"),
        (AttributeError(), PERMANENT, "AttributeError"),
        (ModuleNotFoundError("x"), PERMANENT, "ImportError"),
        (json.JSONDecodeError("no", "", 0), PERMANENT, "ValueError"),
        (RuntimeError("who knows"), TRANSIENT, "unknown error"),
        (UnknownError(), TRANSIENT, "unknown error"),
        (asyncio.CancelledError(), CANCELLED, "asyncio.exceptions.CancelledError"),
        (concurrent.futures.CancelledError(), CANCELLED, "concurrent.futures._base.CancelledError"),
        (Permanent("never"), PERMANENT, "events.errors.Permanent"),
        (Retryable("soon", after=3), TRANSIENT, "events.errors.Retryable"),
        (CallRejectedError("inner", "circuit open"), PERMANENT, "events.errors.CallRejectedError"),
    ],
    ids=lambda value: repr(value) if isinstance(value, BaseException) else "",
)
def test_an_error_has_its_category_and_says_by_which_rule(error: BaseException, category: Category, rule: str) -> None:
    assert classify(extract_evidence(error)) == Classification(category, rule)


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (httpx2.ReadTimeout("late"), TRANSIENT),
        (httpx2.PoolTimeout("late"), TRANSIENT),
        (httpx2.ReadError("reset"), TRANSIENT),
        (httpx2.RemoteProtocolError("peer closed connection"), TRANSIENT),
        (httpx2.ProxyError("502"), TRANSIENT),
        (httpx2.DecodingError("gzip"), TRANSIENT),
        (httpx2.ConnectError("refused"), UNREACHABLE),
        (httpx2.ConnectTimeout("late"), UNREACHABLE),
        (httpx2.UnsupportedProtocol("ftp"), PERMANENT),
        (httpx2.LocalProtocolError("header"), PERMANENT),
        (httpx2.TooManyRedirects("20"), PERMANENT),
        (httpx2.InvalidURL("//"), PERMANENT),
        (httpx2.StreamConsumed(), PERMANENT),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_of_the_http_client_has_its_category(error: Exception, category: Category) -> None:
    assert classify(extract_evidence(error)).category is category


@pytest.mark.parametrize("make", [answered, from_urllib], ids=["httpx2", "urllib"])
@pytest.mark.parametrize(
    ("status", "category"),
    [
        (304, PERMANENT),
        (400, PERMANENT),
        (401, AUTH),
        (402, AUTH),
        (403, AUTH),
        (404, PERMANENT),
        (407, AUTH),
        (408, TRANSIENT),
        (410, PERMANENT),
        (416, PERMANENT),
        (418, PERMANENT),
        (425, TRANSIENT),
        (429, RATE_LIMITED),
        (500, TRANSIENT),
        (501, PERMANENT),
        (502, TRANSIENT),
        (503, TRANSIENT),
        (504, TRANSIENT),
        (505, PERMANENT),
        (507, ENVIRONMENT),
        (522, TRANSIENT),
        (599, TRANSIENT),
    ],
)
def test_an_http_status_decides(make: Any, status: int, category: Category) -> None:
    assert classify(extract_evidence(make(status))) == Classification(category, f"status {status}")


@pytest.mark.parametrize(
    ("code", "category", "rule"),
    [
        (1, TRANSIENT, "git-broken-off"),
        (128, TRANSIENT, "git-broken-off"),
        (126, PERMANENT, "exit code 126"),
        (127, PERMANENT, "exit code 127"),
        (-9, LOST, "signal 9"),
        (-15, LOST, "signal 15"),
    ],
)
def test_an_exit_code_decides_and_where_it_says_little_what_was_complained_about(
    code: int, category: Category, rule: str
) -> None:
    judged = classify(extract_evidence(died(code)))
    assert (judged.category, judged.rule) == (category, rule)


@pytest.mark.parametrize("code", [137, 139, 3221225477], ids=["OOM killer", "SIGSEGV", "access violation"])
def test_a_process_whose_death_a_shell_or_windows_reports_is_lost_too(code: int) -> None:
    assert by_exit_code(code).category is LOST


@pytest.mark.parametrize(
    ("kind", "number", "category"),
    [
        (FileNotFoundError, errno.ENOENT, PERMANENT),
        (FileExistsError, errno.EEXIST, PERMANENT),
        (PermissionError, errno.EACCES, PERMANENT),
        (NotADirectoryError, errno.ENOTDIR, PERMANENT),
        (IsADirectoryError, errno.EISDIR, PERMANENT),
        (ConnectionRefusedError, errno.ECONNREFUSED, UNREACHABLE),
        (ConnectionResetError, errno.ECONNRESET, TRANSIENT),
        (TimeoutError, errno.ETIMEDOUT, TRANSIENT),
    ],
)
def test_an_error_of_the_system_means_the_same_raised_by_hand(
    kind: type[OSError], number: int, category: Category
) -> None:
    assert [classify(extract_evidence(error)).category for error in (kind(number, "x"), kind("x"))] == [
        category,
        category,
    ]


def certificate_refused() -> httpx2.ConnectError:
    """As it comes out of httpx2, recorded from a server with a certificate of its own making."""
    text = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1006)"
    error, cause = httpx2.ConnectError(text), httpcore2.ConnectError(text)
    cause.__context__, cause.__suppress_context__ = ssl.SSLCertVerificationError(1, text), True
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [certificate_refused(), urllib.error.URLError(ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED]"))],  # type: ignore[arg-type]
    ids=["httpx2", "urllib"],
)
def test_a_bad_certificate_is_permanent_also_inside_a_clients_error(error: Exception) -> None:
    assert classify(extract_evidence(error)).category is PERMANENT


@pytest.mark.parametrize("cause", [socket.gaierror(-2, "unknown"), ConnectionRefusedError(errno.ECONNREFUSED, "no")])
def test_a_host_that_urllib_cannot_reach_is_unreachable(cause: Exception) -> None:
    assert classify(extract_evidence(urllib.error.URLError(cause))).category is UNREACHABLE  # type: ignore[arg-type]


def while_handling(handled: Exception) -> UnknownError:
    """What comes of ``except KeyError: fetch()``, when fetching fails."""
    try:
        try:
            raise handled
        except type(handled):
            raise UnknownError  # noqa: B904  # no cause is the point
    except UnknownError as error:
        return error


@pytest.mark.parametrize("handled", [KeyError("not in the cache"), FileNotFoundError(errno.ENOENT, "no", "cache")])
def test_what_was_being_handled_is_not_the_cause(handled: Exception) -> None:
    assert classify(extract_evidence(while_handling(handled))) == Classification(TRANSIENT, "unknown error")


def test_an_error_that_says_something_is_not_overruled_by_its_cause() -> None:
    error = TimeoutError()
    error.__cause__ = KeyError()
    assert classify(extract_evidence(error)) == Classification(TRANSIENT, "TimeoutError")


def test_an_error_that_says_nothing_is_as_bad_as_what_it_was_raised_from() -> None:
    error = UnknownError()
    error.__cause__ = OSError(errno.ENOSPC, "full")
    assert classify(extract_evidence(error)) == Classification(ENVIRONMENT, "errno ENOSPC")


@pytest.mark.parametrize(
    ("evidence", "rule"),
    [
        (Evidence(type="x.Error", status=503, exit_code=127, errno=errno.ENOENT), "status 503"),
        (Evidence(type="x.Error", exit_code=127, errno=errno.ENOSPC), "exit code 127"),
        (Evidence(type="builtins.ValueError", errno=errno.ECONNRESET), "ValueError"),
        (Evidence(type="builtins.TimeoutError", errno=errno.ENOSPC), "errno ENOSPC"),
        (Evidence(type="x.Error", kinds=("builtins.KeyError", "builtins.LookupError")), "LookupError"),
    ],
)
def test_what_is_most_specific_decides(evidence: Evidence, rule: str) -> None:
    assert classify(evidence).rule == rule


def test_every_category_has_a_severity() -> None:
    assert sorted(SEVERITY) == sorted(Category)


def test_the_worst_of_several_counts() -> None:
    assert worst([by_status(503), by_status(404), by_status(429)]).rule == "status 404"


# The stage: OperationFailed -> FailureClassified


def stage(enabled: bool = True, **settings: Any) -> Classify:
    config = make_config(Settings(**settings), defaults=Defaults(), has_store=False)
    return Classify({"fetch": config}.get, enabled=enabled)


def failed(error: Exception, **given: Any) -> OperationFailed:
    return OperationFailed(**{"at": 1.0, "operation": "fetch", "call": "a", "error": error, **given})


def judged(error: Exception, *, enabled: bool = True, **settings: Any) -> FailureClassified:
    classified = stage(enabled, **settings).on_failure(failed(error))
    assert classified is not None
    return classified


def marked(error: Exception, operation: str) -> Exception:
    mark_exhausted(error, operation)
    return error


def test_an_operation_that_is_not_the_services_is_left_alone() -> None:
    assert stage().on_failure(failed(OSError(), operation="foreign")) is None


def test_what_the_failure_said_is_passed_on() -> None:
    classified = stage().on_failure(failed(answered(404), key="host", attempt=3, retries=2, elapsed=5.0, waited=1.0))
    assert classified == FailureClassified(
        at=1.0,
        operation="fetch",
        key="host",
        call="a",
        attempt=3,
        category=PERMANENT,
        rule="status 404",
        evidence=extract_evidence(answered(404)),
        retries=2,
        elapsed=5.0,
        waited=1.0,
    )


@pytest.mark.parametrize(
    ("error", "settings", "category", "rule"),
    [
        (marked(OSError(), "inner"), {}, EXHAUSTED, "inner has tried already"),
        (marked(Retryable(), "inner"), {"retry_on": Exception}, EXHAUSTED, "inner has tried already"),
        (marked(OSError(), "inner"), {"retry_exhausted": True}, TRANSIENT, "unknown error"),
        (marked(OSError(), "fetch"), {}, TRANSIENT, "unknown error"),
        (Permanent(), {"retry_on": Permanent}, PERMANENT, "Permanent"),
        (Retryable(), {"retry_on": KeyError}, TRANSIENT, "Retryable"),
        (Retryable(), {"enable_classification": False}, TRANSIENT, "Retryable"),
        (Permanent(), {"enable_classification": False}, PERMANENT, "Permanent"),
        (KeyError(), {"retry_on": (OSError, LookupError)}, TRANSIENT, "retry_on"),
        (OSError(), {"retry_on": KeyError}, PERMANENT, "retry_on"),
        (OSError(), {"retry_on": KeyError, "classifier": lambda _: TRANSIENT}, PERMANENT, "retry_on"),
        (KeyError(), {"classifier": lambda _: TRANSIENT}, TRANSIENT, "classifier"),
        (KeyError(), {"classifier": lambda _: "transient"}, TRANSIENT, "classifier"),
        (KeyError(), {"classifier": lambda _: Classification(LOST, "mine")}, LOST, "mine"),
        (KeyError(), {"classifier": lambda _: None}, PERMANENT, "LookupError"),
        (KeyError(), {"enable_classification": False}, TRANSIENT, "classification is off"),
    ],
)
def test_the_rules_are_asked_in_order(error: Exception, settings: Any, category: Category, rule: str) -> None:
    classified = judged(error, **settings)
    assert (classified.category, classified.rule) == (category, rule)


@pytest.mark.parametrize(
    ("settings", "category"), [({}, TRANSIENT), ({"enable_classification": True}, PERMANENT)], ids=["open", "asked for"]
)
def test_the_service_decides_whether_to_classify_where_the_operation_leaves_it_open(
    settings: Any, category: Category
) -> None:
    assert judged(KeyError(), enabled=False, **settings).category is category


@pytest.mark.parametrize(
    ("leaves", "category"),
    [
        ([TimeoutError(), OSError(errno.ENOSPC, "full")], ENVIRONMENT),
        ([answered(503), answered(404), answered(429)], PERMANENT),
        ([OSError(), ExceptionGroup("", [TimeoutError(), Permanent()])], PERMANENT),
        ([KeyError(), concurrent.futures.CancelledError()], CANCELLED),
        ([TimeoutError(), Retryable()], TRANSIENT),
        ([marked(OSError(), "inner"), OSError()], EXHAUSTED),
    ],
)
def test_a_group_is_as_bad_as_its_worst_leaf(leaves: list[Exception], category: Category) -> None:
    assert judged(ExceptionGroup("several", leaves)).category is category


def test_a_group_that_an_inner_call_has_spent_is_spent() -> None:
    assert judged(marked(ExceptionGroup("several", [OSError()]), "inner")).category is EXHAUSTED


def test_a_group_that_retry_on_names_is_retried() -> None:
    assert judged(ExceptionGroup("several", [OSError()]), retry_on=ExceptionGroup).category is TRANSIENT


def test_a_rate_limit_in_a_group_is_waited_for() -> None:
    classified = judged(ExceptionGroup("tasks", [answered(503), answered(429, Retry_After="30")]))
    verdict = decide(RetryPolicy(jitter="none", max_delay=0.0), classified, 0.0)
    assert verdict == Park(30.0, until=("rate limit",))


def test_of_several_rate_limits_in_a_group_the_longest_is_waited_for() -> None:
    classified = judged(ExceptionGroup("tasks", [answered(429, Retry_After=after) for after in ("5", "60", "7")]))
    assert classified.retry_after == 60.0


@pytest.mark.parametrize(
    "answer",
    [lambda _: 1 / 0, lambda _: "nonsense", lambda _: 7, lambda _: ("lost", "mine")],
    ids=["raises", "no category", "a number", "a pair"],
)
def test_where_a_classifier_is_broken_the_built_in_rules_decide(answer: Any) -> None:
    assert judged(KeyError(), classifier=answer).rule == "LookupError"


def test_a_retryable_that_forgot_to_call_super_is_retried() -> None:
    class BusyError(Retryable):
        def __init__(self, subscription: int) -> None:
            self.subscription = subscription

    assert judged(BusyError(7)).category is TRANSIENT


def scheduled(config_of: ConfigOf) -> Schedule:
    return Schedule(config_of, lambda: 0.25, RetryBudgets(Bus(), config_of, lambda _operation, _key: None))


def test_the_schedule_is_the_policys() -> None:
    config = make_config(Settings(), defaults=Defaults(), has_store=False)
    classified = judged(TimeoutError())
    assert scheduled({"fetch": config}.get).on_classified(classified) == decide(config.policy, classified, 0.25)


def test_nobody_schedules_an_operation_that_is_not_the_services() -> None:
    assert scheduled({}.get).on_classified(judged(TimeoutError())) is None
