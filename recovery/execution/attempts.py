"""How a call begins, and what its caller gets when it ends badly."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from events.attempt import Attempt
from events.call import Call
from events.errors import RecoveryError
from events.names import display_name
from events.operation import Operation
from events.operation_events import GaveUp, OperationCancelled, OperationInterrupted
from events.runner_api import give_up, reject
from events.verdicts import GiveUp, Verdict
from recovery.execution.nesting import is_nested
from recovery.explain import Explanation, counted, explain, shown
from recovery.operations import Definition
from recovery.redact import redact
from recovery.serialization import encoded_or_none
from recovery.subscribers.exhausted import mark_exhausted

NOT_RESUMABLE = "a call is not resumable, its arguments are not plain data"


def begin(operation: Operation) -> Attempt:
    """The first attempt of a new call, which begins now."""
    bus = operation.bus
    return Attempt(Call(operation, bus.new_call_id(), bus.clock()))


def begin_with(definition: Definition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Attempt:
    """As ``begin``, with what the config of the operation makes of the arguments: key, idempotency key, JSON."""
    config = definition.config
    operation = definition.operation if config.key is None else definition.keyed(str(config.key(*args, **kwargs)))
    bus = operation.bus
    call = Call(operation, bus.new_call_id(), bus.clock(), version=config.version)
    if config.idempotency_key is not None:
        call.idempotency_key = str(config.idempotency_key(*args, **kwargs))
        definition.warn_of_secret("idempotency_key", call.idempotency_key)
    if config.resumable:
        call.arguments = encoded_or_none([list(args), kwargs], functools.partial(definition.warn_once, NOT_RESUMABLE))
    return Attempt(call)


def cancel_first(operation: Operation) -> None:
    """Publish that a call was cancelled in its first attempt, which the fast path ran without a call."""
    Call(operation, operation.bus.new_call_id()).publish(OperationCancelled, 1)


def end_unstarted(attempt: Attempt, verdict: GiveUp, error: Exception | None, *, stays_pending: bool) -> Exception:
    """End a call before *attempt* begins; what to raise.

    Args:
        attempt: The attempt that must not begin.
        verdict: Why.
        error: What the attempt before it raised, in this process.
        stays_pending: Whether a call that was resumed is left to the next process.
    """
    call = attempt.call
    if call.is_resumed and stays_pending:
        call.publish(OperationInterrupted, attempt.number)
        return RecoveryError(f"{call.operation.name}: call {call.id} stays pending: {verdict.reason}")
    if error is None and not call.has_failed:
        return reject(attempt, verdict)
    give_up(attempt, verdict)
    if error is None:
        return RecoveryError(f"{call.operation.name}: call {call.id} is not resumed: {verdict.reason}")
    return noted(error, call, max(attempt.number - 1, 1), verdict)


def noted(
    error: Exception,
    call: Call,
    attempts: int,
    verdict: Verdict | None,
    function: object = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Exception:
    """*error*, marked as exhausted, with notes (PEP 678): what it means, how often it was tried, which call it was.

    Args:
        error: The exception that the caller gets.
        call: The call that gave up.
        attempts: How many attempts were made.
        verdict: Why there is no further one.
        function: What was called, with *args* and *kwargs*: they tell the call from others.
        args: Its arguments by position.
        kwargs: Its arguments by name.
    """
    operation = call.operation
    mark_exhausted(error, operation.name, is_nested=is_nested())
    about = f"recovery: {display_name(operation.name, operation.key)} "
    kinds = tuple(about + kind for kind in ("gave up after", "call ", "said: "))
    try:
        reason = verdict.reason if isinstance(verdict, GiveUp) else ""
        event = GaveUp(
            at=0.0,
            operation=operation.name,
            call=call.id,
            failure=call.failure,
            idempotency_key=call.idempotency_key,
        )
        rest, named = _named(function, args)
        named |= kwargs or {}
        told = explain(event, args=rest, kwargs=named, arguments=None if rest or named else call.arguments)
        # The same object may be raised again and again: its notes must not pile up.
        notes = [note for note in getattr(error, "__notes__", ()) if not str(note).startswith(kinds)]
        error.__notes__ = notes + [
            redact(f"{kind}{text}")
            for kind, text in zip(kinds, _texts_of_notes(told, attempts, reason), strict=True)
            if text
        ]
    except Exception:  # an error that refuses attributes goes without
        pass
    return error


def _texts_of_notes(told: Explanation, attempts: int, reason: str) -> tuple[str, str, str]:
    """What the notes say after "gave up after", "call" and "said:"; "" for nothing."""
    says_category = reason.split(" (")[0] == told.category
    why = "" if says_category or not reason else f", {shown(reason)}"
    category = f" ({told.category})" if told.category else ""
    which = f" ({told.which})" if told.which else ""
    return f" {counted(attempts, 'attempt')}{why}: {told.sentence}{category}", f"{told.call}{which}", told.said


def _named(function: object, args: Sequence[Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    """*args* by the names of the parameters of *function*, and the rest: the name of a secret gives it away."""
    code = getattr(function, "__code__", None)
    names = () if code is None else code.co_varnames[: code.co_argcount]
    return args[len(names) :], dict(zip(names, args, strict=False))
