"""The clock of a journal's file: within a boot rows are dated alike, however the wall clock is set meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import aiosqlite

from adapters.sqlite import schema
from adapters.sqlite.connection import epochs_in, write
from adapters.sqlite.retention import FIRST
from recovery.journal.history import Run


class Dating:
    """Dates the rows of one process, by the epoch of the first process of this boot that wrote the file.

    Attributes:
        boot: This boot of the machine; "" if it is unknown.
        epoch: Unix time less the monotonic clock.
        aged_since: What was written before this is not deleted for its age: after a jump of the wall clock between two
            boots everything seems old.

    Args:
        wall: Returns Unix time.
        monotonic: Returns monotonic seconds.
    """

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self.boot = ""
        self.epoch = 0.0
        self.aged_since: float = FIRST
        self._wall = wall
        self._monotonic = monotonic
        self._first: float | None = None

    async def introduce(self, run: Run, opened: aiosqlite.Connection) -> Run:
        """Write *run* down in the file, unless it is there, and return what is there."""
        runs = {known.id: (known, epoch) for known, epoch in await epochs_in(opened)}
        of_this_boot = [(known, epoch) for known, epoch in runs.values() if run.boot and known.boot == run.boot]
        if run.id not in runs:
            runs[run.id] = run, of_this_boot[0][1] if of_this_boot else self._wall() - self._monotonic()
            values = schema.run_values(*runs[run.id])
            # A row of this name that is not here is damaged.
            await write(opened, (schema.DELETE_RUN, [(run.id,)]), (schema.INSERT_RUN, [values]))
        known, self.epoch = runs[run.id]
        self.boot = run.boot
        if self._first is None:
            self._first = self.now()
            if of_this_boot:
                self._first = self.aged_since = self.epoch + of_this_boot[0][0].monotonic
        return known

    def now(self) -> float:
        """Unix time as the file counts it."""
        return self.epoch + self._monotonic()

    def pruned(self) -> None:
        """A slice of what was too old when this boot's first process opened the file is deleted: no more of it."""
        self.aged_since = self.now() if self._first is None else self._first
