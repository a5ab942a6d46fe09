"""Events to rows of a store, and back: redacted and encoded, decoded and replayed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import NamedTuple

import msgspec

from events.alert_events import AlertRaised
from events.codec import decode, encode, encode_all
from events.errors import CodecError
from events.event import CallEvent, Event
from events.lease_events import OutcomeHeld
from events.operation_events import OperationRecovered, OperationSucceeded, Outcome
from events.own_log import own_log
from recovery.journal.circuit_history import OpenCircuit, replay_circuits
from recovery.journal.history import CallRecord, Run, replay
from recovery.journal.lane import QueuedEvent
from recovery.journal.pending import Pending
from recovery.journal.results import result_key
from recovery.journal.store import Row
from recovery.redact import redacted, with_texts

log = own_log("recovery.journal")


class _Kind(NamedTuple):
    """What the rows of one class of events need."""

    name: str
    has_call: bool
    has_failure: bool
    has_texts: bool
    may_record: bool


@cache
def _kind(of: type[Event]) -> _Kind:
    return _Kind(
        of.__name__,
        has_call=issubclass(of, CallEvent),
        has_failure=(has_failure := issubclass(of, Outcome | AlertRaised)),
        has_texts=bool({*with_texts(of)} - ({"failure"} if has_failure else set())),
        may_record=issubclass(of, OperationSucceeded | OperationRecovered),
    )


def rows_of(run: str, batch: Sequence[QueuedEvent]) -> tuple[list[Row], list[int]]:
    """The rows of *batch*, and the numbers of the events that cannot be encoded: these are logged, and have no row."""
    unwritable = [entry.number for entry in batch if entry.event is None]
    events = [_as_written(entry.event) for entry in batch if entry.event is not None]
    bodies: Sequence[bytes | None] = encode_all(events) or [_encoded(event) for event in events]
    rows: list[Row] = []
    whole = [entry for entry in batch if entry.event is not None] if unwritable else batch
    for entry, event, body in zip(whole, events, bodies, strict=True):
        if body is None:
            unwritable.append(entry.number)
            continue
        name, has_call, _, _, may_record = _kind(type(event))
        call = event.call if has_call else ""  # type: ignore[attr-defined]  # it is a CallEvent
        recorded = event.recorded if may_record else None  # type: ignore[attr-defined]  # it is one that may record
        key = "" if recorded is None else result_key(event.operation, recorded.key)
        rows.append(Row(run, call, name, body, entry.number, True, key))  # by position: half the time
    return rows, unwritable


def _as_written(event: Event) -> Event:
    _, _, has_failure, has_texts, _ = _kind(type(event))
    if has_failure and event.failure is not None:  # type: ignore[attr-defined]  # it may have one
        event = msgspec.structs.replace(event, failure=None)  # its row is there already
    return redacted(event) if has_texts else event


def _encoded(event: Event) -> bytes | None:
    try:
        return encode(event)
    except CodecError as error:  # its neighbours are written all the same
        log.warning("an event of the journal is dropped, it cannot be encoded: %s", error)
        return None


def readable(rows: Iterable[Row]) -> Iterator[tuple[str, Event]]:
    """The events of *rows*, each with the run that wrote it; unreadable rows are skipped."""
    for row in rows:
        with suppress(CodecError):  # ``unfinished`` logs it when the journal opens
            yield row.run, _event_of(row)


def _event_of(row: Row) -> Event:
    if not row.is_readable:
        raise CodecError("it is not what was written")
    return decode(row.body)


def unfinished(
    runs: Iterable[Run], rows: Iterable[Row], this_run: str
) -> tuple[dict[tuple[str, str], OpenCircuit], Pending]:
    """The circuits and calls that *rows* leave open. The calls of *this_run* are under way, and not pending."""
    records: dict[str, CallRecord] = {}
    circuits: dict[tuple[str, str], OpenCircuit] = {}
    unreadable: dict[str, None] = {}
    held: dict[str, OutcomeHeld] = {}
    for row in rows:
        try:
            event = _event_of(row)
        except CodecError as error:
            log.warning(
                "a journal row cannot be read, its call is not resumed (call %s): %s", row.call or "none", error
            )
            unreadable[row.call] = None
        else:
            if isinstance(event, OutcomeHeld):
                held[event.call] = event
            replay(records, row.run, (event,))
            replay_circuits(circuits, row.run, (event,))
    left = [record for record in records.values() if not record.is_over and record.run != this_run]
    calls = tuple(record for record in left if record.call not in unreadable and not record.is_leased)
    leased = tuple(record for record in left if record.is_leased and record.call not in held)
    kept = tuple(held[record.call] for record in left if record.call in held)
    return circuits, Pending(calls, {run.id: run for run in runs}, tuple(filter(None, unreadable)), leased, kept)
