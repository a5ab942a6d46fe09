"""What a change of a call writes, and how the servers take it: all at once, or not at all.

What an empty message has dropped comes back if that message is deleted, and then the server is killed (nats-server
2.15). So the empty ones in place of arguments and checkpoints stay as long as the record does.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from adapters.nats.errors import ClusterError, NotSentError, StaleError, TooLargeError, UnreachableError
from adapters.nats.link import Link
from adapters.nats.names import Subjects
from adapters.nats.record import KEPT, Change, check_sizes
from adapters.nats.stream import Refusal

AT_ONCE = 40
"""Batches under way of one connection; the servers take 50 of a stream."""

TRIED_FOR = 5.0
"""Seconds for which a refused batch, of which nothing was written, is tried again."""

DROPPED_AFTER = "1s"
"""How long the servers keep an empty queue message that drops another one: older ones mean nothing anyway."""

STALE = frozenset({10071, 10164})
TOO_LARGE = frozenset({10054, 10097, 10199})
NOT_NOW = frozenset({10008, 10176, 10210})
"""Refusals that pass: no leader, a batch that began with another leader, too many batches under way."""


class Message(msgspec.Struct, frozen=True):
    """One message of a batch."""

    subject: str
    data: bytes = b""
    headers: dict[str, str] = {}


class Queued(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a queue message says: its number, ``CallRecord.leg``."""

    leg: int


class Taken(msgspec.Struct, frozen=True):
    """What the servers answer to a message."""

    seq: int = 0
    error: Refusal | None = None


def messages(subjects: Subjects, change: Change, expected: int) -> list[Message]:
    """The messages of *change*: its record first, so that what is delivered finds it; see ``Engine.write``.

    Raises:
        TooLargeError: The arguments, the checkpoint or the result are larger than the servers take.
    """
    record = change.record
    check_sizes(change)
    kept = {"Nats-TTL": f"{KEPT:.0f}s"} if record.is_over else {}  # of empty messages too: see the head of this module
    headers = {"Nats-Expected-Last-Subject-Sequence": f"{expected}", **kept}
    due, queue = subjects.of("due", record.call), subjects.queue(record.lane, record.call)
    if change.unschedules and change.queue_at is None:
        headers |= {"Nats-Scheduler": due, "Nats-Schedule-Next": "purge"}
    found = [Message(subjects.of("call", record.call), msgspec.json.encode(record), headers)]
    if change.args is not None:
        found.append(Message(subjects.of("args", record.call), change.args))
    elif record.is_over:
        found.append(Message(subjects.of("args", record.call), headers=kept))
    if change.saved is not None and not record.is_over:
        found.append(Message(subjects.of("saved", record.call), change.saved))
    elif record.is_over:
        found.append(Message(subjects.of("saved", record.call), headers=kept))
    if change.result is not None:
        found.append(Message(subjects.of("result", record.call), change.result, kept))
    leg = msgspec.json.encode(Queued(record.leg))
    if change.queue_at is not None:
        at = datetime.fromtimestamp(change.queue_at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        found.append(Message(due, leg, {"Nats-Schedule": f"@at {at}", "Nats-Schedule-Target": queue}))
    if change.unqueues is not None:  # an empty message in its place: it is gone in a second, or acked as meaningless
        found.append(Message(subjects.queue(change.unqueues, record.call), headers={"Nats-TTL": DROPPED_AFTER}))
    if change.is_queued:
        found.append(Message(queue, leg))
    return found


class Batches:
    """Writes batches, at most ``AT_ONCE`` at a time.

    Args:
        link: The connection.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def write(self, batch: Sequence[Message]) -> int:
        """Write *batch*; returns the place of its first message in the stream.

        Raises:
            StaleError: The record has changed since it was read. Nothing was written.
            TooLargeError: The servers take no message of that size. Nothing was written.
            UnreachableError: No server answers; it is unknown whether it was written.
            ClusterError: The servers refuse it for good. Nothing was written.
        """
        end, wait = time.monotonic() + TRIED_FOR, 0.01
        async with self._turns:
            while True:
                try:
                    taken = await self._write(batch)
                except NotSentError as error:
                    taken = Taken(error=Refusal(code=503, description=str(error)))
                if taken.error is None:
                    return taken.seq - len(batch) + 1
                refusal = taken.error
                if refusal.err_code in STALE:
                    raise StaleError(f"the record behind {batch[0].subject} has changed")
                if refusal.err_code in TOO_LARGE:
                    raise TooLargeError(f"the servers refuse {batch[0].subject}: {refusal.description}")
                if refusal.err_code not in NOT_NOW and refusal.code != 503:
                    raise ClusterError(f"the servers refuse {batch[0].subject}: {refusal.description}")
                if time.monotonic() + wait > end:
                    raise UnreachableError(f"the servers do not take {batch[0].subject} now: {refusal.description}")
                await asyncio.sleep(wait)
                wait = min(2 * wait, 0.5)

    async def _write(self, batch: Sequence[Message]) -> Taken:
        """Send *batch* once. An answer that does not come is never made up for by another try: it may be written."""
        *first, last = batch
        end: dict[str, str] = {}
        if first:
            number = secrets.token_hex(8)
            for at, one in enumerate(first, 1):
                headers = {**one.headers, "Nats-Batch-Id": number, "Nats-Batch-Sequence": f"{at}"}
                await self._link.tell(one.subject, one.data, headers=headers)
            end = {"Nats-Batch-Id": number, "Nats-Batch-Sequence": f"{len(batch)}", "Nats-Batch-Commit": "1"}
        answer = await self._link.ask(last.subject, last.data, {**last.headers, **end})
        return msgspec.json.decode(answer.data, type=Taken)
