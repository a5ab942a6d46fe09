"""Whether cost grows with size: an event in a full journal, a step among many others, 100 000 calls that wait.

The cost of an event is the processor time of all threads, so that other load of the machine is not in it; a step is
timed by the processor time of its thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import msgspec

from bench.event_stream import publish
from bench.measure import Effort, ratios, spread
from bench.row import Row, most, thousands
from bench.workloads import do_nothing_with, journalled, settle
from events import Bus, Operation, OperationStarted
from events.subscription import Subscription
from recovery import BreakerPolicy, Counts, NotDurable, Recovery

SMALL = 10_000
LARGE = 1_000_000
STEPS_PER_ROUND = 8
ROUNDS = 25
EVENTS_PER_ROUND = 3_000
WAITING = 100_000
WAIT_TIMEOUT = 120.0
"""Seconds to wait until all calls wait."""
FEW_AT_ONCE, MANY_AT_ONCE = 1_000, 10_000
BURSTS = 5

Steps: TypeAlias = Iterator[Callable[[], object]]
"""Steps to time, one after another; what happens between two of them is not timed."""


def measure(effort: Effort) -> list[Row]:
    return [_flat(effort), *(_among(effort, one) for one in CLIFFS), _at_once(effort), *_waiting(effort)]


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


class Cliff(msgspec.Struct, frozen=True):
    """A step that is timed among few others and among many: *what* happens, and the *steps* for a number of others."""

    key: str
    what: str
    few: int
    many: int
    steps: Callable[[int], Steps]


def _among(effort: Effort, cliff: Cliff) -> Row:
    rounds, few, many = effort.some(ROUNDS * 2, least=ROUNDS), cliff.steps(cliff.few), cliff.steps(cliff.many)
    small, great = [], []
    for steps in (few, many):  # the first steps are for the caches, and for what is made before them
        _time(steps)
    for number in range(rounds):
        pairs = [(few, small), (many, great)]
        for steps, times in pairs if number % 2 else reversed(pairs):
            times.append(_time(steps))
    return _flat_row(
        cliff.key,
        f"{cliff.what}, {thousands(cliff.many)} over {thousands(cliff.few)}",
        small,
        great,
    )


def _time(steps: Steps) -> float:
    """Seconds of this thread for a step, without the collector, whose runs take longer among many objects."""
    took = 0.0
    for step in itertools.islice(steps, STEPS_PER_ROUND):
        gc.disable()
        began = time.thread_time()
        step()
        took += time.thread_time() - began
        gc.enable()
    return took / STEPS_PER_ROUND


def _flat_row(key: str, what: str, small: list[float], great: list[float]) -> Row:
    return Row(
        key=key,
        what=what,
        unit="x",
        measured=ratios(great, small),
        goal=most(2.0, "flat (≤ 2x)"),
        note=f"{spread(small).middle * 1e6:.1f} and {spread(great).middle * 1e6:.1f} µs",
    )


def _hosts(number: int, failure_threshold: int) -> tuple[Recovery, list[Operation]]:
    breaker = BreakerPolicy(failure_threshold=failure_threshold, break_duration=3600.0)
    service = Recovery(breaker=breaker, enable_logging=False)
    service.operation("fetch", max_retries=0)
    return service, [Operation("fetch", service.bus, key=f"host {one}") for one in range(number)]


def _give_up(host: Operation) -> None:
    host.start().fail(ConnectionError("reset"))


def _opening(number: int) -> Steps:
    service, hosts = _hosts(number, 1)
    for host in hosts[:-1]:
        _give_up(host)
    while True:
        yield partial(_give_up, hosts[-1])
        service.circuits.force("fetch", "auto", key=hosts[-1].key)


def _closing(number: int) -> Steps:
    service, hosts = _hosts(number, 1)
    for host in hosts[:-1]:
        _give_up(host)
    while True:
        _give_up(hosts[-1])
        yield partial(service.circuits.force, "fetch", "auto", key=hosts[-1].key)


def _giving_up(number: int) -> Steps:
    _, hosts = _hosts(number, 1_000_000)
    for host in hosts:
        _give_up(host)
    for host in itertools.cycle(hosts):
        yield partial(_give_up, host)


def _subscribing(number: int) -> Steps:
    bus = Bus()
    operations = [Operation(f"fetch {one}", bus) for one in range(number)]
    while operations:
        subscriptions: list[Subscription] = []
        yield lambda into=subscriptions: into.append(bus.subscribe(OperationStarted, do_nothing_with))
        subscriptions.pop().close()


def _failing(number: int) -> Steps:
    service = Recovery(breaker=None, enable_logging=False)
    service.operation("fetch", max_retries=1)
    hosts = [Operation("fetch", service.bus, key=f"host {one}") for one in range(number)]

    def fail_and_succeed(host: Operation) -> None:
        attempt = host.start()
        attempt.fail(ConnectionError("reset"))
        attempt.next().succeed()

    for host in hosts:
        fail_and_succeed(host)
    for host in itertools.cycle(hosts):
        yield partial(fail_and_succeed, host)


def _calling(number: int) -> Steps:
    @Recovery(enable_logging=False).recoverable("fetch", key=lambda url: url)
    def fetch(url: str) -> None: ...

    for one in range(number):
        fetch(f"host {one}")
    for one in itertools.cycle(range(number)):
        yield partial(fetch, f"host {one}")


def _decorating(number: int) -> Steps:
    service, kept = Recovery(enable_logging=False), list[object]()

    def decorate(one: int) -> None:
        kept.append(service.recoverable()(lambda: one))

    for one in range(number):
        decorate(one)
    for one in itertools.count(number):
        yield partial(decorate, one)


CLIFFS = (
    Cliff("growth-circuit-opens", "a circuit opens, among open ones", 4, 1024, _opening),
    Cliff("growth-circuit-closes", "a circuit closes, among open ones", 4, 1024, _closing),
    Cliff("growth-gives-up", "a call gives up, by hosts that fail", 512, 4096, _giving_up),
    Cliff("growth-subscribes", "a subscription to all starts, by operations", 4, 10_000, _subscribing),
    Cliff("growth-failing-keys", "a call fails once, by hosts that fail", 512, 10_000, _failing),
    Cliff("growth-healthy-keys", "a healthy call, by hosts", 512, 4096, _calling),
    Cliff("growth-closures", "a closure is decorated, by closures of its name", 32, 10_000, _decorating),
)


def _at_once(effort: Effort) -> Row:
    """Calls that all fail once at a time, with a journal: processor time of all threads, for each."""
    small, great, first = [], [], set[int]()
    with journalled() as service, asyncio.Runner() as runner:

        @service.recoverable("burst", durability="lazy", initial_delay=0.01, jitter="none")
        async def call(number: int) -> None:
            if number in first:
                first.remove(number)
                raise ConnectionError("reset")

        async def burst(calls: int) -> None:
            first.update(range(calls))
            await asyncio.gather(*map(call, range(calls)))

        def timed(calls: int, times: int) -> float:
            began = time.process_time()
            for _ in range(times):
                runner.run(burst(calls))
                _settle(service)
            return (time.process_time() - began) / calls / times

        timed(FEW_AT_ONCE, 1)
        for _ in range(effort.some(BURSTS, least=3)):
            small.append(timed(FEW_AT_ONCE, 2))
            great.append(timed(MANY_AT_ONCE, 1))
    what = f"calls fail at once, with a journal, {thousands(MANY_AT_ONCE)} over {thousands(FEW_AT_ONCE)}: each"
    return _flat_row("growth-at-once", what, small, great)


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
