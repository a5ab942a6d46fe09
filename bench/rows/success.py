"""A call that succeeds, over the smallest wrapper: classifier, breaker and a lazy SQLite journal are attached."""

from __future__ import annotations

import asyncio

from bench.measure import Effort, Timed, awaited, interleave, plain, ratios, spread
from bench.peers import peers
from bench.row import Row, most
from bench.workloads import handwritten, handwritten_async, journalled, work, work_async

OURS = "launcher-recovery"
BASE = "hand-written"


def measure(effort: Effort) -> list[Row]:
    clock = effort.clock
    with journalled() as service, asyncio.Runner() as runner:
        recoverable = service.recoverable("success", durability="lazy", max_retries=3)
        recoverable_async = service.recoverable("success async", durability="lazy", max_retries=3)
        coroutines: dict[str, Timed] = {
            BASE: awaited(handwritten_async(work_async), runner, clock),
            OURS: awaited(recoverable_async(work_async), runner, clock),
            "bare": awaited(work_async, runner, clock),
        }
        plains: dict[str, Timed] = {
            BASE: plain(handwritten(work), clock),
            OURS: plain(recoverable(work), clock),
            "bare": plain(work, clock),
        }
        for peer in peers(effort):
            if peer.coroutine is not None:
                coroutines[peer.name] = awaited(peer.coroutine(work_async), runner, clock)
            if peer.plain is not None:
                plains[peer.name] = plain(peer.plain(work), clock)
        return [
            *_rows(
                coroutines,
                effort,
                colour="async",
                what="success, async: classifier + breaker + lazy SQLite journal attached, over hand-written",
                limit=1.2,
                before="27x",
                best="circuitbreaker 3.6x, hyx 4.7x, tenacity 106x",
            ),
            *_rows(
                plains,
                effort,
                colour="sync",
                what="success, sync: the same, over hand-written",
                limit=1.25,
                before="131x",
                best="circuitbreaker 5.3x, tenacity 112x",
            ),
        ]


def _rows(
    candidates: dict[str, Timed], effort: Effort, *, colour: str, what: str, limit: float, before: str, best: str
) -> list[Row]:
    times = interleave(candidates, effort.rounds * (2 if effort.on_processor else 4), round_time=effort.round_time)
    base, bare = times[BASE], times["bare"]
    others = {name: ratios(taken, base) for name, taken in times.items() if name not in (BASE, OURS)}
    return [
        Row(
            key=f"success-{colour}",
            what=what,
            unit="x",
            measured=ratios(times[OURS], base),
            goal=most(limit),
            before=before,
            best=best,
            peers=others,
            note=f"hand-written takes {spread(base).middle * 1e9:.0f} ns here",
        ),
        Row(
            key=f"wrapper-{colour}",
            what=f"the wrapper alone, {colour}: beyond the bare call, over what a hand-written one takes beyond it",
            unit="x",
            measured=ratios(_beyond(times[OURS], bare), _beyond(base, bare)),
        ),
    ]


def _beyond(times: list[float], bare: list[float]) -> list[float]:
    return [max(one - other, 1e-12) for one, other in zip(times, bare, strict=True)]
