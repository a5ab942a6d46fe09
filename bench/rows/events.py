"""Throughput of the journal: events from bus to committed rows, against plain ``executemany`` of the same rows."""

from __future__ import annotations

from adapters.sqlite.store import SQLiteStore
from bench.event_stream import RawCopy, publish
from bench.measure import Effort, ratios, spread
from bench.row import Row, least, thousands
from bench.workloads import NO_RETENTION, scratch
from recovery import Recovery

EVENTS = 200_000
ROUNDS = 25


def measure(effort: Effort) -> list[Row]:
    each = effort.some(EVENTS / ROUNDS) // 3 * 3 + 3
    clock = effort.shared_clock
    ours: list[float] = []
    raw: list[float] = []
    with scratch() as path, Recovery(store=SQLiteStore(path, retention=NO_RETENTION)) as service:
        publish(service, 0, each)
        copy = RawCopy(path, path.with_name("copy.db"))
        copy.write_new()
        for number in range(1, ROUNDS + 1):
            ours.append(publish(service, number * each, each, clock) / each)
            written, took = copy.write_new(clock)
            if written != each:
                raise RuntimeError(f"{each} events were published and {written} rows written")
            raw.append(took / each)
        copy.close()
        assert service.journal is not None
        dropped = service.journal.counts.dropped
    return [
        Row(
            key="events",
            what="events from bus to committed rows, sustained: share of the rate of raw executemany of the same rows",
            unit="x",
            measured=ratios(raw, ours),
            goal=least(0.7),
            before="343 µs each",
            best="sqlite3 executemany 411 000/s",
            note=f"{thousands(each * ROUNDS)} events; {thousands(1 / spread(ours).middle)}/s against "
            f"{thousands(1 / spread(raw).middle)}/s; {dropped} dropped",
        ),
        Row(
            key="events-each",
            what="events from bus to committed rows, each",
            unit="µs",
            measured=spread(ours).scaled(1e6),
        ),
    ]
