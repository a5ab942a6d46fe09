"""The tables of every released format of a journal's file, and how a file of an older one gets today's.

``runs`` has a row for each process that wrote, ``facts`` (append-only) one for each fact: its JSON in ``body``, Unix
time in ``written``, and in ``sum`` a CRC-32 of the rest, for SQLite itself does not notice a flipped bit in a text.

A row's ``number`` is null where it was written without one (negative once it was copied); ``result_key`` is what a
recorded result is found by, null in all other rows. Format 1 had no ``number``, ``written``, ``sum`` and
``result_key``. A file of an older format is brought up to date in one transaction when it is opened for writing; one of
a newer format is never written.
"""

from __future__ import annotations

import functools
import sqlite3
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import aiosqlite

from events.codec import decode
from events.errors import CodecError
from events.event import CallFact
from events.operation_events import CallRejected, OperationCancelled, OperationRecovered, OperationSucceeded

APPLICATION_ID = 0x4C52_4A31  # "LRJ1"
SCHEMA_VERSION = 2

DONE = ", ".join(
    f"'{fact.__name__}'" for fact in (OperationSucceeded, OperationRecovered, OperationCancelled, CallRejected)
)
"""The ends of calls that nobody needs to look at again; those that gave up are kept."""

_RUNS = """CREATE TABLE runs (
    id TEXT PRIMARY KEY, boot TEXT NOT NULL, monotonic REAL NOT NULL, wall REAL NOT NULL, pid INTEGER NOT NULL
) STRICT"""
_FACTS = """CREATE TABLE facts (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, call TEXT NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL,
    number INTEGER, written INTEGER NOT NULL, sum INTEGER NOT NULL, result_key TEXT
) STRICT"""
INDEXES = {
    "facts_by_call": "CREATE INDEX facts_by_call ON facts (call, kind) WHERE call <> ''",
    "facts_of_no_call": "CREATE INDEX facts_of_no_call ON facts (written) WHERE call = ''",
    "facts_by_number": "CREATE UNIQUE INDEX facts_by_number ON facts (run, number)",
    "facts_by_result": "CREATE INDEX facts_by_result ON facts (result_key) WHERE result_key IS NOT NULL",
    "facts_done": f"CREATE INDEX facts_done ON facts (written) WHERE kind IN ({DONE})",
}
_FORMATS: dict[int, tuple[str, ...]] = {
    0: (),
    1: (
        _RUNS,
        """CREATE TABLE facts (
            id INTEGER PRIMARY KEY, run TEXT NOT NULL, call TEXT NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL
        ) STRICT""",
        "CREATE INDEX facts_by_call ON facts (call, kind) WHERE call <> ''",
        "CREATE INDEX facts_of_no_call ON facts (kind) WHERE call = ''",
    ),
    SCHEMA_VERSION: (_RUNS, _FACTS, *INDEXES.values()),
}


def checksum(run: str, number: int, call: str, kind: str, body: bytes, result_key: str = "") -> int:
    """The CRC-32 of a fact's row, but for when it was written."""
    return zlib.crc32(body, zlib.crc32(f"{run}\0{number}\0{call}\0{kind}\0{result_key}".encode()))


async def bring_up_to_date(connection: aiosqlite.Connection) -> None:
    """Make the tables, or those of an older format today's: all of it or, if anything fails, none."""
    version = await number_of(connection, "user_version")
    if version == SCHEMA_VERSION:
        return
    await connection.create_function("sum_of", 4, _sum_of)
    async with transaction(connection):
        if version == 1:
            for name in ("facts_by_call", "facts_of_no_call"):
                await connection.execute(f"DROP INDEX {name}")
            await connection.execute("ALTER TABLE facts RENAME TO old")
        for statement in _FORMATS[SCHEMA_VERSION]:
            if version == 0 or statement != _RUNS:  # which has not changed
                await connection.execute(statement)
        if version == 1:
            await connection.execute(
                "INSERT INTO facts (id, run, call, kind, body, written, sum)"
                " SELECT id, run, call, kind, body, ?, sum_of(run, call, kind, body) FROM old",
                (int(time.time()),),
            )
            await connection.execute("DROP TABLE old")
        await connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        await connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _sum_of(run: str, call: str, kind: str, body: bytes) -> int:
    return checksum(run, 0, call, kind, body)


@asynccontextmanager
async def transaction(connection: aiosqlite.Connection) -> AsyncIterator[None]:
    """What is done in it is done as a whole or, if anything fails, not at all."""
    await connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        await connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors end it by themselves
            await connection.execute("ROLLBACK")
        raise


async def rebuild(connection: aiosqlite.Connection) -> None:
    """Have the indexes say again what the rows say, and the rows that their call and kind are what their body says."""
    async with transaction(connection):
        for name in INDEXES:
            await connection.execute(f"DROP INDEX {name}")
        healed, unreadable = [], []
        async with connection.execute(_ALL) as cursor:
            async for key, run, call, kind, body, number, total, result in cursor:
                names = _names_in(body)
                try:
                    rest = (body, result or "")
                    if checksum(run, max(number or 0, 0), call, kind, *rest) == total:
                        continue
                    if names and checksum(run, max(number or 0, 0), *names, *rest) == total:
                        healed.append((*names, key))
                        continue
                except (TypeError, UnicodeError):
                    pass  # there is something else in it than we write
                unreadable.append((key,))
        await connection.executemany("UPDATE facts SET call = ?, kind = ? WHERE id = ?", healed)
        # Its number may be the damaged part, and that of another row now.
        await connection.executemany("UPDATE facts SET number = NULL WHERE id = ?", unreadable)
        for statement in INDEXES.values():
            await connection.execute(statement)
        await connection.execute("REINDEX runs")


_ALL = "SELECT id, run, call, kind, body, number, sum, result_key FROM facts"


def _names_in(body: object) -> tuple[str, str] | None:
    """The call and the kind that *body* is about, which are told twice."""
    try:
        fact = decode(body)  # type: ignore[arg-type]  # that it is bytes is what is tried
    except (CodecError, TypeError):
        return None
    return fact.call if isinstance(fact, CallFact) else "", type(fact).__name__


@functools.cache
def schema_of(version: int) -> set[tuple[str, str, str]]:
    """What a file of that format has: kind, name and SQL of each, the SQL made ``plain``."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in _FORMATS.get(version, ()):
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
