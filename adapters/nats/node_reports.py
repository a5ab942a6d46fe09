"""A node tells the cluster of itself: that it lives and what it runs, and the events of its bus, in batches."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version

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


class NodeReporter:
    """Tells of one node; ``run`` it in a task while the node works.

    It never holds up a body: publishing an event appends it to a queue. What the queue does not take, what is too large
    and what no server takes is dropped, and counted in ``dropped``.

    Args:
        bus: The bus of the service, whose events are told.
        engine: The servers, for their clock.
        board: Where to tell.
        node: The name of this node.
        operations: The operations that it runs. Of others, the beginning and the success of a call are not told.
        versions: The versions of those that have one, by their names.
        running: How many calls it runs now.
        concurrency: How many it runs at most.
    """

    def __init__(
        self,
        bus: Bus,
        engine: Engine,
        board: Board,
        *,
        node: str,
        operations: Sequence[str],
        versions: Mapping[str, str] | None = None,
        running: Callable[[], int] = lambda: 0,
        concurrency: int = 0,
    ) -> None:
        self._bus, self._engine, self._board = bus, engine, board
        self._node, self._operations = node, tuple(operations)
        self._versions = dict(versions or {})
        self._running, self._concurrency = running, concurrency
        self._waiting: deque[Event] = deque()
        self._dropped = 0
        self._lock = threading.Lock()
        self._since: float | None = None
        self._ahead = 0.0

    @property
    def dropped(self) -> int:
        """Events that were not told."""
        return self._dropped

    async def run(self) -> None:
        """Tell until this task is cancelled; then tell what is left, and that the node has stopped, in 2 s at most."""
        with self._subscribed():
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._beat)
                    tasks.start_soon(self._tell)
            finally:
                with anyio.move_on_after(2.0, shield=True), suppress(ClusterError):
                    await self.flush()
                    await self.sign(is_stopped=True)

    async def sign(self, *, is_stopped: bool = False) -> None:
        """Give a sign of life, or say that the node *is_stopped*. Raises UnreachableError."""
        now = await self._engine.now()
        self._ahead = now - self._bus.clock()
        self._since = now if self._since is None else self._since
        about = Node(
            node=self._node,
            since=self._since,
            seen=now,
            operations=self._operations,
            versions=self._versions,
            running=0 if is_stopped else self._running(),
            concurrency=self._concurrency,
            version=_version(),
            is_stopped=is_stopped,
        )
        await self._board.put(about)

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
            if self._since is not None:  # the servers' clock is known
                with suppress(ClusterError):
                    await self.flush()

    @contextmanager
    def _subscribed(self) -> Iterator[None]:
        subscriptions = [self._bus.subscribe(Event, self._take)]  # all but the two of a healthy call
        for name in self._operations:
            subscriptions.append(
                self._bus.subscribe((OperationStarted, OperationSucceeded), self._take, operation=name)
            )
        try:
            yield
        finally:
            for one in subscriptions:
                one.close()

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
