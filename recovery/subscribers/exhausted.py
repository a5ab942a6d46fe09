"""The mark on an exception whose retries an inner recoverable call has exhausted."""

from __future__ import annotations

from recovery.subscribers.evidence_extraction import attribute_of

EXHAUSTED_MARK = "__recovery_exhausted_by__"
"""The attribute that tells an outer recoverable call that an inner call has exhausted its retries.

It holds the operation whose call gave up, and whether another recoverable call was around that call: plain builtins, so
that the exception can be unpickled where this library is not installed.
"""


def mark_exhausted(error: Exception, operation: str, *, is_nested: bool = False) -> None:
    """Mark *error*: *operation* has exhausted its retries. An error that refuses attributes stays unmarked."""
    try:
        setattr(error, EXHAUSTED_MARK, (operation, is_nested))
    except Exception:  # a frozen exception, say
        return


def mark_nested(error: BaseException) -> None:
    """Note that a caller of the call that marked *error* is inside another recoverable call."""
    match attribute_of(error, EXHAUSTED_MARK):
        case tuple((str(operation), False)) if isinstance(error, Exception):
            mark_exhausted(error, operation, is_nested=True)


def exhausted_by(error: BaseException, operation: str, *, levels: int = 0) -> str | None:
    """The name of the inner operation that has exhausted the retries of *error*, ``None`` if there is none.

    The mark of *operation* itself counts only if it was made inside another call (a function made recoverable twice, a
    recursion): an unrelated call may raise the same exception object again later.

    Args:
        error: The exception.
        operation: The name of the operation that asks.
        levels: How many levels of explicit causes may bear the mark, too.
    """
    match attribute_of(error, EXHAUSTED_MARK):
        case tuple((str(inner), bool(is_nested))) if is_nested or inner != operation:
            return inner
    cause = attribute_of(error, "__cause__") if levels else None
    return exhausted_by(cause, operation, levels=levels - 1) if isinstance(cause, BaseException) else None
