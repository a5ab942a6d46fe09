"""A worker process whose bodies say what they see, and end when a file says so.

python -m tests.cluster.holder URL PREFIX NODE FOLDER LEASE
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from adapters.nats.board import MemoryBoard
from adapters.nats.cluster import Cluster
from adapters.nats.connection import connect
from adapters.sqlite import SQLiteStore
from events.lease_events import OutcomeHeld, OutcomeSuperseded
from recovery import context
from recovery.service import Recovery

STEP = 0.02
STOOD_STILL = 1.0
"""Seconds between two steps after which a body was stopped meanwhile."""


class Bodies:
    """The operations of a worker, and what is known of them."""

    def __init__(self, folder: Path, node: str) -> None:
        self.folder, self.node = folder, node
        self.defined: list[Callable[..., Any]] = []  # a service forgets a function that nothing else has

    def say(self, what: str) -> None:
        """Add a line to what the bodies of all nodes say."""
        said = {"what": what, "node": self.node, "fence": _fence(), "at": time.time()}
        with (self.folder / "said").open("a", encoding="utf-8") as file:
            file.write(json.dumps(said) + "\n")

    @property
    def may_end(self) -> bool:
        """Whether bodies of this node are to return."""
        return (self.folder / f"end-{self.node}").exists()

    def define(self, service: Recovery) -> None:
        """Define the operations."""

        @service.recoverable("hold")
        async def hold(name: str) -> str:
            return await self.hold()

        @service.recoverable("hold_plainly")
        def hold_plainly(name: str) -> str:
            return self.hold_plainly()

        @service.recoverable("hold_connected", cluster="required")
        async def hold_connected(name: str) -> str:
            return await self.hold()

        self.defined += [hold, hold_plainly, hold_connected]

    async def hold(self) -> str:
        """An async body."""
        self.say("begins")
        context.checkpoint(self.node)
        try:
            while not self.may_end:
                await asyncio.sleep(STEP)
        except asyncio.CancelledError:
            self.say("is cancelled")
            raise
        self.say("returns")
        return self.node

    def hold_plainly(self) -> str:
        """A plain body, which returns all the same when it sees that it is cancelled."""
        self.say("begins")
        context.checkpoint(self.node)
        last = time.monotonic()
        while not self.may_end and not context.cancelled():
            time.sleep(STEP)
            if time.monotonic() - last > STOOD_STILL:
                context.checkpoint("late")
            last = time.monotonic()
        self.say("is cancelled" if context.cancelled() else "returns")
        return self.node


def _fence() -> int:
    try:
        return context.fence()
    except LookupError:
        return 0


@asynccontextmanager
async def linked(url: str, prefix: str, lease: float) -> AsyncIterator[Any]:
    """A connection whose node tells nothing of itself."""
    async with connect(url, prefix=prefix, lease=lease) as link:
        link.board = MemoryBoard()  # type: ignore[attr-defined]
        yield link


async def main(url: str, prefix: str, node: str, folder: Path, lease: float) -> None:
    """Work until the process is killed."""
    bodies = Bodies(folder, node)
    with Recovery(store=SQLiteStore(folder / f"{node}.db")) as service:
        bodies.define(service)
        journal = service.journal
        assert journal is not None

        def held(_: object) -> None:
            receipt = journal.receipt()
            threading.Thread(target=lambda: (receipt.wait(), bodies.say("holds its outcome"))).start()

        service.bus.subscribe(OutcomeHeld, held)
        service.bus.subscribe(OutcomeSuperseded, lambda event: bodies.say(f"is superseded: {event.reason}"))
        async with Cluster(service, node=node, connect=lambda: linked(url, prefix, lease)) as cluster:
            bodies.say("works")
            await cluster.work(["hold", "hold_plainly", "hold_connected"], concurrency=4)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), float(sys.argv[5])))
