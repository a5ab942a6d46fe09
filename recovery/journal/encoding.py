"""Events to rows of a store, and back: redacted and encoded, decoded and replayed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

from events.codec import decode, encode
from events.errors import CodecError
from events.event import CallEvent, Event
from recovery.journal.history import CallRecord, OpenCircuit, Run, replay, replay_circuits
from recovery.journal.queue import QueuedEvent
from recovery.journal.recent_calls import recorded_in, result_key
from recovery.journal.store import Pending, Row
from recovery.redact import redacted

log = logging.getLogger("recovery.journal")


def rows_of(run: str, batch: Iterable[QueuedEvent]) -> list[Row]:
    """The rows of *batch*. An event that cannot be encoded has no row, and is logged."""
    rows = []
    for entry in batch:
        event = entry.event
        assert event is not None
        try:
            body = encode(redacted(event))
        except CodecError as error:  # its neighbours are written all the same
            log.warning("an event of the journal is dropped, it cannot be encoded: %s", error)
            continue
        call = event.call if isinstance(event, CallEvent) else ""
        recorded = recorded_in(event)
        key = "" if recorded is None else result_key(event.operation, recorded.key)
        rows.append(Row(run, call, type(event).__name__, body, entry.number, result_key=key))
    return rows


def missing(batch: Sequence[QueuedEvent], rows: Sequence[Row]) -> list[int]:
    """The numbers of the events of *batch* that have no row."""
    if len(rows) == len(batch):
        return []
    written = {row.number for row in rows}
    return [entry.number for entry in batch if entry.number not in written]


def readable(rows: Iterable[Row]) -> Iterator[tuple[str, Event]]:
    """The events of *rows*, each with the run that wrote it; unreadable rows are skipped."""
    for row in rows:
        try:
            if row.is_readable:
                yield row.run, decode(row.body)
        except CodecError:
            continue  # ``unfinished`` logs it when the journal opens


def unfinished(
    runs: Iterable[Run], rows: Iterable[Row], this_run: str
) -> tuple[dict[tuple[str, str], OpenCircuit], Pending]:
    """The circuits and calls that *rows* leave open. The calls of *this_run* are under way, and not pending."""
    records: dict[str, CallRecord] = {}
    circuits: dict[tuple[str, str], OpenCircuit] = {}
    unreadable: dict[str, None] = {}
    for row in rows:
        try:
            if not row.is_readable:
                raise CodecError("it is not what was written")
            event = decode(row.body)
        except CodecError as error:
            log.warning(
                "a journal row cannot be read, its call is not resumed: %s (call %s)", error, row.call or "none"
            )
            unreadable[row.call] = None
        else:
            replay(records, row.run, (event,))
            replay_circuits(circuits, row.run, (event,))
    left = [record for record in records.values() if not record.is_over and record.run != this_run]
    calls = tuple(record for record in left if record.call not in unreadable)
    return circuits, Pending(calls, {run.id: run for run in runs}, tuple(filter(None, unreadable)))
