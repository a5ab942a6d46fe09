"""What journal mode takes of the caller: its thread's own processor time, beyond that of the same operation bare.

The journal accepts two events of each call. An operation of 1 ms is the usual case: the code is cold after each wait,
and colder because the candidates alternate call by call. The last row is the warm case, one call right after the other;
as a ratio it suits the regression gate.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from statistics import fmean
from typing import Any

from adapters.memory import MemoryStore
from bench.measure import Effort, differences, interleave, plain, ratios, spread
from bench.row import Row, most, number
from bench.rows.overhead import waits
from bench.workloads import do_nothing, handwritten, journalled, settle
from recovery import Recovery

OPERATION = 0.001
CALLS = 10
"""Calls of each candidate in a round. Their mean counts, so that a call that wakes the journal's thread does too."""
BURST = 100
BARE = "bare"


def measure(effort: Effort) -> list[Row]:
    with ExitStack() as stack:
        on_disk = stack.enter_context(journalled())
        warm = _warm(effort, on_disk)
        if effort.on_processor:  # only ratios are wanted
            return [warm]
        runner = stack.enter_context(asyncio.Runner())
        services = {"SQLite": on_disk, "MemoryStore": stack.enter_context(Recovery(store=MemoryStore()))}
        asleep, blocked = _candidates(services, waits(OPERATION)), _candidates(services, _sleep)
        return [
            *_rows("async", "asyncio.sleep", [runner.run(_round_async(asleep)) for _ in range(effort.rounds + 1)]),
            *_rows("sync", "time.sleep", [_round_sync(blocked) for _ in range(effort.rounds + 1)]),
            warm,
        ]


def _sleep() -> None:
    time.sleep(OPERATION)


def _candidates(services: Mapping[str, Recovery], operation: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
    name = f"waits, {operation.__name__}"
    journal = {store: one.recoverable(name, durability="journal")(operation) for store, one in services.items()}
    return {BARE: operation, **journal}


async def _round_async(calls: Mapping[str, Callable[[], Awaitable[Any]]]) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(CALLS):
        for name, call in calls.items():
            began = time.thread_time()
            await call()
            taken[name].append(time.thread_time() - began)
    return {name: fmean(times) for name, times in taken.items()}


def _round_sync(calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(CALLS):
        for name, call in calls.items():
            began = time.thread_time()
            call()
            taken[name].append(time.thread_time() - began)
    return {name: fmean(times) for name, times in taken.items()}


def _rows(mode: str, operation: str, rounds: list[dict[str, float]]) -> list[Row]:
    rounds = rounds[1:]  # the first is a warm-up
    times = {name: [one[name] for one in rounds] for name in rounds[0]}
    return [
        Row(
            key=f"caller-{mode}-{store.lower()}",
            what=f"caller's processor time of {operation} of 1 ms, journal mode, {store}: beyond the bare operation's",
            unit="µs",
            measured=differences(taken, times[BARE]).scaled(1e6),
            goal=most(20.0),
            note=f"the bare operation takes {number(spread(times[BARE]).middle * 1e6)} µs of the processor",
        )
        for store, taken in times.items()
        if store != BARE
    ]


def _warm(effort: Effort, service: Recovery) -> Row:
    recoverable = service.recoverable("warm", durability="journal")(do_nothing)
    candidates = {
        "hand-written": plain(handwritten(do_nothing), effort.clock),
        "ours": plain(recoverable, effort.clock),
    }
    times = interleave(candidates, effort.rounds * 2, times=BURST, settle=lambda: settle(service))
    return Row(
        key="journal-call",
        what="a call that succeeds in journal mode, call after call: caller's time over a hand-written wrapper",
        unit="x",
        measured=ratios(times["ours"], times["hand-written"]),
        note=f"{number(spread(times['ours']).middle * 1e6)} µs a call; the journal is settled after each {BURST} calls",
    )
