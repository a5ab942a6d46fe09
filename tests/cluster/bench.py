"""Measure real servers: what waiting calls cost them, and how many submissions a second they take.

``python -m tests.cluster.bench --calls 100000`` prints a table. The servers, and the program that asks them, run on this
machine: other work on it shows in each figure.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
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

AT_ONCE = 40
"""Submissions under way at the same time."""

FILLED_BY = 300
"""Calls of one batch when the servers are filled."""

WATCHED_FOR = 10.0
"""Seconds for which the processor time of an idle server is measured."""

MB = 1024 * 1024


class Figure(msgspec.Struct, frozen=True):
    """A figure, and what it should be."""

    what: str
    value: float
    unit: str
    most: float | None = None
    least: float | None = None

    @property
    def line(self) -> str:
        """Its line of the table."""
        bound = f"< {self.most:g}" if self.most is not None else f"> {self.least:g}" if self.least is not None else ""
        is_kept = self.value < (self.most or 1e99) and self.value > (self.least or -1.0)
        return f"{self.what:<58} {self.value:>10.2f} {self.unit:<9} {bound:>8}  {'' if is_kept else 'MISSED'}"


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
    """Submit so many calls, ``AT_ONCE`` under way; returns how many a second, and the 99th percentile of one, in seconds."""
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


async def one_server(calls: int, folder: Path) -> AsyncIterator[Figure]:
    """The figures of one server."""
    with NatsServer(folder) as server:
        async with linked(server.url, 30.0) as link:
            seconds = await fill(link, calls)
            yield Figure("one server: seconds to fill it, 300 calls to a batch", seconds, "s")
            yield Figure(f"one server: memory with {calls} waiting calls", server.memory() / MB, "MB", most=300)
            await asyncio.sleep(2.0)
            before = server.cpu()
            await asyncio.sleep(WATCHED_FOR)
            used = (server.cpu() - before) / WATCHED_FOR
            yield Figure(f"one server: processor with {calls} waiting calls", 100 * used, "% of one", most=1)
            listed, began = 0, time.monotonic()
            async for _ in link.engine.calls():
                listed += 1
            assert listed == calls, f"{listed} of {calls} calls"
            yield Figure(f"one server: all {calls} calls listed", time.monotonic() - began, "s")
        yield Figure("one server: usable again after SIGKILL", await usable(server), "s", most=5)
        yield Figure("one server: memory after it", server.memory() / MB, "MB", most=300)
        async with linked(server.url, 30.0) as link:
            rate, _ = await submissions(link, max(200, calls // 100))
            yield Figure("one server: submissions, 40 at once", rate, "/s")


async def three_servers(calls: int, folder: Path) -> AsyncIterator[Figure]:
    """The figures of three servers, each of which keeps every message."""
    with NatsCluster(folder) as servers:
        async with linked(servers.urls, 30.0) as link:
            await submissions(link, 400)
        async with connect(servers.urls, prefix="measured") as link:
            rate, slowest = await submissions(link, max(2000, calls // 5))
            yield Figure("three servers: submissions, 40 at once", rate, "/s", least=2000)
            yield Figure("three servers: 99 of 100 submissions took less than", 1000 * slowest, "ms")


async def figures(calls: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for measured in (one_server(calls, Path(folder, "one")), three_servers(calls, Path(folder, "three"))):
            async for figure in measured:
                print(figure.line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=100_000, help="calls that wait")
    asyncio.run(figures(parser.parse_args().calls))


if __name__ == "__main__":
    main()
