"""Where a journal writes: the one port, with its rows; the adapters are ``adapters.memory`` and
``adapters.sqlite.store``.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, Protocol, Self, TypeAlias

import msgspec

from recovery.journal.history import CallRecord, Run
from recovery.waiting.waiters import Latch


class Row(msgspec.Struct, frozen=True, gc=False):
    """One event as it is stored: the run that wrote it, the call it is about ("" for none), its kind, its JSON.

    *number* counts the events of that run, from 1: the two together are the row's identity.
    *is_readable* is false for a row that is not as it was written; then its body must not be believed. *result_key* is
    what the result that the event records is found by ("" if it records none).
    """

    run: str
    call: str
    kind: str
    body: bytes
    number: int
    is_readable: bool = True
    result_key: str = ""


class Store(Protocol):
    """Where a journal writes. All of it is awaited from one task of one asyncio loop, one call at a time.

    Whatever a method raises, the journal opens the store again later; it closes it once, at the end. Derive from this
    class to inherit what a store without files need not care about.
    """

    async def open(self, run: Run) -> Sequence[str]:
        """Make ready for *run* to write; what had to be set aside for that, one text each (mostly nothing).

        After a failure this is called again: begin anew, but stay who may write. Nobody else may take over what was
        written meanwhile, for its calls are still under way.

        Raises JournalError or OSError, saying what and where, if that cannot be.
        """

    async def unfinished(self) -> tuple[Sequence[Run], Sequence[Row]]:
        """The rows of every call that has no terminal event, and the latest about circuits, in the order written.

        With them come the runs that wrote them.
        """

    async def history(self, call: str) -> Sequence[Row]:
        """Every row of one call, in the order written."""

    async def recorded(self, key: str | None = None, *, limit: int = 1) -> Sequence[Row]:
        """The latest rows with that *result_key*, or with any if it is ``None``; the newest first, *limit* at most."""

    async def append(self, rows: Sequence[Row]) -> None:
        """Write *rows* in this order, all or none; they survive the process when this returns.

        Rows that are there already (the same run and number) are left as they are: a batch may come twice.
        """

    async def close(self) -> None:
        """Let go of everything; also after a failed ``open``."""

    async def sync(self) -> None:
        """Return when everything appended survives a loss of power, as far as the disk is honest."""

    async def adopt(self) -> bool:
        """Take over what processes left that wrote elsewhere and died; whether there was anything."""
        return False

    async def prune(self) -> bool:
        """Delete a little of what need not be kept any more; whether there may be more of it."""
        return False

    async def commands(self, is_ours: Callable[[str], bool]) -> Sequence[Command]:
        """What people have told this process since it was asked last; *is_ours* says which calls are its own.

        If this raises, the journal says so, and asks again; that alone is no trouble with the store.
        """
        return ()

    def forked(self) -> Self:
        """In a forked child: a store of its own, which touches nothing that the parent has open."""
        return self


class Pending(msgspec.Struct, frozen=True):
    """What dead processes left: the calls that are not over, and the runs whose clocks they refer to.

    *unreadable* are calls of which a row is not as it was written: nobody can know where they stand.
    """

    calls: tuple[CallRecord, ...] = ()
    runs: dict[str, Run] = {}
    unreadable: tuple[str, ...] = ()


CommandName: TypeAlias = Literal["retry", "pause", "unpause", "give up"]


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a process is to do with one of its calls: *call* is the id, *reason* goes into ``CallSteered``."""

    name: CommandName
    call: str
    reason: str = ""


class CommandSink(Protocol):
    """What a journal hands the commands to that arrive through its store."""

    def concerns(self, call: str) -> bool:
        """Whether a command for that call is for this process."""

    def carry_out(self, command: Command) -> None:
        """Carry out *command*; log a warning if that is not possible."""

    def after_fork(self) -> None:
        """In a forked child: leave the parent's calls to the parent."""


class Query:
    """What somebody wants to know of the store; *latch* opens when the *answer* is there, or there will be none."""

    def __init__(self, run: Callable[[Store], Coroutine[Any, Any, Any]]) -> None:
        self.run = run
        self.answer: Any = None
        self.latch = Latch()


METHODS = (
    "open",
    "unfinished",
    "history",
    "recorded",
    "append",
    "close",
    "sync",
    "adopt",
    "prune",
    "commands",
    "forked",
)


def check_store(store: object) -> None:
    """Raise TypeError for what is neither a store nor ``None``."""
    if store is not None and not all(hasattr(store, name) for name in METHODS):
        raise TypeError(f"store must be a Store, as SQLiteStore({store!r}) is, not {store!r}")
