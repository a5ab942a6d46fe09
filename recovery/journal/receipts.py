"""Receipts: the word of the journal that what was accepted is committed, or synced, or the reason why it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recovery.journal.errors import NotDurable
from recovery.waiting.waiters import TaskWaiter, ThreadWaiter

if TYPE_CHECKING:
    from recovery.journal.journal import Journal

COMMIT_BUDGET = 5.0
"""Seconds that anybody waits for a commit if nothing else is said."""


class Receipt:
    """For everything that the journal had accepted at one moment.

    Cancelling a wait changes nothing: what was accepted is written all the same, and may be waited for again.
    """

    def __init__(self, journal: Journal, position: int, since: int) -> None:
        self._journal = journal
        self._position = position
        self._since = since

    def __repr__(self) -> str:
        return f"<Receipt for events {self._since + 1} to {self._position}: {self.why_not() or 'committed'}>"

    def why_not(self, *, synced: bool = False) -> str | None:
        """Why it is not committed (or *synced*) at this moment; ``None``: it is. Never waits."""
        return self._journal.why_not(self._position, self._since, synced=synced)

    async def committed(self, timeout: float = COMMIT_BUDGET) -> None:
        """Return when all of it survives ``kill -9``; asyncio or trio.

        Raises NotDurable, saying why, as soon as that cannot be promised: the journal cannot be written, is closed,
        has dropped something, or took more than *timeout* seconds. It may still be written later.
        """
        await self._reach(timeout, synced=False)

    async def synced(self, timeout: float = COMMIT_BUDGET) -> None:
        """As ``committed``, for a loss of power."""
        await self._reach(timeout, synced=True)

    async def _reach(self, timeout: float, *, synced: bool) -> None:
        await self.suspend(timeout, synced=synced)
        self._check(synced=synced)

    def wait(self, timeout: float = COMMIT_BUDGET, *, synced: bool = False) -> None:
        """As ``committed``, or ``synced``, blocking the thread."""
        self.block(timeout, synced=synced)
        self._check(synced=synced)

    async def suspend(self, timeout: float, *, synced: bool = False) -> None:
        """Return when there is nothing more to wait for, however it stands; *timeout* seconds at the most."""
        waiter, woken = TaskWaiter(), False
        self._journal.wake_when_settled(self._position, waiter, synced=synced)
        try:
            woken = await waiter.wait(timeout)
        finally:
            waiter.close()
            if not woken:  # who was woken is forgotten, and to look for it takes long where very many wait
                self._journal.forget(waiter)

    def block(self, timeout: float, *, synced: bool = False) -> None:
        """As ``suspend``, blocking the thread."""
        waiter, woken = ThreadWaiter(), False
        self._journal.wake_when_settled(self._position, waiter, synced=synced)
        try:
            woken = waiter.wait(timeout)
        finally:
            if not woken:
                self._journal.forget(waiter)

    def _check(self, *, synced: bool) -> None:
        reason = self.why_not(synced=synced)
        if reason is not None:
            raise NotDurable(reason)
