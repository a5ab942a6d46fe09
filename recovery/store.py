"""Where a journal writes: the one port, with its rows; the adapters are ``adapters.memory`` and ``adapters.sqlite``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from recovery.ledger import CallRecord, Run


class Row(msgspec.Struct, frozen=True):
    """One fact as it is stored: the run that wrote it, the call it is about ("" for none), its kind, its JSON."""

    run: str
    call: str
    kind: str
    body: bytes


class Store(Protocol):
    """Where a journal writes. All of it is awaited from one task of one asyncio loop, one call at a time."""

    async def open(self, run: Run) -> None:
        """Make ready for *run* to write. Raises JournalError or OSError, saying what and where, if that cannot be."""

    async def unfinished(self) -> tuple[Sequence[Run], Sequence[Row]]:
        """The rows of every call that has no terminal fact, and the latest about circuits, in the order written.

        With them come the runs that wrote them.
        """

    async def append(self, rows: Sequence[Row]) -> None:
        """Write *rows* in this order, all or none; they are committed when this returns."""

    async def close(self) -> None:
        """Let go of everything; called once, also after a failed ``open``."""


class Pending(msgspec.Struct, frozen=True):
    """What dead processes left: the calls that are not over, and the runs whose clocks they refer to."""

    calls: tuple[CallRecord, ...] = ()
    runs: dict[str, Run] = {}


def check_store(store: object) -> None:
    """Raise TypeError for what is neither a store nor ``None``."""
    if store is not None and not all(hasattr(store, name) for name in ("open", "unfinished", "append", "close")):
        raise TypeError(f"store must be a Store, as SQLiteStore({store!r}) is, not {store!r}")
