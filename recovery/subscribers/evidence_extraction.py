"""The evidence that an exception carries, as data: the one module that looks into exceptions.

Libraries are recognized by the attributes of their errors, not by importing them: ``response.status_code``
(httpx, httpx2, requests), ``status`` and ``headers`` (aiohttp), ``code`` (urllib), ``returncode`` and ``stderr``
(subprocess).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache

import msgspec

from events.errors import CallRejectedError, Retryable
from events.event import FOREVER
from events.evidence import Evidence
from recovery.policies.error_output import as_shown
from recovery.redact import MAX_READ, brief, printable

MAX_TEXT = 4096
"""Characters of a message, or of an error output, that are kept."""

MAX_RETRY_AFTER = 3600.0
"""The most seconds that a server may ask a call to wait; a launcher's user must not wait longer unnoticed."""

MAX_BYTES = 5 * MAX_READ
"""Bytes of an error output that are decoded: more than ``MAX_READ`` characters, so that the cut is known of."""

OWN_NUMBERS = frozenset({"ssl.SSLError", "socket.gaierror", "socket.herror"})
"""OSErrors whose errno is a number of another library, not of the system."""

LOOKED_FOR = frozenset(
    {
        "after", "args", "bytes_done", "code", "headers", "output", "partial", "reason", "response", "returncode",
        "status", "stderr", "__cause__", "__context__", "__dict__", "__getattr__", "__getattribute__",
    }
)  # fmt: skip
"""The attributes of exceptions that are read, and those by which a class may compute them."""

LEVELS = 4
"""How many levels of causes are extracted."""

QUOTA = re.compile(r";\s*([rt])=([0-9]{1,18})(?![0-9])")


def extract_evidence(error: BaseException, *, depth: int = LEVELS) -> Evidence:
    """The evidence that an exception carries: its type, message, errno, HTTP status, exit code, error output, cause.

    Raises nothing, even where reading an attribute of the exception raises.

    Args:
        error: The exception.
        depth: How many levels of causes are extracted.
    """
    try:
        kind = _kind_of(type(error))  # type: ignore[arg-type]  # a class is hashable, mypy looks at its instances
        is_bare = kind.is_bare and not error.__dict__
    except Exception:  # its metaclass or its __dict__ raises
        kind = _kind_of.__wrapped__(type(error))
        is_bare = False
    is_outermost = depth == LEVELS
    if is_bare and is_outermost and error.__cause__ is None and len(error.args) == 1 and type(error.args[0]) is str:
        came_from = None  # as ``_cause`` would find, for most of what is raised
    else:
        came_from = _cause(error, is_outermost=is_outermost, is_bare=is_bare)
    cause = None if came_from is None or depth == 0 else extract_evidence(came_from, depth=depth - 1)
    errno = None
    if kind.has_errno and (number := attribute_of(error, "errno")) is not None:
        errno = _int(number)
    if is_bare or kind.is_builtin:
        return Evidence(type=kind.name, kinds=kind.bases, message=_text(error), errno=errno, cause=cause)
    status, headers = _http(error)
    if isinstance(error, Retryable):
        retry_after = _seconds(attribute_of(error, "after"), most=FOREVER)
    elif isinstance(error, CallRejectedError):
        retry_after = _seconds(attribute_of(error, "retry_after"), most=FOREVER)
    else:
        retry_after = _seconds(_retry_after(headers), most=MAX_RETRY_AFTER)
    stderr = _tail(attribute_of(error, "stderr"))
    code = _int(attribute_of(error, "returncode"))
    return Evidence(
        type=kind.name,
        kinds=kind.bases,
        message=_text(error),
        errno=errno,
        cause=cause,
        status=status,
        retry_after=retry_after,
        exit_code=_int(attribute_of(error, "status")) if code is None and stderr and status is None else code,
        stderr=stderr or _tail(attribute_of(error, "output")),
        bytes_done=_bytes_done(error),
    )


class _Kind(msgspec.Struct, frozen=True):
    """What is the same for all exceptions of one class."""

    name: str
    bases: tuple[str, ...]
    has_errno: bool
    is_builtin: bool
    is_bare: bool  # the class has nothing of ``LOOKED_FOR``: with an empty ``__dict__``, neither has the exception


@lru_cache(maxsize=1024)
def _kind_of(kind: type) -> _Kind:
    own = [base for base in kind.__mro__ if base not in (Exception, BaseException, object)]
    name, *bases = map(_name, own or [kind])
    return _Kind(
        name,
        tuple(bases),
        has_errno=issubclass(kind, OSError) and not OWN_NUMBERS & {name, *bases},
        is_builtin=kind.__module__ == "builtins",
        is_bare=all(LOOKED_FOR.isdisjoint(vars(base)) for base in own),
    )


