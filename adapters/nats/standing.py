"""Where a call stands, as its record has it and as a leg of it begins. Pure."""

from __future__ import annotations

import msgspec

from adapters.nats.names import parse
from adapters.nats.record import NO_FAILURE, CallRecord, Standing
from events.operation_events import FailureClassified, Parked, RetryScheduled
from recovery.leased import LeasedCall
from recovery.redact import redacted

_SHARED = [name for name in Standing.__struct_fields__ if name in LeasedCall.__struct_fields__ and name != "failure"]


def leased_call(record: CallRecord, arguments: bytes = b"", saved: bytes | None = None) -> LeasedCall:
    """The call of *record* as its next leg begins.

    Args:
        record: The record, claimed.
        arguments: Its arguments.
        saved: Its latest checkpoint.

    Raises:
        msgspec.DecodeError: Its latest failure is none that this release knows.
    """
    standing = record.standing
    failure = bytes(standing.failure)
    return LeasedCall(
        id=record.call,
        fence=record.fence,
        saved=saved,
        arguments=arguments,
        idempotency_key=parse(record.call).key,
        failure=msgspec.json.decode(failure, type=FailureClassified) if failure else None,
        **{name: getattr(standing, name) for name in _SHARED},
    )


def standing_of(call: LeasedCall, now: float) -> Standing:
    """What a record says of *call*, as it is at the time *now*."""
    return Standing(failure=written(call.failure), as_of=now, **{name: getattr(call, name) for name in _SHARED})


def written(failure: FailureClassified | None) -> msgspec.Raw:
    """*failure* as a record has it: without passwords and tokens, for all who may look at the cluster read it."""
    return NO_FAILURE if failure is None else msgspec.Raw(msgspec.json.encode(redacted(failure)))


def next_standing(event: RetryScheduled | Parked, failure: FailureClassified, retries: int) -> Standing:
    """Where a call stands whose next attempt begins on the same worker after *event*, which used *retries*."""
    return Standing(
        attempt=event.attempt + 1,
        retries=retries,
        elapsed=failure.elapsed,
        delay=event.after,
        has_failed=True,
        done=failure.done,
        progress_resets=failure.progress_resets,
        failure=written(failure),
    )
