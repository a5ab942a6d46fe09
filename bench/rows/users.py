"""Throughput of 20 concurrent users that call an operation of 10 ms for 10 s, with recovery and without, in slices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.measure import Effort, spread
from bench.row import Row, least, thousands
from bench.rows.overhead import waits
from bench.workloads import journalled

USERS = 20
OPERATION = 0.01
SECONDS = 10.0
SLICES = 25


def measure(effort: Effort) -> list[Row]:
    bare = waits(OPERATION)
    with journalled() as service, asyncio.Runner() as runner:
        candidates = {
            "without recovery": bare,
            "lazy": service.recoverable("users lazy", durability="lazy")(bare),
            "journal": service.recoverable("users journal", durability="journal")(bare),
        }
        rates = runner.run(_slices(candidates, SECONDS * effort.share / SLICES))
    shares = {
        name: spread([100.0 * one / other for one, other in zip(rates[name], rates["without recovery"], strict=True)])
        for name in ("lazy", "journal")
    }
    seconds = SECONDS * effort.share
    return [
        Row(
            key="users",
            what=f"{USERS} users for {seconds:g} s as in the report, of the same without recovery; lazy journal",
            unit="%",
            measured=shares["lazy"],
            goal=least(98.0),
            before="1 587/s",
            note=f"{thousands(sum(rates['lazy']) / SLICES)}/s with, "
            f"{thousands(sum(rates['without recovery']) / SLICES)}/s without",
        ),
        Row(
            key="users-journal",
            what=f"{USERS} users, of the same without recovery; journal mode",
            unit="%",
            measured=shares["journal"],
        ),
    ]


async def _slices(candidates: dict[str, Callable[[], Awaitable[Any]]], seconds: float) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for number in range(SLICES):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            rates[name].append(await rate(candidates[name], USERS, seconds))
    return rates


async def rate(call: Callable[[], Awaitable[Any]], users: int, seconds: float) -> float:
    """Calls per second that *users* make together."""
    began = time.perf_counter()
    end = began + seconds

    async def user() -> int:
        done = 0
        while time.perf_counter() < end:
            await call()
            done += 1
        return done

    done = sum(await asyncio.gather(*[user() for _ in range(users)]))
    return done / (time.perf_counter() - began)
