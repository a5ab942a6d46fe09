"""Machines of a cluster in one process: each has a service and a connection of its own, on servers in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from adapters.nats import Cluster, UnreachableError
from adapters.nats.board import MemoryBoard
from adapters.nats.engine import Payload
from adapters.nats.leases import Leases
from adapters.nats.memory import MemoryEngine, MemoryLink, MemoryServers
from adapters.nats.record import CallRecord, Change, Stored
from events import Event
from recovery import Recovery
from recovery.journal.store import Store
from recovery.testing import VirtualClock

LEASE = 30.0


class LeasesInLoop(Leases):
    """Leases that are kept in the loop of the test, whose clock is a virtual one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options, clock=asyncio.get_running_loop().time)

    def start(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self._serve())


class Deaf(MemoryEngine):
    """Loses the answer to its first write."""

    is_lost = False

    async def write(self, change: Change, expected: int) -> int:
        seq = await super().write(change, expected)
        if not self.is_lost:
            self.is_lost = True
            raise UnreachableError("no answer in time")
        return seq


class Behind(MemoryEngine):
    """As a server that was stopped and goes on: it knows nothing each other time that the same is asked."""

    def __init__(self, on: MemoryServers) -> None:
        super().__init__(on)
        self._asked = Counter[str]()

    async def read(self, call: str) -> Stored | None:
        return await super().read(call) if self._is_told(call) else None

    async def payload(self, call: str, kind: Payload) -> bytes | None:
        return await super().payload(call, kind) if self._is_told(f"{kind} of {call}") else None

    def _is_told(self, question: str) -> bool:
        self._asked[question] += 1
        return self._asked[question] % 2 == 0


class NodeBoard(MemoryBoard):
    """The board *of* all, as one node reaches it."""

    def __init__(self, of: MemoryBoard) -> None:
        super().__init__()
        self._nodes, self._events = of._nodes, of._events


class Machine:
    """A node of the cluster.

    Args:
        on: The servers.
        clock: The clock of all.
        name: The name of the node.
        define: Defines the operations.
        store: The store of its service, if any.
        engine: Its connections.
        options: As of ``Cluster``.
    """

    def __init__(
        self,
        on: MemoryServers,
        clock: VirtualClock,
        name: str,
        define: Callable[[Recovery], object],
        store: Store | None = None,
        engine: type[MemoryEngine] = MemoryEngine,
        **options: Any,
    ) -> None:
        self.on, self.is_cut, self._engine, self._links = on, False, engine, list[MemoryLink]()
        self.service = Recovery(store=store, clock=clock, rng=lambda: 0.5, enable_logging=False)
        self.functions = define(self.service)
        self.events: list[Event] = []
        self.service.bus.subscribe(Event, self.events.append)
        options.setdefault("connect", self._link)
        self.cluster = Cluster(self.service, node=name, leases=LeasesInLoop, **options)
        self.working: list[asyncio.Task[None]] = []

    def cut(self, is_cut: bool = True) -> None:
        """Cut it off, or connect it again."""
        self.is_cut = is_cut
        for link in self._links:
            link.engine.is_cut = is_cut
            link.board.is_reachable = not is_cut

    def work(self, *names: str, concurrency: int = 1) -> asyncio.Task[None]:
        """Let it run calls of *names*."""
        task = asyncio.create_task(self.cluster.work(names, concurrency))
        self.working.append(task)
        return task

    def kinds(self) -> list[str]:
        """The events that were published there."""
        return [type(event).__name__ for event in self.events]

    @asynccontextmanager
    async def _link(self) -> AsyncIterator[MemoryLink]:
        link = MemoryLink(self._engine(self.on), NodeBoard(self.on.board))
        link.engine.is_cut = self.is_cut
        link.board.is_reachable = not self.is_cut
        self._links.append(link)
        yield link


class Machines:
    """Makes machines. Used in an ``async with`` of each."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.servers = MemoryServers(clock, LEASE)

    @asynccontextmanager
    async def machine(
        self, name: str, define: Callable[[Recovery], object], *work: str, **options: Any
    ) -> AsyncIterator[Machine]:
        """An open machine that runs calls of *work*."""
        machine = Machine(self.servers, self.clock, name, define, **options)
        with machine.service:
            async with machine.cluster:
                if work:
                    machine.work(*work)
                yield machine
        for task in machine.working:
            await asyncio.wait([task])
            assert task.cancelled() or task.exception() is None, task.exception()

    def record(self, call: str) -> CallRecord:
        """The record of *call*."""
        return next(one.record for one in self.servers.records() if one.record.call == call)


async def until(holds: Callable[[], object], seconds: float = 600.0) -> None:
    """Let time pass until *holds*, at most *seconds*."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.05)
