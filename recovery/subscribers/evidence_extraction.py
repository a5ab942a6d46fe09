"""The evidence that an exception carries, as data.

``recovery.subscribers.answers`` reads what a server answered. All that is foreign is read by way of
``recovery.subscribers.guarded_reading``, which lets nothing out.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeVar  # Any: foreign objects

import msgspec

from events.evidence import Evidence, Remedy, Room
from recovery.policies.error_output import as_shown, without_bars
from recovery.redact import MAX_READ, brief, printable
from recovery.subscribers.answers import READ, code_of, status_and_headers, wait_of
from recovery.subscribers.guarded_reading import attribute_of, is_exception, items_of, whole_number

S = TypeVar("S", bound=msgspec.Struct)

MAX_TEXT = 4096
"""Characters of a message, or of an error output, that are kept."""

MAX_HEAD = 1024
"""Characters of these that are kept of the beginning of a long error output."""

MAX_BYTES = 5 * MAX_READ
"""Bytes of an error output that are decoded: more than ``MAX_READ`` characters, so that the cut is known of."""

OWN_NUMBERS = frozenset({"ssl.SSLError", "socket.gaierror", "socket.herror"})
"""OSErrors whose errno is a number of another library, not of the system."""

LOOKED_FOR = READ | {
    "args", "bytes_done", "errors", "exit_code", "exit_status", "output", "partial", "reason", "remedy", "returncode",
    "room", "__cause__", "__context__", "__dict__", "__getattr__", "__getattribute__",
}  # fmt: skip
"""The attributes of exceptions that are read, and those by which a class may compute them."""

PLAIN_TEXT = (BaseException.__str__, OSError.__str__)
"""How an error with a text as its only argument tells that text."""

PLAIN_REDUCE = (BaseException.__reduce__, OSError.__reduce__)
"""How an error tells whether it has attributes, without making a dictionary for them."""

LEVELS = 4
"""How many levels of causes are extracted."""

MAX_NAME = 512
"""Characters of the name of a class that are kept."""


def extract_evidence(error: BaseException, *, depth: int = LEVELS) -> Evidence:
    """The evidence that an exception carries: its type, message, errno, HTTP status, exit code, error output, cause.

    Raises nothing, even where reading an attribute of the exception raises: then the type and the message are left.

    Args:
        error: The exception.
        depth: How many levels of causes are extracted.
    """
    try:
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
        if kind.has_errno:
            number = error.errno if kind.is_builtin else attribute_of(error, "errno")  # type: ignore[attr-defined]
            errno = None if number is None else whole_number(number)
        if is_bare or kind.is_builtin:
            return Evidence(type=kind.name, kinds=kind.bases, message=_text(error), errno=errno, cause=cause)
        return _with_attributes(error, kind, errno, cause)
    except Exception:  # a lie that is not known yet
        return _bare(error)


def is_plain(error: Exception) -> bool:
    """Whether class and text are all the evidence of *error*: no attribute, no cause, no number, one text or none.

    The compiled failure path asks the same of each error of a class that it knows (``has_plain_class``), in line.
    """
    try:
        if not has_plain_class(error) or error.__dict__ or error.__cause__ is not None or len(error.args) > 1:
            return False
        return getattr(error, "errno", None) is None and type(error.args[0] if error.args else "") is str
    except Exception:
        return False


def has_plain_class(error: Exception) -> bool:
    """Whether nothing in the class of *error* computes its evidence."""
    kind: Any = type(error)
    return _kind_of(kind).is_bare and kind.__str__ in PLAIN_TEXT and kind.__reduce__ in PLAIN_REDUCE


def _with_attributes(error: BaseException, kind: _Kind, errno: int | None, cause: Evidence | None) -> Evidence:
    status, headers = status_and_headers(error)
    exit_code, stderr = _exit(error, status)
    return Evidence(
        type=kind.name,
        kinds=kind.bases,
        message=_text(error),
        errno=errno,
        cause=cause,
        status=status,
        code=code_of(error, status, headers),
        retry_after=wait_of(error, status, headers),
        exit_code=exit_code,
        stderr=stderr,
        bytes_done=_bytes_done(error),
        room=_held(error, "room", Room) if kind.has_errno else None,
    )


def _bare(error: BaseException) -> Evidence:
    """The type and the message alone; its bases, too, where its class tells them."""
    try:
        own = [_name(base) for base in type.mro(type(error)) if base not in (Exception, BaseException, object)]
        return Evidence(type=own[0], kinds=tuple(own[1:]), message=_text(error))
    except Exception:
        return Evidence(type="builtins.Exception", message=_text(error))


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


def remedy_of(error: BaseException) -> Remedy | None:
    """The attribute ``remedy`` of an exception; ``None`` unless it is a ``Remedy`` with texts."""
    return _held(error, "remedy", Remedy)


def _held(error: BaseException, name: str, kind: type[S]) -> S | None:
    """The attribute *name* of an exception; ``None`` unless it is of that *kind*, and its fields are of theirs."""
    held = attribute_of(error, name)
    try:
        return msgspec.convert(msgspec.to_builtins(held), kind) if type(held) is kind else None
    except Exception:  # a field that is none of its type: the failure is journalled all the same
        return None


EXCEPTIONS: Any = BaseExceptionGroup.exceptions
"""The members of a group, past a subclass that defines an attribute of that name."""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """*error* itself, or every exception of a group that is no group."""
    left = [error]
    while left:
        one = left.pop()
        if issubclass(type(one), BaseExceptionGroup):  # not isinstance, which asks __class__
            left.extend(reversed(EXCEPTIONS.__get__(one)))
        else:
            yield one


def _name(kind: type) -> str:
    name = f"{kind.__module__}.{kind.__qualname__}"
    return name if name.isprintable() and len(name) <= MAX_NAME else printable(name)[:MAX_NAME]


def _cause(error: BaseException, *, is_outermost: bool, is_bare: bool) -> BaseException | None:
    """The cause of *error*: its ``__cause__``, or the ``reason`` or argument in the errors of HTTP clients.

    The ``__context__`` of the outermost error need not be its cause; further in, within one library, it is (httpx2's
    errors hold TLS errors that way).
    """
    if not (is_bare and is_outermost and error.__cause__ is None):
        for name in ("__cause__", "reason") if is_outermost else ("__cause__", "__context__", "reason"):
            came_from = attribute_of(error, name)
            if is_exception(came_from):
                return came_from
    args = error.args if is_bare else attribute_of(error, "args")  # requests and urllib3 hold their cause there
    errors = () if is_bare else items_of(attribute_of(error, "errors"))  # elastic_transport, google, paramiko
    for one in (*items_of(args), *errors):
        if is_exception(one):
            return None if issubclass(type(error), BaseExceptionGroup) else one
    return None


def _text(error: BaseException) -> str:
    try:
        return message_of(str(error))
    except Exception:  # a hostile __str__ must not hide the failure
        return "(its message cannot be read)"


def message_of(text: str) -> str:
    """*text* as evidence holds it."""
    if type(text) is not str:
        text = str.__str__(text)  # a plain str, not a subclass
    if len(text) <= MAX_TEXT and text.isprintable():
        return text
    return brief(text, MAX_TEXT)


def _exit(error: BaseException, status: int | None) -> tuple[int | None, str | None]:
    """The exit code of a process, and what it said: of an error with an error output, a status is an exit code."""
    every = (whole_number(attribute_of(error, name)) for name in ("returncode", "exit_status", "exit_code"))
    code = next((one for one in every if one is not None), None)
    stderr = _output(attribute_of(error, "stderr"))
    if code is None and stderr and status is None:
        code = whole_number(attribute_of(error, "status"))  # GitPython
    return code, stderr or _output(attribute_of(error, "output"))


def _bytes_done(error: BaseException) -> int | None:
    """The bytes that a transfer got: ``bytes_done``, or the ``partial`` of incomplete reads (in urllib3 a number)."""
    done = whole_number(attribute_of(error, "bytes_done"))
    if done is not None:
        return done
    partial = attribute_of(error, "partial")
    return len(partial) if type(partial) in (bytes, bytearray) else whole_number(partial)


def _output(value: Any) -> str | None:
    """What a process said, as a terminal shows it; of a long output its beginning and its end, without bars."""
    kind = type(value)
    if issubclass(kind, str):
        text = str.__str__(value)
    elif issubclass(kind, bytes):
        value = bytes.__getitem__(value, slice(None))
        if len(value) > 2 * MAX_BYTES:
            value = value[:MAX_BYTES] + b"\n" + value[-MAX_BYTES:]
        text = value.decode("utf-8", "replace")
    else:
        return None
    tail = brief(text, MAX_READ, reshape=_lines, tail=True)
    if len(tail) <= MAX_TEXT and len(text) <= MAX_READ:
        return tail or None
    tail = without_bars(tail)
    if len(tail) <= MAX_TEXT and len(text) <= MAX_READ:
        return tail or None
    head = without_bars(brief(text, MAX_READ, reshape=_lines))
    if len(head) > MAX_HEAD:
        head = head[:MAX_HEAD].rpartition("\n")[0]  # whole lines
    return f"{head}\n{tail[len(head) + 1 - MAX_TEXT :]}" if head else tail[-MAX_TEXT:]


def _lines(text: str) -> str:
    """The lines of *text* that say something; a bar that is drawn again and again is one of them."""
    lines = (line.rstrip() if line.isprintable() else printable(line) for line in as_shown(text).split("\n"))
    return "\n".join(filter(None, lines))
