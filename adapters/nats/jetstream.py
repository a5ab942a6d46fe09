"""The servers of a fleet: an ``Engine`` on NATS JetStream. One stream has the calls, their queues and schedules."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Any

import msgspec

from adapters.nats.batch import Batches, Queued, Refusal, messages
from adapters.nats.engine import Changes, Delivery, Payload
from adapters.nats.errors import ClusterError, UnreachableError, UnreadableError
from adapters.nats.link import Link
from adapters.nats.names import Lane, Subjects
from adapters.nats.pulls import Pulls
from adapters.nats.record import FORMAT, LEASE, MAX_CHECKPOINT, MAX_PAYLOAD, CallRecord, Change, Stored
from adapters.nats.server_clock import ServerClock

logger = logging.getLogger(__name__)

MAX_RECORD = 256 * 1024
"""Bytes of a record: more than the longest texts of a failure, a reason and an error take as JSON."""

PUT_BACK_FOR = 5.0
"""Seconds after which a message that this release cannot read is delivered again."""

PAGE = 500
"""Records that are read at once."""

NOT_FOUND = 10037


class _Message(msgspec.Struct, frozen=True):
    subject: str
    seq: int
    data: bytes = b""


class _Answer(msgspec.Struct, frozen=True):
    message: _Message | None = None
    error: Refusal | None = None
    ts: datetime | None = None


class JetStreamEngine:
    """One connection to the servers of a fleet. Made by ``connect``.

    Args:
        link: The connection.
        prefix: The first token of the fleet's subjects.
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
            UnreadableError: It is larger than a fleet keeps.
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
            lane, sent = Lane.of(message.subject), message.metadata.timestamp.timestamp()
            try:
                leg = msgspec.json.decode(message.data, type=Queued).leg if message.data else 0
            except msgspec.MsgspecError:
                self._refusal("a queue message is of a newer release", call)
                await self.put_back(Delivery(call, 0, lane, message.reply, sent), PUT_BACK_FOR)
                continue
            return Delivery(call, leg, lane, message.reply, sent)

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
        at = 1
        while True:
            page = await self._page(at)
            for found in page:
                try:
                    record = self._decoded(found.data, self._subjects.call_of(found.subject))
                except UnreadableError:
                    continue
                yield Stored(record, found.seq)
            if not page:
                return
            at = page[-1].seq + 1

    async def _page(self, at: int) -> list[_Message]:
        """The records from the place *at* on, so many as come at once."""
        wanted = {"seq": at, "next_by_subj": f"{self._subjects.prefix}.call.>", "batch": PAGE}
        found: list[_Message] = []
        name = f"$JS.API.DIRECT.GET.{self._subjects.prefix}"
        async with aclosing(self._link.ask_many(name, msgspec.json.encode(wanted))) as answers:
            async for answer in answers:
                if (message := _direct(answer)) is None:  # the end of the page, or there is none
                    break
                found.append(message)
        return found

    async def _latest(self, subject: str) -> _Message | None:
        if self._is_viewer:
            wanted = msgspec.json.encode({"last_by_subj": subject})
            return _direct(await self._link.ask(f"$JS.API.DIRECT.GET.{self._subjects.prefix}", wanted))
        name = f"$JS.API.STREAM.MSG.GET.{self._subjects.prefix}"
        answer = await self._asked(name, msgspec.json.encode({"last_by_subj": subject}))
        return answer.message

    async def _server_time(self) -> float:
        answer = await self._asked(f"$JS.API.STREAM.INFO.{self._subjects.prefix}")
        if answer.ts is None:
            raise UnreachableError("the servers do not tell their time")
        return answer.ts.timestamp()

    async def _asked(self, subject: str, data: bytes = b"") -> _Answer:
        answer = msgspec.json.decode((await self._link.ask(subject, data)).data, type=_Answer)
        if answer.error is None or answer.error.err_code == NOT_FOUND:
            return answer
        kind = UnreachableError if answer.error.code == 503 else ClusterError
        raise kind(f"the servers refuse {subject}: {answer.error.description}")

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
            logger.warning("%s is left to other workers: %s", call, reason)
        return UnreadableError(f"{call}: {reason}")


def _direct(answer: Any) -> _Message | None:
    """The message in an *answer* of nats-py; None if it is none."""
    headers = answer.headers or {}
    if "Nats-Sequence" not in headers:
        return None
    return _Message(headers["Nats-Subject"], int(headers["Nats-Sequence"]), answer.data)


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
