"""What happened: one frozen struct per fact, named in the past tense.

Every number of seconds called *at* is a reading of the bus's clock, which is monotonic: it means nothing outside
the process (the journal notes which wall-clock time it stands for). Every other number of seconds is a duration.

The garbage collector leaves facts alone (``gc=False``): the journal remembers tens of thousands of them, and none can
be part of a cycle but the one with the live exception.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

import msgspec

FOREVER = 1e9
"""What facts say for a wait without an end, in seconds: JSON has no infinity."""

NOTHING = msgspec.Raw(b"")
"""No JSON at all. Not ``None``: msgspec cannot tell raw JSON from null in one field."""


class Category(StrEnum):
    """What kind of trouble a failure is; it decides what helps."""

    TRANSIENT = "transient"  # back off and try again
    UNREACHABLE = "unreachable"  # the same, and the other side never heard of us
    RATE_LIMITED = "rate_limited"  # wait as long as the server said; it uses up no retry
    ENVIRONMENT = "environment"  # disk, port, file handles: something here must change first
    AUTH = "auth"  # a person must log in, pay or consent
    LOST = "lost"  # the process that did the work died
    PERMANENT = "permanent"  # the same call will fail the same way
    SPENT = "spent"  # an inner recoverable call has already tried everything
    CANCELLED = "cancelled"  # somebody changed their mind; not a failure


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a failure carries, as data: all that classification may look at.

    *type* is the qualified name of the exception's class, *kinds* those of its bases, nearest first, up to but
    without ``Exception``. *message* is at most 4 KiB. *errno* is the system's number, *status* an HTTP status,
    *retry_after* the seconds a server asked us to wait, *exit_code* a process's (negative: killed by that
    signal), *stderr* the last 4 KiB of what it complained about, *bytes_done* how far a transfer came. *cause* is the
    evidence of what the exception came from, four levels deep at most.
    """

    type: str
    kinds: tuple[str, ...] = ()
    message: str = ""
    errno: int | None = None
    status: int | None = None
    retry_after: float | None = None
    exit_code: int | None = None
    stderr: str | None = None
    bytes_done: int | None = None
    cause: Evidence | None = None

    @property
    def summary(self) -> str:
        """One line for people: the exception's name and its message."""
        name = self.type.rpartition(".")[2]
        return f"{name}: {self.message}" if self.message else name


class Fact(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="fact", omit_defaults=True, gc=False):
    """Something that happened, at *at* on the bus's clock, to the operation of that name.

    *operation* is empty for what concerns no operation; *key* names the part of it that has a circuit of its own
    (the host of a download), empty where there is none.
    """

    asks: ClassVar[bool] = False  # whether the publisher acts on the verdicts that subscribers return

    at: float
    operation: str = ""
    key: str = ""


