"""The tables of a journal's file: there is one file format, and a file of another one is never read.

``runs`` has a row for each process that wrote, ``events`` (append-only) one for each event: its JSON in ``body``, Unix
time in ``written``, and in ``sum`` a CRC-32 of the rest, because SQLite itself does not notice a flipped bit in a text.
A row's ``number`` is null if it was written without one. ``result_key`` finds a recorded result, and is null in all
other rows.

A file of an earlier format is set aside whole, one of a newer format is never written.
"""

from __future__ import annotations

import functools
import sqlite3
import zlib
from contextlib import closing

import aiosqlite

from events.operation_events import CallRejected, OperationCancelled, OperationRecovered, OperationSucceeded

APPLICATION_ID = 0x4C52_4A31  # "LRJ1"
SCHEMA_VERSION = 3

DONE = ", ".join(
    f"'{event.__name__}'" for event in (OperationSucceeded, OperationRecovered, OperationCancelled, CallRejected)
)
"""The ends of calls that nobody needs to look at again; those that gave up are kept."""

_SCHEMA = (
    """CREATE TABLE runs (
        id TEXT PRIMARY KEY, boot TEXT NOT NULL, monotonic REAL NOT NULL, wall REAL NOT NULL, pid INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL, call TEXT NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL,
        number INTEGER, written INTEGER NOT NULL, sum INTEGER NOT NULL, result_key TEXT
    ) STRICT""",
    "CREATE INDEX events_by_call ON events (call, kind) WHERE call <> ''",
    "CREATE INDEX events_of_no_call ON events (written) WHERE call = ''",
    "CREATE UNIQUE INDEX events_by_number ON events (run, number)",
    "CREATE INDEX events_by_result ON events (result_key) WHERE result_key IS NOT NULL",
    f"CREATE INDEX events_done ON events (written) WHERE kind IN ({DONE})",
)


def checksum(run: str, number: int, call: str, kind: str, body: bytes, result_key: str = "") -> int:
    """The CRC-32 of an event's row, but for when it was written."""
    return zlib.crc32(body, zlib.crc32(f"{run}\0{number}\0{call}\0{kind}\0{result_key}".encode()))


async def create_tables(connection: aiosqlite.Connection) -> None:
    """Make the tables in an empty file: all of them or, if the caller closes the connection after an error, none."""
    await connection.executescript(f"""
        BEGIN IMMEDIATE;
        {";".join(_SCHEMA)};
        PRAGMA application_id = {APPLICATION_ID};
        PRAGMA user_version = {SCHEMA_VERSION};
        COMMIT;
    """)


@functools.cache
def expected_schema() -> set[tuple[str, str, str]]:
    """What a journal's file has: kind, name and SQL of each, the SQL made ``plain``."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in _SCHEMA:
            connection.execute(statement)
        found = connection.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
    return {(kind, name, plain(sql)) for kind, name, sql in found}


def plain(sql: str | None) -> str:
    """*sql* without what only a reader sees."""
    return " ".join((sql or "").split())


async def number_of(connection: aiosqlite.Connection, pragma: str) -> int:
    """What SQLite answers to a pragma that asks for a number."""
    [(number,)] = await connection.execute_fetchall(f"PRAGMA {pragma}")
    return int(number)
