"""Overhead of recovery on an operation of 1 ms and of 10 ms: the same operation, bare and recoverable.

Each call of the bare operation is followed by one call of each recoverable one. Within a round the medians are
compared, because a sleep sometimes returns a millisecond late. The operations wait, as those of a launcher do and as
those of the predecessor's report did. One more operation computes instead: it shows what the journal's thread takes
from it.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from adapters.memory import MemoryStore
from bench.measure import Effort, Spread, spread
from bench.row import Row, most
from bench.workloads import journalled
from recovery import Recovery

REQUIRED = most(5.0)


def measure(effort: Effort) -> list[Row]:
    with journalled() as service, Recovery(store=MemoryStore()) as in_memory, asyncio.Runner() as runner:
        rows = []
        for milliseconds, calls in ((1, 12), (10, 5)):
            bare, name = waits(milliseconds / 1000), f"{milliseconds} ms"
            candidates = {
                "bare": bare,
                "lazy": service.recoverable(f"{name} lazy", durability="lazy")(bare),
                "journal": service.recoverable(f"{name} journal", durability="journal")(bare),
                "memory": in_memory.recoverable(f"{name} journal", durability="journal")(bare),
            }
            shares = overheads(candidates, effort.rounds, calls, runner)
            rows += [_row(milliseconds, mode, shares[mode]) for mode in MODES]
        computing = computes(0.001)
        candidates = {
            "bare": computing,
            "lazy": service.recoverable("computing lazy", durability="lazy")(computing),
            "journal": service.recoverable("computing journal", durability="journal")(computing),
        }
        shares = overheads(candidates, effort.rounds, 12, runner)
    like_for_like = [row.measured for row in rows if row.required is not None and row.measured is not None]
    average_row = Row(
        key="overhead-average",
        what="overhead, average of 1 ms and 10 ms in both modes, with SQLite",
        unit="%",
        measured=average(like_for_like),
        goal=most(1.0),
        required=REQUIRED,
        before="355 % by its own report, which compared other operations",
    )
    computed = [
        Row(
            key=f"overhead-computing-{mode}",
            what=f"overhead on an operation that computes for 1 ms, {mode} mode",
            unit="%",
            measured=shares[mode],
        )
        for mode in ("lazy", "journal")
    ]
    return [*rows, average_row, *computed]


MODES = {
    "lazy": ("lazy mode", 1.0),
    "journal": ("journal mode", 2.0),
    "memory": ("journal mode with a store in memory", 2.0),
}
"""The modes in words, with their goals in percent."""


def _row(milliseconds: int, mode: str, measured: Spread) -> Row:
    words, limit = MODES[mode]
    of_predecessor = mode != "memory"
    return Row(
        key=f"overhead-{milliseconds}ms-{mode}",
        what=f"overhead on a {milliseconds} ms operation, {words}",
        unit="%",
        measured=measured,
        goal=most(limit),
        required=REQUIRED if of_predecessor else None,
        before={1: "SQLite 525 %", 10: "SQLite 79 %"}[milliseconds] if of_predecessor else "",
    )


def average(spreads: list[Spread]) -> Spread:
    """The mean of several figures and of both edges of their spreads."""
    count = len(spreads)
    return Spread(
        sum(one.low for one in spreads) / count,
        sum(one.middle for one in spreads) / count,
        sum(one.high for one in spreads) / count,
        min(one.rounds for one in spreads),
    )


def waits(seconds: float) -> Callable[[], Awaitable[None]]:
    """Return an operation that sleeps for *seconds*."""

    async def operation() -> None:
        await asyncio.sleep(seconds)

    return operation


def computes(seconds: float) -> Callable[[], Awaitable[None]]:
    """Return an operation with a fixed amount of computation, which takes about *seconds* on this machine."""

    def spin(times: int) -> int:
        total = 0
        for number in range(times):
            total += number & 7
        return total

    times = 1_000
    while (took := _timed(spin, times)) < seconds / 2:
        times *= 2
    fitted = round(times * seconds / took)

    async def operation() -> None:
        spin(fitted)

    return operation


def _timed(spin: Callable[[int], object], times: int) -> float:
    began = time.perf_counter()
    spin(times)
    return time.perf_counter() - began


def overheads(
    candidates: dict[str, Callable[[], Awaitable[Any]]], rounds: int, calls: int, runner: asyncio.Runner
) -> dict[str, Spread]:
    """Percent that each candidate takes longer than the one named "bare"."""

    async def one_round() -> dict[str, float]:
        taken: dict[str, list[float]] = {name: [] for name in candidates}
        for _ in range(calls):
            for name, call in candidates.items():
                began = time.perf_counter()
                await call()
                taken[name].append(time.perf_counter() - began)
        return {name: statistics.median(times) for name, times in taken.items()}

    runner.run(one_round())
    medians = [runner.run(one_round()) for _ in range(rounds)]
    return {
        name: spread([100.0 * (one[name] / one["bare"] - 1.0) for one in medians])
        for name in candidates
        if name != "bare"
    }
