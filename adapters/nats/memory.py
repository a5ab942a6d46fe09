"""The servers of a cluster in memory, with a clock of the test's: for tests of what runs on them."""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec

from adapters.nats.board import MemoryBoard
from adapters.nats.engine import Delivery, Payload
from adapters.nats.errors import StaleError, UnreachableError
from adapters.nats.names import Lane
from adapters.nats.record import KEPT, LEASE, CallRecord, Change, Stored, check_sizes

TICK = 0.25
"""Seconds between two looks of the servers for schedules that are due."""


class _Queued(msgspec.Struct):
    """A message in a queue: its place in the stream, when it was *sent*, and when it may be delivered again."""

    call: str
    leg: int
    lane: Lane
    seq: int
    sent: float
    visible: float = -math.inf
    number: int = 0


class MemoryServers:
    """What the servers keep. Every engine of it is a connection of its own.

    Args:
        clock: Seconds since the epoch.
        lease: Seconds after its last extension at which a lease ends.
    """

    def __init__(self, clock: Callable[[], float], lease: float = LEASE) -> None:
        self.clock = clock
        self.lease = lease
        self.is_reachable = True
        self.board = MemoryBoard()
        self._seq = itertools.count(1)
        self._records: dict[str, tuple[bytes, int]] = {}
        self._payloads: dict[tuple[str, Payload], bytes] = {}
        self._queues: dict[str, _Queued] = {}
        self._schedules: dict[str, tuple[float, int, Lane]] = {}
        self._watched: dict[str, set[anyio.Event]] = {}

    def connect(self) -> MemoryEngine:
        """A connection."""
        return MemoryEngine(self)

    @asynccontextmanager
    async def link(self) -> AsyncIterator[MemoryLink]:
        """A connection, as a cluster opens one: ``Cluster(service, connect=servers.link)``."""
        yield MemoryLink(self.connect(), self.board)

    def tick(self) -> None:
        """Do what is due: put scheduled messages into queues, forget what has ended long ago."""
        now = self.clock()
        look = math.floor(now / TICK) * TICK
        for call, (at, leg, lane) in list(self._schedules.items()):
            if at <= look:
                del self._schedules[call]
                self._put(call, leg, lane)
        for call, (data, _) in list(self._records.items()):
            record = msgspec.json.decode(data, type=CallRecord)
            if record.ended is not None and record.ended + KEPT <= now:
                del self._records[call]
                for kind in ("args", "saved", "result"):
                    self._payloads.pop((call, kind), None)

    def queued(self) -> list[tuple[str, int]]:
        """The call and the leg of every queue message, delivered ones included."""
        return [(one.call, one.leg) for one in self._queues.values()]

    def scheduled(self) -> list[tuple[str, int]]:
        """The call and the leg of every message that is to come later."""
        return [(call, leg) for call, (_, leg, _) in self._schedules.items()]

    def messages(self) -> list[tuple[str, int, Lane]]:
        """The call, the leg and the lane of every message, in a queue or to come."""
        coming = [(call, leg, lane) for call, (_, leg, lane) in self._schedules.items()]
        return [(one.call, one.leg, one.lane) for one in self._queues.values()] + coming

    def records(self) -> list[Stored]:
        """Every record, the longest unchanged first."""
        found = sorted(self._records.values(), key=lambda one: one[1])
        return [Stored(msgspec.json.decode(data, type=CallRecord), seq) for data, seq in found]

    def _put(self, call: str, leg: int, lane: Lane) -> None:
        subject = f"{lane.tokens}.{call}"
        self._queues[subject] = _Queued(call, leg, lane, next(self._seq), self.clock())
        self._tell("")

    def _tell(self, call: str) -> None:
        for event in self._watched.get(call, ()):
            event.set()

    def write(self, change: Change, expected: int) -> int:
        """As ``Engine.write``."""
        record = change.record
        _, latest = self._records.get(record.call, (b"", 0))
        if latest != expected:
            raise StaleError(f"{record.call}: the record has changed ({latest}, not {expected})")
        check_sizes(change)
        payloads: dict[Payload, bytes | None] = {"args": change.args, "saved": change.saved, "result": change.result}
        for kind, data in payloads.items():
            if data is not None:
                self._payloads[record.call, kind] = data
        if record.is_over:
            self._payloads.pop((record.call, "args"), None)
            self._payloads.pop((record.call, "saved"), None)
        seq = next(self._seq)
        self._records[record.call] = (msgspec.json.encode(record), seq)
        if change.unschedules:
            self._schedules.pop(record.call, None)
        if change.queue_at is not None:
            self._schedules[record.call] = (change.queue_at, record.leg, record.lane)
        if change.unqueues is not None:
            self._queues.pop(f"{change.unqueues.tokens}.{record.call}", None)
        if change.is_queued:
            self._put(record.call, record.leg, record.lane)
        self._tell(record.call)
        return seq

    def next(self, lanes: Sequence[Lane]) -> Delivery | None:
        """The next message of *lanes* that no lease keeps; its lease begins."""
        now = self.clock()
        for lane in lanes:
            waiting = [one for one in self._queues.values() if one.lane == lane and one.visible <= now]
            if waiting:
                found = min(waiting, key=lambda one: one.seq)
                found.visible, found.number = now + self.lease, found.number + 1
                return Delivery(found.call, found.leg, found.lane, f"{found.seq}", found.sent, found.number)
        return None

    def held(self, lease: str) -> tuple[str, _Queued] | None:
        """The message under *lease*, and its subject; None if it was replaced or dealt with.

        As with the real servers, a worker that holds it no longer still has power over a message delivered again.
        """
        return next(((subject, one) for subject, one in self._queues.items() if f"{one.seq}" == lease), None)

    def ended(self, lease: str) -> None:
        """The message under *lease* is dealt with."""
        if (found := self.held(lease)) is not None:
            del self._queues[found[0]]

    def keep(self, lease: str, until: float) -> None:
        """The message under *lease* is not delivered again before *until*."""
        if (found := self.held(lease)) is not None:
            found[1].visible = until


