"""A store that fails where a test wants it to: sweep over every call, and see that the invariants hold each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

from recovery.journal.errors import JournalError
from recovery.journal.history import Run
from recovery.journal.store import Command, Row, Store


class FaultyStore(Store):
    """*store*, of which call number *fail_at* (from 1, of ``open``, ``append`` and all others together) fails.

    With *sticky* every later call fails too; with *after* the call has its effect before it fails, as when the disk
    reports an error for what it has written. *error* makes the exception. ``calls`` lists the calls made.

        for number in itertools.count(1):
            store = ChaosStore(MemoryStore(), fail_at=number)
            ...
            if len(store.calls) < number:
                break
    """

    def __init__(
        self,
        store: Store,
        *,
        fail_at: int,
        sticky: bool = False,
        after: bool = False,
        error: Callable[[], Exception] = lambda: JournalError("chaos"),
    ) -> None:
        self.store = store
        self.calls: list[str] = []
        self._fail_at = fail_at
        self._sticky = sticky
        self._after = after
        self._error = error

    def heal(self) -> None:
        """From now on nothing fails."""
        self._fail_at = 0

    def _fails(self) -> bool:
        number = len(self.calls)
        return number == self._fail_at or (self._sticky and 0 < self._fail_at < number)

    def _before(self, name: str) -> None:
        self.calls.append(name)
        if not self._after and self._fails():
            raise self._error()

    def _afterwards(self) -> None:
        if self._after and self._fails():
            raise self._error()

    async def open(self, run: Run) -> Sequence[str]:
        """As the store's, or fail."""
        self._before("open")
        found = await self.store.open(run)
        self._afterwards()
        return found

    async def unfinished(self) -> tuple[Sequence[Run], Sequence[Row]]:
        """As the store's, or fail."""
        self._before("unfinished")
        found = await self.store.unfinished()
        self._afterwards()
        return found

    async def history(self, call: str) -> Sequence[Row]:
        """As the store's, or fail."""
        self._before("history")
        found = await self.store.history(call)
        self._afterwards()
        return found

    async def recorded(self, key: str | None = None, *, limit: int = 1) -> Sequence[Row]:
        """As the store's, or fail."""
        self._before("recorded")
        found = await self.store.recorded(key, limit=limit)
        self._afterwards()
        return found

    async def append(self, rows: Sequence[Row]) -> None:
        """As the store's, or fail."""
        self._before("append")
        await self.store.append(rows)
        self._afterwards()

    async def close(self) -> None:
        """As the store's, and then maybe fail: what is open is let go of in any case."""
        self.calls.append("close")
        await self.store.close()
        if self._fails():
            raise self._error()

    async def sync(self) -> None:
        """As the store's, or fail."""
        self._before("sync")
        await self.store.sync()
        self._afterwards()

    async def adopt(self) -> bool:
        """As the store's, or fail."""
        self._before("adopt")
        found = await self.store.adopt()
        self._afterwards()
        return found

    async def prune(self) -> bool:
        """As the store's, or fail."""
        self._before("prune")
        more = await self.store.prune()
        self._afterwards()
        return more

    async def commands(self, is_ours: Callable[[str], bool]) -> Sequence[Command]:
        """As the store's: asked for by the clock, so it never counts and never fails."""
        return await self.store.commands(is_ours)

    def forked(self) -> Self:
        """Itself: the same trouble for everybody."""
        return self
