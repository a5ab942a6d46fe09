"""Downloads from a server in another process: the cost of syncing beside receiving, and of each small file."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import anyio
import anyio.to_thread
import httpx2

from adapters.downloads import download
from bench.file_server import file_server
from bench.measure import Effort, Spread, spread
from bench.row import Row, most
from bench.workloads import journalled

PAIRS = 10
RATE = 50_000_000
PACED, UNPACED = 50_000_000, 128_000_000
"""Bytes of a file that comes at ``RATE`` bytes per second, and of one that comes as fast as it can."""
SMALL, FILES = 10_000, 1_000

_Fetch: TypeAlias = Callable[[httpx2.AsyncClient, str, Path], Awaitable[object]]


def measure(effort: Effort) -> list[Row]:
    with file_server() as server, TemporaryDirectory() as folder:
        paced = anyio.run(_slower_by, f"{server}/{effort.some(PACED, least=PACED // 2)}/{RATE}/", Path(folder))
        unpaced = anyio.run(_slower_by, f"{server}/{effort.some(UNPACED, least=UNPACED // 2)}/0/", Path(folder))
        files = effort.some(FILES)
        small = spread([anyio.run(_small_files, _call, server, Path(folder), files) for _ in range(3)])
        with journalled() as service:
            call = service.recoverable("bench", resumable=True)(_call)
            calls = spread([anyio.run(_small_files, call, server, Path(folder), files) for _ in range(3)])
    what = "a download, slower than plain writing and one fsync; "
    return [
        Row(key="download-paced", what=f"{what}50 MB/s", unit="%", measured=paced, goal=most(3.0)),
        Row(key="download-unpaced", what=f"{what}as fast as it comes", unit="%", measured=unpaced, goal=most(15.0)),
        Row(
            key="download-small",
            what=f"processor time for each of {files} files of {SMALL // 1000} kB, in parallel",
            unit="ms",
            measured=small,
            goal=most(4.0),
        ),
        Row(
            key="download-small-calls",
            what="the same as resumable calls with a journal",
            unit="ms",
            measured=calls,
            goal=most(4.0),
        ),
    ]


_client = ContextVar[httpx2.AsyncClient]("client")


async def _slower_by(url: str, folder: Path) -> Spread:
    """Per cent by which ``download`` takes longer than plain writing, in pairs whose order alternates."""
    times: dict[_Fetch, list[float]] = {download: [], _write_plainly: []}
    async with httpx2.AsyncClient(timeout=60.0) as client:
        await _write_plainly(client, url, folder / "first")  # connects
        for number in range(PAIRS):
            for fetch in list(times)[:: -1 if number % 2 else 1]:
                began = time.perf_counter()
                await fetch(client, url, folder / "file")
                times[fetch].append(time.perf_counter() - began)
                (folder / "file").unlink()
    return spread([100.0 * (ours / plain - 1.0) for ours, plain in zip(*times.values(), strict=True)])


async def _write_plainly(client: httpx2.AsyncClient, url: str, destination: Path) -> None:
    with destination.open("wb") as file:
        async with client.stream("GET", url) as response:
            async for chunk in response.aiter_raw():
                file.write(chunk)
        file.flush()
        await anyio.to_thread.run_sync(os.fsync, file.fileno())


async def _call(url: str, destination: str) -> None:
    await download(_client.get(), url, Path(destination))


async def _small_files(fetch: Any, server: str, folder: Path, files: int) -> float:
    """Milliseconds of processor time of this process for each file."""
    with TemporaryDirectory(dir=folder) as place:
        async with httpx2.AsyncClient(timeout=60.0) as client:
            _client.set(client)
            began = time.process_time()
            async with anyio.create_task_group() as group:
                for number in range(files):
                    group.start_soon(fetch, f"{server}/{SMALL}/0/{number}", str(Path(place, str(number))))
            return 1000.0 * (time.process_time() - began) / files
