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
    board = await _board(link, stack, service, node, prefix)
    return OpenCluster(Node(node, service, engine, leases, outcomes, legs, refused), board)


async def _board(link: Any, stack: AsyncExitStack, service: Recovery, node: str, prefix: str) -> Board:
    """What nodes tell of themselves. With real servers, what they know together is shared from now on."""
    board: Board | None = getattr(link, "board", None)  # of servers in memory
    if board is None:
        from adapters.nats.jetstream_board import JetStreamBoard  # here: they need the extra
        from adapters.nats.shared import SharedKnowledge

        await stack.enter_async_context(SharedKnowledge(service, link.connection, prefix, node))
        board = JetStreamBoard(link.connection, prefix)
    return board


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
