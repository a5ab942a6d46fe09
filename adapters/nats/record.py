"""What the servers keep about a call: its record, and the sizes and times that hold for it."""

from __future__ import annotations

import math
import sys
from typing import Literal, TypeAlias

import msgspec

from adapters.nats.errors import TooLargeError
from adapters.nats.names import Lane, Priority

FORMAT = 1
"""The format of records; a release that reads another one leaves the call to others."""

LEASE = 30.0
"""Seconds after its last sign of life in which a worker still holds its call."""

KEPT = 7 * 24 * 3600.0
"""Seconds for which an ended call is kept, and its idempotency key belongs to it."""

MAX_PAYLOAD = 512 * 1024
"""Bytes of the arguments of a call, and of its result."""

MAX_CHECKPOINT = 256 * 1024
"""Bytes of a checkpoint."""

MAX_TEXT = 4000
"""Characters of a reason or an error's text in a record; what is longer is cut."""


def too_large(what: str, size: int, most: int, cure: str) -> str:
    """What is said of *what* if its *size* in bytes is more than *most*; *cure* says what to do."""
    return f"{what}: {size:,} bytes, where a cluster keeps {most:,} at most: {cure}"


NO_FAILURE = msgspec.Raw()
"""Where no attempt has failed. It is left out of a record, which another empty ``Raw`` would make unreadable."""

CallState: TypeAlias = Literal["queued", "running", "waiting", "quarantined", "succeeded", "gave up", "cancelled"]
"""Where a call stands. The last three are ends."""

ENDS: frozenset[CallState] = frozenset({"succeeded", "gave up", "cancelled"})
"""The states that no call leaves."""


