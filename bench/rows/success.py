"""A call that succeeds, over the smallest hand-written wrapper; classifier, circuit and lazy journal attached."""

from __future__ import annotations

import asyncio

from bench.measure import Effort, Timed, asynchronous, interleave, plain, ratios, spread
from bench.peers import peers
from bench.row import Row, most
from bench.workloads import do_nothing, do_nothing_async, handwritten, handwritten_async, journalled

OURS = "launcher-recovery"
BASE = "hand-written"


def measure(effort: Effort) -> list[Row]:
    clock = effort.clock
    with journalled() as service, asyncio.Runner() as runner:
        recoverable = service.recoverable("success", durability="lazy", max_retries=3)
        recoverable_async = service.recoverable("success async", durability="lazy", max_retries=3)
        coroutines: dict[str, Timed] = {
            BASE: asynchronous(handwritten_async(do_nothing_async), runner, clock),
            OURS: asynchronous(recoverable_async(do_nothing_async), runner, clock),
            "bare": asynchronous(do_nothing_async, runner, clock),
        }
        plains: dict[str, Timed] = {
            BASE: plain(handwritten(do_nothing), clock),
            OURS: plain(recoverable(do_nothing), clock),
            "bare": plain(do_nothing, clock),
        }
        for peer in peers(effort):
            if peer.coroutine is not None:
                coroutines[peer.name] = asynchronous(peer.coroutine(do_nothing_async), runner, clock)
            if peer.plain is not None:
                plains[peer.name] = plain(peer.plain(do_nothing), clock)
        return [
            *_rows(
                coroutines,
                effort,
                mode="async",
                what="success, async: classifier + breaker + lazy SQLite journal attached, over a hand-written wrapper",
                limit=0.95,
                before="27x",
                best="circuitbreaker 3.6x, hyx 4.7x, tenacity 106x",
            ),
            *_rows(
                plains,
                effort,
                mode="sync",
                what="success, sync: the same, over a hand-written wrapper",
                limit=0.8,
                before="131x",
                best="circuitbreaker 5.3x, tenacity 112x",
            ),
        ]


def _rows(
    candidates: dict[str, Timed], effort: Effort, *, mode: str, what: str, limit: float, before: str, best: str
) -> list[Row]:
    times = interleave(candidates, effort.rounds * (2 if effort.on_processor else 4), round_time=effort.round_time)
    base, bare = times[BASE], times["bare"]
    others = {name: ratios(taken, base) for name, taken in times.items() if name not in (BASE, OURS)}
    return [
        Row(
            key=f"success-{mode}",
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
            key=f"wrapper-{mode}",
            what=f"the wrapper alone, {mode}: beyond the bare call, over what a hand-written one takes beyond it",
            unit="x",
            measured=ratios(_beyond(times[OURS], bare), _beyond(base, bare)),
        ),
    ]


def _beyond(times: list[float], bare: list[float]) -> list[float]:
    return [max(one - other, 1e-12) for one, other in zip(times, bare, strict=True)]
