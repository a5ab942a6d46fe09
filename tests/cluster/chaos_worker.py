"""One worker of the chaos, until it is killed: ``python -m tests.cluster.chaos_worker URLS PREFIX LEASE NODE SINK``."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from pathlib import Path

from adapters.nats import Cluster
from adapters.sqlite import SQLiteStore
from recovery import Recovery, RetryPolicy, context
from tests.cluster.sink import BEGIN, END, RESULT, UP, Body, Note, tell

CONCURRENCY = 2
OPERATIONS = ("async_job", "plain_job")
SHORT, SHORTEST, LONGEST = 0.5, 3.0, 20.0
"""Seconds before a retry: one that the worker waits for, and those that are left to the servers."""
TICK = 0.02


def delay(_: int) -> float:
    """Seconds before the next retry."""
    return SHORT if random.random() < 0.4 else random.uniform(SHORTEST, LONGEST)


class Lag:
    """How late the loop of this process is, at most: of the second that runs, and of the one before."""

    def __init__(self) -> None:
        self._now, self._before = 0.0, 0.0

    @property
    def most(self) -> float:
        """Seconds."""
        return max(self._now, self._before)

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            self._before, self._now = self._now, 0.0
            for _ in range(round(1 / TICK)):
                began = time.monotonic()
                await asyncio.sleep(TICK)
                self._now = max(self._now, time.monotonic() - began - TICK)


def service_of(node: str, sink: Path, lag: Lag) -> tuple[Recovery, tuple[object, ...]]:
    """A service whose operations say to *sink* what they do, last as long, and fail as often as they are told.

    And their functions: a service does not keep those alive that nobody else has.

    Their arguments: the number of the call, the seconds and the steps of its body, how many attempts fail, and whether
    each step is saved. They return the number and the fence.
    """
    service = Recovery(store=SQLiteStore(sink.parent / f"{node}.db"), enable_logging=False)
    # Without a limit, a call is set aside that four workers in a row have died in: here they die of something else.
    policy = RetryPolicy(max_retries=1000, backoff=delay, jitter="none")

    def begun(number: int, saves: bool) -> tuple[Body, int]:
        body = Body(sink, node, number, context.fence(), context.attempt())
        first = context.saved(0) if saves else 0
        body.say(BEGIN, first=first, lag=lag.most)
        return body, first

    def stepped(body: Body, step: int, saves: bool) -> None:
        body.say(f"{step}")
        if saves:
            context.checkpoint(step + 1)
        else:
            context.progress(step + 1)

    def ended(body: Body, number: int, failures: int) -> list[int]:
        if context.attempt() <= failures:
            raise ConnectionError("not yet")
        body.say(RESULT)
        return [number, context.fence()]

    @service.recoverable("async_job", policy=policy, breaker=None)
    async def async_job(number: int, seconds: float, steps: int, failures: int, saves: bool) -> list[int]:
        body, first = begun(number, saves)
        try:
            for step in range(first, steps):
                await asyncio.sleep(seconds / steps)
                stepped(body, step, saves)
            return ended(body, number, failures)
        finally:
            body.say(END)

    @service.recoverable("plain_job", policy=policy, breaker=None)
    def plain_job(number: int, seconds: float, steps: int, failures: int, saves: bool) -> list[int]:
        body, first = begun(number, saves)
        try:
            for step in range(first, steps):
                time.sleep(seconds / steps)
                stepped(body, step, saves)
            return ended(body, number, failures)
        finally:
            body.say(END)

    return service, (async_job, plain_job)


async def work(urls: str, prefix: str, lease: str, node: str, path: str) -> None:
    """Take and run calls."""
    sink, lag = Path(path), Lag()
    measuring = asyncio.create_task(lag.run())
    service, _functions = service_of(node, sink, lag)
    while True:  # a worker of a real cluster is started again by its supervisor
        try:
            async with Cluster(service, urls.split(","), node=node, prefix=prefix, lease=float(lease)) as cluster:
                tell(sink, Note(UP, node, os.getpid(), at=time.time()))
                await cluster.work(OPERATIONS, concurrency=CONCURRENCY)
        except Exception as error:
            print(f"{time.time():.3f} {type(error).__name__}: {error}", flush=True)
            await asyncio.sleep(0.5)
        if measuring.done():
            return


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
