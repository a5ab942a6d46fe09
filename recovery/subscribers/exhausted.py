"""The mark on an exception whose retries an inner recoverable call has exhausted."""

from __future__ import annotations

import msgspec

from recovery.subscribers.guarded_reading import attribute_of, is_exception

EXHAUSTED_MARK = "__recovery_exhausted_by__"
"""The attribute that tells an outer recoverable call that an inner call has exhausted its retries."""


class Exhausted(msgspec.Struct, frozen=True):
    """What the mark tells.

    Args:
        operation: The name of the operation whose call gave up.
        is_nested: Whether another recoverable call was around that call.
    """

    operation: str
    is_nested: bool


def mark_exhausted(error: BaseException, operation: str, *, is_nested: bool = False) -> None:
    """Mark *error*: *operation* has exhausted its retries. An error that refuses attributes stays unmarked."""
    try:
        setattr(error, EXHAUSTED_MARK, Exhausted(operation, is_nested))
    except Exception:  # a frozen exception, say
        return


def mark_nested(error: BaseException) -> None:
    """Note that a caller of the call that marked *error* is inside another recoverable call."""
    mark = attribute_of(error, EXHAUSTED_MARK)
    if type(mark) is Exhausted and issubclass(type(error), Exception) and not mark.is_nested:
        mark_exhausted(error, mark.operation, is_nested=True)


def exhausted_by(error: BaseException, operation: str, *, levels: int = 0) -> str | None:
    """The name of the inner operation that has exhausted the retries of *error*, ``None`` if there is none.

    The mark of *operation* itself counts only if it was made inside another call (a function made recoverable twice, a
    recursion): an unrelated call may raise the same exception object again later.

    Args:
        error: The exception.
        operation: The name of the operation that asks.
        levels: How many levels of explicit causes may bear the mark, too.
    """
    try:
        mark = getattr(error, EXHAUSTED_MARK, None)  # as attribute_of, without the call: every failure comes by
    except Exception:
        mark = None
    if type(mark) is Exhausted and (mark.is_nested or mark.operation != operation):
        return mark.operation
    cause = attribute_of(error, "__cause__") if levels else None
    return exhausted_by(cause, operation, levels=levels - 1) if cause is not None and is_exception(cause) else None
