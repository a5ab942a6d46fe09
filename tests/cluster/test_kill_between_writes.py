"""A process is killed before and after each message that it sends: no call lacks its message, no message its call."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal, TypeAlias

import msgspec
import pytest

from adapters.nats.connection import connect
from adapters.nats.errors import StaleError
from adapters.nats.holding import claim
from adapters.nats.link import Link
from adapters.nats.names import Lane
from adapters.nats.record import CallRecord
from adapters.nats.transitions import succeeded
from tests.cluster.killed import KEY, new
from tests.cluster.servers import NatsServer

pytestmark = pytest.mark.anyio

LEASE = 1.0
AT_ONCE = 3
MOST = 30
"""Messages that no change sends."""

What: TypeAlias = Literal["submit", "retry", "finish", "move"]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("what", ["submit", "retry", "finish", "move"])
async def test_whenever_a_process_dies_the_call_has_its_message_and_one_end(
    server: NatsServer, prefix: str, what: What
):
    turns, most = asyncio.Semaphore(AT_ONCE), MOST
    async with connect(server.url, prefix=prefix, lease=LEASE) as link:

        async def one(number: int, when: str) -> None:
            nonlocal most
            async with turns:
                if number < most and not await is_well(server, link, what, number, when):
                    most = min(most, number)

        await asyncio.gather(*(one(number, when) for number in range(MOST) for when in ("before", "after")))
    assert {"submit": 3, "retry": 8, "finish": 9, "move": 5}[what] <= most < MOST


async def is_well(server: NatsServer, link: Link, what: What, number: int, when: str) -> bool:
    """Kill a process at one place, and look at what is left; whether it was killed at all."""
    operation = f"{what}-{number}-{when}"
    if what != "submit":
        await link.engine.write(new(operation), 0)
    command = ["-m", "tests.cluster.killed", server.url, link.prefix, f"{LEASE}", what, operation, f"{number}", when]
    process = await asyncio.create_subprocess_exec(sys.executable, *command)
    code = await process.wait()
    assert code in (0, -signal.SIGKILL), f"{operation}: {code}"
    await asyncio.sleep(0.05)  # the last of what was sent arrives
    await look(link, operation)
    if what == "submit":  # a program that was killed submits again, with the same key
        with suppress(StaleError):
            await link.engine.write(new(operation), 0)
        await look(link, operation)
    ends = await finished(link, operation)
    assert ends.state == "succeeded", operation
    assert await link.engine.payload(ends.call, "result") in (b"by the one that died", b"by the next")
    return code != 0


async def look(link: Link, operation: str) -> None:
    """No call without its message, no message without its call."""
    call = f"{operation}/{KEY}"
    stored = await link.engine.read(call)
    legs = await messages(link, operation)
    if stored is None:
        assert legs == [], f"{operation}: messages without a call: {legs}"
        assert await link.engine.payload(call, "args") is None
        return
    assert max(legs, default=0) <= stored.record.leg
    if not stored.record.is_over:
        assert legs.count(stored.record.leg) == 1, f"{operation}: {stored.record.state}, {stored.record.leg} of {legs}"
        assert await link.engine.payload(call, "args") == b"[1]"


async def messages(link: Link, operation: str) -> list[int]:
    """The numbers of the messages in queues and schedules; 0 for one that drops another."""
    info = await link.connection.jetstream().stream_info(link.prefix, subjects_filter=">")
    wanted = [one for one in info.state.subjects or {} if one.split(".")[-2] == operation]
    wanted = [one for one in wanted if one.split(".")[1] in ("queue", "due")]
    found = [await link.connection.jetstream().get_last_msg(link.prefix, one) for one in wanted]
    return [msgspec.json.decode(one.data)["leg"] if one.data else 0 for one in found]


async def finished(link: Link, operation: str) -> CallRecord:
    """Bring the call to its end, as the next worker does; it has no message then."""
    lanes: Sequence[Lane] = [Lane(operation), Lane(operation, "normal", "gpu-b")]
    async with asyncio.timeout(20.0):
        while await messages(link, operation):
            delivery = await link.engine.take(lanes, LEASE)
            if delivery is not None:
                holding = await claim(link.engine, delivery, "gpu-b", lambda record, now: record.standing)
                if holding is not None:
                    now = await link.engine.now()
                    await holding.apply(lambda record, now=now: succeeded(record, b"by the next", record.standing, now))  # type: ignore[misc]
                    await holding.end()
    stored = await link.engine.read(f"{operation}/{KEY}")
    assert stored is not None
    return stored.record