class CallFact(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A fact about one call: its id, and the number of the attempt (from 1) that it concerns."""

    call: str
    attempt: int = 1


class Recorded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The result of a call with an idempotency *key*: its JSON, good *until* that Unix time and for that *version*."""

    key: str
    result: msgspec.Raw
    until: float
    version: str = ""


class OperationStarted(CallFact, frozen=True, kw_only=True, omit_defaults=True):
    """An attempt is about to begin. A verdict holds it back: Park or Retry delay it, GiveUp rejects the call.

    *again* says that something of the call was tried before, by this process or another. *arguments* is the JSON of
    ``[args, kwargs]`` where the call can be carried on after a restart, otherwise empty; *version* is the version its
    operation was declared with, *idempotency_key* what the call was given as such ("" for none).
    """

    asks: ClassVar[bool] = True

    arguments: msgspec.Raw = NOTHING
    version: str = ""
    again: bool = False
    idempotency_key: str = ""


class OperationSucceeded(CallFact, frozen=True, kw_only=True, omit_defaults=True):
    """A call returned; *recovered* says whether something had gone wrong before.

    *recorded* is its result, if it is to be returned to later calls with the same idempotency key.
    """

    recovered: bool = False
    recorded: Recorded | None = None


class OperationFailed(CallFact, frozen=True, kw_only=True, gc=True):
    """An attempt raised. It holds the live exception and never leaves the process.

    *retries* is how many retries the call has used, *elapsed* the seconds since its first attempt began,
    *waited* the seconds it was told to wait before this attempt (0 for the first). *progressed* says whether the
    attempt came further than any before it, *done* how far the call has come; *refills* is how often progress has
    refilled its retries.
    """

    asks: ClassVar[bool] = True

    error: Exception
    retries: int = 0
    elapsed: float = 0.0
    waited: float = 0.0
    progressed: bool = False
    done: float = 0.0
    refills: int = 0


class FailureClassified(CallFact, frozen=True, kw_only=True, omit_defaults=True):
    """What a failure means: the first failure fact that anybody writes down.

    *rule* names the rule that decided, *why* says what it means, where the name does not. *retry_after* is the seconds
    that a server, or a rule, wants waited at least. *elapsed*, *waited* and *done* are those of ``OperationFailed``; so
    are *retries* and *refills*, unless progress has just refilled the retries.
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
    refills: int = 0

    @property
    def brief(self) -> str:
        """The category and what decided it, in a few words: for tables."""
        if self.evidence.status is not None or self.evidence.exit_code is not None:
            return f"{self.category}: {self.rule}"
        return f"{self.category}: {self.evidence.summary}"


class Outcome(CallFact, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a failure. *category* and *error* (one line) are ``None`` where nobody classified it."""

    category: Category | None = None
    error: str | None = None


class RetryScheduled(Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """The call will be tried again *after* seconds from *at*; this will be its retry number *retry*, from 1."""

    after: float
    retry: int


class Parked(Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """The call waits for causes to go away, using up no retry unless it is *charged*.

    *why* names them. A call is parked after a failure, then it waits *after* seconds from *at* at the least, or before
    an attempt (there is no *error*), then it asks again after so many seconds at the most.
    """

    after: float
    why: str = ""
    charged: bool = False


class GaveUp(Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """The call failed for good; its caller gets the last exception."""

    reason: str = ""


class OperationRecovered(CallFact, frozen=True, kw_only=True, omit_defaults=True):
    """A call succeeded after something had gone wrong; *elapsed* is seconds since its first attempt began.

    *recorded* is as for ``OperationSucceeded``; *late* is how many seconds later than it was told a retry of it began,
    the latest of them.
    """

    elapsed: float = 0.0
    recorded: Recorded | None = None
    late: float = 0.0


class CallRejected(CallFact, frozen=True, kw_only=True, omit_defaults=True):
    """A call was turned away before its first attempt; *retry_after* seconds from *at* it may be welcome."""

    reason: str = ""
    retry_after: float | None = None


class OperationCancelled(CallFact, frozen=True, kw_only=True, omit_defaults=True):
    """A call was cancelled from outside, in an attempt or, if *waiting*, before that attempt began. Not a failure."""

    waiting: bool = False


class CallSteered(CallFact, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody has told a waiting call what to do: "retry now", "pause", "unpause" or "give up"; *reason* says why."""

    command: str
    reason: str = ""


class OperationResumed(CallFact, frozen=True, kw_only=True, omit_defaults=True):
    """A call that a dead process left is carried on with this attempt, *after* the seconds left to wait.

    *arguments* are those of its ``OperationStarted``.
    """

    after: float = 0.0
    arguments: msgspec.Raw = NOTHING


class OperationInterrupted(CallFact, frozen=True, kw_only=True, omit_defaults=True):
    """A call was left to the next process in good order: whatever happens now, it killed nobody.

    The service ended while it was carried on (*attempt* is the one it was carried on with), or must not carry it on.
    """


class OperationQuarantined(CallFact, frozen=True, kw_only=True, omit_defaults=True):
    """A call is not carried on any more, though it is not over: it seems to kill its process. *reason* says why.

    Somebody has to look at it, and may carry it on by hand.
    """

    reason: str = ""


class CheckpointSaved(CallFact, frozen=True, kw_only=True, omit_defaults=True):
    """A running call noted how far it has come; *data* is its JSON."""

    data: msgspec.Raw


class CircuitOpened(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """Too much went wrong; attempts are held back for *after* seconds.

    *failures* is what was counted, *times* how often in a row it has opened without a success in between. *dry* says
    that nobody is held back: the circuit is for metrics only.
    """

    after: float
    failures: int = 0
    times: int = 1
    dry: bool = False


class CircuitHalfOpened(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """The break is over; a probe may pass."""


class CircuitClosed(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A probe succeeded; everybody may pass."""


class JournalDegraded(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """The journal cannot write; operations go on in memory."""

    reason: str


class JournalRestored(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """The journal can write again; the facts that waited are written first.

    *waiting* is how many still did at this moment, *dropped* how many of this run are lost for good.
    """

    waiting: int = 0
    dropped: int = 0


class JournalQuarantined(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """What was in the journal's place could not be read; it is kept elsewhere, as *reason* says. A new one is begun."""

    reason: str


class SubscriberFailed(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A subscriber raised, or answered with something that is no answer. The operation went on without it.

    *heard* is the fact it was told; *set_aside* says that it failed too often and is not called any more.
    """

    subscriber: str
    heard: str
    error: str
    set_aside: bool = False


class AlertRaised(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """The *alert* of that name is on: *value*, measured *count* times, has passed *threshold* (see ``Thresholds``)."""

    alert: str
    value: float
    threshold: float
    count: int = 0


class AlertCleared(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """The alert is off, after *lasted* seconds; there is no *value* where nothing is left to be measured."""

    alert: str
    value: float | None = None
    threshold: float
    count: int = 0
    lasted: float = 0.0
