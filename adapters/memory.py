"""A store in memory, for tests and experiments: nothing survives the process."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Collection, Sequence

from events.codec import decode
from recovery.journal.circuit_history import CIRCUIT
from recovery.journal.history import QUESTIONS, TERMINAL, Run
from recovery.journal.store import Remembered, Row, Store, kept_after

TERMINAL_KINDS = frozenset(event.__name__ for event in TERMINAL)
CIRCUIT_KINDS = frozenset(event.__name__ for event in CIRCUIT)
QUESTION_KINDS = frozenset(event.__name__ for event in QUESTIONS)


class MemoryStore(Store):
    """A store in memory, for tests and experiments: nothing survives the process.

    Its rows are there for the next service that opens it.

    Args:
        capacity: How many rows are kept, the latest.
    """

    def __init__(self, capacity: int = 100_000) -> None:
        self.rows: deque[Row] = deque()
        self.runs: dict[str, Run] = {}
        self._capacity = capacity
        self._known: set[tuple[str, int]] = set()
        self._questions: list[Row] = []
        self._remembered: dict[str, Remembered] = {}

    async def open(self, run: Run) -> Sequence[str]:
        """Keep *run*."""
        self.runs[run.id] = run
        return ()

    async def unfinished(self) -> tuple[Sequence[Run], Sequence[Row]]:
        """Every row of every call without a terminal event and of every circuit, and the runs."""
        over = {row.call for row in self.rows if row.kind in TERMINAL_KINDS}
        wanted = [row for row in self.rows if (row.call and row.call not in over) or row.kind in CIRCUIT_KINDS]
        return list(self.runs.values()), wanted

    async def history(self, call: str) -> Sequence[Row]:
        """Every row of one call."""
        return [row for row in self.rows if row.call == call]

    async def recorded(self, key: str | None = None, *, limit: int = 1) -> Sequence[Row]:
        """The latest rows with a result of that *key*, or of any."""
        wanted = (row for row in reversed(self.rows) if row.result_key and key in (None, row.result_key))
        return list(itertools.islice(wanted, limit))

    async def ended(self, kinds: Collection[str], *, since: float | None = None) -> Sequence[str]:
        """The calls that an event of one of *kinds* has ended, the latest first."""
        rows = (row for row in reversed(self.rows) if row.kind in kinds)
        return [row.call for row in rows if since is None or self._age(row) <= since]

    def _age(self, row: Row) -> float:
        """Seconds since the event of *row*."""
        run = self.runs[row.run]
        return time.time() - (decode(row.body).at - run.monotonic + run.wall)

    async def questions(self) -> Sequence[Row]:
        """Every row about a question: also where several services share this store."""
        return tuple(self._questions)

    async def remembered(self) -> Sequence[Remembered]:
        """The secrets that were remembered, also those of other services that share this store."""
        return list(self._remembered.values())

    async def remember(self, changed: Sequence[Remembered]) -> None:
        """Keep or drop secrets, in memory."""
        self._remembered = kept_after(self._remembered.values(), changed)

    async def append(self, rows: Sequence[Row]) -> None:
        """Keep the *rows* that are not here yet."""
        for row in rows:
            identity = (row.run, row.number)
            if identity not in self._known:
                self._known.add(identity)
                self.rows.append(row)
                if row.kind in QUESTION_KINDS:
                    self._questions.append(row)
        while len(self.rows) > self._capacity:
            gone = self.rows.popleft()
            self._known.discard((gone.run, gone.number))

    async def sync(self) -> None:
        """Do nothing: memory does not survive a power loss."""

    async def close(self) -> None:
        """Do nothing: no file is open."""
