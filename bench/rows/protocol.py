"""The predecessor's tests, as published and corrected, for three candidates: nothing, the reconstruction, and us.

As published, each test compares two different things. The candidate "nothing" gets about the same figures and shows it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any, TypeAlias

from bench.measure import Effort, Spread, spread
from bench.predecessor import Reconstruction
from bench.row import Row
from bench.rows.overhead import waits
from bench.rows.rescued import FAILURE_RATE, SEED
from bench.rows.users import OPERATION, USERS, rate
from bench.workloads import journalled, scratch, settle
from recovery import Recovery

Call: TypeAlias = Callable[[], Awaitable[Any]]
Wrap: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]

NAMES = ("nothing", "reconstruction", "launcher-recovery")
RETRY_DELAY = 0.002
MESSAGES = ("connection reset by peer", "timed out", "broken pipe", "503 from upstream")
"""Messages of transient failures; one in four has a word that the reconstruction knows."""


def measure(effort: Effort) -> list[Row]:
    logging.getLogger("bench.predecessor").propagate = False
    with ExitStack() as stack:
        service = stack.enter_context(journalled())
        path = stack.enter_context(scratch("reconstruction.db"))
        runner = stack.enter_context(asyncio.Runner())
        settings: dict[str, Any] = {"initial_delay": RETRY_DELAY, "backoff_factor": 1.0, "jitter": "none"}
        with_journal: dict[str, Wrap] = {
            "nothing": lambda function: function,
            "reconstruction": Reconstruction(path, delay=RETRY_DELAY),
            "launcher-recovery": service.recoverable(None, **settings),
        }
        without: dict[str, Wrap] = {
            "nothing": lambda function: function,
            "reconstruction": Reconstruction(delay=RETRY_DELAY),
            "launcher-recovery": Recovery().recoverable(None, **settings),
        }
        return [
            *_decorator(effort, runner, without),
            *_persistence(effort, runner, with_journal),
            *_recovery(effort, runner, without),
            *_memory(effort, runner, with_journal, service),
            *_users(effort, runner, with_journal),
        ]


def _row(test: str, form: str, what: str, unit: str, found: dict[str, Spread], note: str = "", before: str = "") -> Row:
    ours = found["launcher-recovery"]
    return Row(
        key=f"protocol-{test}-{form}",
        what=f"{test}, {form}: {what}",
        unit=unit,
        measured=ours,
        peers={name: found[name] for name in found if name != "launcher-recovery"},
        note=note,
        before=before,
    )


def _overheads(runner: asyncio.Runner, base: Call, calls: dict[str, Call], rounds: int) -> dict[str, Spread]:
    """Percent that each of *calls* takes longer than *base*, call by call."""

    async def once(call: Call) -> float:
        began = time.perf_counter()
        await call()
        return time.perf_counter() - began

    async def every() -> dict[str, Spread]:
        shares: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            of_base = statistics.median([await once(base) for _ in range(5)])
            for name, call in calls.items():
                taken = statistics.median([await once(call) for _ in range(5)])
                shares[name].append(100.0 * (taken / of_base - 1.0))
        return {name: spread(values) for name, values in shares.items()}

    return runner.run(every())


def _decorator(effort: Effort, runner: asyncio.Runner, wraps: dict[str, Wrap]) -> list[Row]:
    rounds = max(effort.rounds // 2, 25)
    short, long = waits(0.001), waits(0.01)
    wrapped = {name: wrap(long) for name, wrap in wraps.items()}
    alike = {name: wrap(_again(short)) for name, wrap in wraps.items()}
    return [
        _row(
            "basic decorator", "as published", "a decorated operation of 10 ms against a bare one of 1 ms", "%",
            _overheads(runner, short, wrapped, rounds), before="355 % on average, at most 705 %",
        ),
        _row(
            "basic decorator", "corrected", "a decorated operation of 1 ms against the same one bare", "%",
            _overheads(runner, short, alike, rounds),
        ),
    ]  # fmt: skip


def _persistence(effort: Effort, runner: asyncio.Runner, wraps: dict[str, Wrap]) -> list[Row]:
    rounds = max(effort.rounds // 2, 25)
    short, long = waits(0.001), waits(0.01)
    wrapped = {name: wrap(_again(long)) for name, wrap in wraps.items()}
    rows = [
        _row(
            "persistence", "as published", "an operation of 10 ms with SQLite against a bare one of 1 ms without", "%",
            _overheads(runner, short, wrapped, rounds), before="708 %",
        )
    ]  # fmt: skip
    for operation, milliseconds in ((short, 1), (long, 10)):
        alike = {name: wrap(_again(operation)) for name, wrap in wraps.items()}
        rows.append(
            _row(
                "persistence", f"corrected, {milliseconds} ms", "the same operation, with SQLite and bare", "%",
                _overheads(runner, operation, alike, rounds), before={1: "525 %", 10: "79 %"}[milliseconds],
            )
        )  # fmt: skip
    return rows


def _again(operation: Call) -> Call:
    """A new function that does the same, for a name can be defined only once."""

    async def again() -> None:
        await operation()

    again.__qualname__ = f"again-{next(_numbers)}"
    return again


_numbers = iter(range(1_000_000))


def _recovery(effort: Effort, runner: asyncio.Runner, wraps: dict[str, Wrap]) -> list[Row]:
    count = effort.some(1_000)
    published: dict[str, Spread] = {}
    duration: dict[str, Spread] = {}
    corrected: dict[str, Spread] = {}
    lag: dict[str, Spread] = {}
    for name, wrap in wraps.items():
        share, mean = runner.run(_some_calls_fail(wrap, count))
        published[name] = spread([share])
        duration[name] = spread([mean])
        share, beyond = runner.run(_each_attempt_fails(wrap, count))
        corrected[name] = spread([share])
        if beyond:
            lag[name] = spread(beyond)
    return [
        _row(
            "recovery", "as published", f"{count} calls of which 30 % fail at every attempt, succeeded", "%", published,
            before="70 %",
        ),
        _row(
            "recovery", "corrected", f"{count} calls that fail with probability 0.3 at each attempt, succeeded", "%",
            corrected, before="24 %",
            note=f"{100 * (1 - FAILURE_RATE**4):.2f} % is possible; the reconstruction knows the words in one of four "
            "messages",
        ),
        _row(
            "recovery time", "as published", "the mean duration of all calls, with those that need no recovery", "ms",
            duration,
        ),
        _row(
            "recovery time", "corrected", "from the first failure to success, less the delays asked for", "ms", lag,
        ),
    ]  # fmt: skip


async def _some_calls_fail(wrap: Wrap, count: int) -> tuple[float, float]:
    """Percent of calls that succeeded, and the mean duration of a call in milliseconds."""
    rng = random.Random(SEED)
    fails_always = False

    async def operation() -> None:
        await asyncio.sleep(0)
        if fails_always:
            raise ConnectionError("timed out")

    operation.__qualname__ = f"same-{next(_numbers)}"
    call = wrap(operation)
    succeeded, durations = 0, []
    for _ in range(count // 5):  # fewer calls: those that fail always wait for each of their retries
        fails_always = rng.random() < FAILURE_RATE
        began = time.perf_counter()
        try:
            await call()
            succeeded += 1
        except Exception:  # an open circuit's error too
            pass
        durations.append(time.perf_counter() - began)
    return 100.0 * succeeded / (count // 5), statistics.fmean(durations) * 1e3


async def _each_attempt_fails(wrap: Wrap, count: int) -> tuple[float, list[float]]:
    """Percent of calls that succeeded, and milliseconds beyond the delays from each first failure to success."""
    rng = random.Random(SEED)
    failures: list[float] = []

    async def operation() -> None:
        await asyncio.sleep(0)
        if rng.random() < FAILURE_RATE:
            failures.append(time.perf_counter())
            raise ConnectionError(rng.choice(MESSAGES))

    operation.__qualname__ = f"each-{next(_numbers)}"
    call = wrap(operation)
    succeeded, beyond = 0, []
    for _ in range(count):
        failures.clear()
        try:
            await call()
        except Exception:
            continue
        succeeded += 1
        if failures:
            beyond.append((time.perf_counter() - failures[0] - _delays(wrap, len(failures))) * 1e3)
    return 100.0 * succeeded / count, beyond


def _delays(wrap: Wrap, retries: int) -> float:
    """Seconds that the policy waits for *retries*: our delay is constant here, the reconstruction's doubles."""
    if isinstance(wrap, Reconstruction):
        return RETRY_DELAY * (2.0**retries - 1.0)
    return RETRY_DELAY * retries


