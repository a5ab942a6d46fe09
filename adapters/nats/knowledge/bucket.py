"""The bucket of what a cluster shares: read, write by compare-and-set, hear of changes, ask for the servers' time."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import Header, KeyValueConfig, RePublish
from nats.js.errors import APIError, NotFoundError

from adapters.nats.knowledge.replica import Stored

PAGE = 256
"""Entries that are read at once."""

ANSWER_WITHIN = 2.0
"""Seconds for the servers to answer."""

MAX_BYTES = 64 * 1024 * 1024
"""Bytes of the bucket; beyond, the servers refuse new entries."""

STALE = 10071
"""The servers' code for a write that expected another revision."""


class ServerState(NamedTuple):
    """The time of the servers in seconds since 1970, when they made the bucket, and its last revision."""

    time: float
    created: str
    last: int


class SharedBucket:
    """``<prefix>-shared`` on the servers of a cluster.

    Args:
        connection: To the servers. Its owner closes it.
        prefix: The first token of the cluster's subjects.
        replicas: How many servers keep the bucket, if it is made here.
    """

    def __init__(self, connection: Client, prefix: str, *, replicas: int = 1) -> None:
        self._connection = connection
        self._js = connection.jetstream(timeout=ANSWER_WITHIN)
        self._name, self._replicas = f"{prefix}-shared", replicas
        self._stream, self._subjects = f"KV_{self._name}", f"$KV.{self._name}."
        self._seen = f"{prefix}-seen.shared."

    async def make(self) -> None:
        """Make the bucket unless it is there."""
        try:
            await self._js.stream_info(self._stream)
        except NotFoundError:
            config = KeyValueConfig(
                bucket=self._name,
                description="what the nodes of a cluster learn from each other",
                max_bytes=MAX_BYTES,
                replicas=self._replicas,
                direct=True,
                republish=RePublish(src=f"{self._subjects}>", dest=f"{self._seen}>"),
            )
            await self._js.create_key_value(config)

    async def follow(self, receive: Callable[[Stored], None]) -> Callable[[], Awaitable[None]]:
        """Have *receive* called with each change, at most once: what is lost is to be read. Returns what ends it."""

        async def pass_on(message: Msg) -> None:
            revision = (message.headers or {}).get("Nats-Sequence", "")
            if revision.isdecimal():
                receive(Stored(message.subject.removeprefix(self._seen), int(revision), message.data))

        subscription = await self._connection.subscribe(f"{self._seen}>", cb=pass_on)
        await self._connection.flush(timeout=ANSWER_WITHIN)  # type: ignore[arg-type] # it takes a float

        async def end() -> None:
            if not self._connection.is_closed:
                await subscription.unsubscribe()

        return end

    async def state(self) -> ServerState:
        """What the servers say of the bucket now."""
        answer = await self._connection.request(f"$JS.API.STREAM.INFO.{self._stream}", timeout=ANSWER_WITHIN)
        said = json.loads(answer.data)
        if "error" in said:
            raise APIError.from_error(said["error"])
        return ServerState(
            datetime.fromisoformat(said["ts"]).timestamp(), said["created"], int(said["state"]["last_seq"])
        )

    async def since(self, revision: int) -> list[Stored]:
        """Every entry of a higher revision than *revision*, the oldest first."""
        found: list[Stored] = []
        while page := await self._page(found[-1].revision if found else revision):
            found += page
        return found

    async def _page(self, revision: int) -> list[Stored]:
        inbox = self._connection.new_inbox()
        subscription = await self._connection.subscribe(inbox)
        asked = {"seq": revision + 1, "next_by_subj": f"{self._subjects}>", "batch": PAGE}
        found: list[Stored] = []
        try:
            await self._connection.publish(
                f"$JS.API.DIRECT.GET.{self._stream}", json.dumps(asked).encode(), reply=inbox
            )
            while True:
                message = await subscription.next_msg(ANSWER_WITHIN)
                headers = message.headers or {}
                if "Nats-Sequence" not in headers:  # 204: the end of the page; 404: there is nothing; others: an error
                    if headers.get("Status") not in ("204", "404"):
                        raise APIError(description=f"reading {self._name}: {headers.get('Description', 'refused')}")
                    return found
                key = headers["Nats-Subject"].removeprefix(self._subjects)
                found.append(Stored(key, int(headers["Nats-Sequence"]), message.data))
        finally:
            await subscription.unsubscribe()

    async def latest(self, key: str) -> Stored | None:
        """The entry of *key* as the leader has it; ``None`` for none."""
        try:
            message = await self._js.get_last_msg(self._stream, f"{self._subjects}{key}", direct=False)
        except NotFoundError:
            return None
        return Stored(key, message.seq or 0, message.data or b"")

    async def write(self, key: str, data: bytes, *, expected: int, lifetime: int) -> int | None:
        """Write *data* if the revision of *key* is *expected*, 0 for none; returns the new revision, ``None`` if not.

        Args:
            key: The key.
            data: Its value.
            expected: The revision that is replaced.
            lifetime: Seconds after which the servers delete it.
        """
        headers = {Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(expected)}
        try:
            answer = await self._js.publish(f"{self._subjects}{key}", data, headers=headers, msg_ttl=lifetime)
        except APIError as error:
            if error.err_code == STALE:
                return None
            raise
        return answer.seq
