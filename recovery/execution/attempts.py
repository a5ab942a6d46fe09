"""How a call begins, and what its caller gets when it ends badly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from events.attempt import Attempt
from events.call import Call
from events.errors import CallCancelledError, RecoveryError, StaysPendingError, is_a
from events.evidence import Category
from events.operation_events import GaveUp, OperationCancelled, OperationInterrupted
from events.runner_api import give_up, interrupt, reject
from events.verdicts import GiveUp, Verdict
from recovery.call_stack import is_nested
from recovery.explain import Explanation, counted, explain, shown
from recovery.joining.shared_call import identity_of
from recovery.outcome import CallOutcome, kind_of, note_outcome
from recovery.subscribers.exhausted import mark_exhausted
from recovery.waiting.live import AttemptCancelledError

if TYPE_CHECKING:
    from events.operation import Operation
    from recovery.joining.continuation import Former
    from recovery.joining.shared_call import Identity
    from recovery.operations import Definition
    from recovery.serialization.arguments import ArgumentCodec
    from recovery.settings import OperationConfig

DECLINED = frozenset({Category.AUTH, Category.PERMANENT})
"""Categories of failures that a call declines to retry: it exhausts nothing by that."""

NOT_RESUMABLE = "a call is not resumable"
NOT_RESUMABLE_NOR_JOINED = "a call is not resumable, and no equal call can join it"


def begin(operation: Operation) -> Attempt:
    """The first attempt of a new call, which begins now."""
    bus = operation.bus
    return Attempt(Call(operation, bus.new_call_id(), bus.clock()))


class Request(msgspec.Struct, gc=False):
    """What the config of an operation makes of a call's arguments, before the call exists.

    Args:
        operation: The operation of its key.
        args: Its positional arguments; likewise *kwargs*.
        idempotency_key: Its idempotency key; "" for none.
        arguments: Its arguments as JSON; ``None`` if they are not journalled.
        identity: What equal calls have in common; ``None`` for a call that none can join.
        former: The ended call that is run again by it; ``None`` for none.
    """

    operation: Operation
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    idempotency_key: str = ""
    arguments: bytes | None = None
    identity: Identity | None = None
    former: Former | None = None

    def begin(self, version: str) -> Attempt:
        """The first attempt of a new call, which begins now."""
        bus = self.operation.bus
        call = Call(
            self.operation,
            bus.new_call_id(),
            bus.clock(),
            version=version,
            idempotency_key=self.idempotency_key,
            arguments=self.arguments,
        )
        if self.former is not None:
            self.former.begin(call)
        return Attempt(call)


def begin_with(
    definition: Definition, config: OperationConfig, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Attempt:
    """As ``begin``, with the key and the version that *config* declares."""
    operation = definition.operation if config.key is None else definition.keyed(str(config.key(*args, **kwargs)))
    bus = operation.bus
    return Attempt(Call(operation, bus.new_call_id(), bus.clock(), version=config.version))


def request(
    definition: Definition,
    config: OperationConfig,
    codec: ArgumentCodec,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Request:
    """The keys, the JSON and the identity of a call with these arguments. A key function's error passes."""
    operation = definition.operation if config.key is None else definition.keyed(str(config.key(*args, **kwargs)))
    made = Request(operation, args, kwargs)
    if config.idempotency_key is not None:
        key = config.idempotency_key(*args, **kwargs)
        if key is None:  # a forgotten return would make all calls equal
            name = definition.operation.name
            raise TypeError(
                f"{name} was not started: its idempotency_key returned None; return a text, or '' for no key"
            )
        made.idempotency_key = str(key)
        definition.warn_of_secret("idempotency_key", made.idempotency_key)
    if config.resumable:
        try:
            made.arguments = codec.encoded(args, kwargs)
        except ValueError as error:
            what = NOT_RESUMABLE if config.join is False else NOT_RESUMABLE_NOR_JOINED
            definition.warn_once(what, str(error), per_reason=True)
    if made.arguments is not None or made.idempotency_key:
        made.identity = identity_of(definition, codec, made.idempotency_key, args, kwargs)
    return made


def cancel_first(operation: Operation) -> None:
    """Publish that a call was cancelled in its first attempt, which the fast path ran without a call."""
    Call(operation, operation.bus.new_call_id()).publish(OperationCancelled, 1)


