"""The page under load: ``python -m tests.page.load --seconds 600`` prints what it costs; exits with 1 past a limit.

A program runs 1 000 calls that fail and wait all the time, about 2 000 events a second, with the page on its own event
loop. A 1 ms ticker on that loop measures the lag, in turns with a browser that shows every call, and without: medians
are compared, since other programs of the machine delay the ticker, too. Script time is that of a processor.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import msgspec
import psutil
import uvicorn
from playwright.sync_api import CDPSession, Page

from adapters.sqlite import SQLiteStore
from adapters.web import app
from adapters.web.access import Token
from events.event import Event
from recovery import Recovery
from tests.chromium import chromium

CALLS = 1_000
PAUSE = 2.0
"""Seconds that each call waits for its next attempt: 500 failures a second, of four events each."""
WARM_UP = 15.0
"""Seconds at least after which memory is compared. A third of the whole run, if that is longer: the journal keeps the
latest 50 failures of each call, which takes 100 s."""
MOST_SCRIPT = 100.0
"""Milliseconds of script in a second on the page."""
TURNS, TURN = 5, 4.0
"""Turns with the page and as many without, and the seconds of each."""
TRIES = 3
"""Times that the lag is measured at most, until it is within its limit: other programs raise it, too."""
MOST_LAG = 5.0
"""Milliseconds by which the page may raise the 99th percentile of the lag: `make bench` allows as many."""
MOST_GROWTH = 0.05
"""Share by which the memory of the program and that of the page may grow after the warm-up."""


class Part(msgspec.Struct):
    """What a part of the run measured: events a second, the 99th percentile of the lag in ms, and bytes of memory."""

    rate: float
    lag: float
    memory: int


async def program(pipe: Connection, folder: str) -> None:
    """Run the calls and the page; for each text that *pipe* brings, send what was measured since the one before."""
    counted = 0

    def count(_: Event) -> None:
        nonlocal counted
        counted += 1

    with Recovery(store=SQLiteStore(Path(folder, "load.db")), enable_logging=False, breaker=None) as service:
        monitor = service.monitor()

        @service.recoverable(
            "download",
            key=lambda number: f"host-{number % 50}",
            max_retries=None,
            initial_delay=PAUSE,
            backoff_factor=1.0,
            idempotency_key=lambda number: f"file-{number}",
        )
        async def download(number: int) -> None:
            raise ConnectionResetError(104, f"file {number} broke off")

        service.bus.subscribe(Event, count)
        token = Token()
        config = uvicorn.Config(
            app(service, token, monitor=monitor), port=0, log_level="critical", lifespan="off", ws="none"
        )
        server = uvicorn.Server(config)
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(server.serve())
            while not server.started:
                await asyncio.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            calls = []
            for number in range(CALLS):
                calls.append(group.create_task(download(number)))
                await asyncio.sleep(PAUSE / CALLS)
            lags: list[float] = []
            ticker = group.create_task(tick(lags))
            pipe.send(f"http://127.0.0.1:{port}/?token={token.value}")
            began = time.monotonic()
            while await asyncio.to_thread(pipe.recv):
                now = time.monotonic()
                p99 = sorted(lags)[int(len(lags) * 0.99)] * 1000
                pipe.send(Part(counted / (now - began), p99, psutil.Process().memory_info().rss))
                lags.clear()
                counted, began = 0, time.monotonic()
            server.should_exit = True
            await serving
            for task in (ticker, *calls):
                task.cancel()


async def tick(lags: list[float]) -> None:
    """Add to *lags* by how many seconds each sleep of a millisecond was late."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        lags.append(time.perf_counter() - before - 0.001)


def run_program(pipe: Connection, folder: str) -> None:
    asyncio.run(program(pipe, folder))


def measure(seconds: float) -> bool:
    """Measure for *seconds* with a browser, print each figure beside its limit, and return whether all are kept."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        child = context.Process(target=run_program, args=(theirs, folder))
        child.start()
        try:
            return all(_measured(ours, seconds))
        finally:
            ours.send("")
            child.join(20)
            child.kill()


def _measured(pipe: Connection, seconds: float) -> list[bool]:
    link = pipe.recv()
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        rise = _rise(pipe, page, link)
        for _ in range(TRIES - 1):
            rise = rise if rise <= MOST_LAG else min(rise, _rise(pipe, page, link))
        page.goto(link)
        page.locator(".call").nth(CALLS - 1).wait_for(state="attached")
        devtools = page.context.new_cdp_session(page)
        devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
        time.sleep(max(WARM_UP, seconds / 3))
        warm, heap, script = _part(pipe), _heap(devtools), _metric(devtools, "ScriptDuration")
        began = time.monotonic()
        time.sleep(seconds)
        lasted = time.monotonic() - began
        script = (_metric(devtools, "ScriptDuration") - script) / lasted * 1000
        shown, heap_end = _part(pipe), _heap(devtools)
    print(f"{CALLS} live calls, {shown.rate:.0f} events/s, {lasted:.0f} s with the page open")
    return [
        _figure("script on the page, ms a second", script, MOST_SCRIPT),
        _figure("p99 lag of a 1 ms ticker beyond that without a page, ms", rise, MOST_LAG),
        _figure("memory of the program, growth", shown.memory / warm.memory - 1, MOST_GROWTH),
        _figure("memory of the page, growth", heap_end / heap - 1, MOST_GROWTH),
    ]


def _rise(pipe: Connection, page: Page, link: str) -> float:
    """By how many ms the page raises the 99th percentile of the lag."""
    lags: dict[str, list[float]] = {"about:blank": [], link: []}
    for _ in range(TURNS):
        for address, measured in lags.items():
            page.goto(address)
            time.sleep(TURN / 2)  # it is drawn
            _part(pipe)
            time.sleep(TURN)
            measured.append(_part(pipe).lag)
    without, shown = map(median, lags.values())
    print(f"p99 lag of a 1 ms ticker: {without:.1f} ms without the page, {shown:.1f} ms with it")
    return shown - without


def _part(pipe: Connection) -> Part:
    pipe.send("measure")
    return pipe.recv()


def _metric(devtools: CDPSession, name: str) -> float:
    found = devtools.send("Performance.getMetrics")["metrics"]
    return next(one["value"] for one in found if one["name"] == name)


def _heap(devtools: CDPSession) -> float:
    devtools.send("HeapProfiler.collectGarbage")
    return _metric(devtools, "JSHeapUsedSize")


def _figure(what: str, value: float, most: float) -> bool:
    """Print a figure beside its limit, and return whether it is kept."""
    shown = (f"{value:+.1%}", f"{most:+.0%}") if "growth" in what else (f"{value:.1f}", f"{most:.0f}")
    is_kept = value <= most
    print(f"{'ok' if is_kept else 'FAILED':6}  {shown[0]:>7}  at most {shown[1]:>4}  {what}")
    return is_kept


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("LOAD_SECONDS", "600")))
    sys.exit(0 if measure(parser.parse_args().seconds) else 1)
