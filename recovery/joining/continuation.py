"""How a call continues that a dead process left: from its record in the journal to its next attempt."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol

import msgspec

from events.attempt import Attempt
from events.call import Call, Progress
from events.event import FOREVER
from events.operation_events import CheckpointSaved, OperationResumed
from events.repeat_events import OperationRepeated
from events.runner_api import give_up
from events.verdicts import GiveUp, Park, Retry, settle
from recovery.joining.shared_call import Rest
from recovery.subscribers.retry import MAYBE_SENT, judge

if TYPE_CHECKING:
    from events.bus import BusOperation
    from events.operation import Operation
    from recovery.journal.core import JournalCore
    from recovery.journal.history import CallRecord
    from recovery.operations import Definition
    from recovery.settings import OperationConfig
    from recovery.waiting.waiters import Latch


MAX_DEATHS = 3
"""Attempts in a row that may die with their process and be made again, where the policy sets no limit on retries."""


def why_quarantined(record: CallRecord, config: OperationConfig) -> str | None:
    """Why a person must look at the call first: the last attempt that it may make died with its process.

    ``None`` if it may go on, or is not begun again in any case.
    """
    from recovery.journal.history import after_death  # here: the journal that has the call has imported it

    limit, after = config.policy.most_retries, after_death(record)
    if after.deaths <= record.deaths or not config.may_repeat:
        return None
    if limit is None:
        many = f"{after.deaths} processes in a row died in it, without a new checkpoint or progress in between"
        return many if after.deaths > MAX_DEATHS else None
    if after.retries <= limit:
        return None
    return f"its process died in attempt {record.attempt}, and its retries ({limit}) are used up"


class Former(msgspec.Struct, eq=False):
    """A call that has ended and is run again, as a new one.

    Args:
        call: Its id.
        attempt: The number of its last attempt.
        saved: The checkpoint from which the new call goes on, as JSON; None for the beginning.
        trace: Its ``CallTraced.trace``; "" if it was not traced.
        handle: Gets the id of the call that runs again.
    """

    call: str
    attempt: int
    saved: bytes | None
    trace: str
    handle: Repeats

    def begin(self, call: Call) -> None:
        """*call* is the new one: publish that, and give it the checkpoint."""
        call.publish(
            OperationRepeated,
            1,
            former=self.call,
            trace=self.trace,
            arguments=call.raw_arguments,
            version=call.version,
            idempotency_key=call.idempotency_key,
        )
        if self.saved is not None:
            call.saved = self.saved
            call.publish(CheckpointSaved, 1, data=msgspec.Raw(self.saved))
        self.repeated_by(call.operation, call.id)

    def repeated_by(self, operation: BusOperation, call: str) -> None:
        """The call *call* of *operation* runs it again: publish that."""
        if not self.handle.call:
            self.handle.call = call
            Call(operation, self.call).publish(OperationRepeated, self.attempt, by=call)
            self.handle.begun.open()


class Repeats(Protocol):
    """What a former call tells: the id of the call that runs again, and, once that is published, that it has begun."""

    call: str
    begun: Latch


def decided(record: CallRecord, config: OperationConfig) -> CallRecord:
    """*record* with the wait that its process decided on, and died too early to write."""
    if record.judged is None:
        return record
    verdict = judge(config, record.judged, 0.0)
    if isinstance(verdict, GiveUp):
        return record
    if isinstance(verdict, Park) and verdict.asks_person:
        return msgspec.structs.replace(record, retries=record.judged.retries, asks_person=True)
    retries = record.judged.retries + (isinstance(verdict, Retry) or verdict.counts_as_retry)
    due = record.judged.at + verdict.after
    return msgspec.structs.replace(record, due=due, delay=verdict.after, retries=retries)


def why_over(record: CallRecord, config: OperationConfig) -> str | None:
    """Why the call has no next attempt, which its process died too early to write; ``None`` if it has one."""
    if record.judged is not None:
        verdict = settle([judge(config, record.judged, 0.0)])
        return verdict.reason if isinstance(verdict, GiveUp) else None
    if record.state == "running" and not config.may_repeat:
        return MAYBE_SENT
    limit = config.policy.most_retries
    return f"out of retries ({limit})" if limit is not None and record.retries > limit else None


def continued(record: CallRecord, operation: Operation) -> Attempt:
    """The attempt that the call of *record* continues with, not begun."""
    has_progress = record.done > 0.0 or record.progress_resets > 0
    call = Call(
        operation,
        record.call,
        began=operation.bus.clock() - record.elapsed,
        retries=record.retries,
        progress=Progress(record.done, record.progress_resets) if has_progress else None,
        saved=record.saved,
        arguments=record.arguments,
        version=record.version,
        idempotency_key=record.idempotency_key,
        failure=record.failure,
        has_failed=True,
        is_resumed=True,
        asks_person=record.asks_person,
    )
    return Attempt(call, record.attempt, record.delay)


def begin_resumed(record: CallRecord, definition: Definition, journal: JournalCore, extra: float = 0.0) -> Rest | str:
    """Publish that the call of *record* is resumed, and where it goes on; or why it is over, published as well.

    Args:
        record: What the journal knows about the call.
        definition: Its operation.
        journal: The journal that has it.
        extra: Seconds to wait if nothing is left of its delay.
    """
    from recovery.journal.history import after_death  # here: the journal that has the call has imported both
    from recovery.journal.remaining import remaining

    decision = decided(after_death(record), definition.config)
    operation = definition.keyed(record.key)
    now = msgspec.structs.replace(journal.run, monotonic=operation.bus.clock(), wall=time.time())
    # A run that is not known there has begun since: its clock is ours.
    delay = remaining(decision, {record.run: now, **journal.pending().runs}, now) or extra
    attempt = continued(decision, operation)
    reason = why_over(decision, definition.config)
    if reason is not None:
        give_up(attempt, GiveUp(reason))
        return reason
    delay = math.inf if decision.asks_person else delay
    after = min(delay, FOREVER)
    of = {"arguments": attempt.call.raw_arguments, "trace": record.trace}
    attempt.call.publish(OperationResumed, attempt.number, after=after, **of)
    return Rest(attempt, delay=delay, is_paused=decision.paused_at is not None)
