"""Whether cost grows with size: an event in a full journal, and a hundred thousand calls that wait at once.

The cost of an event is the processor time of all threads, so that other load of the machine is not in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any

from bench.event_stream import publish
from bench.measure import Effort, ratios, spread
from bench.row import Row, most, thousands
from bench.workloads import journalled, settle
from recovery import Counts, NotDurable, Recovery

SMALL = 10_000
LARGE = 1_000_000
ROUNDS = 25
EVENTS_PER_ROUND = 3_000
WAITING = 100_000
WAIT_TIMEOUT = 120.0
"""Seconds to wait until all calls wait."""


def measure(effort: Effort) -> list[Row]:
    return [_flat(effort), *_waiting(effort)]


def _flat(effort: Effort) -> Row:
    large = effort.some(LARGE / 2) if effort.name == "quick" else LARGE
    each = EVENTS_PER_ROUND if effort.name == "full" else EVENTS_PER_ROUND // 3
    with _filled(SMALL) as few, _filled(large) as many:
        small, great = [], []
        for number in range(ROUNDS):
            first = 10 * LARGE + number * each
            small.append(publish(few, first, each, time.process_time) / each)
            great.append(publish(many, first, each, time.process_time) / each)
    change = ratios(great, small)
    return Row(
        key="growth-cost",
        what=f"cost per event, at {thousands(large)} rows over at {thousands(SMALL)} rows",
        unit="x",
        measured=change,
        goal=most(1.15, "flat (±15 %)"),
        note=f"{spread(small).middle * 1e6:.1f} and {spread(great).middle * 1e6:.1f} µs of the processor each",
    )


@contextlib.contextmanager
def _filled(rows: int) -> Iterator[Recovery]:
    with journalled() as service:
        publish(service, 0, rows)
        yield service


def _waiting(effort: Effort) -> list[Row]:
    calls = effort.some(WAITING)
    with journalled() as service, asyncio.Runner() as runner:
        assert service.journal is not None
        took, waiting = runner.run(_all_wait(service, calls))
        after = service.journal.counts
    words = thousands(calls)
    return [
        Row(
            key="growth-drops",
            what=f"{words} calls waiting at once: events dropped",
            unit="",
            measured=spread([float(waiting.dropped)]),
            goal=most(0.0, "0"),
            note=f"{thousands(waiting.issued)} issued; then all are cancelled at once: {thousands(after.dropped)} "
            f"dropped of {thousands(after.issued)}",
        ),
        Row(
            key="growth-waiting",
            what=f"{words} calls waiting at once: until all wait, each",
            unit="µs",
            measured=spread([took / calls * 1e6]),
        ),
    ]


async def _all_wait(service: Recovery, count: int) -> tuple[float, Counts]:
    @service.recoverable("waiting", durability="lazy", initial_delay=3600.0, max_delay=3600.0, jitter="none")
    async def call() -> None:
        raise ConnectionError("reset")

    began = time.perf_counter()
    tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(call()) for _ in range(count)]
    while len(service.calls.waiting()) < count and time.perf_counter() - began < WAIT_TIMEOUT:
        await asyncio.sleep(0.05)
    took = time.perf_counter() - began
    _settle(service)
    assert service.journal is not None
    waiting = service.journal.counts
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    _settle(service)
    return took, waiting


def _settle(service: Recovery) -> None:
    with contextlib.suppress(NotDurable):  # dropped events are a result here, not an error
        settle(service)
