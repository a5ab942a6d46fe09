"""Calls that fail once and then succeed, over the same call by hand: one after another, and a thousand at once.

One after another, a round is a burst of calls that fills less than a batch of the journal, and the journal is settled
between bursts: this is the caller's time. Another row has the processor time of all threads, the settling included, so
that nothing hides in the journal's thread.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from bench.measure import Clock, Effort, Goal, Spread, Timed, asynchronous, interleave, plain, ratios, spread
from bench.peers import peers
from bench.row import Row, least, most, number, thousands
from bench.workloads import (
    fails_every_other,
    fails_every_other_async,
    fails_while,
    handwritten,
    handwritten_async,
    handwritten_yielding,
    journalled,
    observed,
    on_all_threads,
    settle,
)
from recovery import Recovery

OURS = "launcher-recovery"
BASE = "hand-written"
OBSERVED = "with three observers"
ALONE = "without a journal"
YIELDING = "hand-written + sleep(0)"
PAIRED = "hyx"
"""The fastest peer that yields before a retry, as we do; it is compared with us round by round."""
BURST = 100
TASKS = 1_000
SLOW = ("tenacity", "stamina")
"""Peers whose tasks take too long for a quick run."""


def measure(effort: Effort) -> list[Row]:
    with journalled() as service, asyncio.Runner() as runner:
        return [
            *_sync(effort, service),
            *_async(effort, service, runner),
            _processor(effort, service),
            *_tasks(effort, service, runner),
        ]


def _sync(effort: Effort, service: Recovery) -> list[Row]:
    candidates: dict[str, Callable[[], Any]] = {BASE: handwritten(fails_every_other())}
    for name, operation in _operations(service, "fails"):
        candidates[name] = operation(fails_every_other())
    for peer in peers(effort):
        if peer.retries and peer.plain is not None:
            candidates[peer.name] = peer.plain(fails_every_other())
    times = _bursts({name: plain(call, effort.clock) for name, call in candidates.items()}, effort, service)
    over = _over_base(times)
    return [
        Row(
            key="failure",
            what="one failure then success, no delay, lazy journal, sync: over a hand-written retry",
            unit="x",
            measured=over[OURS],
            goal=most(4.0),
            before="145 µs",
            best="opnieuw 19x, tenacity 81x",
            peers=_others(over),
            note=_in_microseconds(times, OURS, BASE),
        ),
        Row(
            key="failure-observed",
            what="the same with observers of failure, retry and recovery, sync: over a hand-written retry without any",
            unit="x",
            measured=over[OBSERVED],
            goal=most(7.0),
            note=f"three subscribers that do nothing; {_in_microseconds(times, OBSERVED, BASE)}",
        ),
    ]


def _async(effort: Effort, service: Recovery, runner: asyncio.Runner) -> list[Row]:
    candidates: dict[str, Callable[[], Any]] = {
        BASE: handwritten_async(fails_every_other_async()),
        YIELDING: handwritten_yielding(fails_every_other_async()),
    }
    for name, operation in _operations(service, "fails async"):
        candidates[name] = operation(fails_every_other_async())
    for peer in peers(effort):
        if peer.retries and peer.coroutine is not None:
            candidates[peer.name] = peer.coroutine(fails_every_other_async())
    timed = {name: asynchronous(call, runner, effort.clock) for name, call in candidates.items()}
    times = _bursts(timed, effort, service)
    over = _over_base(times)
    return [
        Row(
            key="failure-async",
            what="one failure then success, no delay, lazy journal, async: over a hand-written retry that never yields",
            unit="x",
            measured=over[OURS],
            goal=most(6.0),
            before="145 µs",
            best="hyx 6.2x, pyresilience 9x, tenacity 86x",
            peers=_others(over),
            note=f"ours yields once to the event loop; {_in_microseconds(times, OURS, YIELDING, BASE)}",
        ),
        _over_peer("failure-async-hyx", "one failure then success, async, lazy journal: over hyx", times, most(1.0)),
    ]


def _operations(service: Recovery, name: str) -> list[tuple[str, Callable[..., Any]]]:
    """The candidates of ours: lazy journal, the same with observers, and without a journal."""
    lazy = partial(service.recoverable, durability="lazy", initial_delay=0.0)
    observed(service, f"{name} observed")
    return [
        (OURS, lazy(name)),
        (OBSERVED, lazy(f"{name} observed")),
        (ALONE, Recovery().recoverable(name, initial_delay=0.0)),
    ]


def _bursts(timed: Mapping[str, Timed], effort: Effort, service: Recovery) -> dict[str, list[float]]:
    return interleave(timed, effort.some(102, least=25), times=BURST, settle=lambda: settle(service))


def _processor(effort: Effort, service: Recovery) -> Row:
    """Processor time of all threads: a burst of calls and the settling of what it journalled."""
    lazy = service.recoverable("fails whole", durability="lazy", initial_delay=0.0)
    candidates = {BASE: handwritten(fails_every_other()), OURS: lazy(fails_every_other())}
    timed = {name: on_all_threads(call, service) for name, call in candidates.items()}
    calls = effort.some(TASKS, least=TASKS // 2)
    times = interleave(timed, max(effort.rounds // 2, 25), times=calls)
    return Row(
        key="failure-processor",
        what="processor time of one failure then success, all threads, lazy journal, sync: over a hand-written retry",
        unit="x",
        measured=ratios(times[OURS], times[BASE]),
        goal=most(40.0),
        note=f"bursts of {thousands(calls)} calls and their commits; {_in_microseconds(times, OURS, BASE)}",
    )


def _tasks(effort: Effort, service: Recovery, runner: asyncio.Runner) -> list[Row]:
    candidates: dict[str, Callable[..., Awaitable[Any]]] = {
        BASE: handwritten_async(fails_while),
        YIELDING: handwritten_yielding(fails_while),
        OURS: service.recoverable("tasks", durability="lazy", initial_delay=0.0, budget=None)(fails_while),
        ALONE: Recovery().recoverable("tasks", initial_delay=0.0, budget=None)(fails_while),
    }
    for peer in peers(effort):
        if peer.retries and peer.coroutine is not None and (effort.name == "full" or peer.name not in SLOW):
            candidates[peer.name] = peer.coroutine(fails_while)
    timed = {name: _gathered(call, runner, effort.clock) for name, call in candidates.items()}
    times = interleave(timed, max(effort.rounds // 2, 25), times=TASKS, settle=lambda: settle(service))
    shares = {name: ratios(times[BASE], taken) for name, taken in times.items()}
    rates = ", ".join(f"{name} {thousands(1 / spread(times[name]).middle)}/s" for name in (OURS, ALONE, BASE))
    tasks = f"{thousands(TASKS)} concurrent tasks, each failing once, lazy journal"
    return [
        Row(
            key="tasks",
            what=f"{tasks}: share of the rate of a hand-written retry that never yields",
            unit="x",
            measured=shares[OURS],
            goal=least(0.5),
            before="6 700/s",
            best="hyx 0.40-0.54x (no events, no journal)",
            peers=_others(shares),
            note=f"no budget; default circuit; {rates}",
        ),
        _over_peer("tasks-hyx", f"{tasks}: rate over hyx's", times, least(1.0), is_rate=True),
    ]


def _gathered(call: Callable[..., Awaitable[Any]], runner: asyncio.Runner, clock: Clock) -> Timed:
    async def together(count: int) -> float:
        began = clock()
        await asyncio.gather(*[call(["reset"]) for _ in range(count)])
        return clock() - began

    return lambda count: runner.run(together(count), context=contextvars.copy_context())


def _over_peer(key: str, what: str, times: dict[str, list[float]], goal: Goal, *, is_rate: bool = False) -> Row:
    """Us over the fastest peer, round by round; not measured where peers are not."""
    other = times.get(PAIRED)
    measured = None
    if other is not None:
        measured = ratios(other, times[OURS]) if is_rate else ratios(times[OURS], other)
    note = f"{PAIRED} was not measured" if other is None else "the median of paired ratios, round by round"
    return Row(key=key, what=what, unit="x", measured=measured, goal=goal, note=note)


def _over_base(times: dict[str, list[float]]) -> dict[str, Spread]:
    return {name: ratios(taken, times[BASE]) for name, taken in times.items()}


def _others(found: dict[str, Spread]) -> dict[str, Spread]:
    return {name: one for name, one in found.items() if name not in (OURS, BASE)}


def _in_microseconds(times: dict[str, list[float]], *names: str) -> str:
    """The median times of these candidates, in words."""
    return ", ".join(f"{name} {number(spread(times[name]).middle * 1e6)} µs" for name in names)
