"""A node tells the cluster of itself: that it lives and what it runs, and the events of its bus, in batches."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

import anyio
import msgspec

from adapters.nats.board import Board, ClusterEvent, Node
from adapters.nats.engine import Engine
from adapters.nats.errors import ClusterError
from adapters.nats.names import claim_of
from events.bus import Bus
from events.codec import encode
from events.errors import CodecError
from events.event import NOTHING, CallEvent, Event
from events.operation_events import (
    CheckpointSaved,
    OperationFailed,
    OperationStarted,
    OperationSucceeded,
)
from events.subscription import Subscription
from recovery.installation import DISTRIBUTION
from recovery.redact import redacted

EVERY = 5.0
"""Seconds between two signs of life."""

BATCH_EVERY = 0.25
"""Seconds between two batches of events."""

MOST_WAITING = 10_000
"""Events that wait to be told; further ones are dropped and counted."""

MOST_IN_BATCH = 1_000
"""Events of one batch."""

MOST_BYTES = 64 * 1024
"""Bytes of an event; a larger one is dropped and counted."""


class Working(Protocol):
    """A worker of the node, as it is told of."""

    @property
    def names(self) -> list[str]:
        """The operations that it runs."""
        ...

    @property
    def versions(self) -> dict[str, str]:
        """The versions of those that have one, by their names."""
        ...

    @property
    def running(self) -> int:
        """How many calls it runs now."""
        ...

    @property
    def concurrency(self) -> int:
        """How many it runs at most."""
        ...


class NodeReporter:
    """Tells of one node while it works: of all its workers as of one.

    It never holds up a body: publishing an event appends it to a queue. What the queue does not take, what is too large
    and what no server takes is dropped, and counted in ``dropped``. Of operations that no worker runs, the beginning
    and the success of a call are not told.

    Args:
        bus: The bus of the service, whose events are told.
        engine: The servers, for their clock.
        board: Where to tell.
        node: The name of this node.
    """

    def __init__(self, bus: Bus, engine: Engine, board: Board, *, node: str) -> None:
        self._bus, self._engine, self._board, self._node = bus, engine, board, node
        self._workers: list[Working] = []
        self._subscribed: dict[str, Subscription] = {}
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[Event] = deque()
        self._dropped = 0
        self._lock = threading.Lock()
        self._latest: Node | None = None
        self._ahead = 0.0

    @property
    def dropped(self) -> int:
        """Events that were not told."""
        return self._dropped

    @asynccontextmanager
    async def telling(self, worker: Working) -> AsyncIterator[None]:
        """Tell of *worker* within the block; after the last one, tell that the node has stopped."""
        self._workers.append(worker)
        self._subscribe()
        if self._workers == [worker]:
            self._task = asyncio.create_task(
                self._run_after(self._task), name="recovery: tell the cluster of this node"
            )
        task = self._task
        try:
            yield
        finally:
            self._workers.remove(worker)
            self._subscribe()
            if task is not None and not self._workers:
                task.cancel()
                await asyncio.wait([task])

    async def _run_after(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        await self.run()

    async def run(self) -> None:
        """Tell until this task is cancelled; then tell what is left, and that the node has stopped, in 2 s at most."""
        self._latest = None
        subscription = self._bus.subscribe(Event, self._take)  # all but the two of a healthy call
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._beat)
                tasks.start_soon(self._tell)
        finally:
            with anyio.move_on_after(2.0, shield=True), suppress(ClusterError):
                await self.flush()
                await self.sign(is_stopped=True)
            subscription.close()

    async def sign(self, *, is_stopped: bool = False) -> None:
        """Give a sign of life, or say that the node *is_stopped*. Raises UnreachableError."""
        now = await self._engine.now()
        self._ahead = now - self._bus.clock()
        since = now if self._latest is None else self._latest.since
        if self._latest is None or not is_stopped:
            self._latest = self._about(since)
        running = 0 if is_stopped else self._latest.running
        await self._board.put(msgspec.structs.replace(self._latest, seen=now, running=running, is_stopped=is_stopped))

    def _about(self, since: float) -> Node:
        return Node(
            node=self._node,
            since=since,
            seen=since,
            operations=tuple(dict.fromkeys(name for worker in self._workers for name in worker.names)),
            versions={name: version for worker in self._workers for name, version in worker.versions.items()},
            running=sum(worker.running for worker in self._workers),
            concurrency=sum(worker.concurrency for worker in self._workers),
            version=_version(),
        )

    async def flush(self) -> None:
        """Tell the events that wait. While no server answers they wait on."""
        while self._waiting:
            taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_IN_BATCH))]
            told = [one for event in taken if (one := self._told(event)) is not None]
            try:
                await self._board.publish(told)
            except ClusterError:  # no server answers, or this user may not tell
                room = max(MOST_WAITING - len(self._waiting), 0)
                self._waiting.extendleft(reversed(taken[-room:] if room else ()))
                self._drop(len(taken) - min(room, len(taken)))
                raise

    async def _beat(self) -> None:
        while True:
            with suppress(ClusterError):
                await self.sign()
            await anyio.sleep(EVERY)

    async def _tell(self) -> None:
        while True:
            await anyio.sleep(BATCH_EVERY)
            if self._latest is not None:  # the servers' clock is known
                with suppress(ClusterError):
                    await self.flush()

    def _subscribe(self) -> None:
        """Subscribe to the beginnings and the successes of calls that a worker runs, and of no others."""
        wanted = {name for worker in self._workers for name in worker.names}
        for name in self._subscribed.keys() - wanted:
            self._subscribed.pop(name).close()
        for name in wanted - self._subscribed.keys():
            kinds = OperationStarted, OperationSucceeded
            self._subscribed[name] = self._bus.subscribe(kinds, self._take, operation=name)

    def _take(self, event: Event) -> None:
        if type(event) is OperationFailed:  # holds a live exception; FailureClassified tells of it
            return
        if len(self._waiting) >= MOST_WAITING:
            self._drop(1)
        else:
            self._waiting.append(event)

    def _drop(self, number: int) -> None:
        with self._lock:
            self._dropped += number

    def _told(self, event: Event) -> ClusterEvent | None:
        """*event* as the cluster gets it; None if it is dropped."""
        try:
            body = encode(redacted(bare(event)))
        except CodecError:
            body = b""
        if not body or len(body) > MOST_BYTES:
            self._drop(1)
            return None
        call, fence = claim_of(event.call) if isinstance(event, CallEvent) else ("", 0)
        return ClusterEvent(
            at=event.at + self._ahead,
            node=self._node,
            kind=type(event).__name__,
            operation=str(getattr(event, "operation", "")),
            call=call,
            fence=fence,
            event=msgspec.Raw(body),
        )


def bare(event: Event) -> Event:
    """*event* without what a program gave a call: its arguments, checkpoint, outcome or answer."""
    if isinstance(event, CheckpointSaved):
        return msgspec.structs.replace(event, data=msgspec.Raw(b"null"))
    changes = {
        name: NOTHING if isinstance(value, msgspec.Raw) else b""
        for name in ("arguments", "value", "data")
        if isinstance(value := getattr(event, name, None), msgspec.Raw | bytes) and bytes(value)
    }
    return msgspec.structs.replace(event, **changes) if changes else event


def _version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:  # run from its sources
        return ""
