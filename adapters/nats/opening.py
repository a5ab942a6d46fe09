"""What runs in a process while a cluster is open there: leases, outcomes that wait, and what nodes know together."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

from adapters.nats.engine import Engine
from adapters.nats.errors import ForbiddenError
from adapters.nats.leases import Connect, Leases
from adapters.nats.names import local_id
from adapters.nats.node_reports import NodeReporter
from adapters.nats.outcomes import Outcomes
from adapters.nats.running import Leg, Session
from recovery.service import Recovery


async def opened(
    stack: AsyncExitStack,
    connect: Connect,
    make_leases: type[Leases],
    service: Recovery,
    node: str,
    refused: Counter[str],
    timeout: float,
) -> Session:
    """Connect, and start what runs until *stack* is closed. Raises UnreachableError and ClusterError, as *connect*.

    Servers that elect a leader are asked for *timeout* seconds what the cluster knows.
    """
    link: Any = await stack.enter_async_context(connect())
    if getattr(link, "is_viewer", False):
        raise ForbiddenError(
            "this user may look at the cluster, and do nothing else (the role viewer): connect as a user of the role "
            "submitter or worker. To look, use the command `recovery status --cluster`"
        )
    engine: Engine = link.engine
    outcomes = Outcomes(service, engine)
    legs: dict[str, Leg] = {}

    def lost(call: str, fence: int, why: str) -> None:
        if (leg := legs.get(local_id(call, fence))) is not None:
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
    if getattr(link, "connection", None) is not None:  # real servers
        link.engine.refused = refused
        from adapters.nats.knowledge.shared import SharedKnowledge  # here: it needs the extra

        shared = SharedKnowledge(service, link, node)
        stack.push_async_callback(shared.stop)
        await shared.start(timeout)
    reporter = NodeReporter(service.bus, engine, link.board, node=node)
    return Session(node, service, engine, link.board, leases, outcomes, reporter, legs, refused)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
