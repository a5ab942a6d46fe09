"""Events to rows of a store, and back: redacted and encoded, decoded and replayed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

import msgspec

from events.alert_events import AlertRaised
from events.codec import decode, encode
from events.errors import CodecError
from events.event import CallEvent, Event
from events.operation_events import Outcome
from events.own_log import own_log
from recovery.journal.history import CallRecord, OpenCircuit, Run, recorded_in, replay, replay_circuits, result_key
from recovery.journal.intake import QueuedEvent
from recovery.journal.store import Pending, Row
from recovery.redact import redacted

log = own_log("recovery.journal")


def rows_of(run: str, batch: Iterable[QueuedEvent]) -> tuple[list[Row], list[int]]:
    """The rows of *batch*, and the numbers of the events that cannot be encoded: these are logged, and have no row."""
    rows, unwritable = [], []
    for entry in batch:
        event = entry.event
        assert event is not None
        try:
            if isinstance(event, Outcome | AlertRaised):
                event = msgspec.structs.replace(event, failure=None)  # its row is there already
            body = encode(redacted(event))
        except CodecError as error:  # its neighbours are written all the same
            log.warning("an event of the journal is dropped, it cannot be encoded: %s", error)
            unwritable.append(entry.number)
            continue
        call = event.call if isinstance(event, CallEvent) else ""
        recorded = recorded_in(event)
        key = "" if recorded is None else result_key(event.operation, recorded.key)
        rows.append(Row(run, call, type(event).__name__, body, entry.number, result_key=key))
    return rows, unwritable


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
    for row in rows:
        try:
            event = _event_of(row)
        except CodecError as error:
            log.warning(
                "a journal row cannot be read, its call is not resumed (call %s): %s", row.call or "none", error
            )
            unreadable[row.call] = None
        else:
            replay(records, row.run, (event,))
            replay_circuits(circuits, row.run, (event,))
    left = [record for record in records.values() if not record.is_over and record.run != this_run]
    calls = tuple(record for record in left if record.call not in unreadable)
    return circuits, Pending(calls, {run.id: run for run in runs}, tuple(filter(None, unreadable)))
