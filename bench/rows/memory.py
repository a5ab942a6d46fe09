"""Memory of a call that waits for its retry, over a bare task that sleeps; and what remains after it is cancelled."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

from bench.measure import Effort, Spread, spread
from bench.peers import peers
from bench.row import Row, most, thousands
from bench.workloads import journalled, settle
from recovery import Recovery

CALLS = 2_000
REPEATS = 5
LONG = 3600.0
IN_ALL = 1_000


def measure(effort: Effort) -> list[Row]:
    calls = effort.some(CALLS, least=500 if effort.name == "gate" else 1_000)
    repeats = REPEATS if effort.name == "full" else 3
    own = _service_alone()
    with journalled() as service, asyncio.Runner() as runner:
        candidates: dict[str, Callable[[], Awaitable[Any]]] = {
            "bare": _sleeps,
            "ours": service.recoverable("memory", durability="lazy", initial_delay=LONG, max_delay=LONG, jitter="none")(
                _fails
            ),
        }
        for peer in peers(effort, LONG):
            if peer.coroutine is not None and peer.name in ("hyx", "tenacity", "stamina", "backoff", "pyresilience"):
                candidates[peer.name] = peer.coroutine(_fails)
        for call in candidates.values():
            runner.run(_waiting(call, calls // 4, service))  # warm-up: what is allocated once is allocated now
        tracemalloc.start()
        taken = {
            name: [runner.run(_waiting(call, calls, service)) for _ in range(repeats)]
            for name, call in candidates.items()
        }
        tracemalloc.stop()
    bare = taken["bare"]
    waiting = {name: _over(runs, bare, 0) for name, runs in taken.items() if name != "bare"}
    left = {name: _over(runs, bare, 1) for name, runs in taken.items() if name != "bare"}
    return [
        Row(
            key="memory-waiting",
            what="memory per call that waits for its retry, over a bare task that sleeps",
            unit="kB",
            measured=waiting.pop("ours"),
            goal=most(1.2),
            before="2.2 kB",
            best="hyx 1.6 kB, tenacity 4.6 kB",
            peers=waiting,
            note=f"{calls} calls at once, tracemalloc",
        ),
        Row(
            key="memory-left",
            what="memory left of each such call, after cancel",
            unit="kB",
            measured=left.pop("ours"),
            goal=most(0.02, "nothing (≤ 20 bytes)"),
            before="2.4 kB",
            peers=left,
        ),
        Row(
            key="memory-all",
            what=f"memory of recovery in all: a service, its journal, and {thousands(IN_ALL)} calls that wait",
            unit="MB",
            measured=spread(
                [(own + IN_ALL * (one[0] - other[0])) / 1e6 for one, other in zip(taken["ours"], bare, strict=True)]
            ),
            required=most(5.0),
            note=f"of it {own / 1000:.0f} kB for the service and its journal",
        ),
        Row(
            key="memory-ratio",
            what="a waiting call's memory, with its task, over a bare task's",
            unit="x",
            measured=spread([one[0] / other[0] for one, other in zip(taken["ours"], bare, strict=True)]),
        ),
    ]


def _service_alone() -> int:
    """Bytes of a service with a journal and one operation, before any call waits."""
    with journalled() as first:  # warm-up: what a process allocates once is not the service's
        first.recoverable("alone")(_sleeps)
        settle(first)
    tracemalloc.start()
    before = _allocated()
    with journalled() as service:
        recoverable = service.recoverable("alone")(_sleeps)
        settle(service)
        taken = _allocated() - before
        del recoverable
    tracemalloc.stop()
    return taken


async def _sleeps() -> None:
    await asyncio.sleep(LONG)


async def _fails() -> None:
    raise ConnectionError("reset")


def _over(runs: list[tuple[float, float]], bare: list[tuple[float, float]], which: int) -> Spread:
    return spread([(one[which] - other[which]) / 1000 for one, other in zip(runs, bare, strict=True)])


async def _waiting(call: Callable[[], Awaitable[Any]], count: int, service: Recovery) -> tuple[float, float]:
    """Bytes per call while *count* calls wait, and after they are cancelled."""
    before = _allocated()
    tasks = [asyncio.ensure_future(call()) for _ in range(count)]
    for _ in range(5):
        await asyncio.sleep(0)
    settle(service)
    waiting = _allocated()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    del tasks, task
    await asyncio.sleep(0)
    settle(service)
    return (waiting - before) / count, (_allocated() - before) / count


def _allocated() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0
