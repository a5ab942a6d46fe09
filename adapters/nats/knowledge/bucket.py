"""The bucket of what the nodes of a cluster share: read, write by compare-and-set, hear of changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
from nats.aio.msg import Msg

from adapters.nats.batch import STALE, Taken
from adapters.nats.errors import ClusterError, UnreachableError
from adapters.nats.knowledge.replica import Stored
from adapters.nats.link import Link
from adapters.nats.stream import Stream, StreamMessage, StreamState


class SharedBucket:
    """``<prefix>-shared`` on the servers of a cluster; ``setup`` makes it.

    Each method raises ``UnreachableError`` if no server answers, ``ClusterError`` if they refuse.

    Args:
        link: The connection. Its owner closes it.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._stream = Stream(link, f"KV_{link.prefix}-shared")
        self._subjects, self._seen = f"$KV.{link.prefix}-shared.", f"{link.prefix}-seen.shared."

    @asynccontextmanager
    async def followed(self, receive: Callable[[Stored], None]) -> AsyncIterator[None]:
        """Have *receive* called with each change, at most once, within the block: what is lost is to be read."""

        async def pass_on(message: Msg) -> None:
            revision = (message.headers or {}).get("Nats-Sequence", "")
            if revision.isdecimal():
                receive(Stored(message.subject.removeprefix(self._seen), int(revision), message.data))

        async with self._link.subscribed(f"{self._seen}>", pass_on):
            yield

    async def state(self) -> StreamState:
        """What the servers say of the bucket now."""
        return await self._stream.state()

    async def since(self, revision: int) -> list[Stored]:
        """Every entry of a higher revision than *revision*, the oldest first."""
        return [self._stored(found) async for found in self._stream.after(revision, f"{self._subjects}>")]

    async def latest(self, key: str) -> Stored | None:
        """The entry of *key* as the leader has it; ``None`` for none."""
        found = await self._stream.latest(f"{self._subjects}{key}")
        return None if found is None else self._stored(found)

    async def write(self, key: str, data: bytes, *, expected: int, lifetime: int) -> int | None:
        """Write *data* if the revision of *key* is *expected*, 0 for none; returns the new revision, ``None`` if not.

        Args:
            key: The key.
            data: Its value.
            expected: The revision that is replaced.
            lifetime: Seconds after which the servers delete it.
        """
        headers = {"Nats-Expected-Last-Subject-Sequence": f"{expected}", "Nats-TTL": f"{lifetime}s"}
        answer = await self._link.ask(f"{self._subjects}{key}", data, headers)
        taken = msgspec.json.decode(answer.data, type=Taken)
        if taken.error is None:
            return taken.seq
        if taken.error.err_code in STALE:
            return None
        kind = UnreachableError if taken.error.code == 503 else ClusterError
        raise kind(f"the servers refuse {key}: {taken.error.description}")

    def _stored(self, found: StreamMessage) -> Stored:
        return Stored(found.subject.removeprefix(self._subjects), found.seq, found.data)