class MemoryEngine:
    """A connection to ``MemoryServers``: an ``Engine`` that can be cut off (``is_cut``)."""

    def __init__(self, servers: MemoryServers) -> None:
        self._servers = servers
        self.lease = servers.lease
        self.is_cut = False

    async def now(self) -> float:
        """As ``Engine.now``: this connection has had an answer when it was made."""
        return self._servers.clock()

    async def read(self, call: str) -> Stored | None:
        """As ``Engine.read``."""
        data, seq = self._reach()._records.get(call, (b"", 0))
        return Stored(msgspec.json.decode(data, type=CallRecord), seq) if seq else None

    async def payload(self, call: str, kind: Payload) -> bytes | None:
        """As ``Engine.payload``."""
        return self._reach()._payloads.get((call, kind)) or None

    async def write(self, change: Change, expected: int) -> int:
        """As ``Engine.write``."""
        return self._reach().write(change, expected)

    async def take(self, lanes: Sequence[Lane], timeout: float) -> Delivery | None:
        """As ``Engine.take``; with a *timeout* of 0 it never waits."""
        servers = self._reach()
        if (found := servers.next(lanes)) is not None or timeout <= 0.0:
            return found
        async with self.watch("") as changes:
            await changes.next(min(timeout, TICK))
        return self._reach().next(lanes)

    async def ack(self, delivery: Delivery) -> None:
        """As ``Engine.ack``."""
        self._reach().ended(delivery.lease)

    async def put_back(self, delivery: Delivery, after: float = 0.0) -> None:
        """As ``Engine.put_back``."""
        servers = self._reach()
        servers.keep(delivery.lease, servers.clock() + after)

    async def extend(self, lease: str) -> None:
        """As ``Engine.extend``."""
        servers = self._reach()
        servers.keep(lease, servers.clock() + servers.lease)

    @asynccontextmanager
    async def watch(self, call: str) -> AsyncIterator[Any]:
        """As ``Engine.watch``."""
        watched = self._reach()._watched.setdefault(call, set())
        changes = _MemoryChanges(watched)
        try:
            yield changes
        finally:
            watched.discard(changes.event)

    async def calls(self) -> AsyncIterator[Stored]:
        """As ``Engine.calls``."""
        for one in self._reach().records():
            yield one

    @property
    def is_reachable(self) -> bool:
        """Whether the servers answer."""
        return self._servers.is_reachable and not self.is_cut

    def _reach(self) -> MemoryServers:
        if not self.is_reachable:
            raise UnreachableError("no server answers")
        self._servers.tick()
        return self._servers


class MemoryLink(msgspec.Struct, frozen=True):
    """A connection to ``MemoryServers``, as ``connection.connect`` makes one to real servers.

    Args:
        engine: What is asked of them.
        board: Where nodes tell of themselves.
    """

    engine: MemoryEngine
    board: MemoryBoard

    @property
    def is_connected(self) -> bool:
        """Whether they answer."""
        return self.engine.is_reachable


class _MemoryChanges:
    def __init__(self, watched: set[anyio.Event]) -> None:
        self._watched = watched
        self.event = anyio.Event()
        watched.add(self.event)

    async def next(self, timeout: float) -> None:
        with anyio.move_on_after(timeout):
            await self.event.wait()
        self._watched.discard(self.event)
        self.event = anyio.Event()
        self._watched.add(self.event)
