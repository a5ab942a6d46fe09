"""What bodies of a fleet do to the world outside: a file that refuses lower fence numbers, and notes every body."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

SCHEMA = """
CREATE TABLE IF NOT EXISTS bodies (call TEXT, fence INTEGER, node TEXT, began REAL, ended REAL);
CREATE TABLE IF NOT EXISTS written (call TEXT PRIMARY KEY, fence INTEGER);
CREATE TABLE IF NOT EXISTS refused (call TEXT, fence INTEGER, newest INTEGER, at REAL);
"""


class Body(msgspec.Struct, frozen=True):
    """One run of the body of *call*; *ended* is None where its process died, or still runs."""

    call: str
    fence: int
    node: str
    began: float
    ended: float | None


class Sink:
    """One SQLite file that the workers of all nodes share.

    Args:
        path: The file; it is made if there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as file:
            file.executescript(SCHEMA)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as file:
            file.execute("PRAGMA synchronous = OFF")  # processes die, not the machine
            yield file

    def begin(self, call: str, fence: int, node: str) -> int:
        """Note that a body begins; returns its number, for ``end``."""
        with self._open() as file:
            row = file.execute("INSERT INTO bodies VALUES (?, ?, ?, ?, NULL)", (call, fence, node, time.time()))
            return row.lastrowid or 0

    def end(self, body: int) -> None:
        """Note that the body with that number has ended, however."""
        with self._open() as file:
            file.execute("UPDATE bodies SET ended = ? WHERE rowid = ?", (time.time(), body))

    def write(self, call: str, fence: int) -> bool:
        """Write in the name of *fence*; whether it was taken: none with a higher number has written."""
        with self._open() as file, file:
            file.execute("BEGIN IMMEDIATE")
            [newest] = file.execute("SELECT max(fence) FROM bodies WHERE call = ?", (call,)).fetchone()
            if fence < newest:
                file.execute("INSERT INTO refused VALUES (?, ?, ?, ?)", (call, fence, newest, time.time()))
                return False
            file.execute("INSERT OR REPLACE INTO written VALUES (?, ?)", (call, fence))
            return True

    def bodies(self) -> list[Body]:
        """All bodies, in the order of their begin."""
        with self._open() as file:
            return [Body(*row) for row in file.execute("SELECT * FROM bodies ORDER BY began")]

    def newest(self, call: str) -> int:
        """The fence of the latest write of *call* that was taken; 0 without one."""
        with self._open() as file:
            row = file.execute("SELECT fence FROM written WHERE call = ?", (call,)).fetchone()
            return row[0] if row else 0

    def refused(self) -> list[tuple[str, int, int, float]]:
        """The call, the fence, the newest fence and the moment of each write that was refused."""
        with self._open() as file:
            return file.execute("SELECT * FROM refused ORDER BY at").fetchall()

    def overlaps(self) -> list[tuple[Body, Body]]:
        """Two bodies of one call that ran at the same time: the earlier one goes on after the later one has begun."""
        by_call: dict[str, list[Body]] = {}
        for body in self.bodies():
            by_call.setdefault(body.call, []).append(body)
        return [
            (earlier, later)
            for several in by_call.values()
            for at, earlier in enumerate(several)
            for later in several[at + 1 :]
            if earlier.ended is not None and earlier.ended > later.began
        ]
