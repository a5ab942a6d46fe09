"""How a call ended badly, to read in code: ``outcome_of`` the exception that its caller got.

The exception carries plain builtins in one attribute, so that it pickles, and loads where this library is missing.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from events.errors import CallRejectedError, is_a
from events.evidence import Category
from events.verdicts import OUT_OF_TIME, GiveUp, Verdict

OUTCOME = "__recovery_outcome__"
"""The attribute of the exception."""

OutcomeKind: TypeAlias = Literal["exhausted", "out of time", "permanent", "rejected", "stopped"]
"""Why there was no further attempt.

"exhausted": the retries, or the budget, allow none. "out of time": ``max_elapsed`` or ``wait_timeout`` would have
passed. "permanent": the category of the failure says that a retry cannot help. "rejected": the next attempt (of a new
call: the first one) was turned away, by an open circuit as a rule. "stopped": a subscriber, a command or the operation
itself ended it.
"""

KINDS: tuple[str, ...] = get_args(OutcomeKind)

EXHAUSTED_REASONS = ("out of retries", "retry budget exhausted")
"""How the reasons of the policy and of the budget begin."""

BY_HAND = "given up by hand"
"""How the reason of a command begins."""


class CallOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a call ended that its caller got an exception from.

    Args:
        kind: Why there was no further attempt; see ``OutcomeKind``.
        attempts: How many attempts were made; 0 for a call that was rejected before its first.
        elapsed: Seconds since the call began, waits included. A function whose calls succeed at the first attempt reads
            no clock (no ``key``, no ``max_elapsed``, not resumable): there it is since the first failure.
        reason: The same as *kind* in words, with its figures.
        category: The category of the last failure; None if there was none, or it was not classified.
        operation: The operation's name.
        key: Its key; "" for none.
        call: The id of the call; "" where a call was rejected by code that has no id of it.
    """

    kind: OutcomeKind
    attempts: int
    elapsed: float = 0.0
    reason: str = ""
    category: Category | None = None
    operation: str = ""
    key: str = ""
    call: str = ""


def outcome_of(error: BaseException) -> CallOutcome | None:
    """How the call ended that raised *error*; ``None`` for an exception that no recoverable call ended with.

        try:
            fetch(url)
        except OSError as error:
            outcome = outcome_of(error)
            if outcome and outcome.kind == "out of time": ...

    An exception that several calls let pass (an inner one and an outer one) tells of the outermost. The answer
    survives pickling.
    """
    found = _attribute(error)
    if isinstance(found, dict):
        try:
            return msgspec.convert(found, CallOutcome)
        except (msgspec.ValidationError, TypeError):  # an attribute of that name that is not ours
            return None
    if is_a(error, CallRejectedError):
        return CallOutcome(kind="rejected", attempts=0, reason=str(error.reason), operation=str(error.operation))
    return None


def note_outcome(error: BaseException, outcome: CallOutcome) -> None:
    """Write *outcome* on *error*, past a ``__setattr__`` that refuses (a frozen dataclass)."""
    with suppress(Exception):  # a property of that name
        BaseException.__setattr__(error, OUTCOME, msgspec.to_builtins(outcome))


def kind_of(verdict: Verdict | None, category: Category | None, *, turned_away: bool = False) -> OutcomeKind:
    """The kind of the end that *verdict* decided.

    Args:
        verdict: Why there is no further attempt.
        category: The category of the last failure.
        turned_away: Whether the next attempt was ready, and not let begin.
    """
    reasons = verdict.reasons if isinstance(verdict, GiveUp) else ()
    if OUT_OF_TIME in reasons:
        return "out of time"
    if category == Category.EXHAUSTED:  # an inner call has tried
        return "exhausted"
    for reason in reasons:
        if reason.startswith(EXHAUSTED_REASONS):
            return "exhausted"
        if category is not None and (reason == category or reason.startswith(f"{category} (")):
            return "permanent"
        if reason.startswith(BY_HAND):
            return "stopped"
    return "rejected" if turned_away else "stopped"


def _attribute(error: BaseException) -> Any:
    try:
        return BaseException.__getattribute__(error, OUTCOME)
    except Exception:
        return None
