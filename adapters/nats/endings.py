"""What is written of a call at the end of a leg. Pure."""

from __future__ import annotations

import msgspec

from adapters.nats import transitions
from adapters.nats.outcomes import Ends
from adapters.nats.record import CallRecord, Change, Standing
from adapters.nats.standing import standing_of, written
from recovery.leased import Failed, Postponed
from recovery.redact import redact

LONGEST = 3600.0
"""Seconds after which a call is looked at again whose wait has no end."""


def failed(ending: Failed) -> Ends:
    """What is written of a call that failed for good."""
    category = "" if ending.category is None else ending.category.value
    failure = written(ending.failure)

    def ends(record: CallRecord, now: float) -> Change:
        standing = msgspec.structs.replace(at_attempt(record, ending.attempt), failure=failure, has_failed=True)
        return transitions.gave_up(record, standing, ending.reason, category, (ending.error, ending.text), now)

    return ends


def postponed(ending: Postponed) -> Ends:
    """What is written of a call that waits."""
    after, why, state = min(ending.after, LONGEST), redact(ending.why), ending.state

    def ends(record: CallRecord, now: float) -> Change | str:
        standing = standing_of(state, now)
        return transitions.postponed(record, standing, after, why, now, asks_person=ending.asks_person)

    return ends


def at_attempt(record: CallRecord, attempt: int) -> Standing:
    """Where the call of *record* stands at the end of its last *attempt*."""
    return msgspec.structs.replace(record.standing, attempt=max(attempt, 1))
