"""What the nodes of a cluster tell of themselves, on the servers: a bucket of nodes, and a bounded stream of events."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from adapters.nats.board import MOST_EVENTS, NODES_KEPT, ClusterEvent, Node
from adapters.nats.link import Link
from adapters.nats.names import ANY, checked, encode
from adapters.nats.stream import Stream


class JetStreamBoard:
    """The board of the cluster behind *link*.

    Args:
        link: The connection.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._bucket, self._stream = f"{link.prefix}-nodes", f"{link.prefix}-events"

    async def put(self, node: Node) -> None:
        """As ``Board.put``."""
        headers = {"Nats-TTL": str(round(NODES_KEPT))}
        await self._link.ask(f"$KV.{self._bucket}.{encode(node.node)}", msgspec.json.encode(node), headers)

    async def nodes(self) -> list[Node]:
        """As ``Board.nodes``. A node of a newer release, which this one cannot read, is left out."""
        nodes: dict[str, Node] = {}
        async for found in Stream(self._link, f"KV_{self._bucket}").after(0, f"$KV.{self._bucket}.>"):
            try:
                node = msgspec.json.decode(found.data, type=Node)
            except msgspec.MsgspecError:
                continue
            nodes[node.node] = node
        return sorted(nodes.values(), key=lambda one: one.node)

    async def publish(self, events: Sequence[ClusterEvent]) -> None:
        """As ``Board.publish``; the last one is waited for, so that a server has the others."""
        for number, one in enumerate(events, 1):
            subject = f"{self._stream}.{encode(one.node)}.{one.kind}.{about(one)}"
            if number < len(events):
                await self._link.tell(subject, msgspec.json.encode(one))
            else:
                await self._link.ask(subject, msgspec.json.encode(one))

    async def events(self, call: str) -> list[ClusterEvent]:
        """As ``Board.events``. Those of a newer release, which this one cannot read, are left out."""
        events: list[ClusterEvent] = []
        async for found in Stream(self._link, self._stream).after(0, f"{self._stream}.*.*.{call.replace('/', '.')}"):
            try:
                events.append(msgspec.json.decode(found.data, type=ClusterEvent))
            except msgspec.MsgspecError:
                continue
        return sorted(events[-MOST_EVENTS:], key=lambda one: one.at)


def about(event: ClusterEvent) -> str:
    """The end of the subject of *event*: its call, or its operation.

    Operations of a node alone have any name, and the servers close a connection for a subject that is too long.
    """
    if event.call:
        return event.call.replace("/", ".")
    try:
        return f"{checked('an operation', event.operation)}.{ANY}"
    except ValueError:
        return f"{ANY}.{ANY}"
