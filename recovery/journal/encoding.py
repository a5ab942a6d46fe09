"""How the facts of a batch become the rows of a store: redacted, encoded, and with what they are found by."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from events.codec import encode
from events.errors import CodecError
from events.event import CallFact
from recovery.journal.queue import Entry
from recovery.journal.recent_calls import recorded_in, result_key
from recovery.journal.store import Row
from recovery.redact import redacted

log = logging.getLogger("recovery.journal")


def rows_of(run: str, batch: Iterable[Entry]) -> list[Row]:
    """A row for each of *batch*, but for those that no store could take: they are logged."""
    rows = []
    for entry in batch:
        fact = entry.fact
        assert fact is not None
        try:
            body = encode(redacted(fact))
        except CodecError as error:  # one fact that cannot be written must not take its neighbours along
            log.warning("a fact is not journalled: %s", error)
            continue
        call = fact.call if isinstance(fact, CallFact) else ""
        recorded = recorded_in(fact)
        key = "" if recorded is None else result_key(fact.operation, recorded.key)
        rows.append(Row(run, call, type(fact).__name__, body, entry.number, result_key=key))
    return rows


def missing(batch: Sequence[Entry], rows: Sequence[Row]) -> list[int]:
    """The numbers of those of *batch* that have no row."""
    if len(rows) == len(batch):
        return []
    written = {row.number for row in rows}
    return [entry.number for entry in batch if entry.number not in written]