def leaves(error: BaseException) -> Iterator[BaseException]:
    """*error* itself, or every exception of a group that is no group."""
    left = [error]
    while left:
        one = left.pop()
        if isinstance(one, BaseExceptionGroup):
            left.extend(reversed(one.exceptions))
        else:
            yield one


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def attribute_of(holder: object, name: str) -> object:
    """The attribute of that name, ``None`` if there is none or if reading it raises."""
    try:
        return getattr(holder, name, None)
    except Exception:  # a property may raise anything (httpx's ``request`` does)
        return None


def _cause(error: BaseException, *, is_outermost: bool, is_bare: bool) -> BaseException | None:
    """The cause of *error*: its ``__cause__``, or the ``reason`` or argument in the errors of HTTP clients.

    The ``__context__`` of the outermost error need not be its cause; further in, within one library, it is (httpx2's
    errors hold TLS errors that way).
    """
    if not (is_bare and is_outermost and error.__cause__ is None):
        for name in ("__cause__", "reason") if is_outermost else ("__cause__", "__context__", "reason"):
            came_from = attribute_of(error, name)
            if isinstance(came_from, BaseException):
                return came_from
    args = error.args if is_bare else attribute_of(error, "args")  # requests and urllib3 hold their cause there
    if isinstance(args, tuple):
        for one in args:
            if issubclass(type(one), BaseException):  # not isinstance, which asks __class__
                return None if isinstance(error, BaseExceptionGroup) else one
    return None


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # a hostile __str__ must not hide the failure
        return "(its message cannot be read)"
    if type(text) is not str:
        text = str.__str__(text)  # a plain str, not a subclass
    if len(text) <= MAX_TEXT and text.isprintable():
        return text
    return brief(text, MAX_TEXT)


def _int(value: object) -> int | None:
    if value is None:
        return None
    # A plain int, not a subclass.
    return int.__int__(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _http(error: BaseException) -> tuple[int | None, object]:
    response = attribute_of(error, "response")
    for holder, name in ((response, "status_code"), (response, "status"), (error, "status"), (error, "code")):
        status, headers = _int(attribute_of(holder, name)), attribute_of(holder, "headers")
        # A status of an error without headers means something else (a parser's code, GitPython's exit status).
        if status is not None and 100 <= status <= 599 and (holder is response or headers is not None):
            return status, headers
    return None, None


def _retry_after(headers: object) -> object:
    """Seconds to wait: ``Retry-After`` (seconds or a date), or until an exhausted quota is renewed.

    A quota is announced by ``RateLimit: "name";r=left;t=seconds`` or, in older drafts, by ``RateLimit-Remaining`` and
    ``RateLimit-Reset``. One second is added, since these are rounded.

    Source: RFC 9110, 10.2.3; draft-ietf-httpapi-ratelimit-headers-10.
    """
    get = attribute_of(headers, "get")
    if not callable(get):
        return None
    try:
        value = str(get("Retry-After") or get("retry-after") or "").strip()
        try:
            if value.isdigit():
                return float(value)
            date = parsedate_to_datetime(value)
            return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time()
        except (ValueError, OverflowError):  # absent or unreadable
            return _quota_renewed(get)
    except Exception:  # headers of a foreign class may raise anything
        return None


def _quota_renewed(get: Callable[[str], object]) -> float | None:
    waits = []
    for quota in str(get("RateLimit") or "").split(","):
        found = {name: int(value) for name, value in QUOTA.findall(quota)}
        if found.get("r") == 0 and "t" in found:
            waits.append(found["t"])
    left, wait = str(get("RateLimit-Remaining") or ""), str(get("RateLimit-Reset") or "")
    if left.strip() == "0" and re.fullmatch("[0-9]{1,9}", wait.strip()):
        waits.append(int(wait))
    return max(waits) + 1.0 if waits else None


def _seconds(value: object, *, most: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # NaN
        return None
    return float(min(max(value, 0.0), most))


def _bytes_done(error: BaseException) -> int | None:
    """The bytes that a transfer got: ``bytes_done``, or the ``partial`` of the standard library's incomplete reads."""
    done = _int(attribute_of(error, "bytes_done"))
    partial = attribute_of(error, "partial")
    return len(partial) if done is None and isinstance(partial, bytes | bytearray) else done


def _tail(value: object) -> str | None:
    """The end of what a process said, as a terminal shows it."""
    if not isinstance(value, bytes | str):
        return None
    text = str.__str__(value) if isinstance(value, str) else value[-MAX_BYTES:].decode("utf-8", "replace")
    return brief(text, MAX_TEXT, reshape=_lines, tail=True) or None


def _lines(text: str) -> str:
    """The lines of *text* that say something; a bar that is drawn again and again is one of them."""
    lines = (line.rstrip() if line.isprintable() else printable(line) for line in as_shown(text).split("\n"))
    return "\n".join(filter(None, lines))
