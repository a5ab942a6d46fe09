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

from bench.measure import Effort, Spread, spread
from bench.row import Row, most
from bench.workloads import journalled

REQUIRED = most(5.0)


def measure(effort: Effort) -> list[Row]:
    with journalled() as service, asyncio.Runner() as runner:
        rows = []
        for milliseconds, calls in ((1, 12), (10, 5)):
            bare = waits(milliseconds / 1000)
            candidates = {
                "bare": bare,
                "lazy": service.recoverable(f"{milliseconds} ms lazy", durability="lazy")(bare),
                "journal": service.recoverable(f"{milliseconds} ms journal", durability="journal")(bare),
            }
            shares = overheads(candidates, effort.rounds, calls, runner)
            for mode, limit in (("lazy", 1.0), ("journal", 2.0)):
                rows.append(_row(f"{milliseconds} ms", f"{milliseconds}ms", mode, limit, shares[mode]))
        computing = computes(0.001)
        candidates = {
            "bare": computing,
            "lazy": service.recoverable("computing lazy", durability="lazy")(computing),
            "journal": service.recoverable("computing journal", durability="journal")(computing),
        }
        shares = overheads(candidates, effort.rounds, 12, runner)
        like_for_like = [row.measured for row in rows if row.measured is not None]
        rows.append(
            Row(
                key="overhead-average",
                what="overhead, average over the four rows above",
                unit="%",
                measured=average(like_for_like),
                goal=most(1.0),
                required=REQUIRED,
                before="355 % by its own report, which compared other operations",
            )
        )
        for mode in ("lazy", "journal"):
            rows.append(
                Row(
                    key=f"overhead-computing-{mode}",
                    what=f"overhead on an operation that computes for 1 ms, {mode} mode",
                    unit="%",
                    measured=shares[mode],
                )
            )
        return rows


def _row(what: str, key: str, mode: str, limit: float, measured: Spread) -> Row:
    before = {"1ms": "SQLite 525 %", "10ms": "SQLite 79 %"}[key]
    return Row(
        key=f"overhead-{key}-{mode}",
        what=f"overhead on a {what} operation, {mode} mode",
        unit="%",
        measured=measured,
        goal=most(limit),
        required=REQUIRED,
        before=before,
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
