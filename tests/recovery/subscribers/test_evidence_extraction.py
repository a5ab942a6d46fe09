"""What a live exception tells, as data."""

from __future__ import annotations

import asyncio
import errno
import http.client
import math
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import Message
from types import SimpleNamespace
from typing import Any, ClassVar

import httpx2
import pytest

from events.errors import Permanent, Retryable
from events.event import FOREVER
from events.evidence import Evidence
from recovery.policies.classification import classify_evidence
from recovery.redact import printable
from recovery.subscribers.answers import MAX_RETRY_AFTER
from recovery.subscribers.evidence_extraction import MAX_TEXT, extract_evidence, leaves
from recovery.subscribers.exhausted import exhausted_by, mark_exhausted
from tests.recovery.http_errors import answered


class ConnectorSSLError(ssl.SSLError):
    """As aiohttp derives one."""


def died(code: int, stderr: Any = None) -> subprocess.CalledProcessError:
    return subprocess.CalledProcessError(code, ["git", "clone"], stderr=stderr)


def from_urllib(status: int, retry_after: str) -> urllib.error.HTTPError:
    headers = Message()
    headers["Retry-After"] = retry_after
    return urllib.error.HTTPError("http://host/", status, "no", headers, None)


class AiohttpLikeError(Exception):
    """The attributes of ``aiohttp.ClientResponseError``."""

    def __init__(self, status: int, **headers: str) -> None:
        self.status = status
        self.headers = headers


