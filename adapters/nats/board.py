"""What the nodes of a cluster tell of themselves: who works, and what happens there. A port, and one in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from adapters.nats.errors import UnreachableError

NODES_KEPT = 30 * 24 * 3600.0
"""Seconds after its latest sign of life for which a node is known."""

MOST_EVENTS = 10_000
"""Events of one call that are read."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that works for a cluster. Times are seconds since the epoch by the servers' clock.

    Args:
        node: Its name.
        since: When it began to work.
        seen: When it told of itself last.
        operations: The operations that it runs.
        versions: The versions of those that have one, by the names of the operations.
        running: Calls that it runs.
        concurrency: Calls that it runs at most.
        version: The version of this library.
        is_stopped: Whether it has ended in good order.
    """

    node: str
    since: float
    seen: float
    operations: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    running: int = 0
    concurrency: int = 0
    version: str = ""
    is_stopped: bool = False

    def runs(self, operation: str, version: str) -> bool:
        """Whether it runs calls of *operation* that were submitted for *version*."""
        return operation in self.operations and self.versions.get(operation, "") == version


class ClusterEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event of a node, redacted, without the arguments and checkpoints of calls.

    Args:
        at: When it happened, in seconds since the epoch by the servers' clock.
        node: The node.
        kind: The name of its class.
        operation: Its operation; "" for none.
        call: The id of the call in the cluster; "" for an event of no such call.
        fence: The number of the claim under which the call ran; 0 for none.
        event: The event as JSON, as ``events.encode`` writes it.
    """

    at: float
    node: str
    kind: str
    operation: str = ""
    call: str = ""
    fence: int = 0
    event: msgspec.Raw = msgspec.Raw()


class Board(Protocol):
    """Where nodes tell of themselves. Every method raises ``UnreachableError`` if no server answers in time."""

    async def put(self, node: Node) -> None:
        """Write what *node* tells of itself, in place of what it told before."""
        ...

    async def nodes(self) -> list[Node]:
        """What each node has told last, by name."""
        ...

    async def publish(self, events: Sequence[ClusterEvent]) -> None:
        """Add *events*. It does not wait until they are kept: when a server dies, some are lost."""
        ...

    async def events(self, call: str) -> list[ClusterEvent]:
        """The events of *call* that are kept, by time; the latest ``MOST_EVENTS``."""
        ...


class MemoryBoard:
    """A board in memory, for tests."""

    def __init__(self) -> None:
        self.is_reachable = True
        self._nodes: dict[str, bytes] = {}
        self._events: list[bytes] = []

    async def put(self, node: Node) -> None:
        """As ``Board.put``."""
        self._reach()
        self._nodes[node.node] = msgspec.json.encode(node)

    async def nodes(self) -> list[Node]:
        """As ``Board.nodes``."""
        self._reach()
        return sorted((msgspec.json.decode(one, type=Node) for one in self._nodes.values()), key=lambda one: one.node)

    async def publish(self, events: Sequence[ClusterEvent]) -> None:
        """As ``Board.publish``."""
        self._reach()
        self._events += [msgspec.json.encode(one) for one in events]

    async def events(self, call: str) -> list[ClusterEvent]:
        """As ``Board.events``."""
        return [one for one in self.all_events() if one.call == call][-MOST_EVENTS:]

    def all_events(self) -> list[ClusterEvent]:
        """Every event, by time."""
        self._reach()
        found = (msgspec.json.decode(one, type=ClusterEvent) for one in self._events)
        return sorted(found, key=lambda one: one.at)

    def _reach(self) -> None:
        if not self.is_reachable:
            raise UnreachableError("no server answers")
