"""Lag of a retry: how long after its delay the next attempt begins, compared with a bare sleep of that delay."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bench.measure import Effort, percentile, spread
from bench.row import Row, most
from bench.workloads import journalled
from recovery import Recovery

DELAY = 0.002


def measure(effort: Effort) -> list[Row]:
    samples = effort.some(60, least=20)
    rounds = max(effort.rounds // 2, 25)
    with journalled() as service, asyncio.Runner() as runner:
        recoverable: dict[str, Any] = {
            "durability": "lazy",
            "initial_delay": DELAY,
            "backoff_factor": 1.0,
            "jitter": "none",
        }
        lags_async = runner.run(_rounds_async(service, recoverable, rounds, samples))
        lags_sync = _rounds_sync(service, recoverable, max(rounds // 2, 25), samples)
    return [
        _row("late-async", "async", lags_async),
        _row("late-sync", "sync, in a thread", lags_sync),
    ]


def _row(key: str, mode: str, lags: list[tuple[float, float]]) -> Row:
    ours = spread([one for one, _ in lags]).scaled(1e3)
    bare = spread([other for _, other in lags]).scaled(1e3)
    return Row(
        key=key,
        what=f"lag of the next attempt beyond the policy's delay, p99, less that of a paired bare sleep; {mode}",
        unit="ms",
        measured=spread([(one - other) * 1e3 for one, other in lags]),
        goal=most(0.3),
        required=most(500.0),
        peers={"whole lag": ours, "bare sleep": bare},
        note=f"delay {DELAY * 1e3:.0f} ms",
    )


async def _rounds_async(
    service: Recovery, settings: dict[str, Any], rounds: int, samples: int
) -> list[tuple[float, float]]:
    failed: list[float] = []
    began: list[float] = []

    @service.recoverable("lag async", **settings)
    async def call() -> None:
        if len(failed) == len(began):
            failed.append(time.perf_counter())
            raise ConnectionError("reset")
        began.append(time.perf_counter())

    async def bare() -> float:
        started = time.perf_counter()
        await asyncio.sleep(DELAY)
        return time.perf_counter() - started - DELAY

    await call()
    lags = []
    for _ in range(rounds):
        failed.clear()
        began.clear()
        slept = []
        for _ in range(samples):
            await call()
            slept.append(await bare())
        lags.append((_p99(failed, began), percentile(slept, 0.99)))
    return lags


def _rounds_sync(service: Recovery, settings: dict[str, Any], rounds: int, samples: int) -> list[tuple[float, float]]:
    failed: list[float] = []
    began: list[float] = []

    @service.recoverable("lag sync", **settings)
    def call() -> None:
        if len(failed) == len(began):
            failed.append(time.perf_counter())
            raise ConnectionError("reset")
        began.append(time.perf_counter())

    def bare() -> float:
        started = time.perf_counter()
        time.sleep(DELAY)
        return time.perf_counter() - started - DELAY

    call()
    lags = []
    for _ in range(rounds):
        failed.clear()
        began.clear()
        slept = []
        for _ in range(samples):
            call()
            slept.append(bare())
        lags.append((_p99(failed, began), percentile(slept, 0.99)))
    return lags


def _p99(failed: list[float], began: list[float]) -> float:
    return percentile([start - failure - DELAY for failure, start in zip(failed, began, strict=True)], 0.99)