def _memory(effort: Effort, runner: asyncio.Runner, wraps: dict[str, Wrap], service: Recovery) -> list[Row]:
    count = effort.some(2_000)
    grown: dict[str, Spread] = {}
    for name, wrap in wraps.items():
        call = wrap(_again(waits(0.0)))

        async def calls(call: Call = call) -> float:
            for _ in range(100):
                await call()
            settle(service)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(count):
                await call()
            settle(service)
            gc.collect()
            return (tracemalloc.get_traced_memory()[0] - before) / 1e6

        tracemalloc.start()
        grown[name] = spread([runner.run(calls())])
        tracemalloc.stop()
    return [
        _row(
            "memory", "as published", f"what remains of {count} successful calls, one after another", "MB", grown,
            note="corrected, in the group on memory: a waiting call, and what remains of a cancelled one",
        )
    ]  # fmt: skip


def _users(effort: Effort, runner: asyncio.Runner, wraps: dict[str, Wrap]) -> list[Row]:
    seconds = 10.0 * effort.share / 5
    calls = {name: wrap(_again(waits(OPERATION))) for name, wrap in wraps.items()}
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(5):
        for name, call in calls.items():
            rates[name].append(runner.run(rate(call, USERS, seconds)))
    found = {name: spread(values) for name, values in rates.items()}
    shares = {
        name: spread([100.0 * one / other for one, other in zip(rates[name], rates["nothing"], strict=True)])
        for name in rates
    }
    return [
        _row("20 users", "as published", "calls a second, with SQLite", "/s", found, before="1 587/s"),
        _row("20 users", "corrected", "of the same without recovery", "%", shares),
    ]
