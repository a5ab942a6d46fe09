"""What kind of trouble a failure is: pure, from its evidence alone.

What is most specific decides: an HTTP status, what a process complained about, its exit code, a class made for one
trouble, an errno, a class that says little, its cause. Classes are looked up by qualified name, nearest base first, so
no library need be imported to be known; answers by class are cached.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import lru_cache
from typing import Literal, Protocol, TypeAlias

import msgspec

from events.evidence import Category, Evidence
from recovery.policies.error_messages import GPU, match_error_message

T, U, R, E, A, L, P, C = (
    Category.TRANSIENT,
    Category.UNREACHABLE,
    Category.RATE_LIMITED,
    Category.ENVIRONMENT,
    Category.AUTH,
    Category.LOST,
    Category.PERMANENT,
    Category.CANCELLED,
)


Recoverability: TypeAlias = Literal["retry", "wait", "ask", "never"]

RECOVERABILITY: dict[Category, Recoverability] = {
    T: "retry", U: "retry", L: "retry", R: "wait", E: "wait", A: "ask", P: "never", Category.EXHAUSTED: "never", C:
    "never",
}  # fmt: skip
"""What can become of a failure of each category: it may pass by itself, with its cause, with somebody's help, or never.

This is how categories are meant; a policy may say otherwise for the operations it is for.
"""


class Classification(msgspec.Struct, frozen=True, gc=False):
    """A category, and the name of the rule that chose it; *why* it did, where the name does not say.

    *retry_after* is the seconds that the rule wants waited at least, ``None`` where the policy alone decides.
    """

    category: Category
    rule: str
    why: str = ""
    retry_after: float | None = None

    @property
    def recoverability(self) -> Recoverability:
        """What can become of it."""
        return RECOVERABILITY[self.category]


class Classifier(Protocol):
    """What users put in front: evidence in, a classification (or just its category) out, ``None`` for no opinion.

    A ``recovery.policies.rules.Rule`` is one; so is any plain function.
    """

    def __call__(self, evidence: Evidence, /) -> Classification | Category | None:
        """Judge *evidence*."""


Front: TypeAlias = Callable[[Evidence], Classification | None]
"""The classifiers in front of the built-in judgement, as one."""


BY_STATUS: dict[int, Category] = {
    # RFC 9110 section 15, RFC 6585 (429), and what CDNs answer for an origin that is ill (520-524, 529).
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
        ("ENOENT ENOTDIR EISDIR EEXIST ENOTEMPTY EACCES EPERM ELOOP ENAMETOOLONG EINVAL EXDEV ENOEXEC ENODEV EBADF", P),
    )
    for name in names.split()
    if hasattr(errno, name)
}

BY_TYPE: dict[str, Category] = {
    # What a mistake in the program or in its input raises: the same call fails the same way.
    **dict.fromkeys(
        (
            "builtins.ArithmeticError", "builtins.AssertionError", "builtins.AttributeError", "builtins.BufferError",
            "builtins.FileExistsError", "builtins.FileNotFoundError", "builtins.ImportError",
            "builtins.IsADirectoryError", "builtins.LookupError", "builtins.MemoryError", "builtins.NameError",
            "builtins.NotADirectoryError", "builtins.NotImplementedError", "builtins.PermissionError",
            "builtins.RecursionError", "builtins.StopAsyncIteration", "builtins.StopIteration",
            "builtins.SyntaxError", "builtins.SystemError", "builtins.TypeError", "builtins.ValueError",
            "events.errors.CallRejectedError", "events.errors.Permanent", "ssl.SSLCertVerificationError",
        ),
        P,
    ),
    # The names below are those of a family of HTTP clients; httpx2 is the one our adapters use.
    **{
        f"{library}.{name}": category
        for library in ("httpx", "httpx2")
        for name, category in (
            ("ConnectError", U), ("ConnectTimeout", U), ("TransportError", T), ("ProxyError", T),
            ("LocalProtocolError", P), ("UnsupportedProtocol", P), ("InvalidURL", P), ("TooManyRedirects", P),
            ("DecodingError", T), ("StreamError", P), ("CookieConflict", P),
        )
    },
    "asyncio.exceptions.CancelledError": C,
    "builtins.ConnectionError": T,
    "builtins.ConnectionRefusedError": U,
    "builtins.EOFError": T,
    "builtins.TimeoutError": T,
    "concurrent.futures._base.CancelledError": C,
    "events.errors.Retryable": T,
    "aiohttp.client_exceptions.ClientConnectorError": U,
    # Not ConnectionError of requests, which says nothing of when it happened: what it came from does.
    "requests.exceptions.ConnectTimeout": U,
    "requests.exceptions.InvalidSchema": P,
    "requests.exceptions.InvalidURL": P,
    "requests.exceptions.MissingSchema": P,
    "requests.exceptions.TooManyRedirects": P,
    "socket.gaierror": U,
    "aiohttp.client_exceptions.ClientPayloadError": T,
    "urllib3.exceptions.ConnectTimeoutError": U,
    "urllib3.exceptions.NameResolutionError": U,
    "urllib3.exceptions.NewConnectionError": U,
    "ssl.SSLError": T,
    "torch.OutOfMemoryError": E,
    "torch.cuda.OutOfMemoryError": E,
    "subprocess.TimeoutExpired": T,
}  # fmt: skip

BAD_CERTIFICATE = "ssl.SSLCertVerificationError"

SEVERITY = (T, U, R, L, E, A, Category.EXHAUSTED, P, C)
"""Mildest first: a group of errors is as bad as its worst leaf, and a cancellation among them is one."""


def classify_evidence(evidence: Evidence, front: Front | None = None) -> Classification:
    """What *front* says, or else the built-in judgement; of the cause, where the outer error says nothing.

    An exception nobody knows is transient: somebody asked for it to be retried.
    """
    if front is not None and (chosen := front(evidence)) is not None:
        return chosen
    if evidence.status is not None:
        return by_status(evidence.status)
    if evidence.exit_code is not None:
        code = by_exit_code(evidence.exit_code)
        said = (
            match_error_message(evidence.stderr) if code.category is T else None
        )  # who was killed did not mean what it said
        return code if said is None else Classification(said.category, said.name, said.why)
    answer = by_type(evidence.type, evidence.kinds)
    if answer is not None and answer.category is U and _has_bad_certificate(evidence):
        return Classification(P, BAD_CERTIFICATE)
    if answer is not None and answer.category is not T:
        return answer  # a class made for one trouble says more than the number it carries
    if evidence.errno is not None and evidence.errno in BY_ERRNO:
        return Classification(BY_ERRNO[evidence.errno], f"errno {errno.errorcode[evidence.errno]}")
    if answer is None and evidence.cause is not None:
        return classify_evidence(evidence.cause, front)
    if answer is None and (said := match_error_message(evidence.message, GPU)) is not None:
        return Classification(said.category, said.name, said.why)  # frameworks raise RuntimeError for everything
    return answer or Classification(T, "unknown error")


def _has_bad_certificate(evidence: Evidence | None) -> bool:
    """Whether a client could not connect because it does not trust who answered: that will not pass."""
    while evidence is not None:
        if evidence.type == BAD_CERTIFICATE:
            return True
        evidence = evidence.cause
    return False


def by_status(status: int) -> Classification:
    """The category of an HTTP status: 5xx may pass, what is left of 4xx (and of 3xx) will not."""
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
    """The most severe of them. Raises ValueError for none."""
    return max(classifications, key=lambda one: SEVERITY.index(one.category))
