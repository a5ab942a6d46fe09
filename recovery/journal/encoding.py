"""How the events of a batch become the rows of a store: redacted, encoded, and with what they are found by."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from events.codec import encode
from events.errors import CodecError
from events.event import CallEvent
from recovery.journal.queue import QueuedEvent
from recovery.journal.recent_calls import recorded_in, result_key
from recovery.journal.store import Row
from recovery.redact import redacted

log = logging.getLogger("recovery.journal")


def rows_of(run: str, batch: Iterable[QueuedEvent]) -> list[Row]:
    """A row for each of *batch*, but for those that no store could take: they are logged."""
    rows = []
    for entry in batch:
        event = entry.event
        assert event is not None
        try:
            body = encode(redacted(event))
        except CodecError as error:  # one event that cannot be written must not take its neighbours along
            log.warning("an event is not journalled: %s", error)
            continue
        call = event.call if isinstance(event, CallEvent) else ""
        recorded = recorded_in(event)
        key = "" if recorded is None else result_key(event.operation, recorded.key)
        rows.append(Row(run, call, type(event).__name__, body, entry.number, result_key=key))
    return rows


def missing(batch: Sequence[QueuedEvent], rows: Sequence[Row]) -> list[int]:
    """The numbers of those of *batch* that have no row."""
    if len(rows) == len(batch):
        return []
    written = {row.number for row in rows}
    return [entry.number for entry in batch if entry.number not in written]
