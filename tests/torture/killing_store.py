"""A store that kills its own process with SIGKILL at a chosen write."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from adapters.sqlite.store import SQLiteStore
from recovery.journal.history import Run
from recovery.journal.store import Row, Wants


class KillingStore(SQLiteStore):
    """A journal that kills its process at its moment number *at*: just before or just after a write.

    Each event is a write of its own, so that a kill can come between any two of them. Opening and closing the file and
    adopting those of dead processes are writes, too.

    Args:
        path: The journal's file.
        at: The number of the moment, from 1; 0 lets the process live.
    """

    def __init__(self, path: Path, at: int) -> None:
        super().__init__(path)
        self.moments = 0
        self._at = at

    async def open(self, run: Run) -> Sequence[str]:
        self._pass()
        kept = await super().open(run)
        self._pass()
        return kept

    async def append(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._pass()
            await super().append([row])
            self._pass()

    async def adopt(self, wants: Wants | None = None) -> bool:
        self._pass()
        there_is_more = await super().adopt(wants)
        self._pass()
        return there_is_more

    async def close(self) -> None:
        self._pass()
        await super().close()
        self._pass()

    def _pass(self) -> None:
        self.moments += 1
        if self.moments == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
