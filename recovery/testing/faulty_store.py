"""A store that fails at a chosen call, to check that invariants hold for every call that may fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import ParamSpec, TypeVar

from recovery.journal.errors import JournalError
from recovery.journal.history import Run
from recovery.journal.store import Claim, CommandSink, Remembered, Row, Store, Taken, Wants

P = ParamSpec("P")
R = TypeVar("R")


class FaultyStore(Store):
    """A store whose call number *fail_at* fails; all other calls go to *store*.

        for number in itertools.count(1):
            store = FaultyStore(MemoryStore(), fail_at=number)
            ...
            if len(store.calls) < number:
                break

    Args:
        store: The store that does the work.
        fail_at: The number of the call that fails, counted from 1 over all methods together; 0 means none.
        sticky: Every later call fails too.
        after: The call takes effect before it fails, as when a disk reports an error for data that it has written.
        error: Makes the exception.
    """

    def __init__(
        self,
        store: Store,
        *,
        fail_at: int,
        sticky: bool = False,
        after: bool = False,
        error: Callable[[], Exception] = lambda: JournalError("injected fault"),
    ) -> None:
        self.store = store
        self.calls: list[str] = []
        """The names of the methods that were called, in order."""
        self._fail_at = fail_at
        self._sticky = sticky
        self._after = after
        self._error = error

    def heal(self) -> None:
        """Let every later call succeed."""
        self._fail_at = 0

    def _fail_if_due(self) -> None:
        number = len(self.calls)
        if number == self._fail_at or (self._sticky and 0 < self._fail_at < number):
            raise self._error()

    async def _call(self, function: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        self.calls.append(function.__name__)
        if not self._after:
            self._fail_if_due()
        result = await function(*args, **kwargs)
        if self._after:
            self._fail_if_due()
        return result

    async def open(self, run: Run) -> Sequence[str]:
        """Call the store's ``open``, or fail."""
        return await self._call(self.store.open, run)

    async def unfinished(self) -> tuple[Sequence[Run], Sequence[Row]]:
        """Call the store's ``unfinished``, or fail."""
        return await self._call(self.store.unfinished)

    async def history(self, call: str) -> Sequence[Row]:
        """Call the store's ``history``, or fail."""
        return await self._call(self.store.history, call)

    async def ended(self, kinds: Collection[str], *, since: float | None = None) -> Sequence[str]:
        """Call the store's ``ended``, or fail."""
        return await self._call(self.store.ended, kinds, since=since)

    async def recorded(self, key: str | None = None, *, limit: int = 1) -> Sequence[Row]:
        """Call the store's ``recorded``, or fail."""
        return await self._call(self.store.recorded, key, limit=limit)

    async def append(self, rows: Sequence[Row]) -> None:
        """Call the store's ``append``, or fail."""
        await self._call(self.store.append, rows)

    async def close(self) -> None:
        """Call the store's ``close``, then maybe fail: files are closed in any case."""
        self.calls.append("close")
        await self.store.close()
        self._fail_if_due()

    async def sync(self) -> None:
        """Call the store's ``sync``, or fail."""
        await self._call(self.store.sync)

    async def check(self) -> None:
        """Call the store's ``check``: never counted and never failing, since it is called by the clock."""
        await self.store.check()

    async def adopt(self, wants: Wants | None = None) -> bool:
        """Call the store's ``adopt``, or fail."""
        return await self._call(self.store.adopt, wants)

    def claim(self, identity: bytes) -> Claim | Taken | None:
        """Call the store's ``claim``: never counted and never failing, since callers' threads call it."""
        return self.store.claim(identity)

    async def calls_of(self, operation: str, since: float | None) -> tuple[Sequence[Run], Sequence[Row]]:
        """Call the store's ``calls_of``, or fail."""
        return await self._call(self.store.calls_of, operation, since)

    async def take_over(self, calls: Collection[str]) -> None:
        """Call the store's ``take_over``, or fail."""
        await self._call(self.store.take_over, calls)

    async def prune(self) -> bool:
        """Call the store's ``prune``, or fail."""
        return await self._call(self.store.prune)

    async def questions(self) -> Sequence[Row]:
        """Call the store's ``questions``: never counted and never failing, since it is called by the clock."""
        return await self.store.questions()

    async def remembered(self) -> Sequence[Remembered]:
        """Call the store's ``remembered``: never counted and never failing, since it is called by the clock."""
        return await self.store.remembered()

    async def remember(self, changed: Sequence[Remembered]) -> None:
        """Call the store's ``remember``, or fail."""
        await self._call(self.store.remember, changed)

    async def commands(self, sink: CommandSink) -> bool:
        """Call the store's ``commands``: never counted and never failing, since it is called by the clock."""
        return await self.store.commands(sink)
