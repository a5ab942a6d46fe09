"""One try of one call: what is told about it, and what is asked.

Only a failure builds an event. A start or a success does so where somebody listens, which ``Operation.is_observed``
tells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import msgspec

from events.bus import sender_of
from events.errors import CallRejectedError
from events.event import FOREVER, NOTHING, CallEvent
from events.evidence import Category
from events.operation_events import (
    CallRejected,
    CheckpointSaved,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationFailed,
    OperationInterrupted,
    OperationQuarantined,
    OperationRecovered,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    Parked,
    Recorded,
    RetryScheduled,
)
from events.verdicts import GiveUp, Park, Retry, Verdict

if TYPE_CHECKING:
    from events.operation import Operation

NO_ANSWER = GiveUp("nobody answered")


class Attempt(msgspec.Struct, eq=False):
    """One try of one call. End it once: with ``fail``, ``succeed`` or ``cancel``.

    *number* counts from 1. *retries* is how many retries the call has used; waiting while parked uses none. *began* is
    when the call's first attempt began, on the bus's clock; ``None`` until somebody took the time. *waited* is the
    delay before this attempt in seconds. *has_failed* says that something went wrong in this call. *category* and
    *error*
    (one line) are of the call's latest failure. *done* is how far the call has come, in units of its own,
    *progress_resets* how
    often that has refilled its retries; *on_progress* is called when it comes further. *arguments* and *version* are
    what ``OperationStarted`` will say, and so is *idempotency_key*; *saved* is the JSON of the latest checkpoint,
    *recorded* the result that is told with the success; *is_resumed* says that another process began the
    call. *due* is when a retry was told to begin, *lag* how many seconds later than told the latest of the call began.
    """

    # A struct because it has so many fields, and is made twice in a call that fails once.
    operation: Operation
    call: str = ""
    number: int = 1
    retries: int = 0
    began: float | None = None
    waited: float = 0.0
    due: float | None = None
    lag: float = 0.0
    has_failed: bool = False
    arguments: bytes | None = None
    version: str = ""
    idempotency_key: str = ""
    is_resumed: bool = False
    recorded: Recorded | None = None
    saved: bytes | None = None
    category: Category | None = None
    error: str | None = None
    done: float = 0.0
    reached: float = 0.0
    progressed: bool = False
    progress_resets: int = 0
    on_progress: Callable[[], object] | None = None
    is_started: bool = False
    _verdict: Verdict | None = None
    _ended: bool = False

    if TYPE_CHECKING:

        def __copy__(self) -> Self: ...  # msgspec's, which takes a third of the time that ``copy.copy`` does

    def __post_init__(self) -> None:
        if not self.call:
            self.call = self.operation.bus.new_call()
        if self.number > 1 or self.retries > 0:
            self.has_failed = True

    def request_start(self) -> Verdict | None:
        """Ask whoever listens to starts whether this attempt may begin; ``None`` means yes."""
        operation = self.operation
        deferred = None
        if self.due is not None:  # asked for the first time: what holds it back from now on does not make it late
            lag = operation.bus.clock() - self.due
            if lag > self.lag:
                self.lag = lag
            self.due = None
        if operation.is_observed:
            bus = operation.bus
            if bus.has_subscribers(OperationStarted, operation.name, operation.key):
                deferred = bus.publish(
                    OperationStarted(
                        at=bus.clock(),
                        operation=operation.name,
                        key=operation.key,
                        call=self.call,
                        attempt=self.number,
                        arguments=NOTHING if self.arguments is None else msgspec.Raw(self.arguments),
                        version=self.version,
                        again=self.has_failed,
                        idempotency_key=self.idempotency_key,
                    )
                )
            else:
                operation.is_observed = bus.observes(operation)  # nobody says so when a weak receiver goes
        self.is_started = deferred is None
        return deferred

    def progress(self, done: float) -> None:
        """Note that the call has come as far as *done*, in units of its own (bytes, say).

        Farther than before in this attempt is a sign of life, farther than ever is progress. Does nothing once the
        attempt has ended.
        """
        if not done > self.reached or self._ended:
            return
        self.reached = done
        if done > self.done:
            self.done = done
            self.progressed = True
        on_progress = self.on_progress
        if on_progress is not None:
            on_progress()

    @property
    def attempts_made(self) -> int:
        """How many attempts the call has made, this one included if it was let begin."""
        return self.number if self.is_started else max(self.number - 1, 1)

    def fail(self, error: Exception) -> Verdict:
        """Report what the attempt raised; the answer says what to do now. Takes microseconds and never waits.

        With nobody to answer it is GiveUp. Raises RuntimeError if the attempt has ended already, TypeError if
        *error* is no Exception: a cancellation is not a failure.
        """
        if not isinstance(error, Exception):
            raise TypeError(f"an attempt fails with an Exception, not with {error!r}; cancel() it instead")
        if self._ended:
            self._end()
        self._ended = True
        self.has_failed = self.is_started = True
        operation, bus = self.operation, self.operation.bus
        now = bus.clock()
        if self.began is None:
            self.began = now
        failed = OperationFailed(
            at=now,
            operation=operation.name,
            key=operation.key,
            call=self.call,
            attempt=self.number,
            error=error,
            retries=self.retries,
            elapsed=now - self.began,
            waited=self.waited,
            progressed=self.progressed,
            done=self.done,
            progress_resets=self.progress_resets,
        )
        verdict, events = bus.cascade(failed)
        self._verdict = verdict or NO_ANSWER
        if isinstance(verdict, Retry):
            self.due = now + verdict.after
        for event in events:
            if type(event) is FailureClassified:
                self.retries, self.progress_resets = event.retries, event.progress_resets
                self.category, self.error = event.category, event.evidence.summary
                break
        self._publish_outcome(self._verdict)
        return self._verdict

    def _publish_outcome(self, verdict: Verdict) -> None:
        """After the fold: nobody records an overruled opinion."""
        category, error = self.category, self.error
        match verdict:
            case Retry():
                operation, bus = self.operation, self.operation.bus
                if bus.has_subscribers(RetryScheduled, operation.name, operation.key):
                    scheduled = RetryScheduled(
                        at=bus.clock(),
                        operation=operation.name,
                        key=operation.key,
                        call=self.call,
                        attempt=self.number,
                        after=min(verdict.after, FOREVER),
                        retry=self.retries + 1,
                        category=category,
                        error=error,
                    )
                    bus.publish(scheduled)
            case Park():
                after, why, counts_as_retry = min(verdict.after, FOREVER), verdict.why, verdict.counts_as_retry
                self._tell(
                    Parked, after=after, why=why, counts_as_retry=counts_as_retry, category=category, error=error
                )
            case GiveUp():
                self._tell(GaveUp, reason=verdict.reason, category=category, error=error)

    def parked(self, hold: Verdict) -> None:
        """Say that the attempt is held back before it begins."""
        why = hold.why if isinstance(hold, Park) else ""
        self._tell(Parked, after=min(hold.after or 0.0, FOREVER), why=why)

    def next(self) -> Attempt:
        """The attempt after this one, begun: to be called once the wait that ``fail`` asked for is over.

        It begins whatever an open circuit says: by hand there is nobody to hold back. Raises RuntimeError unless this
        one failed with a Retry or a Park and has no next yet.
        """
        following = self.next_attempt()
        following.request_start()
        return following

    def next_attempt(self) -> Attempt:
        """As ``next``, but not begun: for drivers, which ask (``request_start``) before they begin."""
        verdict = self._verdict
        if verdict is None or isinstance(verdict, GiveUp):
            raise RuntimeError(
                f"attempt {self.number} of {self.call} has no next: it did not fail with a retry or a park"
            )
        self._verdict = None  # it is followed once
        following = self.__copy__()
        following.number += 1
        following.retries += isinstance(verdict, Retry) or verdict.counts_as_retry
        following.waited = verdict.after
        following.reached = 0.0
        following.progressed = following.is_started = following._ended = False
        following.recorded = following.on_progress = None
        return following

    def checkpoint(self, data: bytes) -> None:
        """Note how far the call has come, as JSON; later attempts find it in ``saved``, also after a restart.

        Does nothing once the attempt has ended: a thread that runs on after a timeout must not overwrite what a newer
        attempt has noted.
        """
        if self._ended:
            return
        self.saved = data
        self._tell(CheckpointSaved, data=msgspec.Raw(data))

    def resumed(self, after: float) -> None:
        """Say that this attempt resumes what a dead process left, in *after* seconds."""
        self.has_failed = self.is_resumed = True
        self._tell(OperationResumed, after=after, arguments=self._raw_arguments())

    def _raw_arguments(self) -> msgspec.Raw:
        return NOTHING if self.arguments is None else msgspec.Raw(self.arguments)

    def interrupted(self) -> None:
        """Say that the call that this attempt resumes is left to the next process, in good order."""
        self._tell(OperationInterrupted)

    def quarantined(self, reason: str) -> None:
        """Say that the call, which is not over, is left alone from now on."""
        self._end()
        self._tell(OperationQuarantined, reason=reason)

    def succeed(self) -> None:
        """Report that the attempt returned. Raises RuntimeError if it has ended already."""
        self._end()
        operation = self.operation
        operation.successes += 1
        bus = operation.bus
        if self.has_failed and bus.has_subscribers(OperationRecovered, operation.name, operation.key):
            now = bus.clock()
            recovered = OperationRecovered(
                at=now,
                operation=operation.name,
                key=operation.key,
                call=self.call,
                attempt=self.number,
                elapsed=0.0 if self.began is None else now - self.began,
                recorded=self.recorded,
                lag=self.lag,
            )
            bus.publish(recovered)
        if operation.is_observed and bus.has_subscribers(OperationSucceeded, operation.name, operation.key):
            bus.publish(
                OperationSucceeded(
                    at=bus.clock(),
                    operation=operation.name,
                    key=operation.key,
                    call=self.call,
                    attempt=self.number,
                    recovered=self.has_failed,
                    recorded=self.recorded,
                )
            )

    def cancel(self) -> None:
        """Report that somebody changed their mind, in the attempt or in the wait after it. Never a failure.

        Does nothing to a call that has ended.
        """
        if self._ended and (self._verdict is None or isinstance(self._verdict, GiveUp)):
            return
        is_waiting = self._ended or not self.is_started
        self._ended = True
        self._verdict = None
        self._tell(OperationCancelled, waiting=is_waiting)

    def give_up(self, verdict: GiveUp) -> None:
        """End a call for good without this attempt; the caller's error is the latest failure's."""
        self._end()
        self._tell(GaveUp, reason=verdict.reason, category=self.category, error=self.error)

    def reject(self, deferred: Verdict) -> CallRejectedError:
        """End a call that was held back before it began; the error to raise says when to come back."""
        self._end()
        match deferred:
            case GiveUp():
                reason = deferred.reason
            case Park() if deferred.until:
                reason = deferred.why
            case _:
                reason = "held back"
        self._tell(
            CallRejected, reason=reason, retry_after=None if deferred.after is None else min(deferred.after, FOREVER)
        )
        return CallRejectedError(sender_of(self.operation.name, self.operation.key), reason, deferred.after)

    def _end(self) -> None:
        if self._ended:
            raise RuntimeError(f"attempt {self.number} of {self.call} has ended already")
        self._ended = True

    def _tell(self, kind: Callable[..., CallEvent], **fields: object) -> Verdict | None:
        """Publish an event about this attempt, if anybody would hear it.

        What most calls say is published without this: passing the fields on takes longer than making the event.
        """
        operation, bus = self.operation, self.operation.bus
        name, key = operation.name, operation.key
        if not bus.has_subscribers(kind, name, key):  # type: ignore[arg-type]  # a class is the Callable that makes it
            return None
        return bus.publish(kind(at=bus.clock(), operation=name, key=key, call=self.call, attempt=self.number, **fields))
