"""Events of operations and their calls: started, failed, retried, parked, ended, resumed."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from events.event import FOREVER, NOTHING, CallEvent
from events.evidence import Category, Evidence, Remedy
from events.recorded import Recorded


class OperationStarted(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """An attempt is about to begin. A verdict stops it: Park or Retry defer the attempt, GiveUp rejects the call.

    Args:
        arguments: The JSON of ``[args, kwargs]`` if the call can be resumed after a restart, otherwise empty.
        version: The version that the operation was declared with.
        again: Whether the call was tried before, by this process or another.
        idempotency_key: The idempotency key of the call; "" for none.
        leased: Whether a cluster owns the call: no journal resumes it.
    """

    asks: ClassVar[bool] = True

    arguments: msgspec.Raw = NOTHING
    version: str = ""
    again: bool = False
    idempotency_key: str = ""
    leased: bool = False


class OperationSucceeded(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A call returned.

    Args:
        recovered: Whether an attempt of it had failed.
        recorded: Its result, if later calls with the same idempotency key are to get it.
    """

    ends: ClassVar[bool] = True

    recovered: bool = False
    recorded: Recorded | None = None


class OperationFailed(CallEvent, frozen=True, kw_only=True, gc=True):
    """An attempt raised. The event holds the live exception and never leaves the process.

    Args:
        error: What it raised.
        retryable: What its caller knows of that (``retry_if_error``): a retry may help, or cannot; None: the rules
            decide.
        retries: How many retries the call has used.
        elapsed: Seconds since the first attempt of the call began. A function with no ``max_elapsed``,
            timeout, key or durability "journal" or "strict", and no subscriber to its starts, reads no clock before
            it fails: then it is since that attempt failed, and its own time is not counted. Time in which the process
            was stopped is not counted (``ClockJumped``).
        waited: Seconds that a policy made the call wait before this attempt; 0 for the first.
        progressed: Whether this attempt came farther than all before it.
        done: How far the call has come, in units of its own.
        progress_resets: How often progress has given the call its retries back.
        began: When the attempt began, on the bus's clock; None if nothing read the clock then.
    """

    asks: ClassVar[bool] = True

    error: Exception
    retryable: bool | None = None
    retries: int = 0
    elapsed: float = 0.0
    waited: float = 0.0
    progressed: bool = False
    done: float = 0.0
    progress_resets: int = 0
    began: float | None = None


