"""What the state machine of a cluster needs of its servers: one port, for NATS JetStream and for a server in memory.

Everything that a call is stands in its record, which ``Engine.write`` changes by compare-and-set, together with the
queue message and the schedule that belong to the change. The rest reads, waits and keeps leases.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol, TypeAlias, TypeVar

import msgspec

from adapters.nats.errors import UnreachableError
from adapters.nats.names import Lane
from adapters.nats.record import Change, Stored

R = TypeVar("R")

AGAIN = 1.0
"""Seconds between two attempts to ask servers that do not answer."""

MISSING_FOR = 1.0
"""Seconds for which the servers must not have what must be there, until it is taken as gone."""

Payload: TypeAlias = Literal["args", "saved", "result"]
"""What is kept beside a record."""


class Delivery(msgspec.Struct, frozen=True):
    """A queue message that a worker got, under a lease. End it with ``Engine.ack`` or ``Engine.put_back``.

    Args:
        call: The id of the call.
        leg: The number of the message; see ``CallRecord.leg``.
        lane: Where it waited.
        lease: What extends the lease, from any connection.
        sent: When it was put into the queue, in seconds since the epoch by the servers' clock.
        number: How often it was delivered so far, this time included: after a worker's death it is a higher one.
    """

    call: str
    leg: int
    lane: Lane
    lease: str
    sent: float
    number: int


class Changes(Protocol):
    """The changes of one call, as they come."""

    async def next(self, timeout: float) -> None:
        """Wait until the call may have changed, *timeout* seconds at most. Read it then: a change may be missed."""
        ...


class Engine(Protocol):
    """The servers of a cluster, as seen by one connection.

    Every method raises ``UnreachableError`` if no server answers in time; what it was to do may have happened all the
    same. ``lease`` is how many seconds after its last extension a lease ends. ``ack``, ``put_back`` and ``extend`` of a
    worker whose lease has ended still work on its message, which another one may have: only a holder may call them.
    """

    lease: float

    async def now(self) -> float:
        """Seconds since the epoch, by the servers' clock; while no server answers, by their latest answer."""
        ...

    async def read(self, call: str) -> Stored | None:
        """The latest record of *call*; None if there is none, or not any more.

        Never an older one than any connection was told of: a message whose record looks older would be dropped.
        """
        ...

    async def payload(self, call: str, kind: Payload) -> bytes | None:
        """What is kept beside the record of *call*; None if there is nothing."""
        ...

    async def write(self, change: Change, expected: int) -> int:
        """Write *change*, if the latest record of the call has the place *expected* in the stream; 0 for a new call.

        Returns the place of the new record. Its record, payloads, queue message and schedule are written at once.

        Raises:
            StaleError: The record has changed since. Nothing was written.
            TooLargeError: The servers take no message of that size.
        """
        ...

    async def take(self, lanes: Sequence[Lane], timeout: float) -> Delivery | None:
        """The next queue message of *lanes*, the first ones first; None if none comes within *timeout* seconds."""
        ...

    async def ack(self, delivery: Delivery) -> None:
        """The message is dealt with: it is not delivered again."""
        ...

    async def put_back(self, delivery: Delivery, after: float = 0.0) -> None:
        """Another worker is to get the message, *after* that many seconds at the earliest."""
        ...

    async def extend(self, lease: str) -> None:
        """The holder of *lease* is alive: it begins anew."""
        ...

    def watch(self, call: str) -> AbstractAsyncContextManager[Changes]:
        """The changes of *call* from now on."""
        ...

    def calls(self) -> AsyncIterator[Stored]:
        """The records of all calls, the longest unchanged first."""
        ...


async def sought(ask: Callable[[], Awaitable[R | None]]) -> R | None:
    """The answer to *ask*; None only if that is the answer twice, ``MISSING_FOR`` seconds apart.

    For what must be there: a server that was stopped may still take itself for the leader when it goes on, and knows
    nothing of what was written meanwhile.
    """
    found = await ask()
    if found is None:
        await asyncio.sleep(MISSING_FOR)
        found = await ask()
    return found


async def answered(ask: Callable[[], Awaitable[R]], timeout: float) -> R:
    """The answer to *ask*, which is asked again for *timeout* seconds while no server answers.

    Raises UnreachableError after that.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout
    while True:
        try:
            return await ask()
        except UnreachableError:
            if loop.time() + AGAIN > until:
                raise
            await asyncio.sleep(AGAIN)
