"""Outcomes that could not be written while the servers did not answer: kept in the journal, and delivered later."""

from __future__ import annotations

from adapters.nats.engine import Engine
from adapters.nats.holding import Holding
from adapters.nats.record import CallRecord, Change
from adapters.nats.transitions import Transition
from recovery.service import Recovery

EVERY = 5.0
"""Seconds between two attempts to deliver."""


class Outcomes:
    """The outcomes of a service that its cluster has not taken yet.

    The journal has an outcome first, then the servers, and then it is settled in the journal. A process that dies in
    between delivers it again after its restart, and finds its own record.

    Args:
        service: Its journal keeps them; without a store, its memory.
        engine: The servers.
    """

    def __init__(self, service: Recovery, engine: Engine, every: float = EVERY) -> None:
        self._service = service
        self._engine = engine
        self._every = every

    async def finish(self, holding: Holding, transition: Transition) -> CallRecord | None:
        """Write what ends a leg; None if it is kept, because no server answers, or superseded, because it was lost.

        Raises:
            RefusedError: *transition* says why nothing is to be written.
            TooLargeError: The servers do not take it.
        """
        raise NotImplementedError

    def keep(self, call: str, fence: int, token: str, change: Change) -> None:
        """Keep *change*, which ends the leg of *call* under *fence* and *token*, until the servers take it."""

    async def run(self) -> None:
        """Deliver: now, every few seconds, and after ``wake``; until it is cancelled."""

    def wake(self) -> None:
        """Deliver soon: the servers answer again. From any thread."""

    async def deliver(self) -> int:
        """Deliver what is kept, and return how many outcomes are left."""
        raise NotImplementedError
