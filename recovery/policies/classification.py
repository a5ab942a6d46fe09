"""The category of a failure: pure, from its evidence alone.

The most specific evidence decides, in this order: a code of a library or a database, an HTTP status, the error output
of a process, its exit code, a class made for one problem, an errno, a class that says little, the cause, a sentence of
git, pip or CUDA in the message. Classes are looked up by qualified name, nearest base first, so no library need be
imported to be known; answers by class are cached.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import lru_cache
from typing import Literal, Protocol, TypeAlias

import msgspec

from events.evidence import Category, Evidence, Remedy
from recovery.policies.error_messages import IN_MESSAGES, compiled, match_error_message
from recovery.policies.libraries import ASK_THE_CAUSE, BY_CLASS, LIMITED, meaning_of_code

T, U, R, E, A, L, P, X, C = Category  # transient, unreachable, ..., exhausted, cancelled: short, for the tables

Recoverability: TypeAlias = Literal["retry", "wait", "ask", "never"]

RECOVERABILITY: dict[Category, Recoverability] = {
    T: "retry", U: "retry", L: "retry", R: "wait", E: "wait", A: "ask", P: "never", X: "never", C: "never",
}  # fmt: skip
"""How a failure of each category passes: by itself, with its cause, with a person's help, or never.

This is the meaning of a category; a policy may decide otherwise for its operations.
"""


class Classification(msgspec.Struct, frozen=True, gc=False):
    """The category of a failure, and the rule that chose it.

    Args:
        category: The category.
        rule: The name of the rule.
        why: The reason, where the name does not tell it.
        retry_after: The least seconds to wait before a retry; None leaves it to the policy.
        remedy: What a person can do; None if the rule does not know.
    """

    category: Category
    rule: str
    why: str = ""
    retry_after: float | None = None
    remedy: Remedy | None = None

    @property
    def recoverability(self) -> Recoverability:
        """How the failure passes: "retry", "wait" (for its cause), "ask" (a person) or "never"."""
        return RECOVERABILITY[self.category]


class Classifier(Protocol):
    """A rule of the user's: evidence in, a classification (or its category alone) out, ``None`` for no opinion.

    A ``Rule`` is one, and so is any plain function.
    """

    def __call__(self, evidence: Evidence, /) -> Classification | Category | None:
        """The classification of *evidence*, its category, or ``None`` for no opinion."""


Front: TypeAlias = Callable[[Evidence], Classification | None]
"""The classifiers that are asked before the built-in rules, as one function."""


BY_STATUS: dict[int, Category] = {
    # RFC 9110 section 15, RFC 6585 (429), and what CDNs answer for an origin that fails (520-524, 529).
    401: A, 402: A, 403: A, 407: A,
    408: T, 425: T, 429: R,
    500: T, 502: T, 503: T, 504: T, 507: E, 509: R, 520: T, 521: T, 522: T, 523: T, 524: T, 529: T,
}  # fmt: skip

BY_ERRNO: dict[int, Category] = {
    getattr(errno, name): category
    for names, category in (
        ("ECONNREFUSED EHOSTDOWN EHOSTUNREACH ENETDOWN ENETUNREACH EADDRNOTAVAIL", U),
        ("ECONNABORTED ECONNRESET EPIPE ESHUTDOWN ENOTCONN ENETRESET ETIMEDOUT EAGAIN EINTR EBUSY EIO ESTALE", T),
        ("ENOSPC EDQUOT EFBIG EROFS EMFILE ENFILE ENOMEM ENOBUFS EADDRINUSE ETXTBSY ENOLCK", E),
        ("ENOENT ENOTDIR EISDIR EEXIST ENOTEMPTY EACCES EPERM ELOOP ENAMETOOLONG", P),
        ("E2BIG EINVAL EXDEV ENOEXEC ENODEV EBADF", P),
    )
    for name in names.split()
    if hasattr(errno, name)
}

HTTPX = ("httpx", "httpx2")
BY_TYPE: dict[str, Category] = {
    f"{module}.{name}": category
    for category, module, names in (
        # Errors of the program or of its input: the same call fails the same way again.
        (P, "builtins", "ArithmeticError AssertionError AttributeError BufferError FileExistsError FileNotFoundError"),
        (P, "builtins", "ImportError IsADirectoryError LookupError MemoryError NameError NotADirectoryError"),
        (P, "builtins", "NotImplementedError PermissionError RecursionError StopAsyncIteration StopIteration"),
        (P, "builtins", "SyntaxError SystemError TypeError ValueError"),
        (P, "events.errors", "CallRejectedError JoinedElsewhere Permanent"),
        (P, "ssl", "SSLCertVerificationError"),
        (T, "builtins", "ConnectionError EOFError TimeoutError"),
        (U, "builtins", "ConnectionRefusedError"),
        (T, "events.errors", "Retryable"),
        (A, "events.errors", "NeedsPerson"),
        (T, "ssl", "SSLError"),
        (U, "socket", "gaierror"),
        (T, "subprocess", "TimeoutExpired"),
        (C, "asyncio.exceptions", "CancelledError"),
        (C, "concurrent.futures._base", "CancelledError"),
        # httpx2 is the client that our adapters use; httpx has the same names.
        *((U, library, "ConnectError ConnectTimeout") for library in HTTPX),
        *((T, library, "TransportError ProxyError DecodingError") for library in HTTPX),
        *((P, library, "LocalProtocolError UnsupportedProtocol InvalidURL TooManyRedirects") for library in HTTPX),
        *((P, library, "StreamError CookieConflict") for library in HTTPX),
        (U, "aiohttp.client_exceptions", "ClientConnectorError"),
        (T, "aiohttp.client_exceptions", "ClientPayloadError"),
        # Not ConnectionError of requests, which does not tell when it happened: its cause does.
        (U, "requests.exceptions", "ConnectTimeout"),
        (P, "requests.exceptions", "InvalidSchema InvalidURL MissingSchema TooManyRedirects"),
        (U, "urllib3.exceptions", "ConnectTimeoutError NameResolutionError NewConnectionError"),
        (E, "torch", "OutOfMemoryError cuda.OutOfMemoryError"),
    )
    for name in names.split()
} | {f"{module}.{name}": category for category, module, names, _ in BY_CLASS for name in names.split()}

UNKNOWN = "unknown error"
"""The rule for an exception that says nothing."""

REJECTED = "events.errors.CallRejectedError"
BAD_CERTIFICATE = "ssl.SSLCertVerificationError"

SEVERITY = (T, U, R, L, E, A, X, P, C)
"""Mildest first: a group of errors is as bad as its worst leaf; a cancellation outweighs every failure."""


def classify_evidence(evidence: Evidence, front: Front | None = None) -> Classification:
    """The classification of *evidence*: of *front*, or else of the built-in rules.

    The cause is classified where the outer error says nothing. An unknown exception is transient, since the operation
    was declared to be retried.
    """
    if front is not None and (chosen := front(evidence)) is not None:
        return chosen
    if evidence.code is not None and (meaning := meaning_of_code(evidence.code)) is not None:
        return Classification(meaning, f"code {evidence.code}")
    if evidence.status is not None and evidence.status >= 300:  # an answer that succeeded says nothing of the failure
        is_limited = evidence.status == 403 and (
            evidence.retry_after is not None or compiled(LIMITED).search(evidence.message)
        )
        return Classification(R, "status 403") if is_limited else by_status(evidence.status)
    if evidence.exit_code is not None:
        code = by_exit_code(evidence.exit_code)
        # The output of a process that was killed does not tell the reason.
        said = match_error_message(evidence.stderr) if code.category is T else None
        return code if said is None else Classification(said.category, said.name)
    answer = by_type(evidence.type, evidence.kinds)
    if evidence.cause is not None and not ASK_THE_CAUSE.isdisjoint((evidence.type, *evidence.kinds)):
        answer = None
    if answer is not None and answer.category is U and _has_bad_certificate(evidence):
        return Classification(P, BAD_CERTIFICATE)
    if evidence.type == REJECTED and evidence.retry_after is not None:
        return Classification(T, REJECTED)  # an open circuit says when it lets a call begin
    if answer is not None and answer.category is not T:
        return answer  # a class made for one problem says more than its errno
    if evidence.errno is not None and evidence.errno in BY_ERRNO:
        return Classification(BY_ERRNO[evidence.errno], f"errno {errno.errorcode[evidence.errno]}")
    if answer is None and evidence.cause is not None:
        return classify_evidence(evidence.cause, front)
    if answer is None and (said := match_error_message(evidence.message, IN_MESSAGES)) is not None:
        # Frameworks raise RuntimeError for everything. What is transient need not be of git or pip: it is unknown.
        answer = None if said.category is T else Classification(said.category, said.name)
    return answer or Classification(T, UNKNOWN)


def _has_bad_certificate(evidence: Evidence | None) -> bool:
    """Whether a client could not connect because it does not trust the certificate: that does not pass by itself."""
    return evidence is not None and (evidence.type == BAD_CERTIFICATE or _has_bad_certificate(evidence.cause))


def by_status(status: int) -> Classification:
    """The category of an HTTP status: 5xx is transient; 3xx and 4xx are permanent unless ``BY_STATUS`` has them."""
    category = BY_STATUS.get(status, P if status < 500 or status in (501, 505) else T)
    return Classification(category, f"status {status}")


def by_exit_code(code: int) -> Classification:
    """The category of a process's exit: killed by a signal, not executable (POSIX shells: 126, 127), or just failed."""
    if code < 0:
        return Classification(L, f"signal {-code}")
    if 128 < code < 193:  # how a shell reports a signal (POSIX 2.8.2)
        return Classification(L, f"signal {code - 128}")
    if code >= 0xC000_0000:  # how Windows reports an exception (NTSTATUS, severity error)
        return Classification(L, f"exception {code:#x}")
    return Classification(P if code in (126, 127) else T, f"exit code {code}")


@lru_cache(maxsize=1024)
def by_type(name: str, kinds: tuple[str, ...]) -> Classification | None:
    """The category of an exception's class, by its qualified name and those of its bases, nearest first."""
    for kind in (name, *kinds):
        if kind in BY_TYPE:
            return Classification(BY_TYPE[kind], kind.removeprefix("builtins."))
    return None


def worst(classifications: list[Classification]) -> Classification:
    """The most severe classification. Raises ValueError for an empty list."""
    return max(classifications, key=lambda one: SEVERITY.index(one.category))
