"""Lag of a 1 ms ticker on an event loop that publishes 20 000 journalled events a second."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterator

from bench.event_stream import events
from bench.measure import Effort, percentile, spread
from bench.row import Row, most, thousands
from bench.workloads import journalled, settle
from events.event import Event
from recovery import Recovery

RATE = 20_000
TICK = 0.001
RUNS = 8
SECONDS = 1.0


def measure(effort: Effort) -> list[Row]:
    seconds = max(SECONDS * effort.share, 0.25)
    idle: list[float] = []
    busy: list[float] = []
    rates: list[float] = []
    with journalled() as service, asyncio.Runner() as runner:
        stream = itertools.chain.from_iterable(
            events(first, 3_000, service.bus.clock()) for first in itertools.count(0, 1_000)
        )
        for _ in range(RUNS):
            idle.append(percentile(runner.run(ticks(seconds)), 0.99) * 1e3)
            lags, published = runner.run(_beside(service, stream, seconds))
            busy.append(percentile(lags, 0.99) * 1e3)
            rates.append(published / seconds)
            settle(service)
        assert service.journal is not None
        dropped = service.journal.counts.dropped
    return [
        Row(
            key="ticker",
            what=f"1 ms ticker on the caller's loop at {thousands(RATE)} journalled events/s, p99 lag beyond idle",
            unit="ms",
            measured=spread([one - other for one, other in zip(busy, idle, strict=True)]),
            goal=most(0.3),
            best="0.3-0.5 ms",
            peers={"busy": spread(busy), "idle": spread(idle)},
            note=f"{RUNS} paired runs; {thousands(spread(rates).middle)} events/s; {dropped} dropped",
        )
    ]


async def ticks(seconds: float) -> list[float]:
    """Seconds by which each tick was late."""
    lags = []
    end = time.perf_counter() + seconds
    while (before := time.perf_counter()) < end:
        await asyncio.sleep(TICK)
        lags.append(time.perf_counter() - before - TICK)
    return lags


async def _beside(service: Recovery, stream: Iterator[Event], seconds: float) -> tuple[list[float], int]:
    published = 0

    async def produce() -> None:
        nonlocal published
        began = time.perf_counter()
        while True:
            due = round((time.perf_counter() - began) * RATE)
            for event in itertools.islice(stream, max(due - published, 0)):
                service.bus.publish(event)
            published = max(due, published)
            await asyncio.sleep(TICK)

    producer = asyncio.create_task(produce())
    lags = await ticks(seconds)
    producer.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await producer
    return lags, published
