"""A cluster in memory, one minute past noon: two nodes that live, one that is gone, and a call in each state."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from unittest.mock import patch

import anyio
import msgspec

from adapters.nats import transitions, view
from adapters.nats.board import ClusterEvent, MemoryBoard, Node
from adapters.nats.errors import UnreachableError
from adapters.nats.memory import MemoryEngine, MemoryServers
from adapters.nats.names import Name
from adapters.nats.record import CallRecord, Change, Standing, Stored
from adapters.nats.view import ClusterAddress, ClusterView
from events.codec import encode
from events.event import Event
from events.lease_events import CallHandedBack, OutcomeSuperseded
from events.operation_events import (
    FailureClassified,
    GaveUp,
    OperationStarted,
    RetryScheduled,
)
from recovery.subscribers.classification import classify
from recovery.subscribers.evidence_extraction import extract_evidence

NOON = 1_772_366_400.0
"""Noon of 1 March 2026, in UTC."""
NOW = NOON + 60.0
URL = "nats://queue.example.org:4222"
ADDRESS = ClusterAddress(URL)
NODES = (
    Node(node="gpu-a", since=NOON - 7200, seen=NOON - 300, operations=("render", "upscale"), running=1, concurrency=2,
         version="0.1.0"),
    Node(node="gpu-b", since=NOON - 3600, seen=NOW - 2, operations=("render",), running=1, concurrency=2,
         version="0.1.0"),
    Node(node="gpu-c", since=NOON - 60, seen=NOON - 30, operations=("render",), concurrency=1, version="0.1.0",
         is_stopped=True),
)  # fmt: skip

At = Callable[[Stored], Change | str]


class Practice:
    """The servers of the practice cluster; ``now`` is their time."""

    def __init__(self) -> None:
        self.now = NOON
        self.servers = MemoryServers(lambda: self.now)
        self.engine: MemoryEngine = self.servers.connect()
        self.board = MemoryBoard()
        self.view = ClusterView(self.engine, self.board, ADDRESS)
        self.opened: list[ClusterAddress] = []

    async def submit(self, operation: str, key: str = "", **how: object) -> str:
        name = Name(operation, key, "" if key else "00112233aabbccdd")
        await self.engine.write(transitions.submitted(name, b"[[],{}]", self.now, **how), 0)  # type: ignore[arg-type]
        return name.call

    async def change(self, call: str, at: At) -> CallRecord:
        stored = await self.engine.read(call)
        assert stored is not None
        change = at(stored)
        assert not isinstance(change, str), change
        await self.engine.write(change, stored.seq)
        return change.record

    async def record(self, call: str) -> CallRecord:
        stored = await self.engine.read(call)
        assert stored is not None
        return stored.record

    async def claim(self, call: str, node: str) -> CallRecord:
        def claimed(stored: Stored) -> Change | str:
            return transitions.claimed(stored, node, stored.record.leg, self.now)

        return await self.change(call, claimed)

    async def tell(self, call: str, node: str, *events: Event) -> None:
        fence = (await self.record(call)).fence
        told = [
            ClusterEvent(
                at=NOON + event.at, node=node, kind=type(event).__name__, operation="render", call=call, fence=fence,
                event=msgspec.Raw(encode(event)),
            )
            for event in events
        ]  # fmt: skip
        await self.board.publish(told)

    @asynccontextmanager
    async def open(self, address: ClusterAddress) -> AsyncIterator[ClusterView]:
        self.opened.append(address)
        if not self.servers.is_reachable:
            raise UnreachableError(f"no server answers at {address.shown}: start one with `nats-server -js`")
        yield ClusterView(self.engine, self.board, address)


def failure(call: str, error: Exception, *, at: float, attempt: int = 1, retries: int = 0) -> FailureClassified:
    meaning = classify(error)
    return FailureClassified(
        at=at, call=call, operation="render", key="models.example.org:443", attempt=attempt, retries=retries,
        category=meaning.category, rule=meaning.rule, evidence=extract_evidence(error),
    )  # fmt: skip


def reset() -> Exception:
    return ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


def after(attempt: int, latest: FailureClassified) -> Standing:
    raw = msgspec.Raw(msgspec.json.encode(latest))
    return Standing(attempt=attempt + 1, retries=attempt, has_failed=True, failure=raw)


async def filled() -> Practice:
    """The practice cluster with its calls, one minute past noon."""
    one = Practice()
    for node in NODES:
        await one.board.put(node)
    await one.submit("render", "queued")
    await one.submit("render", "bound", affinity="gpu-a")
    await one.submit("caption", "lonely")
    await _running(one)
    await _waiting(one)
    await _gave_up(one)
    await one.submit("render", "paused")
    await one.change("render/paused", lambda stored: transitions.paused(stored.record, one.now))
    await one.submit("render", "asks")
    await one.claim("render/asks", "gpu-b")
    disk = failure("render/asks@1", OSError(errno.ENOSPC, "No space left on device", "out.png"), at=8.0)
    await one.change(
        "render/asks",
        lambda stored: transitions.postponed(stored.record, after(1, disk), 0.0, "", one.now, asks_person=True),
    )
    await one.submit("render", "done")
    await one.claim("render/done", "gpu-b")
    await one.change("render/done", lambda stored: transitions.succeeded(stored.record, b"1", Standing(), one.now))
    one.now = NOW
    return one


async def _running(one: Practice) -> None:
    await one.submit("render", "running")
    await one.claim("render/running", "gpu-b")
    await one.tell("render/running", "gpu-b", OperationStarted(at=0.0, call="render/running@9", operation="render"))
    await one.submit("render", "orphan", affinity="gpu-a")
    await one.claim("render/orphan", "gpu-a")


async def _waiting(one: Practice) -> None:
    """A call whose first attempt has failed on gpu-c; the outcome of an earlier claim was superseded."""
    call = await one.submit("render", "waiting")
    local = f"{call}@5"
    await one.claim(call, "gpu-c")
    failed = failure(local, reset(), at=31.0)
    await one.tell(
        call,
        "gpu-c",
        OperationStarted(at=1.0, call=local, operation="render"),
        failed,
        RetryScheduled(at=31.0, call=local, operation="render", after=240.0, retry=1),
        CallHandedBack(at=31.0, call=local, operation="render", reason="retry 1 is 240 s away", after=240.0),
        OutcomeSuperseded(at=40.0, call=f"{local} outcome", operation="render", reason="gpu-b claimed it meanwhile"),
    )
    await one.change(call, lambda stored: transitions.postponed(stored.record, after(1, failed), 240.0, "", one.now))


async def _gave_up(one: Practice) -> None:
    call = await one.submit("render", "gave-up")
    await one.claim(call, "gpu-b")
    failed = failure(f"{call}@7", PermissionError(errno.EACCES, "Permission denied", "/srv/out.png"), at=5.0)
    await one.tell(
        call,
        "gpu-b",
        OperationStarted(at=3.0, call=f"{call}@7", operation="render"),
        failed,
        GaveUp(at=5.0, call=f"{call}@7", operation="render", reason="permanent", category=failed.category),
    )
    said = ("PermissionError", failed.evidence.message)
    await one.change(
        call,
        lambda stored: transitions.gave_up(
            stored.record, after(0, failed), "permanent", str(failed.category), said, one.now
        ),
    )


@contextmanager
def practice_cluster() -> Iterator[Practice]:
    """Let commands that name a cluster find the practice cluster."""
    one = anyio.run(filled)
    with patch.object(view, "open_view", one.open):
        yield one
