"""The tables of a journal's file, and every statement that reads or writes them. There is one file format.

``runs`` has one row per process that wrote; ``epoch`` is the Unix time by which it dates its rows, less its monotonic
clock. ``events`` is append-only and has one row per event: its JSON in ``body``, Unix time in ``written``. ``run`` and
``number`` identify an event. ``result_key`` finds a recorded result, and is null in all other rows. ``sum`` is a
CRC-32 of the row, because SQLite itself does not notice a flipped bit in a value.

A file of an earlier format is quarantined whole; a file of a newer format is never written.
"""

from __future__ import annotations

import functools
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any
from zlib import crc32

from msgspec.structs import astuple

from events.circuit_events import CircuitHalfOpened
from events.codec import decode
from events.errors import CodecError
from events.incident_events import IncidentClosed
from events.lease_events import CallHandedBack, OutcomeDelivered
from events.operation_events import (
    CallRejected,
    CheckpointSaved,
    OperationCancelled,
    OperationRecovered,
    OperationSucceeded,
)
from recovery.journal.circuit_history import CIRCUIT
from recovery.journal.history import QUESTIONS, TERMINAL, Run
from recovery.journal.store import Row

APPLICATION_ID = 0x4C52_4A31  # "LRJ1"
SCHEMA_VERSION = 5
"""The number of this format. A change of ``TABLES`` needs a new one."""


def _names_of(kinds: Iterable[type]) -> str:
    return ", ".join(f"'{kind.__name__}'" for kind in kinds)


DONE = _names_of(
    (OperationSucceeded, OperationRecovered, OperationCancelled, CallRejected, CallHandedBack, OutcomeDelivered)
)
"""How calls end that may be deleted; calls that gave up are kept."""
_TERMINAL, _CIRCUIT = _names_of(TERMINAL), _names_of(CIRCUIT)
ASKED = _names_of(QUESTIONS)
"""Rows that are never deleted: a person gives an answer once, and a question that asks for a secret always does."""
_CIRCUIT_STATES = _names_of((*CIRCUIT, CircuitHalfOpened, IncidentClosed))

TABLES = (
    """CREATE TABLE runs (
        id TEXT PRIMARY KEY, boot TEXT NOT NULL, monotonic REAL NOT NULL, wall REAL NOT NULL, pid INTEGER NOT NULL,
        epoch REAL NOT NULL, sum INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL, call TEXT NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL,
        number INTEGER NOT NULL, written INTEGER NOT NULL, sum INTEGER NOT NULL, result_key TEXT
    ) STRICT""",
    "CREATE INDEX events_by_call ON events (call, kind) WHERE call <> ''",
    "CREATE INDEX events_of_no_call ON events (written) WHERE call = ''",
    "CREATE UNIQUE INDEX events_by_number ON events (run, number)",
    "CREATE INDEX events_by_result ON events (result_key) WHERE result_key IS NOT NULL",
    f"CREATE INDEX events_done ON events (written) WHERE kind IN ({DONE})",
)
CREATE = f"""
BEGIN IMMEDIATE;
{";".join(TABLES)};
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

LONGEST_BODY = 32 * 1024 * 1024
"""Bytes of a body that is read back: twice the limit of the journal's queue."""
ROWS_OF_OPERATION = 10_000
"""Rows of a file that are looked at, and returned, for the calls of an operation."""
NEVER = 2**62
"""A time after which no row is written."""
ROWS_PER_INSERT = (64, 32, 16, 8, 4, 2, 1)
"""More rows per statement release the interpreter lock less often, for moments too short for another thread."""

_WRITTEN = "run, call, kind, body, number, written, sum, result_key"
_READ = f"run, call, kind, iif(length(body) <= {LONGEST_BODY}, body, NULL) AS body, number, written, sum, result_key"


def _insert(rows: int) -> str:
    values = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * rows)
    return f"INSERT INTO events ({_WRITTEN}) VALUES {values} ON CONFLICT (run, number) DO NOTHING"