class AnyError(Exception):
    """Any attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "full"), {"type": "builtins.OSError", "errno": errno.ENOSPC}),
        (ConnectionRefusedError(errno.ECONNREFUSED, "no"), {"errno": errno.ECONNREFUSED}),
        (FileNotFoundError(errno.ENOENT, "no", "x"), {"message": "[Errno 2] no: 'x'", "errno": errno.ENOENT}),
        (FileNotFoundError("x is not there"), {"message": "x is not there", "errno": None}),
        (OSError("a", "b"), {"errno": None}),
        (TimeoutError(), {"type": "builtins.TimeoutError", "message": "", "errno": None}),
        (KeyError("k"), {"message": "'k'", "kinds": ("builtins.LookupError",)}),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), {"type": "socket.gaierror", "kinds": ("builtins.OSError",)}),
        (answered(503), {"type": "httpx2.HTTPStatusError", "status": 503, "retry_after": None}),
        (answered(429, Retry_After="7"), {"status": 429, "retry_after": 7.0}),
        (httpx2.ConnectError("no"), {"type": "httpx2.ConnectError", "status": None}),
        (from_urllib(503, "4"), {"type": "urllib.error.HTTPError", "status": 503, "retry_after": 4.0}),
        (AiohttpLikeError(429, **{"Retry-After": "3"}), {"status": 429, "retry_after": 3.0}),
        (died(1, b"fatal: early EOF\n"), {"exit_code": 1, "stderr": "fatal: early EOF"}),
        (died(-9), {"exit_code": -9, "stderr": None}),
        (subprocess.TimeoutExpired(["x"], 5, stderr=b"slow"), {"exit_code": None, "stderr": "slow"}),
        (Permanent("never"), {"type": "events.errors.Permanent", "retry_after": None}),
        (Retryable("soon", after=5), {"message": "soon", "retry_after": 5.0}),
        (Retryable("soon"), {"retry_after": None}),
        (ExceptionGroup("two", [KeyError(), OSError()]), {"type": "builtins.ExceptionGroup"}),
        (
            UnicodeDecodeError("utf-8", b"", 0, 1, "no"),
            {"type": "builtins.UnicodeDecodeError", "kinds": ("builtins.UnicodeError", "builtins.ValueError")},
        ),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), {"errno": None}),
        (ConnectorSSLError(1, "[SSL: BAD_RECORD_MAC]"), {"errno": None}),
        (ValueError("x" * 10**6), {"message": "x" * MAX_TEXT}),
        (EOFError(), {"bytes_done": None}),
        (http.client.IncompleteRead(b"12345"), {"bytes_done": 5}),
        (asyncio.IncompleteReadError(b"123", 9), {"bytes_done": 3}),
        (AnyError(bytes_done=7), {"bytes_done": 7}),
        # A status of an error without headers means something else, beside an error output an exit code.
        (AnyError(code=400), {"status": None, "exit_code": None}),
        (AnyError(status=128, stderr="fatal"), {"status": None, "exit_code": 128}),
        (subprocess.CalledProcessError(1, "pip", output="no torchx"), {"stderr": "no torchx"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_tells_what_it_carries(error: BaseException, expected: dict[str, object]) -> None:
    gathered = extract_evidence(error)
    assert {name: getattr(gathered, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("99999999", MAX_RETRY_AFTER),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("-1", None),
        ("yesterday", None),
        ("²", None),
        ("", None),
        ("Thu, 99 Foo 2026 99:99:99 GMT", None),
        ("Thu, 01 Jan 99999999999999999999 00:00:00 GMT", None),
    ],
)
def test_a_retry_after_is_seconds_or_a_date_or_nothing(header: str, seconds: float | None) -> None:
    error = AiohttpLikeError(429, **{"Retry-After": header})
    assert extract_evidence(error).retry_after == seconds


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.skipif(os.name == "nt", reason="time.tzset is POSIX")
@pytest.mark.usefixtures("in_new_york")
@pytest.mark.parametrize(
    "form",
    ["{:%a, %d %b %Y %H:%M:%S} GMT", "{:%A, %d-%b-%y %H:%M:%S} GMT", "{:%a %b %e %H:%M:%S %Y}"],
    ids=["IMF-fixdate", "RFC 850", "asctime"],
)
def test_every_http_date_of_rfc_9110_is_utc_wherever_we_are(form: str) -> None:
    in_a_minute = form.format(datetime.now(UTC) + timedelta(seconds=60))
    assert extract_evidence(AiohttpLikeError(503, **{"Retry-After": in_a_minute})).retry_after == pytest.approx(
        60.0, abs=30.0
    )


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        (0, 0.0),
        (2.5, 2.5),
        (-3, 0.0),
        (7200, 7200.0),
        (math.inf, FOREVER),
        (math.nan, None),
        (True, None),
        ("5", None),
        pytest.param(10**400, FOREVER, id="huge"),
    ],
)
def test_what_user_code_asks_for_is_taken_into_range(after: Any, seconds: float | None) -> None:
    assert extract_evidence(Retryable(after=after)).retry_after == seconds


@pytest.mark.parametrize(
    ("stderr", "tail"),
    [
        (b"", None),
        ("text\x1b[31m red", "text red"),
        ("\x1b]0;a title without an end\nfatal: no", "fatal: no"),
        ("10 %\r50 %\r100 %\r\n\n  done\t2\n", "100 %\ndone 2"),
        ("ERROR: no\n" + "\r".join(f"{share} %" for share in range(2000)), "ERROR: no\n1999 %"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"x" * 5000 + b"end", "x" * (MAX_TEXT - 3) + "end"),
        (["a", "list"], None),
        (7, None),
    ],
    ids=["nothing", "colour codes", "a title", "lines and a bar", "a long bar", "not utf-8", "gigantic", "list", "int"],
)
def test_a_process_is_quoted_with_the_end_of_what_it_said(stderr: Any, tail: str | None) -> None:
    assert extract_evidence(died(1, stderr)).stderr == tail


BAR = (
    "\x1b[2K   \x1b[90m━━━━━━━━╸\x1b[0m\x1b[90m━━━\x1b[0m \x1b[32m{}.0/99.0 MB\x1b[0m \x1b[31m5.1 MB/s\x1b[0m eta 0:01"
)
PIP = (
    "ERROR: Could not find a version that satisfies the requirement torchx (from versions: none)\n"
    "ERROR: No matching distribution found for torchx"
)


@pytest.mark.parametrize("lines", [100, 10_000])
@pytest.mark.parametrize("make", [str, str.encode], ids=["text", "bytes"])
@pytest.mark.parametrize(
    "tail",
    [
        ("\n\r", "\r", BAR),
        ("\n", "\n", BAR),
        ("\r\n", "\r\n", BAR),
        ("\n", "\n\x1b[1A", BAR),
        ("\n", "\n", "Progress {} of 99000"),
        ("\n", "\n", "Downloading wheel {} of many things"),
    ],
    ids=["CR", "LF", "CRLF", "cursor up", "raw", "words"],
)
def test_the_verdict_of_pip_is_found_before_a_long_tail(tail: tuple[str, str, str], make: Any, lines: int) -> None:
    first, between, line = tail
    gathered = extract_evidence(died(1, make(PIP + first + between.join(line.format(n) for n in range(lines)))))
    assert classify_evidence(gathered).rule == "pip-missing"
    assert (gathered.stderr or "").startswith(PIP)
    assert len(gathered.stderr or "") <= MAX_TEXT


@pytest.mark.parametrize("code", [True, 0, 99, 600, "500", None, 404.0])
def test_what_is_no_http_status_is_not_taken_for_one(code: Any) -> None:
    assert extract_evidence(AnyError(code=code, headers={})).status is None


class Raising:
    """Raises ZeroDivisionError for every attribute."""

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError(name)


class MuteError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


class NumberError(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # noqa: PLE0307  # hostile on purpose


class RaisingPropertiesError(Exception):
    @property
    def response(self) -> Any:
        raise RuntimeError("the request has not been set")

    status = code = errno = returncode = stderr = headers = reason = __recovery_exhausted_by__ = response


class RaisingErrnoError(OSError):
    errno = property(lambda _: 1 / 0)  # type: ignore[assignment]


class RaisingCauseError(Exception):
    __cause__ = __context__ = property(lambda _: 1 / 0)  # type: ignore[assignment]


class ForgetfulError(Retryable):
    def __init__(self, code: int) -> None:  # no super().__init__(), as people write it
        self.code = code


class NestedError(Exception):
    def __str__(self) -> str:
        return str(self)


class WilfulText(str):
    """A text that answers nothing."""

    __slots__ = ()

    def __str__(self) -> str:
        return self

    isprintable = lower = __len__ = property(lambda _: 1 / 0)  # type: ignore[assignment]


class WilfulTextError(Exception):
    stderr = WilfulText("git: no")

    def __str__(self) -> str:
        return WilfulText("no")


class Sulking(dict[str, object]):
    """A dictionary that does not say how much it holds."""

    __len__ = property(lambda _: 1 / 0)  # type: ignore[assignment]


class SulkingError(Exception):
    def __init__(self) -> None:
        self.__dict__ = Sulking()


HOSTILE = [
    SulkingError(),
    MuteError(),
    WilfulTextError(),
    NumberError(),
    NestedError(),
    RaisingPropertiesError("x"),
    RaisingErrnoError(5, "x"),
    RaisingCauseError(),
    ForgetfulError(7),
    AnyError(response=Raising()),
    AnyError(response=SimpleNamespace(status_code=429, headers=Raising())),
    AnyError(status=429, headers=SimpleNamespace(get=lambda _: 1 / 0)),
    AnyError(status=429, headers=SimpleNamespace(get=lambda _: Raising())),
    AnyError(status=429, headers=SimpleNamespace(get=5)),
    AnyError(returncode="1", stderr=object(), errno="EIO"),
]


@pytest.mark.parametrize("error", HOSTILE, ids=lambda error: type(error).__name__)
def test_a_hostile_exception_is_evidence_too_and_bears_no_mark(error: Exception) -> None:
    assert isinstance(extract_evidence(error), Evidence)
    assert exhausted_by(error, "outer", levels=4) is None


class SlottedError(Exception):
    __slots__ = ("returncode",)


class MadeUpError(Exception):
    def __getattr__(self, name: str) -> int:
        if name == "returncode":
            return 7
        raise AttributeError(name)


class InheritedError(type("ClassWithCode", (Exception,), {"returncode": 7})):  # type: ignore[misc]
    pass


@pytest.mark.parametrize("kind", [AnyError, SlottedError, MadeUpError, InheritedError])
def test_an_attribute_is_seen_wherever_an_exception_has_it(kind: type[Exception]) -> None:
    assert extract_evidence(kind()).exit_code == (None if kind in (AnyError, SlottedError) else 7)
    error: Any = kind()
    error.returncode = 7
    assert extract_evidence(error).exit_code == 7


def test_an_argument_that_does_not_say_what_it_is_is_no_cause() -> None:
    class Unclassed:  # local, since a tool that inspects all objects would stumble over one
        __class__ = property(lambda _: 1 / 0)  # type: ignore[assignment]

    assert extract_evidence(KeyError(Unclassed())).cause is None


def test_a_subclass_of_str_is_read_as_plain_text() -> None:
    gathered = extract_evidence(WilfulTextError())
    assert (gathered.message, gathered.stderr) == ("no", "git: no")


def test_a_text_that_cannot_be_had_is_said_to_be_so() -> None:
    assert extract_evidence(MuteError()).message == "(its message cannot be read)"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\nlines\r\n", "two lines"),
        ("\x1b[2Jcleared\x07", "[2Jcleared"),
        ("evil \u202egnp.exe", "evil gnp.exe"),
        ("\u2066isolated\u2069", "isolated"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("nul\x00byte", "nul byte"),
        ("line\u2028separator", "line separator"),
        ("\n\x00", ""),
        ("naïve  Grüße 模型", "naïve  Grüße 模型"),
    ],
)
def test_a_message_is_one_printable_line(text: str, line: str) -> None:
    assert (extract_evidence(ValueError(text)).message, printable(text)) == (line, line)


def test_the_leaves_of_a_group_are_found_at_every_depth() -> None:
    a, b, c = KeyError(), OSError(), ValueError()
    assert [*leaves(a)] == [a]
    assert [*leaves(ExceptionGroup("", [a, ExceptionGroup("", [b, ExceptionGroup("", [c])])]))] == [a, b, c]


def test_the_leaves_of_a_group_are_found_however_deep() -> None:
    error: Exception = KeyError()
    for _ in range(sys.getrecursionlimit() + 10):
        error = ExceptionGroup("", [error])
    assert [type(leaf) for leaf in leaves(error)] == [KeyError]


def test_a_mark_names_the_operation_that_exhausted_its_retries_unless_the_error_refuses_it() -> None:
    marked, refusing = ValueError(), RaisingPropertiesError()
    for error in (marked, refusing):
        mark_exhausted(error, "download")
    assert (exhausted_by(marked, "outer"), exhausted_by(refusing, "outer")) == ("download", None)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"RateLimit": '"api";r=0;t=55'}, 56.0),
        ({"RateLimit": '"api";r=0;t=55, "resolvers";r=0;t=90'}, 91.0),
        ({"RateLimit": '"api";r=7;t=55'}, None),
        ({"RateLimit": '"api";r=0;t=99999999999'}, MAX_RETRY_AFTER),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "30"}, 31.0),
        ({"RateLimit-Remaining": "3", "RateLimit-Reset": "30"}, None),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "soon"}, None),
        ({"RateLimit": '"api";t=30;r=0'}, 31.0),
        ({"RateLimit": '"api";r=1;t=30, "burst";t=7;r=0'}, 8.0),
        ({"Retry-After": "5", "RateLimit": '"api";r=0;t=55'}, 5.0),
        ({"Retry-After": "soon", "RateLimit": '"api";r=0;t=55'}, 56.0),
    ],
)
def test_an_exhausted_quota_is_waited_for(headers: dict[str, str], seconds: float | None) -> None:
    assert extract_evidence(AiohttpLikeError(429, **headers)).retry_after == seconds


def named(name: str, *bases: type[Exception]) -> type[Exception]:
    """A class as a library that is not installed here would have it."""
    module, _, last = name.rpartition(".")
    return type(last, bases or (Exception,), {"__module__": module})


REQUESTS = named("requests.exceptions.ConnectionError", named("requests.exceptions.RequestException", OSError))


def requests_error(name: str, reason: Exception) -> Exception:
    """As requests raises it: around urllib3's, which holds its reason."""
    kind = REQUESTS if name == "ConnectionError" else named(f"requests.exceptions.{name}", REQUESTS)
    inner = named("urllib3.exceptions.MaxRetryError")("Max retries exceeded")
    inner.reason = reason  # type: ignore[attr-defined]
    return kind(inner)


