"""The mark on an exception that an inner recoverable call has exhausted its retries."""

from __future__ import annotations

import msgspec

from recovery.subscribers.evidence_extraction import LEVELS, attribute_of

EXHAUSTED_MARK = "__recovery_exhausted_by__"
"""The attribute by which an outer recoverable call sees that an inner one has tried everything."""


class Exhausted(msgspec.Struct, frozen=True):
    """Who has tried everything, and whether another recoverable call was around it then."""

    operation: str
    is_nested: bool


def mark_exhausted(error: Exception, operation: str, *, is_nested: bool = False) -> None:
    """Note on *error* that *operation* has tried everything; best effort, an error may refuse attributes."""
    try:
        setattr(error, EXHAUSTED_MARK, Exhausted(operation, is_nested))
    except Exception:  # a frozen exception stays unmarked
        return


def exhausted_by(error: BaseException, operation: str) -> str | None:
    """Who has marked *error* so that *operation*, which is around it, need not try again; ``None`` for nobody.

    An operation's own mark counts only if it was made inside another call (a function made recoverable twice, a
    recursion): the same exception object may be raised again later by an unrelated call.
    """
    mark = attribute_of(error, EXHAUSTED_MARK)
    if mark is not None and isinstance(mark, Exhausted) and (mark.is_nested or mark.operation != operation):
        return mark.operation
    return None


def cause_exhausted_by(error: BaseException, operation: str) -> str | None:
    """As ``exhausted_by``, of what *error* was explicitly raised from, and so on, as many levels as are looked into."""
    for _ in range(LEVELS):
        cause = attribute_of(error, "__cause__")
        if cause is None or not isinstance(cause, BaseException):
            return None
        if (who := exhausted_by(cause, operation)) is not None:
            return who
        error = cause
    return None
