"""Steps of a call that only a runner takes: park, interrupt, give up, reject, publish what came of a failure."""

from __future__ import annotations

from events.attempt import UNANSWERED, Attempt, conclude, end, publish_outcome
from events.call import Call
from events.errors import CallRejectedError
from events.event import FOREVER
from events.names import display_name
from events.operation_events import CallRejected, FailureClassified, OperationFailed, OperationInterrupted, Parked
from events.ready import Ready
from events.verdicts import GiveUp, Park, Retry, Verdict


def retry_of(attempt: Attempt) -> Retry:
    """The Retry that came of the failure of *attempt*, until the attempt after it is made.

    Raises:
        RuntimeError: *attempt* did not fail with a Retry, or has a next attempt already.
    """
    verdict = attempt._verdict
    if isinstance(verdict, Retry):
        return verdict
    raise RuntimeError(f"attempt {attempt.number} of {attempt.call.id} does not wait for a retry")


def begun(call: Call, number: int, waited: float) -> Attempt:
    """Attempt *number* of *call*, which has begun without events."""
    attempt = Attempt(call, number, waited)
    attempt._is_started = True
    return attempt


def failed(call: Call, number: int, waited: float, verdict: Retry) -> Attempt:
    """Attempt *number* of *call*, whose failure was answered with *verdict* without events."""
    call.has_failed = True
    attempt = begun(call, number, waited)
    attempt.is_ended, attempt._verdict = True, verdict
    return attempt


def answer(attempt: Attempt, event: OperationFailed | FailureClassified, to: Ready) -> Verdict:
    """Publish *event*, of the failure of *attempt*, to the subscribers *to*; the answer is that of ``Attempt.fail``."""
    attempt._verdict = UNANSWERED
    attempt.is_ended = attempt._is_started = attempt.call.has_failed = True
    return conclude(attempt, event.at, *attempt.call.operation.bus.cascade(event, to=to))


def park(attempt: Attempt, deferred: Verdict) -> None:
    """Publish that *attempt* is deferred before it begins."""
    why, within = (deferred.why, deferred.within) if isinstance(deferred, Park) else ("", FOREVER)
    after = min(deferred.after or 0.0, FOREVER)
    key, attempt.began = attempt.call.idempotency_key, attempt.call.began  # its next request says when it begins
    attempt.call.publish(Parked, attempt.number, after=after, within=min(within, FOREVER), why=why, idempotency_key=key)


def interrupt(attempt: Attempt) -> Attempt:
    """*attempt* is cut off by its caller: publish that, and return the same attempt to be made again, not begun.

    It charges no retry.
    """
    call, attempt.is_ended = attempt.call, True
    if attempt._is_started:
        call.has_failed = True  # it may have had its effect
        call.publish(OperationInterrupted, attempt.number)
    if call.progress is not None:
        call.progress.restart()
    return Attempt(call, attempt.number, attempt.waited)


def give_up(attempt: Attempt, verdict: GiveUp) -> None:
    """End a call for good without this attempt; the caller's error is that of the latest failure.

    Raises:
        RuntimeError: The attempt has ended already.
    """
    end(attempt)
    publish_outcome(attempt.call, max(attempt.number - 1, 1), verdict)


def reject(attempt: Attempt, deferred: Verdict) -> CallRejectedError:
    """End a call before its first attempt; the error to raise says why, and when a new call may be welcome.

    Raises:
        RuntimeError: The attempt has ended already.
    """
    end(attempt)
    match deferred:
        case GiveUp():
            reason = deferred.reason
        case Park() if deferred.until:
            reason = deferred.why
        case _:
            reason = "deferred"
    operation = attempt.call.operation
    retry_after = None if deferred.after is None else min(deferred.after, FOREVER)
    attempt.call.publish(CallRejected, attempt.number, reason=reason, retry_after=retry_after)
    return CallRejectedError(display_name(operation.name, operation.key), reason, deferred.after)