INSERT = _insert(1)
_INSERTS = {rows: _insert(rows) for rows in ROWS_PER_INSERT}
# Columns are in the order of the fields of ``Run``, with those that only the file has behind them.
_RUN = "id, boot, monotonic, wall, pid, epoch, sum"
INSERT_RUN = f"INSERT INTO runs ({_RUN}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
DELETE_RUN = "DELETE FROM runs WHERE id = ?"
RUNS = f"SELECT {_RUN} FROM runs ORDER BY rowid"
RAW = f"SELECT {_WRITTEN} FROM events ORDER BY id"
ALL = f"SELECT {_READ} FROM events ORDER BY id"
# One walk over the index; the rows of calls that are over are not touched.
_UNFINISHED = f"""
SELECT call FROM events INDEXED BY events_by_call WHERE call <> '' GROUP BY call HAVING max(kind IN ({_TERMINAL})) = 0
"""
UNFINISHED = f"SELECT {_READ} FROM events WHERE call <> '' AND call IN ({_UNFINISHED}) ORDER BY id"
UNFINISHED_CALLS = f"{_UNFINISHED} ORDER BY min(id)"
# The argument is a JSON list of call ids.
KNOWN_CALLS = "SELECT DISTINCT call FROM events WHERE call <> '' AND call IN (SELECT value FROM json_each(?))"
RAW_OF_CALLS = f"""
SELECT {_WRITTEN} FROM json_each(?) AS wanted CROSS JOIN events ON events.call = wanted.value AND events.call <> ''
ORDER BY wanted.key, events.id
"""
# No index knows the operation: of the calls that are over, only the latest rows are looked at. The arguments are a boot
# and its monotonic clock, and the operation twice.
OF_OPERATION = f"""
WITH recent AS (
    SELECT call FROM events WHERE id > (SELECT max(id) FROM events) - {ROWS_OF_OPERATION}
    AND written >= (SELECT epoch FROM runs WHERE runs.id = events.run AND boot = ?) + ?
    AND call <> '' AND instr(body, ?)
)
SELECT {_READ} FROM events WHERE call <> '' AND kind <> '{CheckpointSaved.__name__}'
AND call IN (SELECT call FROM recent UNION {_UNFINISHED}) AND instr(body, ?) ORDER BY id DESC LIMIT {ROWS_OF_OPERATION}
"""
OF_CALLS = f"""
SELECT {_READ} FROM json_each(?) AS wanted CROSS JOIN events ON events.call = wanted.value AND events.call <> ''
ORDER BY wanted.key, events.id
"""
# The arguments are a JSON list of kinds, and Unix time.
ENDED = """
SELECT call FROM events INDEXED BY events_by_call WHERE call <> '' AND kind IN (SELECT value FROM json_each(?))
AND written >= ? ORDER BY id DESC
"""
LATEST_UNFINISHED = f"{_UNFINISHED} ORDER BY max(id) DESC LIMIT ?"
COUNT_UNFINISHED = f"SELECT '', count(*) FROM ({_UNFINISHED})"
LATEST_OVER = f"SELECT call FROM events WHERE kind IN ({_TERMINAL}) ORDER BY id DESC LIMIT ?"
COUNT_OVER = f"""
SELECT kind, count(*) FROM events INDEXED BY events_by_call WHERE call <> '' AND kind IN ({_TERMINAL}) GROUP BY kind
"""
# The argument is a JSON list of kinds.
OF_KINDS = f"SELECT {_READ} FROM events WHERE kind IN (SELECT value FROM json_each(?)) ORDER BY id"
COUNT_ROWS = "SELECT count(*) FROM events"
COUNT_UNKNOWN = "SELECT count(*) FROM events WHERE run NOT IN (SELECT id FROM runs)"
"""Rows of processes that are not in the file."""
# ``is_sound`` is a function of ours.
UNSOUND = f"""
SELECT call, count(*) FROM (SELECT {_READ} FROM events) WHERE NOT is_sound(
    CAST(run AS BLOB), CAST(call AS BLOB), CAST(kind AS BLOB), body, number, sum, CAST(result_key AS BLOB)
) GROUP BY call LIMIT ?
"""
OF_CALL = f"SELECT {_READ} FROM events WHERE call = ? AND call <> '' ORDER BY id"
RESULT = f"SELECT {_READ} FROM events WHERE result_key = ? ORDER BY id DESC LIMIT ?"
RESULTS = f"""
SELECT {_READ} FROM events INDEXED BY events_by_result WHERE result_key IS NOT NULL ORDER BY id DESC LIMIT ?
"""
QUESTION_ROWS = f"""
SELECT {_READ} FROM events INDEXED BY events_of_no_call WHERE call = '' AND kind IN ({ASKED}) ORDER BY id
"""
CIRCUIT_STATES = f"""
SELECT {_READ} FROM events WHERE id IN (
    SELECT id FROM events INDEXED BY events_of_no_call WHERE call = '' AND kind IN ({_CIRCUIT_STATES})
    ORDER BY id DESC LIMIT 4096
) ORDER BY id
"""
CIRCUITS = f"""
SELECT {_READ} FROM events WHERE id IN (
    SELECT id FROM events INDEXED BY events_of_no_call WHERE call = '' AND kind IN ({_CIRCUIT})
    ORDER BY id DESC LIMIT 4096
) ORDER BY id
"""


