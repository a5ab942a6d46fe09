"""A call that a worker holds, on servers in memory with a virtual clock."""

from __future__ import annotations

from adapters.nats.engine import Engine
from adapters.nats.holding import Holding, claim
from adapters.nats.memory import MemoryServers
from adapters.nats.names import Lane, name_of
from adapters.nats.record import CallRecord, Standing
from adapters.nats.transitions import submitted
from recovery.testing import VirtualClock

CALL = "render/one"
LANE = Lane("render")
LEASE = 30.0


def servers(clock: VirtualClock) -> MemoryServers:
    """Servers whose clock is the monotonic one."""
    return MemoryServers(clock, LEASE)


async def submit(engine: Engine, key: str = "one") -> None:
    """A new call of "render"."""
    await engine.write(submitted(name_of("render", key), b"[[],{}]", await engine.now()), 0)


async def held(engine: Engine, node: str = "a") -> Holding:
    """The next call that waits, held by *node*."""
    delivery = await engine.take([LANE], 0.0)
    assert delivery is not None, "no call is delivered"
    holding = await claim(engine, delivery, node, revived)
    assert holding is not None
    return holding


def revived(record: CallRecord, now: float) -> Standing:
    """Goes on where it was."""
    return record.standing
