"""A thousand live calls of a real service, about 2 000 events a second: script time, lag of the loop, memory."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from adapters.web.app import app
from recovery import Constant, Recovery, RetryPolicy
from tests.adapters.web.serving import TOKEN, serving
from tests.page.test_load import MOST_SCRIPT, metrics

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
CALLS = 1000
MOST_GROWTH = 16_000_000
"""Bytes by which the memory of the program, and of the page's script, may grow after the first third of the time."""


class Load:
    """Calls that fail about once a second each, in a thread of their own."""

    def __init__(self, service: Recovery) -> None:
        self.failures = 0
        self.lags: list[float] = []
        self._service = service
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended.set()
        self._thread.join()

    async def _run(self) -> None:
        policy = RetryPolicy(max_retries=None, backoff=Constant(2.0), jitter="full")

        @self._service.recoverable("download", policy=policy)
        async def download(number: int) -> None:
            self.failures += 1
            await asyncio.sleep(random.random() * 0.02)
            raise ConnectionError(f"file {number} broke off")

        tasks = [asyncio.create_task(download(number)) for number in range(CALLS)]
        while not self._has_ended.is_set():
            before = time.perf_counter()
            await asyncio.sleep(0.01)
            self.lags.append(time.perf_counter() - before - 0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 120)
def test_the_page_of_a_thousand_live_calls_is_cheap_and_its_memory_flat(open_page: Callable[..., Any]):
    process = psutil.Process()
    with (
        Recovery(enable_logging=False, breaker=None) as service,
        Load(service) as load,
        serving(app(service, TOKEN)) as at,
    ):
        service.monitor()
        page = open_page(f"{at.origin}/?token={TOKEN.value}", height=1000)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        page.wait_for_timeout(SECONDS / 3 * 1000)
        before, memory, heap, begun = metrics(session), process.memory_info().rss, heap_of(session), load.failures
        load.lags.clear()
        page.wait_for_timeout(SECONDS / 3 * 2 * 1000)
        after, seconds = metrics(session), SECONDS / 3 * 2
        growth, heap_growth = process.memory_info().rss - memory, heap_of(session) - heap
        lags, failures = sorted(load.lags), load.failures - begun
        assert page.locator(".call").count() > CALLS * 0.9
    taken = {name: (after[name] - before[name]) / seconds for name in before}
    print(
        f"\n{failures / seconds:.0f} failures/s, lag p50 {lags[len(lags) // 2] * 1e3:.1f} ms, "
        f"p99 {lags[len(lags) * 99 // 100] * 1e3:.1f} ms, memory {growth / 1e6:+.1f} MB, "
        f"script {heap_growth / 1e6:+.1f} MB, "
        f"{ {name: f'{value * 1e3:.0f} ms/s' for name, value in taken.items()} }"
    )
    assert taken["ScriptDuration"] < MOST_SCRIPT
    assert growth < MOST_GROWTH
    assert heap_growth < MOST_GROWTH


def heap_of(session: Any) -> float:
    """The bytes of the page's script, after a collection."""
    session.send("HeapProfiler.collectGarbage")
    found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return found["JSHeapUsedSize"]