class Standing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How far a call has come, over all its attempts and nodes.

    Args:
        attempt: The number of the attempt that runs or comes next.
        retries: Retries used up.
        elapsed: Seconds since its first attempt began, at the time *as_of*.
        as_of: When that was; 0 while no attempt has begun.
        delay: Seconds that the policy made it wait before this attempt.
        within: Seconds that were left at *as_of* of its wait for conditions; None for no end.
        looks: In how many legs in a row it has waited for conditions that did not hold.
        is_parked: Whether these are conditions of its failure.
        deaths: Attempts in a row that died with their node and came no further.
        came_further: Whether the attempt that runs has saved a checkpoint, or made progress.
        has_failed: Whether an attempt has failed, or died.
        is_cut_off: Whether the latest attempt began, and its end is not known.
        done: How far it came, in the unit of its progress.
        progress_resets: How often progress gave the retries back.
        failure: Its latest failure, as JSON of ``FailureClassified``; empty if there is none.
    """

    attempt: int = 1
    retries: int = 0
    elapsed: float = 0.0
    as_of: float = 0.0
    delay: float = 0.0
    within: float | None = None
    looks: int = 0
    is_parked: bool = False
    deaths: int = 0
    came_further: bool = False
    has_failed: bool = False
    is_cut_off: bool = False
    done: float = 0.0
    progress_resets: int = 0
    failure: msgspec.Raw = NO_FAILURE

    def __post_init__(self) -> None:
        """JSON has no infinity: a record with one could not be read any more."""
        for name in ("elapsed", "delay", "done"):
            value = getattr(self, name)
            if not math.isfinite(value):
                msgspec.structs.force_setattr(self, name, sys.float_info.max if value > 0.0 else 0.0)
        if self.within is not None and not math.isfinite(self.within):
            msgspec.structs.force_setattr(self, "within", None)

    def at(self, now: float) -> Standing:
        """The same at the time *now*: what has begun has gone on meanwhile."""
        passed = max(now - self.as_of, 0.0) if self.as_of else 0.0
        within = None if self.within is None else max(self.within - passed, 0.0)
        return msgspec.structs.replace(self, elapsed=self.elapsed + passed, as_of=now, within=within)


class CallRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where a call of the cluster stands: its one place of truth, changed by compare-and-set alone.

    Times are seconds since the epoch by the servers' clock.

    Args:
        call: Its id, ``names.Name.call``.
        operation: The name of its operation.
        format: The format of this record.
        version: The version of the operation that it was submitted for.
        digest: SHA-256 of its arguments: a key with other arguments is noticed.
        priority: How urgent it is.
        affinity: The only node that may run it; "" for any.
        submitted: When it was submitted.
        by: The node that submitted it.
        state: Where it stands.
        leg: Counts the messages that put it into a queue, and its end: an older message means nothing any more.
        fence: The token of the worker that holds or held it: the stream sequence of the record that it claimed.
        node: The node that runs it, or ran it last.
        token: Random digits of the claim: a worker knows by them what it has written itself.
        delivery: The ``Delivery.number`` of the message with which it was claimed.
        standing: How far it has come.
        due: When its next attempt may begin.
        why: What it waits for, in words.
        asks_person: Whether it has no retries left, and waits until a person says retry or give up.
        is_paused: Whether a person has paused it.
        cancel: Why it is to be cancelled; None if it is not.
        ended: When it ended.
        reason: Why it ended badly, or is quarantined.
        category: The category of the failure that ended it.
        error: The type and the text of the failure that ended it.
        updated: When this record was written.
    """

    call: str
    operation: str
    format: int = FORMAT
    version: str = ""
    digest: str = ""
    priority: Priority = "normal"
    affinity: str = ""
    submitted: float = 0.0
    by: str = ""
    state: CallState = "queued"
    leg: int = 1
    fence: int = 0
    node: str = ""
    token: str = ""
    delivery: int = 0
    standing: Standing = Standing()
    due: float | None = None
    why: str = ""
    asks_person: bool = False
    is_paused: bool = False
    cancel: str | None = None
    ended: float | None = None
    reason: str = ""
    category: str = ""
    error: tuple[str, str] = ("", "")
    updated: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state in ENDS

    @property
    def waits_in_queue(self) -> bool:
        """Whether a message of it is to be in its queue now."""
        return self.state == "queued" and not self.is_paused

    @property
    def stands(self) -> str:
        """Where it stands, in words: "it runs on gpu-b"."""
        where = f" on {self.node}" if self.node else ""
        match self.state:
            case "running":
                return f"it runs{where}"
            case "succeeded":
                return f"it succeeded{where}"
            case "gave up":
                return f"it was given up{where}"
            case "cancelled":
                return "it was cancelled"
        return f"it is {self.state}"

    @property
    def lane(self) -> Lane:
        """Where it waits for a worker."""
        return Lane(self.operation, self.priority, self.affinity)


class Stored(msgspec.Struct, frozen=True):
    """A record as the servers have it.

    Args:
        record: The record.
        seq: Its place in the stream: what a compare-and-set compares.
    """

    record: CallRecord
    seq: int


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is written about a call at once: all of it, or nothing.

    Args:
        record: The new record.
        args: Its arguments, of a new call.
        saved: A new checkpoint; b"" drops the one there is.
        result: Its result, at its end.
        is_queued: Whether a message with the record's leg is put into its queue now.
        queue_at: When such a message is put there, in seconds since the epoch; None for never.
        unschedules: Whether a message that was to come later is called off.
        unqueues: The lane whose message means nothing any more: it is dropped, for its workers may be gone.
    """

    record: CallRecord
    args: bytes | None = None
    saved: bytes | None = None
    result: bytes | None = None
    is_queued: bool = False
    queue_at: float | None = None
    unschedules: bool = False
    unqueues: Lane | None = None


def check_sizes(change: Change) -> None:
    """Raise TooLargeError if the arguments, the checkpoint or the result of *change* are more than a cluster keeps."""
    for what, data, most in (
        ("the arguments", change.args, MAX_PAYLOAD),
        ("a checkpoint", change.saved, MAX_CHECKPOINT),
        ("the result", change.result, MAX_PAYLOAD),
    ):
        if data is not None and len(data) > most:
            said = too_large(what, len(data), most, "store the data elsewhere, and pass where it is")
            raise TooLargeError(f"{change.record.call}: {said}")