def unless_left(attempt: Attempt, error: Exception) -> Exception:
    """*error*, which the body of *attempt* has raised; raised again if it leaves its call to a later one, or process.

    A body does that by a StaysPendingError that bears its own attempt, which then is made again.
    """
    if is_a(error, StaysPendingError) and error.attempt is attempt:
        error.attempt = interrupt(attempt)
        raise error
    return error


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
        stays = StaysPendingError(f"{call.operation.name}: call {call.id} stays pending: {verdict.reason}")
        stays.attempt = attempt
        return stays
    if error is None and not call.has_failed:
        rejected = reject(attempt, verdict)
        note_end(rejected, call, 0, verdict, turned_away=True)
        return rejected
    give_up(attempt, verdict)
    if error is None:
        not_resumed = RecoveryError(f"{call.operation.name}: call {call.id} is not resumed: {verdict.reason}")
        note_end(not_resumed, call, max(attempt.number - 1, 1), verdict, turned_away=True)
        return not_resumed
    return noted(error, call, max(attempt.number - 1, 1), verdict, turned_away=True)


def cancelled(attempt: Attempt, error: Exception | None) -> Exception:
    """End a call that was cancelled by its id; what to raise.

    Args:
        attempt: The attempt that has ended, or must not begin.
        error: What the attempt has raised since; what the function itself has raised passes as it is.
    """
    call = attempt.call
    attempt.cancel()
    if error is not None and type(error) is not AttemptCancelledError:
        return error
    reason = f": {call.cancelled}" if call.cancelled else ""
    return CallCancelledError(f"{call.operation.name}: call {call.id} was cancelled by hand{reason}")


def note_end(error: Exception, call: Call, attempts: int, verdict: Verdict | None, *, turned_away: bool) -> None:
    """Write on *error* how *call* has ended, for ``recovery.outcome_of``."""
    operation, category = call.operation, None if call.failure is None else call.failure.category
    outcome = CallOutcome(
        kind=kind_of(verdict, category, turned_away=turned_away),
        attempts=attempts,
        elapsed=call.elapsed(operation.bus.clock()),
        reason=verdict.reason if isinstance(verdict, GiveUp) else "",
        category=category,
        operation=operation.name,
        key=operation.key,
        call=call.id,
    )
    note_outcome(error, outcome)


def noted(
    error: Exception,
    call: Call,
    attempts: int,
    verdict: Verdict | None,
    function: object = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    config: OperationConfig | None = None,
    *,
    turned_away: bool = False,
) -> Exception:
    """*error*, with notes (PEP 678): what it means, how often it was tried, which call it was.

    It is marked as exhausted, unless the call declined to retry it: an outer call, with other rules, may retry it then.

    Args:
        error: The exception that the caller gets.
        call: The call that gave up.
        attempts: How many attempts were made.
        verdict: Why there is no further one.
        function: What was called, with *args* and *kwargs*: they tell the call from others.
        args: Its arguments by position.
        kwargs: Its arguments by name.
        config: How the call decided; ``None`` if a limit ended it.
        turned_away: Whether the next attempt was ready, and not let begin.
    """
    operation = call.operation
    if call.failure is not None and call.failure.category is Category.CANCELLED:
        return error  # no failure: it passes untouched
    note_end(error, call, attempts, verdict, turned_away=turned_away)
    category = None if config is None or call.failure is None else call.failure.category
    if config is None or category not in DECLINED or not config.may_repeat:
        mark_exhausted(error, operation.name, is_nested=is_nested())
    try:
        event = call.failure or GaveUp(at=0.0, operation=operation.name, key=operation.key, call=call.id)
        rest, named = _named(function, args)
        named |= kwargs or {}
        stored = None if rest or named else call.arguments
        told = explain(event, idempotency_key=call.idempotency_key, args=rest, kwargs=named, arguments=stored)
        reason = verdict.reason if isinstance(verdict, GiveUp) else ""
        new = {
            "gave up after ": _ending(told, attempts, reason),
            "call ": f"{told.call} ({told.which})" if told.which else told.call,
            "said: ": told.said,
            "remedy: ": told.asked,
        }
        about = f"recovery: {told.operation} "
        # The same object may be raised again and again: its notes must not pile up.
        old = tuple(about + kind for kind in new)
        known = getattr(error, "__notes__", ())
        noted = known if type(known) is list else ()  # what is no list may have no end
        notes = [note for note in noted if not str(note).startswith(old)]
        error.__notes__ = notes + [f"{about}{kind}{text}" for kind, text in new.items() if text]
    except Exception:  # an error that refuses attributes goes without
        pass
    return error


def _ending(told: Explanation, attempts: int, reason: str) -> str:
    """How often a call was tried, why it was not tried again, and what its failure means."""
    is_told = not reason or reason.split(" (")[0] == told.category
    why = "" if is_told else f", {reason}"
    category = f" ({told.category})" if told.category else ""
    return shown(f"{counted(attempts, 'attempt')}{why}: {told.sentence}{category}")


def _named(function: object, args: Sequence[Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    """*args* by the names of the parameters of *function*, and the rest: the name of a secret gives it away."""
    code = getattr(function, "__code__", None)
    names = () if code is None else code.co_varnames[: code.co_argcount]
    return args[len(names) :], dict(zip(names, args, strict=False))
