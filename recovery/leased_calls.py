"""Calls that a cluster owns, as data: what a leg begins with and how it ends; and what a death costs. Pure."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from events.evidence import Category
from events.operation_events import FailureClassified
from recovery.joining import continuation
from recovery.journal import history
from recovery.journal.history import CallRecord
from recovery.settings import OperationConfig


class LeasedCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where a call of a cluster stands as a leg begins: the part of it that one node runs under one lease.

    Args:
        id: The id of the call in the cluster. Events on this node bear ``local_id``.
        fence: The number of the claim. It only grows, and is at least 1.
        attempt: The number of the attempt to make, from 1.
        retries: Retries used up, those of other nodes included.
        elapsed: Seconds since its first attempt began, waits included, as this leg begins (``later`` adds to it).
        delay: Seconds that a policy made the call wait before this attempt.
        within: Seconds that are left of the wait for conditions of its failure; None for no end.
        looks: In how many legs in a row the call has looked at conditions that did not hold.
        is_parked: Whether these are conditions of its failure, such as room on a disk.
        saved: The latest checkpoint, as JSON; None for none.
        arguments: The JSON of ``[args, kwargs]``, as ``LeasedOperation.encode`` makes it.
        idempotency_key: What ``context.key()`` answers; "" for the id of the call.
        failure: What its latest failure means; None for none.
        has_failed: Whether an attempt failed, or was cut off.
        is_cut_off: Whether the latest attempt began, and its end is not known: it may have had its effect.
        done: How far the call has come, in units of its own.
        progress_resets: How often progress gave the retries back.
        asks_person: Whether it has no retries left and waits for a person (``retried`` lets it go on).
        deaths: Attempts in a row that died with their process and came no further.
    """

    id: str
    fence: int
    attempt: int = 1
    retries: int = 0
    elapsed: float = 0.0
    delay: float = 0.0
    within: float | None = None
    looks: int = 0
    is_parked: bool = False
    saved: bytes | None = None
    arguments: bytes = b"[[],{}]"
    idempotency_key: str = ""
    failure: FailureClassified | None = None
    has_failed: bool = False
    is_cut_off: bool = False
    done: float = 0.0
    progress_resets: int = 0
    asks_person: bool = False
    deaths: int = 0

    @property
    def local_id(self) -> str:
        """The id that the events of this leg bear as ``call``."""
        return f"{self.id}@{self.fence}"


class Succeeded(msgspec.Struct, frozen=True, kw_only=True):
    """The call returned.

    Args:
        result: Its result as JSON, for ``LeasedOperation.decode_result``.
        attempt: The number of the attempt that succeeded.
    """

    result: bytes
    attempt: int


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """The call failed for good, or was not allowed to begin.

    Args:
        error: The name of the class of the exception.
        text: Its message, redacted.
        reason: Why there is no further attempt.
        attempt: The number of the last attempt that was made; 0 for none.
        category: The category of the failure; None if it was not classified.
        failure: What the failure means; None if it was not classified.
        is_rejected: Whether no attempt was made at all.
    """

    error: str
    text: str
    reason: str
    attempt: int
    category: Category | None = None
    failure: FailureClassified | None = None
    is_rejected: bool = False


class Postponed(msgspec.Struct, frozen=True, kw_only=True):
    """The leg is over and the call is not: it waits, and any node may begin the next leg.

    Args:
        after: Seconds until the next leg; infinite for a call that asks a person.
        why: What it waits for, in words.
        state: The call as the next leg begins with it, but for its fence, and for the time that passes until then
            (``later``).
        asks_person: Whether a person must say retry or give up first.
        is_handed_back: Whether ``hand_back`` ended the leg.
    """

    after: float
    why: str
    state: LeasedCall
    asks_person: bool = False
    is_handed_back: bool = False


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """The call was cancelled by its id.

    Args:
        reason: Why; "" for no reason.
        attempt: The number of the attempt that was cancelled, or that was to begin.
    """

    reason: str
    attempt: int


Ending: TypeAlias = Succeeded | Failed | Postponed | Cancelled
"""How a leg ends."""


def later(call: LeasedCall, seconds: float) -> LeasedCall:
    """*call* after *seconds* between two legs."""
    seconds = max(seconds, 0.0)
    within = None if call.within is None else max(call.within - seconds, 0.0)
    return msgspec.structs.replace(call, elapsed=call.elapsed + seconds, within=within)


def retried(call: LeasedCall) -> LeasedCall:
    """*call* after a person said retry: it asks no more, waits for nothing, and its time begins again if it asked."""
    elapsed = 0.0 if call.asks_person else call.elapsed
    return msgspec.structs.replace(call, asks_person=False, elapsed=elapsed, looks=0, within=None, is_parked=False)


def after_death(call: LeasedCall, came_further: bool = False) -> LeasedCall:
    """*call*, whose node died in a leg that began as *call* says, as the next leg begins with it.

    The attempt uses a retry, unless it *came_further*: it saved a new checkpoint, or made progress.
    """
    after = history.after_death(_record(call, came_further))
    return msgspec.structs.replace(
        call, attempt=after.attempt, retries=after.retries, deaths=after.deaths, has_failed=True, is_cut_off=True
    )


def why_quarantined(call: LeasedCall, config: OperationConfig, came_further: bool = False) -> str | None:
    """As ``recovery.leased.why_quarantined``, for an operation with that *config*."""
    return continuation.why_quarantined(_record(call, came_further), config)


def _record(call: LeasedCall, came_further: bool) -> CallRecord:
    """*call* as a journal would know it whose process died in the leg."""
    return CallRecord(
        call=call.id,
        operation="",
        attempt=call.attempt,
        retries=call.retries,
        deaths=0 if came_further else call.deaths,
        came_further=came_further,
    )
