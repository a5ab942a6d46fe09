"""The success path and the failure path, against the smallest wrapper a person would write by hand.

Rounds of all candidates are interleaved in one process, so that what disturbs the machine disturbs everybody; the ratio
is taken in each round, and its median and quartiles are printed. Lone times are for orientation only.
"""

from __future__ import annotations

import asyncio
import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tenacity

from adapters.sqlite import SQLiteStore
from events.facts import Evidence
from recovery import Recovery
from recovery.classify import BY_TYPE, classify
from recovery.evidence import gather

ROUNDS = 31
RESET = gather(ConnectionResetError("reset"))
BUSY = Evidence(type="httpx2.HTTPStatusError", status=503)
BROKEN_OFF = Evidence(type="subprocess.CalledProcessError", exit_code=128, stderr="fatal: early EOF")
Candidate = tuple[str, Callable[[int], float]]


def handwritten(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except ConnectionError:
            return function(*args, **kwargs)

    return wrapper


def handwritten_async(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return await function(*args, **kwargs)
        except ConnectionError:
            return await function(*args, **kwargs)

    return wrapper


def work() -> None:
    return None


async def work_async() -> None:
    return None


class FailsFirst:
    """Fails at every other call."""

    def __init__(self) -> None:
        self.odd = False

    def __call__(self) -> None:
        """Work, or not."""
        self.odd = not self.odd
        if self.odd:
            raise ConnectionError("reset")


def plain(call: Callable[[], object]) -> Callable[[int], float]:
    def measure(times: int) -> float:
        rounds = range(times)
        began = time.perf_counter()
        for _ in rounds:
            call()
        return (time.perf_counter() - began) / times

    return measure


def awaited(call: Callable[[], Any]) -> Callable[[int], float]:
    async def loop(times: int) -> float:
        rounds = range(times)
        began = time.perf_counter()
        for _ in rounds:
            await call()
        return (time.perf_counter() - began) / times

    return lambda times: asyncio.run(loop(times))


def compare(title: str, candidates: list[Candidate], times: int) -> None:
    """Print each candidate's median time, and its ratio to the first of them."""
    taken: dict[str, list[float]] = {name: [] for name, _ in candidates}
    for _ in range(ROUNDS):
        for name, measure in candidates:
            taken[name].append(measure(times))
    base = taken[candidates[0][0]]
    print(f"\n{title} ({ROUNDS} rounds of {times})")
    for name, times_taken in taken.items():
        ratios = [one / other for one, other in zip(times_taken, base, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"  {name:34} {statistics.median(times_taken) * 1e6:9.3f} us   {middle:7.2f}x  ({low:.2f} to {high:.2f})")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Recovery(store=SQLiteStore(Path(folder) / "bench.db")) as service:
        ours: dict[str, Any] = {"initial_delay": 0.0}
        theirs = tenacity.retry(stop=tenacity.stop_after_attempt(4), wait=tenacity.wait_none())
        compare(
            "success, plain: classifier, breaker and lazy SQLite journal attached",
            [
                ("hand-written try/except", plain(handwritten(work))),
                ("launcher-recovery", plain(service.recoverable("plain", **ours)(work))),
                ("tenacity", plain(theirs(work))),
            ],
            20_000,
        )
        compare(
            "success, async: the same",
            [
                ("hand-written try/except", awaited(handwritten_async(work_async))),
                ("launcher-recovery", awaited(service.recoverable("async", **ours)(work_async))),
            ],
            20_000,
        )
        compare(
            "one failure then success, plain, no delay",
            [
                ("hand-written try/except", plain(handwritten(FailsFirst()))),
                ("launcher-recovery, lazy journal", plain(service.recoverable("fails", **ours)(FailsFirst()))),
                ("launcher-recovery, no journal", plain(Recovery().recoverable("fails", **ours)(FailsFirst()))),
                ("tenacity", plain(theirs(FailsFirst()))),
            ],
            200,
        )
        compare(
            "what a failure means, from its evidence",
            [
                ("a look-up in a dict", plain(functools.partial(BY_TYPE.get, RESET.type))),
                ("by its class (cached)", plain(functools.partial(classify, RESET))),
                ("by its HTTP status", plain(functools.partial(classify, BUSY))),
                ("by what git complained about", plain(functools.partial(classify, BROKEN_OFF))),
            ],
            20_000,
        )


if __name__ == "__main__":
    main()
