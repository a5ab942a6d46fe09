"""The mark on an exception whose retries an inner recoverable call has exhausted."""

from __future__ import annotations

from recovery.subscribers.guarded_reading import attribute_of, is_exception

EXHAUSTED_MARK = "__recovery_exhausted_by__"
"""The attribute that tells an outer recoverable call that an inner call has exhausted its retries.

It holds the operation whose call gave up, and whether another recoverable call was around that call: plain builtins, so
that the exception can be unpickled where this library is not installed.
"""


def mark_exhausted(error: BaseException, operation: str, *, is_nested: bool = False) -> None:
    """Mark *error*: *operation* has exhausted its retries. An error that refuses attributes stays unmarked."""
    try:
        setattr(error, EXHAUSTED_MARK, (operation, is_nested))
    except Exception:  # a frozen exception, say
        return


def mark_nested(error: BaseException) -> None:
    """Note that a caller of the call that marked *error* is inside another recoverable call."""
    mark = attribute_of(error, EXHAUSTED_MARK)
    if type(mark) is tuple and len(mark) == 2 and issubclass(type(error), Exception) and not mark[1]:
        mark_exhausted(error, str(mark[0]), is_nested=True)


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
    if type(mark) is tuple and len(mark) == 2 and (mark[1] or mark[0] != operation):  # not isinstance: it may lie
        return str(mark[0])
    cause = attribute_of(error, "__cause__") if levels else None
    return exhausted_by(cause, operation, levels=levels - 1) if cause is not None and is_exception(cause) else None
