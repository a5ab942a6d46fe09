"""One try of a call: publish how it went, and learn what to do next.

Only a failure always builds an event. A start or a success builds one where ``Operation.observed`` says that it has
subscribers.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from events.call import Call, Progress
from events.event import FOREVER, Event
from events.evidence import Category
from events.names import display_name
from events.operation_events import (
    LONG_WAIT,
    CheckpointSaved,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationFailed,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
    Parked,
    ProgressMade,
    RetryScheduled,
)
from events.verdicts import GiveUp, Park, Retry, Verdict

NO_ANSWER = GiveUp("no subscriber answered")

CANCELLED = Category.CANCELLED

UNANSWERED = Retry()
"""The verdict of an attempt while ``fail`` is asking for it."""

_NO_PROGRESS = Progress()


class Attempt(msgspec.Struct, eq=False):
    """One try of a call. End it once, with ``fail``, ``succeed`` or ``cancel``.

    Args:
        call: What all attempts of the call share.
        number: Counts from 1.
        waited: Seconds that a policy made the call wait before this attempt.
        is_ended: Whether it has failed, succeeded or been cancelled.
        began: When it began, on the bus's clock; None for a first one that was not deferred (``Call.began``).
    """

    call: Call
    number: int = 1
    waited: float = 0.0
    _is_started: bool = False
    is_ended: bool = False
    _verdict: Verdict | None = None  # what ``fail`` answered, until the next attempt is made
    began: float | None = None

    def __repr__(self) -> str:
        operation = self.call.operation
        state = "ended" if self.is_ended else "begun" if self._is_started else "not begun"
        return (
            f"<Attempt {self.number} of call {self.call.id} of {display_name(operation.name, operation.key)}: {state}>"
        )

    def fail(self, error: Exception, retryable: bool | None = None) -> Verdict:
        """Publish what the attempt raised; the answer says what to do now. Takes microseconds and never waits.

        Without a subscriber that answers, the answer is GiveUp.

        Args:
            error: What it raised.
            retryable: Whether the caller knows that a retry may help, or cannot; None leaves that to the rules.

        Raises:
            RuntimeError: The attempt has ended already.
            TypeError: *error* is no Exception. A cancellation is not a failure.
        """
        if not isinstance(error, Exception):
            raise TypeError(f"an attempt fails with an Exception, not with {error!r}; cancel() it instead")
        if self.is_ended and self._verdict is not UNANSWERED:
            end(self)
        call = self.call
        self._verdict = UNANSWERED  # first: an interruption from here on cancels the call
        self.is_ended = self._is_started = call.has_failed = True
        operation, bus = call.operation, call.operation.bus
        now = bus.clock()
        began = call.began if self.began is None and self.number == 1 else self.began
        if call.began is None:
            call.began = now
        progress = call.progress or _NO_PROGRESS
        failed = OperationFailed(
            at=now,
            operation=operation.name,
            key=operation.key,
            call=call.id,
            attempt=self.number,
            error=error,
            retryable=retryable,
            retries=call.retries,
            elapsed=call.elapsed(now) if bus.stops else now - call.began,
            waited=self.waited,
            progressed=progress.progressed,
            done=progress.done,
            progress_resets=progress.resets,
            began=began,
        )
        return conclude(self, now, *bus.cascade(failed))

    def next(self) -> Attempt:
        """The attempt after this one, begun. Call it once the wait that ``fail`` asked for is over.

        It begins even where a circuit is open: code by hand has chosen to go on.

        Raises:
            RuntimeError: This attempt did not fail with a Retry or a Park, or has a next attempt already.
        """
        following = next_attempt(self)
        request_start(following)
        return following

    def succeed(self) -> None:
        """Publish that the attempt returned.

        Raises:
            RuntimeError: The attempt has ended already.
        """
        if self.is_ended and self._verdict is not UNANSWERED:
            end(self)
        self.is_ended, self._verdict = True, UNANSWERED
        call, operation = self.call, self.call.operation
        bus = operation.bus
        recovered = succeeded = None
        if call.has_failed and bus.has_subscribers(OperationRecovered, operation.name, operation.key):
            now = bus.clock()
            recovered = OperationRecovered(
                at=now,
                operation=operation.name,
                key=operation.key,
                call=call.id,
                attempt=self.number,
                elapsed=call.elapsed(now) if bus.stops or call.began is None else now - call.began,
                recorded=call.recorded,
                lag=call.lag,
            )
        if operation.observed.is_on and bus.has_subscribers(OperationSucceeded, operation.name, operation.key):
            succeeded = OperationSucceeded(
                at=bus.clock(),
                operation=operation.name,
                key=operation.key,
                call=call.id,
                attempt=self.number,
                recovered=call.has_failed,
                recorded=call.recorded,
            )
        self._verdict, call.is_over = None, True
        operation.successes += 1
        try:
            if recovered is not None:
                bus.cascade(recovered)
        finally:  # an interruption is raised when every subscriber knows the end
            if succeeded is not None:
                bus.cascade(succeeded)

    def cancel(self) -> None:
        """Publish that the call was cancelled, in this attempt or the wait after it, unless it has ended."""
        if self.call.is_over or (self.is_ended and self._verdict is None):
            return
        is_waiting = self.is_ended or not self._is_started
        self.is_ended = True
        self._verdict = None
        self.call.publish(OperationCancelled, self.number, waiting=is_waiting)

    def checkpoint(self, data: bytes) -> None:
        """Save how far the call has come, as JSON: later attempts find it in ``call.saved``, also after a restart.

        Does nothing once the attempt has ended: a late thread must not overwrite the checkpoint of a newer attempt.
        """
        if not self.is_ended:
            self.call.saved = data
            self.call.publish(CheckpointSaved, self.number, data=msgspec.Raw(data))

    def progress(self, done: float) -> None:
        """Note that the call has come as far as *done*, in units of its own (bytes, say).

        Farther than before in this attempt restarts its ``stall_timeout``. Farther than any attempt came is what
        ``progress_resets`` counts; a resumable call publishes it, once a second. Does nothing once the attempt has
        ended.
        """
        if self.is_ended:
            return
        progress = (call := self.call).own_progress()
        progress.reach(done)
        is_told = progress.progressed and (call.arguments is not None or call.fence > 0)
        if is_told and progress.is_due(call.operation.bus.clock()):
            call.publish(ProgressMade, self.number, done=progress.done)


# For runners; code by hand has ``operation.start()`` and ``attempt.next()``. The rest is in ``events.runner_api``.


def conclude(attempt: Attempt, now: float, verdict: Verdict | None, events: Sequence[Event]) -> Verdict:
    """Note and publish what came of a failure at *now*: *events* were published, and *verdict* is the answer."""
    call = attempt.call
    for event in events:
        if type(event) is FailureClassified:
            call.retries, call.failure = event.retries, event
            if event.progress_resets != (call.progress or _NO_PROGRESS).resets:
                call.own_progress().resets = event.progress_resets
            break
    if isinstance(verdict, Retry):
        call.due = now + verdict.after
    attempt._verdict = verdict = verdict or NO_ANSWER
    publish_outcome(call, attempt.number, verdict)
    return verdict


def publish_outcome(call: Call, attempt: int, verdict: Verdict) -> None:
    """Publish what came of the latest failure of *call*: after the join, so that no overruled verdict is recorded.

    *attempt* is the number of the last attempt that was made.
    """
    failure = call.failure
    category = None if failure is None else failure.category
    if isinstance(verdict, Retry):
        operation = call.operation
        bus = operation.bus
        is_detail = verdict.after < LONG_WAIT
        if bus.has_subscribers(RetryScheduled, operation.name, operation.key, is_detail=is_detail):
            scheduled = RetryScheduled(
                at=bus.clock(),
                operation=operation.name,
                key=operation.key,
                call=call.id,
                attempt=attempt,
                after=min(verdict.after, FOREVER),
                retry=call.retries + (failure is None or not failure.uncharged),
                category=category,
                failure=failure,
                idempotency_key=call.idempotency_key,
            )
            bus.cascade(scheduled, is_detail=is_detail)
        return
    cause: dict[str, object] = {"category": category, "failure": failure, "idempotency_key": call.idempotency_key}
    match verdict:
        case Park(why=why, counts_as_retry=counts, asks_person=asks):
            after, within, call.asks_person = min(verdict.after, FOREVER), min(verdict.within, FOREVER), asks
            cause |= {"why": why, "counts_as_retry": counts and call.charge > 0, "asks_person": asks}
            call.publish(Parked, attempt, after=after, within=within, **cause)
        case GiveUp() if category is CANCELLED:  # stopped from outside, or by what steers a framework
            call.publish(OperationCancelled, attempt)
        case GiveUp(reason=reason):
            call.publish(GaveUp, attempt, reason=reason, asked=call.asks_person, **cause)


def request_start(attempt: Attempt) -> Verdict | None:
    """Ask the subscribers of starts whether *attempt* may begin; ``None`` means yes."""
    call = attempt.call
    operation = call.operation
    bus = operation.bus
    deferred = None
    if call.due is not None:  # the first request: a later deferral does not count as lag
        lag = bus.clock() - call.due
        if lag > call.lag:
            call.lag = lag
        call.due = None
    if call.has_failed or attempt.began is not None:
        attempt.began = bus.clock()
    if operation.observed.is_on:
        if bus.has_subscribers(OperationStarted, operation.name, operation.key):
            deferred = bus.publish(
                OperationStarted(
                    at=bus.clock(),
                    operation=operation.name,
                    key=operation.key,
                    call=call.id,
                    attempt=attempt.number,
                    arguments=call.raw_arguments,
                    version=call.version,
                    again=call.has_failed,
                    idempotency_key=call.idempotency_key,
                    leased=call.fence > 0,
                )
            )
        elif not operation.key and not bus.observes(operation):
            bus.look_for_observers()
    attempt._is_started = deferred is None
    return deferred


def next_attempt(attempt: Attempt) -> Attempt:
    """The attempt after *attempt*, not begun: ``request_start`` asks whether it may.

    Raises:
        RuntimeError: *attempt* did not fail with a Retry or a Park, or has a next attempt already.
    """
    call, verdict = attempt.call, attempt._verdict
    if verdict is None or verdict is UNANSWERED or isinstance(verdict, GiveUp):
        raise RuntimeError(f"attempt {attempt.number} of {call.id} has no next: it did not fail with a retry or a park")
    if isinstance(verdict, Retry) or verdict.counts_as_retry:
        call.retries += call.failure is None or not call.failure.uncharged
    if call.progress is not None:
        call.progress.restart()
    following = Attempt(call, attempt.number + 1, verdict.after if verdict.after < FOREVER else 0.0)
    attempt._verdict = None  # last: an interruption before it cancels the call by this attempt
    return following


def end(attempt: Attempt) -> None:
    """Note that *attempt* is over.

    Raises:
        RuntimeError: It has ended already.
    """
    if attempt.is_ended:
        raise RuntimeError(f"attempt {attempt.number} of {attempt.call.id} has ended already")
    attempt.is_ended = True