class FailureClassified(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """What a failure means. It is the first event of a failure that can be written down.

    Args:
        category: The category of the failure.
        evidence: What the failure carries, as data.
        rule: The name of the rule that decided.
        why: What the rule means, where its name does not say so.
        retry_after: Seconds that a server, or a rule, wants waited at least.
        retries: How many retries the call has used; 0 if progress has just given them back.
        elapsed: As in ``OperationFailed``.
        waited: As in ``OperationFailed``.
        done: As in ``OperationFailed``.
        progress_resets: As in ``OperationFailed``; one more if progress has just given the retries back.
        uncharged: Whether it is due to a jump of the clock: it uses no retry, and no circuit counts it.
        remedy: What a person can do, if the rule knows it.
    """

    asks: ClassVar[bool] = True

    category: Category
    evidence: Evidence
    rule: str = ""
    why: str = ""
    retry_after: float | None = None
    retries: int = 0
    elapsed: float = 0.0
    waited: float = 0.0
    done: float = 0.0
    progress_resets: int = 0
    uncharged: bool = False
    remedy: Remedy | None = None

    @property
    def brief(self) -> str:
        """The category and what decided it, in a few words: for tables."""
        if self.evidence.status is not None or self.evidence.exit_code is not None:
            return f"{self.category}: {self.rule}"
        return f"{self.category}: {self.evidence.summary}"


class Outcome(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a failure. ``recovery.explain`` puts it in words.

    Args:
        category: The category of the failure; None if it was not classified.
        failure: What the failure means, and its evidence; None if it was not classified. A journal holds it once, as
            the event before this one.
        idempotency_key: The idempotency key of the call; "" for none.
    """

    category: Category | None = None
    failure: FailureClassified | None = None
    idempotency_key: str = ""

    @property
    def error(self) -> str | None:
        """The exception's name and message in one line; None if the failure was not classified."""
        return None if self.failure is None else self.failure.evidence.summary

    @property
    def uncharged(self) -> bool:
        """Whether the failure is due to a jump of the clock."""
        return self.failure is not None and self.failure.uncharged


LONG_WAIT = 10.0
"""Seconds from which a wait is no detail: the log tells of it at WARNING."""


class RetryScheduled(Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """The call will be tried again.

    Args:
        after: Seconds from *at* until the next attempt.
        retry: The number of that retry, from 1.
    """

    after: float
    retry: int


class Parked(Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """The call waits for causes to go away.

    A call is parked after a failure, or before an attempt that was deferred; then there is no *category*.

    Args:
        after: Seconds from *at* that a failed call waits at least, and after which a deferred one asks again. A call
            that waits for an open circuit asks when it is its turn to probe.
        within: Seconds from *at* within which the wait must end; otherwise the call gives up.
        why: The causes.
        counts_as_retry: Whether the wait uses a retry.
        asks_person: Whether the retries have run out and a person is to say retry or give up. Circuits, alerts and the
            monitor count it as a call that gave up.
    """

    after: float
    within: float = FOREVER
    why: str = ""
    counts_as_retry: bool = False
    asks_person: bool = False


class GaveUp(Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """The call failed for good; its caller gets the last exception. *attempt* is the last one that was made.

    Args:
        reason: Why there is no further attempt.
        asked: Whether the call asked a person (``Parked.asks_person``), and was counted as given up then.
    """

    ends: ClassVar[bool] = True

    reason: str = ""
    asked: bool = False


class OperationRecovered(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A call succeeded after an attempt of it had failed.

    Args:
        elapsed: As in ``OperationFailed``.
        recorded: As in ``OperationSucceeded``.
        lag: How many seconds late a retry of it began; the longest of them.
    """

    ends: ClassVar[bool] = True

    elapsed: float = 0.0
    recorded: Recorded | None = None
    lag: float = 0.0


class CallRejected(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A call was not allowed to make its first attempt.

    Args:
        reason: Why.
        retry_after: Seconds from *at* after which a new call may be allowed; None if that is unknown.
    """

    ends: ClassVar[bool] = True

    reason: str = ""
    retry_after: float | None = None


class OperationCancelled(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A call was cancelled. That is no failure.

    Args:
        waiting: Whether it was cancelled before that attempt began, and not in it.
    """

    ends: ClassVar[bool] = True

    waiting: bool = False


class CallSteered(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A call got a command.

    Args:
        command: "retry now", "pause", "unpause" or "give up" for a call that waits; "cancel", "reset" or "edit" for one
            that waits or runs.
        reason: What the person said.
        changes: What "edit" has changed, as ``max_retries=8``.
    """

    command: str
    reason: str = ""
    changes: str = ""


class OperationResumed(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """This attempt resumes a call that a dead process left.

    Its number is that of the attempt that died with that process, if that one is not charged as a retry.

    Args:
        after: Seconds from *at* that are left to wait.
        arguments: As in its ``OperationStarted``.
        trace: The ``CallTraced.trace`` of the process that left it; "" if that traced no calls.
    """

    after: float = 0.0
    arguments: msgspec.Raw = NOTHING
    trace: str = ""


class OperationInterrupted(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A call is left in good order to another caller or process, so that its attempt is not charged as a retry.

    The service ended, or the caller that made *attempt* was cancelled while others waited for the call, or a resumed
    call must not begin in this process.
    """


class CallLeftPending(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A call that a dead process left stays pending. This event is not journalled.

    Args:
        reason: Why: no operation fits it, say.
    """

    reason: str = ""


class OperationQuarantined(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A call that is not over is not resumed any more: the last attempt that it may make died with its process.

    A person looks at it, and may resume it by hand; then it has all its retries.

    Args:
        reason: Why it is quarantined.
    """

    reason: str = ""


class CheckpointSaved(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A running call noted how far it has come.

    Args:
        data: Its checkpoint, as JSON.
    """

    data: msgspec.Raw


class ProgressMade(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A running resumable call has come farther than ever before. At most one in each second.

    It tells the next process that an attempt came further before its process died.

    Args:
        done: How far, in units of the call's own.
    """

    done: float