def broken_off() -> Exception:
    """As aiohttp raises it: from an error with a code that is no HTTP status."""
    error = named("aiohttp.client_exceptions.ClientPayloadError")("Response payload is not completed")
    error.__cause__ = AnyError(code=400)
    return error


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (requests_error("ConnectionError", named("urllib3.exceptions.NewConnectionError")("refused")), "unreachable"),
        (requests_error("ConnectionError", named("urllib3.exceptions.ProtocolError")("aborted")), "transient"),
        (REQUESTS("('Connection aborted.', RemoteDisconnected('closed'))"), "transient"),
        (requests_error("SSLError", ssl.SSLCertVerificationError(1, "self-signed")), "permanent"),
        (requests_error("SSLError", ssl.SSLError(1, "decryption failed")), "transient"),
        (named("requests.exceptions.ConnectTimeout", REQUESTS)("timed out"), "unreachable"),
        (broken_off(), "transient"),
    ],
)
def test_of_what_clients_raise_only_what_never_got_through_is_unreachable(error: Exception, category: str) -> None:
    assert classify_evidence(extract_evidence(error)).category == category


def test_a_class_that_cannot_be_hashed_is_looked_into_all_the_same() -> None:
    class Unhashable(type):
        __hash__ = None  # type: ignore[assignment]

    class HostileError(Exception, metaclass=Unhashable):
        pass

    assert extract_evidence(HostileError("no")).message == "no"


def test_a_number_with_comparisons_of_its_own_is_looked_into_all_the_same() -> None:
    class Odd(int):
        def __le__(self, other: object) -> bool:
            raise RuntimeError

        __ge__ = __lt__ = __gt__ = __le__

    class HostileError(Exception):
        status = Odd(503)
        headers: ClassVar = {}

    assert extract_evidence(HostileError()).status == 503


def test_a_message_is_redacted_before_it_is_cut() -> None:
    token = "hf_" + "a1" * 20
    evidence = extract_evidence(ConnectionError("x" * (MAX_TEXT - 20) + token))
    assert token[:10] not in evidence.message
    assert "***" in evidence.message
