"""The servers of a cluster: an ``Engine`` on NATS JetStream. One stream has the calls, their queues and schedules."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from adapters.nats.batch import Batches, Queued, messages
from adapters.nats.engine import Changes, Delivery, Payload
from adapters.nats.errors import UnreadableError
from adapters.nats.link import Link
from adapters.nats.names import Lane, Subjects
from adapters.nats.pulls import Pulls
from adapters.nats.record import FORMAT, LEASE, MAX_CHECKPOINT, MAX_PAYLOAD, CallRecord, Change, Stored
from adapters.nats.server_clock import ServerClock
from adapters.nats.stream import Stream, StreamMessage
from events.own_log import own_log

log = own_log("recovery.cluster")

MAX_RECORD = 256 * 1024
"""Bytes of a record: more than the longest texts of a failure, a reason and an error take as JSON."""

PUT_BACK_FOR = 5.0
"""Seconds after which a message that this release cannot read is delivered again."""


class JetStreamEngine:
    """One connection to the servers of a cluster. Made by ``connect``.

    Args:
        link: The connection.
        prefix: The first token of the cluster's subjects.
        lease: Seconds after its last extension at which a lease ends.
        is_viewer: Whether the user may read alone: then any server answers, and the time is that of this machine.

    Attributes:
        refused: How many records and messages could not be read, by the reason.
    """

    def __init__(self, link: Link, prefix: str = "recovery", lease: float = LEASE, *, is_viewer: bool = False) -> None:
        self.lease = lease
        self.refused: Counter[str] = Counter()
        self._link = link
        self._is_viewer = is_viewer
        self._subjects = Subjects(prefix)
        self._stream = Stream(link, prefix)
        self._batches = Batches(link)
        self._clock = ServerClock(self._server_time)
        self._pulls = Pulls(link, self._subjects, lease)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take what the servers send, until the block ends."""
        async with self._pulls.running():
            yield

    async def now(self) -> float:
        """As ``Engine.now``."""
        return time.time() if self._is_viewer else await self._clock.now()

    async def read(self, call: str) -> Stored | None:
        """As ``Engine.read``. The leader of the stream is asked: another server may not know the latest record yet.

        Raises:
            UnreadableError: A newer release has written the record, or it is too large.
        """
        found = await self._latest(self._subjects.of("call", call))
        return None if found is None else Stored(self._decoded(found.data, call), found.seq)

    async def payload(self, call: str, kind: Payload) -> bytes | None:
        """As ``Engine.payload``.

        Raises:
            UnreadableError: It is larger than a cluster keeps.
        """
        found = await self._latest(self._subjects.of(kind, call))
        if found is None:
            return None
        if len(found.data) > (MAX_CHECKPOINT if kind == "saved" else MAX_PAYLOAD):
            raise self._refusal(f"the {kind} of a call are too large", call)
        return found.data or None

    async def write(self, change: Change, expected: int) -> int:
        """As ``Engine.write``."""
        return await self._batches.write(messages(self._subjects, change, expected))

    async def take(self, lanes: Sequence[Lane], timeout: float) -> Delivery | None:
        """As ``Engine.take``. A message that this release cannot read is put back for another one."""
        end = asyncio.get_running_loop().time() + timeout
        while True:
            left = max(0.0, end - asyncio.get_running_loop().time())
            message = await self._pulls.take(lanes, left)
            if message is None:
                return None
            call = self._subjects.call_of(message.subject)
            lane, about = Lane.of(message.subject), message.metadata
            sent, number = about.timestamp.timestamp(), about.num_delivered
            try:
                leg = msgspec.json.decode(message.data, type=Queued).leg if message.data else 0
            except msgspec.MsgspecError:
                self._refusal("a queue message is of a newer release", call)
                await self.put_back(Delivery(call, 0, lane, message.reply, sent, number), PUT_BACK_FOR)
                continue
            return Delivery(call, leg, lane, message.reply, sent, number)

    async def ack(self, delivery: Delivery) -> None:
        """As ``Engine.ack``."""
        await self._link.ask(delivery.lease, b"+ACK")

    async def put_back(self, delivery: Delivery, after: float = 0.0) -> None:
        """As ``Engine.put_back``."""
        await self._link.ask(delivery.lease, b'-NAK {"delay":%d}' % int(after * 1e9) if after > 0.0 else b"-NAK")

    async def extend(self, lease: str) -> None:
        """As ``Engine.extend``."""
        await self._link.ask(lease, b"+WPI")

    @asynccontextmanager
    async def watch(self, call: str) -> AsyncIterator[Changes]:
        """As ``Engine.watch``."""
        changes = _Changes()

        async def changed(_: object) -> None:
            changes.event.set()

        with self._link.on_return(changes.event.set):
            async with self._link.subscribed(self._subjects.seen(call), changed):
                yield changes

    async def calls(self) -> AsyncIterator[Stored]:
        """As ``Engine.calls``. A call that changes meanwhile may come twice; one that cannot be read does not come."""
        async for found in self._stream.after(0, f"{self._subjects.prefix}.call.>"):
            try:
                yield Stored(self._decoded(found.data, self._subjects.call_of(found.subject)), found.seq)
            except UnreadableError:
                continue

    async def _latest(self, subject: str) -> StreamMessage | None:
        return await (self._stream.latest_anywhere if self._is_viewer else self._stream.latest)(subject)

    async def _server_time(self) -> float:
        return (await self._stream.state()).time

    def _decoded(self, data: bytes, call: str) -> CallRecord:
        if len(data) > MAX_RECORD:
            raise self._refusal("a record is too large", call)
        try:
            record = msgspec.json.decode(data, type=CallRecord)
        except msgspec.MsgspecError:
            raise self._refusal("a record is of a newer release", call) from None
        if record.format != FORMAT:
            raise self._refusal("a record is of a newer release", call)
        return record

    def _refusal(self, reason: str, call: str) -> UnreadableError:
        """Count that something of *call* cannot be read; the first time for each *reason*, log it."""
        self.refused[reason] += 1
        if self.refused[reason] == 1:
            log.warning("%s is left to other workers: %s", call, reason)
        return UnreadableError(f"{call}: {reason}")


class _Changes:
    """Changes of one call."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    async def next(self, timeout: float) -> None:
        """As ``Changes.next``."""
        try:
            async with asyncio.timeout(timeout):
                await self.event.wait()
        except TimeoutError:
            pass
        self.event.clear()