@functools.cache
def expected_schema() -> set[tuple[str, str, str]]:
    """Kind, name and SQL (made ``plain``) of each table and index of a journal's file."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in TABLES:
            connection.execute(statement)
        found = connection.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
    return {(kind, name, plain(sql)) for kind, name, sql in found}


def plain(text: str | None) -> str:
    """*text* with single spaces instead of line breaks and indentation."""
    return " ".join((text or "").split())


def checksum(run: str, number: int, call: str, kind: str, body: bytes, result_key: str = "") -> int:
    """The CRC-32 of an event's row; it leaves out when the row was written."""
    return crc32(body, crc32(f"{run}\0{number}\0{call}\0{kind}\0{result_key}".encode()))


def run_values(run: Run, epoch: float) -> tuple[object, ...]:
    """The values of ``INSERT_RUN`` for *run*, which dates its rows by *epoch*."""
    return *astuple(run), epoch, _run_sum(run, epoch)


def as_run(*found: Any) -> tuple[Run, float] | None:
    """The run that a query found, and its epoch; ``None`` if it is not as it was written."""
    *values, epoch, total = found
    try:
        run = Run(**dict(zip(Run.__struct_fields__, values, strict=True)))
        return (run, epoch) if _run_sum(run, epoch) == total else None
    except (TypeError, UnicodeError, OverflowError, struct.error):
        return None


def _run_sum(run: Run, epoch: float) -> int:
    clocks = struct.pack(">3d", run.monotonic, run.wall, epoch)
    return crc32(clocks, crc32(f"{run.id}\0{run.boot}\0{run.pid}".encode()))


def is_sound(
    run: bytes, call: bytes, kind: bytes, body: Any, number: Any, total: Any, result_key: bytes | None
) -> bool:
    """Whether a row has its checksum and holds an event; for SQL. A damaged file may hold any type."""
    try:
        about = b"\0".join((run, str(number).encode(), call, kind, result_key or b""))
        return bool(crc32(body, crc32(about)) == total and decode(body))
    except (TypeError, CodecError):
        return False


def values_of(row: Row, written: int) -> tuple[object, ...]:
    """The values of ``INSERT`` for *row*."""
    run, call, kind, body, number, _, key = astuple(row)
    total = crc32(body, crc32(f"{run}\0{number}\0{call}\0{kind}\0{key}".encode()))  # as ``checksum``, without a call
    return run, call, kind, body, number, written, total, key or None


def inserts(rows: Sequence[Row], written: int) -> Iterator[tuple[str, Iterator[list[object]]]]:
    """The statements that insert *rows* in this order, each with its values.

    Values are made while they are inserted, so that other threads get the interpreter lock in between.
    """
    first = 0
    for many in ROWS_PER_INSERT:
        until = len(rows) - (len(rows) - first) % many
        if first < until:
            yield _INSERTS[many], _values_of_many(rows[first:until], many, written)
        first = until


def _values_of_many(rows: Sequence[Row], many: int, written: int) -> Iterator[list[object]]:
    values: list[object] = []
    for number, row in enumerate(rows, 1):
        values += values_of(row, written)
        if number % many == 0:
            yield values
            values = []


def as_row(run: Any, call: Any, kind: Any, body: Any, number: Any, _: Any, total: Any, result_key: Any) -> Row:
    """The row that a query found, marked unreadable if its checksum is wrong. A damaged file may hold any type."""
    try:
        is_readable = checksum(run, number, call, kind, body, result_key or "") == total
    except (TypeError, UnicodeError):
        is_readable = False
    body, number = body if isinstance(body, bytes) else b"", number if isinstance(number, int) else 0
    return Row(str(run), str(call), str(kind), body, number, is_readable, str(result_key or ""))
