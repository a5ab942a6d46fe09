"""What servers cost that hold very many waiting calls: ``python -m tests.cluster.bench [--calls 100000]``.

One server holds the calls; three take submissions. The program that asks them runs on the same machine, and other work
on it shows in each figure. Exits with 1 if a figure misses its target.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec

from adapters.nats.batch import Batches, messages
from adapters.nats.connection import connect
from adapters.nats.link import Link
from adapters.nats.names import Lane, Name, Subjects
from adapters.nats.record import Change, Standing
from adapters.nats.transitions import postponed, submitted
from tests.cluster.servers import NatsCluster, NatsServer
from tests.torture.figures import Figure, shown

AT_ONCE = 40
"""Submissions under way at the same time."""

FILLED_BY = 300
"""Calls of one batch when the servers are filled."""

QUIET = 10.0
"""Seconds for which the processor time of an idle server is measured."""

MOST_MEMORY, MOST_CPU, MOST_SECONDS, LEAST_RATE = 300.0, 0.01, 5.0, 2000.0
MB = 1e6
NONE = "-"


def waiting(number: int, now: float) -> Change:
    """A call that waits: every second one for a time a year away, the others for a worker that never comes."""
    new = submitted(Name("waits", f"call-{number}"), b'{"page":%d}' % number, now, digest="0" * 64, by="shop")
    if number % 2:
        return new
    later = postponed(new.record, Standing(attempt=2, has_failed=True), 365 * 24 * 3600.0, "the network is down", now)
    assert isinstance(later, Change)
    return msgspec.structs.replace(later, args=new.args)


async def fill(link: Link, calls: int) -> float:
    """Let so many calls wait; returns the seconds that it took."""
    began, now, turns = time.monotonic(), await link.engine.now(), Batches(link)
    subjects = Subjects(link.prefix)

    async def some(numbers: Sequence[int]) -> None:
        await turns.write([message for number in numbers for message in messages(subjects, waiting(number, now), 0)])

    groups = [range(at, min(at + FILLED_BY, calls)) for at in range(0, calls, FILLED_BY)]
    for at in range(0, len(groups), 4):
        await asyncio.gather(*(some(numbers) for numbers in groups[at : at + 4]))
    return time.monotonic() - began


async def submissions(link: Link, calls: int) -> tuple[float, float]:
    """Submit so many calls, ``AT_ONCE`` under way; returns how many a second, and what 99 of 100 took at most."""
    left, took = iter(range(calls)), []

    async def client() -> None:
        for number in left:
            began = time.monotonic()
            change = submitted(Name("render", f"call-{number}"), b'{"page":1}', 0.0, digest="0" * 64, by="shop")
            await link.engine.write(change, 0)
            took.append(time.monotonic() - began)

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    return calls / (time.monotonic() - began), sorted(took)[int(calls * 0.99)]


async def usable(server: NatsServer) -> float:
    """Kill the server and start it; seconds until it has taken a call and delivered it."""
    began = time.monotonic()
    server.kill()
    server.start()
    async with linked(server.url, within=60.0) as link:
        await link.engine.write(submitted(Name("render", f"{began}"), b"[]", 0.0), 0)
        assert await link.engine.take([Lane("render")], 30.0) is not None
    return time.monotonic() - began


@contextlib.asynccontextmanager
async def linked(url: str | list[str], within: float) -> AsyncIterator[Link]:
    """A connection, as soon as the servers can be used."""
    end = time.monotonic() + within
    while True:
        made = connect(url, within=within)
        try:
            link = await made.__aenter__()
            break
        except Exception:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.05)
    try:
        yield link
    finally:
        await made.__aexit__(None, None, None)


async def one_server(calls: int, folder: Path) -> list[Figure]:
    """The figures of one server."""
    often = f"{calls} waiting calls"
    with NatsServer(folder) as server:
        async with linked(server.url, 30.0) as link:
            filled = await fill(link, calls)
            memory = server.memory() / MB
            await asyncio.sleep(2.0)
            before = server.cpu()
            await asyncio.sleep(QUIET)
            cpu = (server.cpu() - before) / QUIET
        back = await usable(server)
        later = server.memory() / MB
        async with linked(server.url, 30.0) as link:
            began = time.monotonic()
            listed = len([one async for one in link.engine.calls()])
            seconds = time.monotonic() - began
            rate, _ = await submissions(link, max(200, calls // 100))
    return [
        Figure("time to write them, 300 to a batch", often, f"{filled:.1f} s", NONE, True),
        Figure("memory of the server", often, f"{memory:.0f} MB", "300 MB", memory < MOST_MEMORY),
        Figure("the same after a restart", often, f"{later:.0f} MB", "300 MB", later < MOST_MEMORY),
        Figure("processor of the server", often, f"{cpu:.1%} of a core", "1 % of a core", cpu < MOST_CPU),
        Figure("usable after SIGKILL", often, f"{back:.1f} s", "5 s", back < MOST_SECONDS),
        Figure("calls kept", "one SIGKILL", f"{listed - 1} of {calls}", "all", listed - 1 == calls),
        Figure("time to list them", often, f"{seconds:.1f} s", NONE, True),
        Figure("submissions to one server", f"{AT_ONCE} at once", f"{rate:.0f} a second", NONE, True),
    ]


async def three_servers(calls: int, folder: Path) -> list[Figure]:
    """The figures of three servers, each of which keeps every message."""
    count = max(2000, calls // 5)
    with NatsCluster(folder) as servers:
        async with linked(servers.urls, 30.0) as link:
            await submissions(link, 400)  # they get to know each other
        async with connect(servers.urls, prefix="measured") as link:
            rate, slowest = await submissions(link, count)
    often = f"{count}, {AT_ONCE} at once"
    return [
        Figure("submissions to three servers", often, f"{rate:.0f} a second", "2000", rate >= LEAST_RATE),
        Figure("the slowest of a hundred", often, f"{1000 * slowest:.0f} ms", NONE, True),
    ]


def main() -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.bench", description="What waiting calls cost.")
    parser.add_argument("--calls", type=int, default=100_000, help="calls that wait")
    calls = parser.parse_args().calls
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(one_server(calls, Path(folder, "one")))
        figures += asyncio.run(three_servers(calls, Path(folder, "three")))
    return shown(figures)


if __name__ == "__main__":
    sys.exit(main())
