"""Calls that fail once and then succeed: one after another, and a thousand at once."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

from bench.measure import Clock, Effort, Timed, asynchronous, interleave, plain, ratios, spread
from bench.peers import peers
from bench.row import Row, least, most
from bench.workloads import (
    fails_every_other,
    fails_every_other_async,
    fails_while,
    failures,
    handwritten,
    handwritten_async,
    journalled,
    settle,
)
from recovery import Recovery

OURS = "launcher-recovery"
BASE = "hand-written"
BURST = 100
"""Calls in a round: fewer events than one batch of the journal, which is settled between rounds. So this is the
caller's time; the journal's own is in ``bench.rows.events``."""
TASKS = 1_000
SLOW = ("tenacity", "stamina")
"""Peers whose tasks take too long for a quick run."""


def measure(effort: Effort) -> list[Row]:
    with journalled() as service, asyncio.Runner() as runner:
        return [*_one_failure(effort, service, runner), *_many_tasks(effort, service, runner)]


def _one_failure(effort: Effort, service: Recovery, runner: asyncio.Runner) -> list[Row]:
    lazy = service.recoverable("fails", durability="lazy", initial_delay=0.0)
    lazy_async = service.recoverable("fails async", durability="lazy", initial_delay=0.0)
    alone = Recovery()
    plains: dict[str, Callable[[], Any]] = {
        BASE: handwritten(fails_every_other()),
        OURS: lazy(fails_every_other()),
        "without a journal": alone.recoverable("fails", initial_delay=0.0)(fails_every_other()),
    }
    coroutines: dict[str, Callable[[], Any]] = {
        BASE: handwritten_async(fails_every_other_async()),
        OURS: lazy_async(fails_every_other_async()),
        "without a journal": alone.recoverable("fails async", initial_delay=0.0)(fails_every_other_async()),
    }
    for peer in peers(effort):
        if peer.retries and peer.plain is not None:
            plains[peer.name] = peer.plain(fails_every_other())
        if peer.retries and peer.coroutine is not None:
            coroutines[peer.name] = peer.coroutine(fails_every_other_async())
    timed_plains = {name: plain(call, effort.clock) for name, call in plains.items()}
    timed_coroutines = {name: asynchronous(call, runner, effort.clock) for name, call in coroutines.items()}
    rows = []
    for key, mode, candidates in (("", "sync", timed_plains), ("-async", "async", timed_coroutines)):
        times = interleave(candidates, effort.some(102, least=25), times=BURST, settle=lambda: settle(service))
        others = {name: spread(taken).scaled(1e6) for name, taken in times.items() if name != OURS}
        rows.append(
            Row(
                key=f"failure{key}",
                what=f"one failure then success, no delay, whole cascade, lazy journal, {mode}",
                unit="µs",
                measured=spread(times[OURS]).scaled(1e6),
                goal=most(10.0),
                before="145 µs",
                best="hyx 5.5 µs, pyresilience 7 µs, tenacity 52 µs",
                peers=others,
                note=f"bursts of {BURST} calls; the journal is settled in between",
            )
        )
        rows.append(
            Row(
                key=f"failure{key}-ratio",
                what=f"one failure then success over hand-written, {mode}",
                unit="x",
                measured=ratios(times[OURS], times[BASE]),
            )
        )
    return rows


def _many_tasks(effort: Effort, service: Recovery, runner: asyncio.Runner) -> list[Row]:
    alone = Recovery()
    candidates: dict[str, Callable[..., Awaitable[Any]]] = {
        BASE: handwritten_async(fails_while),
        OURS: service.recoverable("tasks", durability="lazy", initial_delay=0.0, budget=None)(fails_while),
        "without a journal": alone.recoverable("tasks", initial_delay=0.0, budget=None)(fails_while),
    }
    for peer in peers(effort):
        if peer.retries and peer.coroutine is not None and (effort.name == "full" or peer.name not in SLOW):
            candidates[peer.name] = peer.coroutine(fails_while)
    timed = {name: _gathered(call, runner, effort.clock) for name, call in candidates.items()}
    rounds = max(effort.rounds // 2, 25)
    times = interleave(timed, rounds, times=TASKS, settle=lambda: settle(service))
    rates = {name: spread([1.0 / one for one in taken]) for name, taken in times.items()}
    common: dict[str, Any] = {"unit": "/s", "goal": least(80_000.0), "before": "6 700/s"}
    return [
        Row(
            key="tasks",
            what=f"{TASKS} concurrent tasks, each failing once (no budget; default circuit), lazy journal",
            measured=rates[OURS],
            best="opnieuw 115 000/s, hyx 129 000/s (no events, no journal)",
            peers={name: rate for name, rate in rates.items() if name != OURS},
            **common,
        ),
        Row(
            key="tasks-alone",
            what=f"{TASKS} concurrent tasks, each failing once, without a journal",
            measured=rates["without a journal"],
            **common,
        ),
        Row(
            key="tasks-ratio",
            what=f"{TASKS} concurrent tasks over hand-written, without a journal",
            unit="x",
            measured=ratios(times["without a journal"], times[BASE]),
        ),
    ]


def _gathered(call: Callable[..., Awaitable[Any]], runner: asyncio.Runner, clock: Clock) -> Timed:
    async def together(count: int) -> float:
        began = clock()
        await asyncio.gather(*[call(failures(1)) for _ in range(count)])
        return clock() - began

    return lambda count: runner.run(together(count), context=contextvars.copy_context())
