"""Lag of a 1 ms ticker on an event loop that publishes 20 000 journalled events a second.

Each run has three parts, and in all of them the loop makes the events at that rate. First it drops them: idle. Then it
publishes them to a journal with SQLite. At last it drops them again, while a plain thread writes the rows of the second
part to another file, by ``executemany``, one batch each 20 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator

from adapters.sqlite.store import SQLiteStore
from bench.event_stream import RawCopy, events, publish
from bench.measure import Effort, percentile, ratios, spread
from bench.row import Row, most, number, thousands
from bench.workloads import NO_RETENTION, scratch, settle
from events.event import Event
from recovery import NotDurable, Recovery

RATE = 20_000
TICK = 0.001
RUNS = 11
SECONDS = 1.0
LEAST = 0.02
"""Milliseconds beyond idle below which a difference says nothing; it stands for such a difference in a ratio."""


def measure(effort: Effort) -> list[Row]:
    seconds = max(SECONDS * effort.share, 0.25)
    lags: dict[str, list[float]] = {"idle": [], "raw thread": [], "journal": []}
    rates: list[float] = []
    with (
        scratch() as path,
        Recovery(store=SQLiteStore(path, retention=NO_RETENTION)) as service,
        asyncio.Runner() as runner,
    ):
        publish(service, 0, 3_000)
        copy = RawCopy(path, path.with_name("copy.db"))
        copy.write_new()
        stream = itertools.chain.from_iterable(
            events(first, 3_000, service.bus.clock()) for first in itertools.count(1_000, 1_000)
        )
        for _ in range(RUNS):
            found, _made = runner.run(_beside(_drop, stream, seconds))
            lags["idle"].append(_p99(found))
            found, made = runner.run(_beside(service.bus.publish, stream, seconds))
            lags["journal"].append(_p99(found))
            rates.append(made / seconds)
            with contextlib.suppress(NotDurable):  # dropped events are a result here, not an error
                settle(service)
            thread = threading.Thread(target=copy.write_steadily, args=(copy.new_rows(), seconds))
            thread.start()
            found, _made = runner.run(_beside(_drop, stream, seconds))
            lags["raw thread"].append(_p99(found))
            thread.join()
        copy.close()
        assert service.journal is not None
        dropped = service.journal.counts.dropped
    ours, beside_raw = _beyond(lags["journal"], lags["idle"]), _beyond(lags["raw thread"], lags["idle"])
    return [
        Row(
            key="ticker",
            what=f"1 ms ticker at {thousands(RATE)} journalled events/s, p99 lag beyond idle: over a raw thread's",
            unit="x",
            measured=ratios(ours, beside_raw),
            goal=most(1.5),
            note=f"the raw thread writes the same rows by executemany; {number(spread(ours).middle)} ms against "
            f"{number(spread(beside_raw).middle)} ms beyond idle; {RUNS} runs; "
            f"{thousands(spread(rates).middle)} events/s; {dropped} dropped",
        ),
        Row(
            key="ticker-lag",
            what=f"1 ms ticker at {thousands(RATE)} journalled events/s, p99 lag",
            unit="ms",
            measured=spread(lags["journal"]),
            peers={name: spread(taken) for name, taken in lags.items() if name != "journal"},
        ),
    ]


def _p99(lags: list[float]) -> float:
    return percentile(lags, 0.99) * 1e3


def _beyond(lags: list[float], idle: list[float]) -> list[float]:
    return [max(one - other, LEAST) for one, other in zip(lags, idle, strict=True)]


def _drop(_: Event) -> None:
    return None


async def ticks(seconds: float) -> list[float]:
    """Seconds by which each tick was late."""
    lags = []
    end = time.perf_counter() + seconds
    while (before := time.perf_counter()) < end:
        await asyncio.sleep(TICK)
        lags.append(time.perf_counter() - before - TICK)
    return lags


async def _beside(take: Callable[[Event], object], stream: Iterator[Event], seconds: float) -> tuple[list[float], int]:
    """The ticker's lags while the loop makes events and gives each to *take*; and the number of events."""
    made = 0

    async def produce() -> None:
        nonlocal made
        began = time.perf_counter()
        while True:
            due = round((time.perf_counter() - began) * RATE)
            for event in itertools.islice(stream, max(due - made, 0)):
                take(event)
            made = max(due, made)
            await asyncio.sleep(TICK)

    producer = asyncio.create_task(produce())
    lags = await ticks(seconds)
    producer.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await producer
    return lags, made
