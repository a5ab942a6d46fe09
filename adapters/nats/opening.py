"""What runs in a process while a cluster is open there: leases, outcomes that wait, and what nodes know together."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from adapters.nats.board import Board
from adapters.nats.engine import Engine
from adapters.nats.leases import Connect, Leases
from adapters.nats.outcomes import Outcomes
from adapters.nats.running import Leg, Node
from recovery.service import Recovery


class OpenCluster(msgspec.Struct, frozen=True):
    """What an open cluster has.

    Args:
        node: What its legs share.
        board: What its nodes tell of themselves.
    """

    node: Node
    board: Board


async def opened(
    stack: AsyncExitStack,
    connect: Connect,
    make_leases: type[Leases],
    service: Recovery,
    node: str,
    prefix: str,
    refused: Counter[str],
) -> OpenCluster:
    """Connect, and start what runs until *stack* is closed. Raises UnreachableError and ClusterError, as *connect*."""
    link: Any = await stack.enter_async_context(connect())
    engine: Engine = link.engine
    outcomes = Outcomes(service, engine)
    legs: dict[str, Leg] = {}

    def lost(call: str, fence: int, why: str) -> None:
        if (leg := legs.get(f"{call}@{fence}")) is not None:
            leg.stop("lost", why)

    def cancelled(call: str, why: str) -> None:
        for leg in list(legs.values()):
            if leg.call == call:
                leg.stop("cancel", why)

    leases = make_leases(connect, engine.lease, on_lost=lost, on_cancel=cancelled, on_back=outcomes.wake)
    leases.start()
    stack.callback(leases.close)
    delivering = asyncio.create_task(outcomes.run(), name="recovery: deliver outcomes")
    stack.push_async_callback(_end, delivering)
    await _share(link, stack, service, node, prefix)
    return OpenCluster(Node(node, service, engine, leases, outcomes, legs, refused), link.board)


async def _share(link: Any, stack: AsyncExitStack, service: Recovery, node: str, prefix: str) -> None:
    """With real servers, share what nodes know together from now on."""
    connection = getattr(link, "connection", None)
    if connection is not None:
        from nats import errors  # here: they need the extra

        from adapters.nats.shared import SharedKnowledge

        shared = SharedKnowledge(service, connection, prefix, node)
        stack.push_async_callback(shared.stop)
        try:
            await shared.start()
        except (errors.Error, TimeoutError, OSError) as error:  # the servers elect a leader, say
            raise link.translated(error) from error


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
