"""What servers cost that hold very many waiting calls: ``python -m tests.cluster.bench [--calls 100000]``.

One server holds the calls; three take submissions. Exits with 1 if a figure misses its target.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.errors import Error

from tests.cluster.servers import NatsCluster, NatsServer
from tests.cluster.streams import commit, new_call, set_up
from tests.torture.figures import Figure, shown

AT_ONCE = 40
"""Submissions that are under way at the same time."""
ARGUMENTS = 200
"""Bytes of the arguments of a call."""
MOST_MEMORY, MOST_CPU, MOST_SECONDS, LEAST_RATE = 300e6, 0.01, 5.0, 2000.0
QUIET = 10.0
"""Seconds in which the processor time of a server without work is measured."""
BURST = 10.0
"""Seconds of submissions to three servers."""
PREFIX = "recovery"


async def quiet(_: Exception) -> None:
    """Of a client whose server dies, errors are expected."""


async def connected(urls: list[str]) -> Client:
    """A client that connects again as long as it takes."""
    return await nats.connect(
        urls, error_cb=quiet, reconnect_time_wait=0.02, max_reconnect_attempts=-1, connect_timeout=1
    )


async def submit(client: Client, key: str) -> None:
    """Submit one call: its arguments, its record and its queue message in one batch."""
    answer = await commit(client, *new_call(PREFIX, key, ARGUMENTS))
    assert "seq" in answer, answer


async def at_once(work: Callable[[str], Awaitable[None]], keys: Iterable[str]) -> int:
    """Do *work* for each key, so many at once; returns how many were done."""
    left, done = iter(keys), 0

    async def turn() -> None:
        nonlocal done
        for key in left:
            await work(key)
            done += 1

    await asyncio.gather(*(turn() for _ in range(AT_ONCE)))
    return done


async def fill(client: Client, calls: int) -> None:
    """Write what so many submissions leave. One server alone writes a batch by way of files, a hundred a second."""
    for number in range(calls):
        for part in new_call(PREFIX, f"k{number}", ARGUMENTS):
            await client.publish(part.subject, part.data)
        if number % 500 == 499:
            await client.request(f"$JS.API.STREAM.INFO.{PREFIX}", timeout=60)
    while (await client.jetstream().stream_info(PREFIX)).state.messages < 3 * calls:
        await asyncio.sleep(0.1)


async def waiting(server: NatsServer, calls: int) -> list[Figure]:
    """What one server costs that holds *calls* waiting calls, and how soon it is back after a SIGKILL."""
    client = await connected([server.url])
    await set_up(client, PREFIX)
    await fill(client, calls)
    memory = server.memory()
    before = server.cpu()
    await asyncio.sleep(QUIET)
    cpu = (server.cpu() - before) / QUIET
    server.kill()
    began = time.monotonic()
    server.start()
    while True:
        try:
            await commit(client, *new_call(PREFIX, "after", ARGUMENTS), timeout=0.2)
            break
        except Error:
            await asyncio.sleep(0.01)
    back = time.monotonic() - began
    info = await client.jetstream().stream_info(PREFIX)
    kept = info.state.messages // 3 - 1
    later = server.memory()
    await client.close()
    often = f"{calls} waiting calls"
    return [
        Figure("memory of the server", often, f"{memory / 1e6:.0f} MB", "300 MB", memory < MOST_MEMORY),
        Figure("the same after a restart", often, f"{later / 1e6:.0f} MB", "300 MB", later < MOST_MEMORY),
        Figure("processor of the server", often, f"{cpu:.1%} of a core", "1 % of a core", cpu < MOST_CPU),
        Figure("usable after SIGKILL", often, f"{back:.1f} s", "5 s", back < MOST_SECONDS),
        Figure("calls kept", "one SIGKILL", f"{kept} of {calls}", "all", kept == calls),
    ]


async def submissions(servers: NatsCluster) -> list[Figure]:
    """How many calls three servers take in a second."""
    client = await connected(servers.urls)
    await set_up(client, PREFIX, replicas=3)
    end = time.monotonic() + BURST

    def keys() -> Iterable[str]:
        number = 0
        while time.monotonic() < end:
            yield f"b{(number := number + 1)}"

    rate = await at_once(lambda key: submit(client, key), keys()) / BURST
    await client.close()
    often = f"{BURST:.0f} s, {AT_ONCE} at once"
    return [Figure("submissions to three servers", often, f"{rate:.0f} a second", "2000", rate >= LEAST_RATE)]


def main() -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.bench", description="What waiting calls cost.")
    parser.add_argument("--calls", type=int, default=100_000, help="calls that wait")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with NatsServer(Path(folder, "one")) as server:
            figures = asyncio.run(waiting(server, given.calls))
        with NatsCluster(Path(folder, "three")) as servers:
            figures += asyncio.run(submissions(servers))
    return shown(figures)


if __name__ == "__main__":
    sys.exit(main())
