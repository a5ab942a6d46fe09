"""A process that changes a call, and dies by SIGKILL before or after one of the messages that it sends.

``python -m tests.cluster.killed URL PREFIX LEASE WHAT OPERATION NUMBER before|after``; ends with 0 if it sent fewer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from adapters.nats.connection import connect
from adapters.nats.engine import Engine
from adapters.nats.holding import Holding, claim
from adapters.nats.link import Link
from adapters.nats.names import Lane, Name
from adapters.nats.record import Change, Standing
from adapters.nats.transitions import moved, postponed, submitted, succeeded

KEY = "k"


def new(operation: str) -> Change:
    """The call under test."""
    return submitted(Name(operation, KEY), b"[1]", 0.0)


def die_at(link: Link, number: int, when: str) -> None:
    """Let the process die before or after it has sent its message with that *number*, counted from 0."""
    client, sent = link.connection, 0
    publish = client.publish

    async def counted(*args: Any, **options: Any) -> None:
        nonlocal sent
        mine, sent = sent, sent + 1
        if mine == number and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        await publish(*args, **options)
        if mine == number:
            await client._flush_pending(
                force_flush=True
            )  # it is on its way: the kernel sends what a dead process wrote
            os.kill(os.getpid(), signal.SIGKILL)

    client.publish = counted  # type: ignore[method-assign]


async def submit(engine: Engine, operation: str) -> None:
    """A program submits the call."""
    await engine.write(new(operation), 0)


async def retry(engine: Engine, operation: str) -> None:
    """An attempt fails, and the next one is left to the servers."""
    holding = await claimed(engine, operation)
    now = await engine.now()
    await holding.apply(lambda record: postponed(record, Standing(attempt=2), 0.6, "busy", now))
    await holding.end()


async def finish(engine: Engine, operation: str) -> None:
    """A worker runs the call to its end."""
    holding = await claimed(engine, operation)
    now = await engine.now()
    await holding.apply(lambda record: succeeded(record, b"by the one that died", record.standing, now))
    await holding.end()


async def move(engine: Engine, operation: str) -> None:
    """A person moves the call to a node."""
    stored = await engine.read(new(operation).record.call)
    assert stored is not None
    change = moved(stored, "gpu-b", await engine.now())
    assert isinstance(change, Change)
    await engine.write(change, stored.seq)


async def claimed(engine: Engine, operation: str) -> Holding:
    delivery = await engine.take([Lane(operation)], 10.0)
    assert delivery is not None
    holding = await claim(engine, delivery, "gpu-a", lambda record, now: record.standing)
    assert holding is not None
    return holding


WHAT = {one.__name__: one for one in (submit, retry, finish, move)}


async def main(url: str, prefix: str, lease: str, what: str, operation: str, number: str, when: str) -> None:
    async with connect(url, prefix=prefix, lease=float(lease)) as link:
        die_at(link, int(number), when)
        await WHAT[what](link.engine, operation)
        os._exit(0)  # all was sent: what follows is no part of the change


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
