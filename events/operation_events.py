"""Events of operations and their calls: started, failed, retried, parked, ended, resumed."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from events.event import NOTHING, CallEvent
from events.evidence import Category, Evidence


class Recorded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The result of a call with an idempotency *key*: its JSON, good *until* that Unix time and for that *version*."""

    key: str
    result: msgspec.Raw
    until: float
    version: str = ""


class OperationStarted(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """An attempt is about to begin. A verdict holds it back: Park or Retry delay it, GiveUp rejects the call.

    *again* says that something of the call was tried before, by this process or another. *arguments* is the JSON of
    ``[args, kwargs]`` where the call can be resumed after a restart, otherwise empty; *version* is the version its
    operation was declared with, *idempotency_key* what the call was given as such ("" for none).
    """

    asks: ClassVar[bool] = True

    arguments: msgspec.Raw = NOTHING
    version: str = ""
    again: bool = False
    idempotency_key: str = ""


class OperationSucceeded(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A call returned; *recovered* says whether something had gone wrong before.

    *recorded* is its result, if it is to be returned to later calls with the same idempotency key.
    """

    recovered: bool = False
    recorded: Recorded | None = None


class OperationFailed(CallEvent, frozen=True, kw_only=True, gc=True):
    """An attempt raised. It holds the live exception and never leaves the process.

    *retries* is how many retries the call has used, *elapsed* the seconds since its first attempt began,
    *waited* the seconds it was told to wait before this attempt (0 for the first). *progressed* says whether the
    attempt came further than any before it, *done* how far the call has come; *progress_resets* is how often
    progress has
    refilled its retries.
    """

    asks: ClassVar[bool] = True

    error: Exception
    retries: int = 0
    elapsed: float = 0.0
    waited: float = 0.0
    progressed: bool = False
    done: float = 0.0
    progress_resets: int = 0


class FailureClassified(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """What a failure means: the first failure event that anybody writes down.

    *rule* names the rule that decided, *why* says what it means, where the name does not. *retry_after* is the seconds
    that a server, or a rule, wants waited at least. *elapsed*, *waited* and *done* are those of ``OperationFailed``; so
    are *retries* and *progress_resets*, unless progress has just refilled the retries.
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

    @property
    def brief(self) -> str:
        """The category and what decided it, in a few words: for tables."""
        if self.evidence.status is not None or self.evidence.exit_code is not None:
            return f"{self.category}: {self.rule}"
        return f"{self.category}: {self.evidence.summary}"


class Outcome(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a failure. *category* and *error* (one line) are ``None`` where nobody classified it."""

    category: Category | None = None
    error: str | None = None


class RetryScheduled(Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """The call will be tried again *after* seconds from *at*; this will be its retry number *retry*, from 1."""

    after: float
    retry: int


class Parked(Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """The call waits for causes to go away, using up no retry unless it is *counts_as_retry*.

    *why* names them. A call is parked after a failure, then it waits *after* seconds from *at* at the least, or before
    an attempt (there is no *error*), then it asks again after so many seconds at the most.
    """

    after: float
    why: str = ""
    counts_as_retry: bool = False


class GaveUp(Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """The call failed for good; its caller gets the last exception."""

    reason: str = ""


class OperationRecovered(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A call succeeded after something had gone wrong; *elapsed* is seconds since its first attempt began.

    *recorded* is as for ``OperationSucceeded``; *lag* is how many seconds later than it was told a retry of it began,
    the latest of them.
    """

    elapsed: float = 0.0
    recorded: Recorded | None = None
    lag: float = 0.0


class CallRejected(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A call was turned away before its first attempt; *retry_after* seconds from *at* it may be welcome."""

    reason: str = ""
    retry_after: float | None = None


class OperationCancelled(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A call was cancelled from outside, in an attempt or, if *waiting*, before that attempt began. Not a failure."""

    waiting: bool = False


class CallSteered(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody has told a waiting call what to do: "retry now", "pause", "unpause" or "give up"; *reason* says why."""

    command: str
    reason: str = ""


class OperationResumed(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A call that a dead process left is resumed with this attempt, *after* the seconds left to wait.

    *arguments* are those of its ``OperationStarted``.
    """

    after: float = 0.0
    arguments: msgspec.Raw = NOTHING


class OperationInterrupted(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A call was left to the next process in good order: whatever happens now, it killed nobody.

    The service ended while it was resumed (*attempt* is the one it was resumed with), or must not carry it on.
    """


class OperationQuarantined(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A call is not resumed any more, though it is not over: it seems to kill its process. *reason* says why.

    Somebody has to look at it, and may carry it on by hand.
    """

    reason: str = ""


class CheckpointSaved(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A running call noted how far it has come; *data* is its JSON."""

    data: msgspec.Raw
