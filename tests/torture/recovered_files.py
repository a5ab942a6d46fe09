"""What a killed process left behind: its notes, and the events in its journal's files."""

from __future__ import annotations

import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import msgspec

from adapters.sqlite import files, schema
from events.codec import decode
from events.event import CallEvent
from events.operation_events import CheckpointSaved
from recovery.journal.config import JOURNAL_DEFAULTS
from recovery.journal.history import TERMINAL

Event: TypeAlias = tuple[str, int]
"""An event's kind and its attempt, unique within a call."""
DONE = frozenset(kind.strip("' ") for kind in schema.DONE.split(","))
ENDS = frozenset(kind.__name__ for kind in TERMINAL)


class Notes(msgspec.Struct):
    """What a process noted."""

    run: str = ""
    opened: float | None = None
    closed: bool = False
    accepted: dict[str, list[tuple[Event, float]]] = msgspec.field(default_factory=lambda: defaultdict(list))
    acknowledged: list[tuple[str, Event]] = []
    left: set[str] = set()
    quarantined: set[str] = set()
    commits: list[tuple[float, float]] = []
    """When each began and ended; the last one at the kill."""

    @classmethod
    def read(cls, path: Path, killed: float) -> Notes:
        """The notes at *path* of a process that was *killed* at that time."""
        notes, begun, is_closing = cls(), None, False
        # The last line may be torn by the kill.
        for line in path.read_text().split("\n")[:-1]:
            match line.split():
                case ["began", run]:
                    notes.run = run
                case ["opened", at]:
                    notes.opened = float(at)
                case ["closed", _]:
                    notes.closed = True
                case ["quarantined", call]:
                    notes.quarantined.add(call)
                case ["left", call]:
                    notes.left.add(call)
                case ["accepted", call, kind, attempt, at]:
                    notes.accepted[call].append(((kind, int(attempt)), float(at)))
                case ["acknowledged", call, kind, attempt]:
                    notes.acknowledged.append((call, (kind, int(attempt))))
                case ["promised", call, kind, attempt] if not is_closing:
                    notes.acknowledged.append((call, (kind, int(attempt))))
                case ["closing"]:
                    is_closing = True
                case ["commit", at]:
                    begun = float(at)
                case ["committed", at]:
                    notes.commits.append((begun, float(at)))
                    begun = None
        if begun is not None:
            notes.commits.append((begun, killed))
        return notes

    def window(self, accepted: float) -> float:
        """Seconds for which an event that was *accepted* at that time may be lost: D6.

        It waits for the flush interval, or for the commit that is under way; then for its own commit.
        """
        commit = max((ended - begun for begun, ended in self.commits if ended > accepted), default=0.0)
        return max(JOURNAL_DEFAULTS.flush_interval, commit) + commit


class Stored(msgspec.Struct):
    """What the files of a journal hold, read from copies: the next process finds the files as the kill left them."""

    rows: dict[tuple[str, int, str], CallEvent] = {}
    done: int = 0
    shuffled: set[str] = set()
    """Calls whose events, of one run, are not in the order of their numbers."""

    @classmethod
    def read(cls, path: Path, scratch: Path, runs: Iterable[str] | None = None) -> Stored:
        """The events of calls in all files, once each, in the order written; with *runs*, only theirs."""
        stored = cls()
        for part in files.journal_files(path):
            copy = scratch / "copy.db"
            for ending in ("", "-wal"):
                (scratch / f"copy.db{ending}").unlink(missing_ok=True)
                original = part.with_name(part.name + ending)
                if original.exists():
                    shutil.copyfile(original, scratch / f"copy.db{ending}")
            if copy.stat().st_size == 0 and not copy.with_name("copy.db-wal").exists():
                continue  # killed when it had just been made
            with closing(sqlite3.connect(copy)) as connection:
                stored._read(connection, runs)
        return stored

    def _read(self, connection: sqlite3.Connection, runs: Iterable[str] | None) -> None:
        [(version,)] = connection.execute("PRAGMA user_version")
        if version == 0:
            return  # killed before there was a table
        query = "SELECT run, number, call, body FROM events WHERE call <> ''"
        if runs is None:
            found = connection.execute(f"{query} ORDER BY id").fetchall()
        else:
            found = [row for run in runs for row in connection.execute(f"{query} AND run = ? ORDER BY id", (run,))]
        latest: dict[tuple[str, str], int] = {}
        for run, number, call, body in found:
            if number <= latest.get((run, call), 0):
                self.shuffled.add(call)
            latest[run, call] = number
            event = decode(body)
            assert isinstance(event, CallEvent)
            self.rows[run, number, call] = event
        ends = ", ".join("?" * len(DONE))
        [(done,)] = connection.execute(f"SELECT count(*) FROM events WHERE kind IN ({ends})", sorted(DONE))
        self.done += done

    def events(self) -> dict[tuple[str, str], list[Event]]:
        """The events by run and call, in the order in which they were accepted, without progress."""
        events: dict[tuple[str, str], list[tuple[int, Event]]] = defaultdict(list)
        for (run, number, call), event in self.rows.items():
            if not isinstance(event, CheckpointSaved):
                events[run, call].append((number, (type(event).__name__, event.attempt)))
        return {key: [event for _, event in sorted(found)] for key, found in events.items()}
