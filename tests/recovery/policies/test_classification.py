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

from events.errors import CallRejectedError, Permanent, Retryable
from events.evidence import Category, Evidence
from recovery.policies.classification import SEVERITY, Classification, by_exit_code, by_status, classify_evidence, worst
from recovery.subscribers.evidence_extraction import extract_evidence

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
    assert classify_evidence(extract_evidence(error)) == Classification(category, rule)


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
    assert classify_evidence(extract_evidence(error)).category is category


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
    assert classify_evidence(extract_evidence(make(status))) == Classification(category, f"status {status}")


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
def test_an_exit_code_decides_or_else_the_error_output(code: int, category: Category, rule: str) -> None:
    judged = classify_evidence(extract_evidence(died(code)))
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
    assert [classify_evidence(extract_evidence(error)).category for error in (kind(number, "x"), kind("x"))] == [
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
    assert classify_evidence(extract_evidence(error)).category is PERMANENT


@pytest.mark.parametrize("cause", [socket.gaierror(-2, "unknown"), ConnectionRefusedError(errno.ECONNREFUSED, "no")])
def test_a_host_that_urllib_cannot_reach_is_unreachable(cause: Exception) -> None:
    assert classify_evidence(extract_evidence(urllib.error.URLError(cause))).category is UNREACHABLE  # type: ignore[arg-type]


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
    assert classify_evidence(extract_evidence(while_handling(handled))) == Classification(TRANSIENT, "unknown error")


def test_an_error_that_says_something_is_not_overruled_by_its_cause() -> None:
    error = TimeoutError()
    error.__cause__ = KeyError()
    assert classify_evidence(extract_evidence(error)) == Classification(TRANSIENT, "TimeoutError")


def test_an_error_that_says_nothing_is_as_bad_as_what_it_was_raised_from() -> None:
    error = UnknownError()
    error.__cause__ = OSError(errno.ENOSPC, "full")
    assert classify_evidence(extract_evidence(error)) == Classification(ENVIRONMENT, "errno ENOSPC")


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
