"""All changes of all records while servers die, and whether each call has its message."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import nats
from nats.aio.client import Client
from nats.errors import Error

from adapters.nats.record import CallRecord

LOOK = 2.0
"""Seconds between two looks at the subjects of the stream."""


class Seen(msgspec.Struct, frozen=True):
    """A change of a record.

    Args:
        seq: Its place in the stream.
        before: The place of the one before it; 0 for the first.
        at: When it was seen, in seconds since the epoch.
        record: The record.
    """

    seq: int
    before: int
    at: float
    record: CallRecord


async def quiet(_: Exception) -> None:
    """Of a client whose server dies, errors are expected."""


class Watch:
    """Sees the changes of all records over a connection to each server: what one of them misses, another one tells.

    Args:
        urls: The servers.
        prefix: The first token of the cluster's subjects.
    """

    def __init__(self, urls: Sequence[str], prefix: str) -> None:
        self._urls, self._prefix = urls, prefix
        self._clients: list[Client] = []
        self._seen: dict[int, Seen] = {}
        self._suspects: set[str] = set()
        self.strays: list[str] = []
        """Calls without a message, and messages without a call, in two looks in a row."""
        self.looks = 0

    @property
    def changes(self) -> list[Seen]:
        """All of them, in the order of the stream."""
        return [self._seen[seq] for seq in sorted(self._seen)]

    @property
    def latest(self) -> dict[str, Seen]:
        """The latest change of each call."""
        return {change.record.call: change for change in self.changes}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch until the block ends."""
        async with AsyncExitStack() as stack:
            for url in self._urls:
                client = await nats.connect(
                    url, error_cb=quiet, reconnect_time_wait=0.02, max_reconnect_attempts=-1, connect_timeout=1
                )
                stack.push_async_callback(client.close)
                await client.subscribe(f"{self._prefix}-seen.call.>", cb=self._changed)
                self._clients.append(client)
            looking = asyncio.create_task(self._look_often())
            try:
                yield
            finally:
                looking.cancel()

    async def _changed(self, message: Any) -> None:
        seq, before = int(message.headers["Nats-Sequence"]), int(message.headers["Nats-Last-Sequence"])
        if seq not in self._seen:
            self._seen[seq] = Seen(seq, before, time.time(), msgspec.json.decode(message.data, type=CallRecord))

    async def subjects(self) -> dict[str, int] | None:
        """All subjects of the stream, and how many messages each has; None if no server answers."""
        for client in self._clients:
            try:
                answer = await client.request(
                    f"$JS.API.STREAM.INFO.{self._prefix}", b'{"subjects_filter":">"}', timeout=2
                )
            except (Error, TimeoutError, OSError):
                continue
            found: dict[str, Any] = msgspec.json.decode(answer.data)
            if "state" in found:
                assert found.get("total", 0) <= found.get("limit", 1), "the subjects are more than one page"
                return found["state"].get("subjects") or {}
        return None

    async def _look_often(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            await self.look()

    async def look(self) -> None:
        """Look whether each call has its message, and each message its call."""
        before = self.latest
        subjects = await self.subjects()
        if subjects is None:
            return
        self.looks += 1
        latest, suspects = self.latest, set(lost(subjects, self._prefix))
        waiting = with_message(subjects, self._prefix)
        for call, seen in before.items():
            if latest[call].seq == seen.seq and not seen.record.is_over and call not in waiting:
                suspects.add(f"{call} has no message: it is {seen.record.state} since {seen.seq}")
        self.strays += suspects & self._suspects
        self._suspects = suspects

    async def left(self, within: float) -> list[str]:
        """The messages that are left in queues, *within* so many seconds at the latest."""
        end = time.monotonic() + within
        while True:
            subjects = await self.subjects()
            left = ["no server answers"] if subjects is None else leftovers(subjects, self._prefix)
            if not left or time.monotonic() > end:
                return left
            await asyncio.sleep(0.5)


def kind_and_call(subject: str, prefix: str) -> tuple[str, str]:
    """The kind of message of a *subject*, and its call."""
    return subject.removeprefix(f"{prefix}.").partition(".")[0], "/".join(subject.split(".")[-2:])


def with_message(subjects: dict[str, int], prefix: str) -> set[str]:
    """The calls with a message in a queue, or one that comes later."""
    found = (kind_and_call(subject, prefix) for subject in subjects)
    return {call for kind, call in found if kind in ("queue", "due")}


def lost(subjects: dict[str, int], prefix: str) -> list[str]:
    """The messages of calls that have no record."""
    found = [kind_and_call(subject, prefix) for subject in subjects]
    known = {call for kind, call in found if kind == "call"}
    return [f"{call} has a {kind} message and no record" for kind, call in found if call not in known]


def leftovers(subjects: dict[str, int], prefix: str) -> list[str]:
    """The messages in queues, and those that come later."""
    return [subject for subject in subjects if kind_and_call(subject, prefix)[0] in ("queue", "due")]
