"""What the nodes of a fleet tell of themselves, on the servers: a bucket of nodes, and a bounded stream of events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import msgspec

from adapters.nats.board import MOST_EVENTS, NODES_KEPT, FleetEvent, Node
from adapters.nats.link import Link
from adapters.nats.names import ANY, checked, encode

PAGE = 1000
"""Messages that are read at once."""


class JetStreamBoard:
    """The board of the fleet behind *link*.

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
        found: dict[str, Node] = {}
        async for data in self._read(f"KV_{self._bucket}", f"$KV.{self._bucket}.>"):
            try:
                node = msgspec.json.decode(data, type=Node)
            except msgspec.MsgspecError:
                continue
            found[node.node] = node
        return sorted(found.values(), key=lambda one: one.node)

    async def publish(self, events: Sequence[FleetEvent]) -> None:
        """As ``Board.publish``; the last one is waited for, so that a server has the others."""
        for number, one in enumerate(events, 1):
            subject = f"{self._stream}.{encode(one.node)}.{one.kind}.{about(one)}"
            if number < len(events):
                await self._link.tell(subject, msgspec.json.encode(one))
            else:
                await self._link.ask(subject, msgspec.json.encode(one))

    async def events(self, call: str) -> list[FleetEvent]:
        """As ``Board.events``. Those of a newer release, which this one cannot read, are left out."""
        found: list[FleetEvent] = []
        async for data in self._read(self._stream, f"{self._stream}.*.*.{call.replace('/', '.')}"):
            try:
                found.append(msgspec.json.decode(data, type=FleetEvent))
            except msgspec.MsgspecError:
                continue
        return sorted(found[-MOST_EVENTS:], key=lambda one: one.at)

    async def _read(self, stream: str, subject: str) -> AsyncIterator[bytes]:
        """The messages of *stream* on *subject*, in its order. Raises UnreachableError."""
        at = 1
        while True:
            wanted = msgspec.json.encode({"seq": at, "next_by_subj": subject, "batch": PAGE})
            came = 0
            async with aclosing(self._link.ask_many(f"$JS.API.DIRECT.GET.{stream}", wanted)) as answers:
                async for answer in answers:
                    headers = answer.headers or {}
                    if "Nats-Sequence" not in headers:  # 204: the end of the page; 404: there is none
                        break
                    came, at = came + 1, int(headers["Nats-Sequence"]) + 1
                    if headers.get("KV-Operation") is None and answer.data:
                        yield answer.data
            if came < PAGE:
                return


def about(event: FleetEvent) -> str:
    """The end of the subject of *event*: its call, or its operation.

    Operations of a node alone have any name, and the servers close a connection for a subject that is too long.
    """
    if event.call:
        return event.call.replace("/", ".")
    try:
        return f"{checked('an operation', event.operation)}.{ANY}"
    except ValueError:
        return f"{ANY}.{ANY}"
