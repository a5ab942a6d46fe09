"""Whether cost grows with size: an event in a full journal, a circuit among many, a hundred thousand calls that wait.

The cost of an event is the processor time of all threads, so that other load of the machine is not in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.event_stream import publish
from bench.measure import Effort, interleave, plain, ratios, spread
from bench.row import Row, most, thousands
from bench.workloads import journalled, settle
from events import Operation
from recovery import BreakerPolicy, Counts, NotDurable, Recovery

SMALL = 10_000
LARGE = 1_000_000
FEW_CIRCUITS = 4
MANY_CIRCUITS = 1024
ROUNDS = 25
EVENTS_PER_ROUND = 3_000
WAITING = 100_000
WAIT_TIMEOUT = 120.0
"""Seconds to wait until all calls wait."""


def measure(effort: Effort) -> list[Row]:
    return [_flat(effort), _circuits(effort), *_waiting(effort)]


def _flat(effort: Effort) -> Row:
    large = effort.some(LARGE / 2) if effort.name == "quick" else LARGE
    each = EVENTS_PER_ROUND if effort.name == "full" else EVENTS_PER_ROUND // 3
    with _filled(SMALL) as few, _filled(large) as many:
        small, great = [], []
        for number in range(ROUNDS):
            first = 10 * LARGE + number * each
            small.append(publish(few, first, each, time.process_time) / each)
            great.append(publish(many, first, each, time.process_time) / each)
    change = ratios(great, small)
    return Row(
        key="growth-cost",
        what=f"cost per event, at {thousands(large)} rows over at {thousands(SMALL)} rows",
        unit="x",
        measured=change,
        goal=most(1.15, "flat (±15 %)"),
        note=f"{spread(small).middle * 1e6:.1f} and {spread(great).middle * 1e6:.1f} µs of the processor each",
    )


def _circuits(effort: Effort) -> Row:
    rounds = effort.some(ROUNDS * 4, least=ROUNDS)
    few, many = _open_circuits(FEW_CIRCUITS), _open_circuits(MANY_CIRCUITS)
    timed = interleave({"few": plain(few, effort.clock), "many": plain(many, effort.clock)}, rounds)
    change = ratios(timed["many"], timed["few"])
    return Row(
        key="growth-circuits",
        what=f"a circuit opens and closes, as number {thousands(MANY_CIRCUITS)} over as number {FEW_CIRCUITS}",
        unit="x",
        measured=change,
        goal=most(2.0, "flat (≤ 2x)"),
        note=f"{spread(timed['few']).middle * 1e6:.0f} and {spread(timed['many']).middle * 1e6:.0f} µs",
    )


def _open_circuits(number: int) -> Callable[[], None]:
    """Open all circuits but one of *number* hosts; the result opens and closes that one."""
    service = Recovery(breaker=BreakerPolicy(failure_threshold=1, break_duration=3600.0), enable_logging=False)
    whole = service.operation("circuits", max_retries=0)
    hosts = [Operation(whole.name, service.bus, key=f"host {one}") for one in range(number)]

    def open_one(host: Operation) -> None:
        host.start().fail(ConnectionError("reset"))

    def open_and_close() -> None:
        open_one(hosts[-1])
        service.circuits.force(whole.name, "auto", key=hosts[-1].key)

    for host in hosts[:-1]:
        open_one(host)
    return open_and_close


@contextlib.contextmanager
def _filled(rows: int) -> Iterator[Recovery]:
    with journalled() as service:
        publish(service, 0, rows)
        yield service


def _waiting(effort: Effort) -> list[Row]:
    calls = effort.some(WAITING)
    with journalled() as service, asyncio.Runner() as runner:
        assert service.journal is not None
        took, waiting = runner.run(_all_wait(service, calls))
        after = service.journal.counts
    words = thousands(calls)
    return [
        Row(
            key="growth-drops",
            what=f"{words} calls waiting at once: events dropped",
            unit="",
            measured=spread([float(waiting.dropped)]),
            goal=most(0.0, "0"),
            note=f"{thousands(waiting.issued)} issued; then all are cancelled at once: {thousands(after.dropped)} "
            f"dropped of {thousands(after.issued)}",
        ),
        Row(
            key="growth-waiting",
            what=f"{words} calls waiting at once: until all wait, each",
            unit="µs",
            measured=spread([took / calls * 1e6]),
        ),
    ]


async def _all_wait(service: Recovery, count: int) -> tuple[float, Counts]:
    @service.recoverable("waiting", durability="lazy", initial_delay=3600.0, max_delay=3600.0, jitter="none")
    async def call() -> None:
        raise ConnectionError("reset")

    began = time.perf_counter()
    tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(call()) for _ in range(count)]
    while len(service.calls.waiting()) < count and time.perf_counter() - began < WAIT_TIMEOUT:
        await asyncio.sleep(0.05)
    took = time.perf_counter() - began
    _settle(service)
    assert service.journal is not None
    waiting = service.journal.counts
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    _settle(service)
    return took, waiting


def _settle(service: Recovery) -> None:
    with contextlib.suppress(NotDurable):  # dropped events are a result here, not an error
        settle(service)
