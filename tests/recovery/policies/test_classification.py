"""The category of a failure, from the evidence of real exceptions."""

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

from events.errors import CallRejectedError, NeedsPerson, Permanent, Retryable
from events.evidence import Category, Evidence
from recovery.policies.classification import SEVERITY, Classification, by_status, classify_evidence, worst
from recovery.subscribers.evidence_extraction import extract_evidence
from tests.recovery.http_errors import answered

TRANSIENT, UNREACHABLE, RATE_LIMITED, ENVIRONMENT, AUTH, LOST, PERMANENT, EXHAUSTED, CANCELLED = Category


class UnknownError(Exception):
    """A user's own."""


def from_urllib(status: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("http://host/", status, "no", Message(), None)


def classified(error: BaseException) -> Classification:
    return classify_evidence(extract_evidence(error))


@pytest.mark.parametrize(
    ("error", "category", "rule"),
    [
        (OSError(errno.ENETUNREACH, "net"), UNREACHABLE, "errno ENETUNREACH"),
        (OSError(errno.ENOSPC, "full"), ENVIRONMENT, "errno ENOSPC"),
        (OSError(errno.ENAMETOOLONG, "long"), PERMANENT, "errno ENAMETOOLONG"),
        (OSError(errno.E2BIG, "many"), PERMANENT, "errno E2BIG"),
        (OSError(12345, "who knows"), TRANSIENT, "unknown error"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), TRANSIENT, "errno ECONNRESET"),
        (ConnectionAbortedError("by hand"), TRANSIENT, "ConnectionError"),
        (TimeoutError(), TRANSIENT, "TimeoutError"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), UNREACHABLE, "socket.gaierror"),
        (ssl.SSLCertVerificationError(1, "expired"), PERMANENT, "ssl.SSLCertVerificationError"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), TRANSIENT, "ssl.SSLError"),
        (http.client.RemoteDisconnected("closed"), TRANSIENT, "ConnectionError"),
        (http.client.IncompleteRead(b""), TRANSIENT, "unknown error"),
        (asyncio.IncompleteReadError(b"", 5), TRANSIENT, "EOFError"),
        (MemoryError(), PERMANENT, "MemoryError"),
        (KeyError("k"), PERMANENT, "LookupError"),
        (ModuleNotFoundError("x"), PERMANENT, "ImportError"),
        (json.JSONDecodeError("no", "", 0), PERMANENT, "ValueError"),
        (RuntimeError("who knows"), TRANSIENT, "unknown error"),
        (asyncio.CancelledError(), CANCELLED, "asyncio.exceptions.CancelledError"),
        (concurrent.futures.CancelledError(), CANCELLED, "concurrent.futures._base.CancelledError"),
        (Permanent("never"), PERMANENT, "events.errors.Permanent"),
        (Retryable("soon", after=3), TRANSIENT, "events.errors.Retryable"),
        (NeedsPerson("401"), AUTH, "events.errors.NeedsPerson"),
        (CallRejectedError("inner", "forced open"), PERMANENT, "events.errors.CallRejectedError"),
    ],
    ids=lambda value: repr(value) if isinstance(value, BaseException) else "",
)
def test_an_error_has_its_category_and_says_by_which_rule(error: BaseException, category: Category, rule: str) -> None:
    assert classified(error) == Classification(category, rule)


@pytest.mark.parametrize(
    ("names", "category"),
    [
        ("ReadTimeout PoolTimeout ReadError RemoteProtocolError ProxyError DecodingError", TRANSIENT),
        ("ConnectError ConnectTimeout", UNREACHABLE),
        ("UnsupportedProtocol LocalProtocolError TooManyRedirects InvalidURL StreamError", PERMANENT),
    ],
)
def test_an_error_of_the_http_client_has_its_category(names: str, category: Category) -> None:
    assert {name: classified(getattr(httpx2, name)("no")).category for name in names.split()} == dict.fromkeys(
        names.split(), category
    )


@pytest.mark.parametrize("make", [answered, from_urllib], ids=["httpx2", "urllib"])
@pytest.mark.parametrize(
    ("statuses", "category"),
    [
        ((408, 425, 500, 502, 503, 504, 522, 599), TRANSIENT),
        ((429,), RATE_LIMITED),
        ((507,), ENVIRONMENT),
        ((401, 402, 403, 407), AUTH),
        ((304, 400, 404, 410, 416, 418, 501, 505), PERMANENT),
    ],
)
def test_an_http_status_decides(make: Any, statuses: tuple[int, ...], category: Category) -> None:
    for status in statuses:
        assert classified(make(status)) == Classification(category, f"status {status}")


@pytest.mark.parametrize(
    ("code", "category", "rule"),
    [
        (128, TRANSIENT, "git-broken-off"),
        (127, PERMANENT, "exit code 127"),
        (-9, LOST, "signal 9"),
        (139, LOST, "signal 11"),
        (0xC0000005, LOST, "exception 0xc0000005"),
    ],
)
def test_an_exit_code_decides_or_else_the_error_output(code: int, category: Category, rule: str) -> None:
    judged = classified(subprocess.CalledProcessError(code, ["git", "clone"], stderr=b"fatal: early EOF"))
    assert (judged.category, judged.rule) == (category, rule)


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
    assert [classified(error).category for error in (kind(number, "x"), kind("x"))] == [category, category]


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
    assert classified(error).category is PERMANENT


@pytest.mark.parametrize("cause", [socket.gaierror(-2, "unknown"), ConnectionRefusedError(errno.ECONNREFUSED, "no")])
def test_a_host_that_urllib_cannot_reach_is_unreachable(cause: Exception) -> None:
    assert classify_evidence(extract_evidence(urllib.error.URLError(cause))).category is UNREACHABLE  # type: ignore[arg-type]


def test_what_was_being_handled_is_not_the_cause() -> None:
    """As in ``except FileNotFoundError: fetch()``, when fetching fails."""
    error = UnknownError()
    error.__context__ = FileNotFoundError(errno.ENOENT, "no", "cache")
    assert classified(error) == Classification(TRANSIENT, "unknown error")


@pytest.mark.parametrize(
    ("error", "cause", "answer"),
    [
        (TimeoutError(), KeyError(), Classification(TRANSIENT, "TimeoutError")),
        (UnknownError(), OSError(errno.ENOSPC, "full"), Classification(ENVIRONMENT, "errno ENOSPC")),
    ],
)
def test_a_cause_counts_only_where_the_error_says_nothing(
    error: Exception, cause: Exception, answer: Classification
) -> None:
    error.__cause__ = cause
    assert classified(error) == answer


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
    assert classify_evidence(evidence).rule == rule


def test_every_category_has_a_severity() -> None:
    assert sorted(SEVERITY) == sorted(Category)


def test_the_worst_of_several_counts() -> None:
    assert worst([by_status(503), by_status(404), by_status(429)]).rule == "status 404"
