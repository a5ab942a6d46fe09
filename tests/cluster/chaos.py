"""Kill and stop servers and workers at random while calls run: ``python -m tests.cluster.chaos --calls 150``.

Prints what was lost, doubled or late. Exits with 1 if a figure misses its target. With ``--keep FOLDER``, the logs and
the evidence are kept.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from adapters.nats import Cluster, UnreachableError
from adapters.nats.connection import connect
from recovery import Recovery
from tests.cluster.chaos_figures import Evidence, Submitted, figures_of, listed, machine
from tests.cluster.chaos_watch import Watch
from tests.cluster.chaos_worker import OPERATIONS, Lag, service_of
from tests.cluster.disturbances import Disturbances, WorkerProcess
from tests.cluster.servers import NatsCluster, logs_of_a_failure
from tests.cluster.sink import UP, Sink
from tests.torture.figures import Figure, shown
from tests.until import wait_until

PREFIX = "chaos"
LEASE = 5.0
"""Seconds after which the call of a dead worker goes on; in production 30."""
LONGEST_STOP = LEASE + 4.0
PAUSE = 6.0
"""Mean seconds between two disturbances of servers, and between two of each half of the workers."""
GRACE = 90.0
"""Seconds after the last disturbance in which every call must have ended."""


class Machine:
    """Measures how busy the machine is, in a thread."""

    def __init__(self) -> None:
        self.loads: list[float] = []
        self.lags: list[tuple[float, float]] = []
        self._is_over = threading.Event()

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure until the block ends."""
        thread = threading.Thread(target=self._measure, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()

    def _measure(self) -> None:
        while not self._is_over.is_set():
            began = time.monotonic()
            time.sleep(0.1)
            self.lags.append((time.time(), time.monotonic() - began - 0.1))
            self.loads.append(os.getloadavg()[0])


class Chaos:
    """One run.

    Args:
        folder: Of all files.
        calls: How many calls are submitted.
        workers: How many workers run them.
        seconds: In how many seconds.
        seed: Of all that is random here.
        slowdown: How many times longer all may take than on a machine that does nothing else.
    """

    def __init__(self, folder: Path, calls: int, workers: int, seconds: int, seed: int, slowdown: float = 1.0) -> None:
        self.folder, self.seconds, self.seed, self.slowdown = folder, seconds, seed, slowdown
        self.rng = random.Random(seed)
        self.nodes = [f"w{at}" for at in range(workers)]
        self.submitted = [Submitted(number, results=[]) for number in range(calls)]
        self.machine = Machine()
        self.sink = Sink(folder / "sink")

    def run(self) -> tuple[list[Figure], list[str]]:
        """The figures, and what was wrong."""
        with NatsCluster(self.folder / "servers") as servers, logs_of_a_failure(servers.servers), self.sink:
            program = [sys.executable, "-m", "tests.cluster.chaos_worker", ",".join(servers.urls), PREFIX, f"{LEASE}"]
            workers = [
                WorkerProcess(node, [*program, node, self.sink.path], self.folder / f"{node}.log")
                for node in self.nodes
            ]
            disturbances = Disturbances(servers, workers, seed=self.seed, pause=PAUSE, longest_stop=LONGEST_STOP)
            try:
                with self.machine.measured():
                    watch, left = asyncio.run(self.disturbed(servers, workers, disturbances))
            finally:
                for worker in workers:
                    worker.kill()
        evidence = Evidence(
            self.submitted,
            watch.changes,
            self.sink.notes,
            disturbances.done,
            LEASE,
            self.machine.lags,
            self.slowdown,
        )
        Path(self.folder, "evidence.json").write_bytes(msgspec.json.encode(evidence))
        figures, wrong = figures_of(evidence)
        messages = watch.strays + left
        figures += [
            Figure(
                "calls without message, messages without call",
                f"{watch.looks} looks",
                f"{len(messages)}",
                "0",
                not messages,
            ),
            Figure(
                "disturbances",
                f"{len(disturbances.done)}",
                shown_kinds(disturbances),
                "none fails",
                not disturbances.errors,
            ),
            machine(self.sink.notes, self.machine.loads, self.machine.lags),
        ]
        wrong += listed("messages", messages) + listed("disturbances", [repr(error) for error in disturbances.errors])
        return figures, wrong

    async def disturbed(
        self, servers: NatsCluster, workers: Sequence[WorkerProcess], disturbances: Disturbances
    ) -> tuple[Watch, list[str]]:
        """Submit the calls while all is disturbed, and wait for their ends; what was seen, and the messages left."""
        await set_up(servers.urls)
        service, _functions = service_of("submitter", self.folder / "submitter", Lag())
        with service:
            return await self._disturbed(service, servers, workers, disturbances)

    async def _disturbed(
        self,
        service: Recovery,
        servers: NatsCluster,
        workers: Sequence[WorkerProcess],
        disturbances: Disturbances,
    ) -> tuple[Watch, list[str]]:
        async with Cluster(service, servers.urls, node="submitter", prefix=PREFIX, lease=LEASE) as cluster:
            watch = Watch(servers.urls, PREFIX)
            async with watch.running():
                for worker in workers:
                    worker.start()
                await asyncio.to_thread(wait_until, lambda: len(self.sink.notes) >= len(workers), 90.0)
                assert {note.what for note in self.sink.notes} == {UP}
                asked = [task for one in self.submitted for task in self.submissions(cluster, one)]
                with disturbances:
                    await asyncio.sleep(self.seconds)
                    await asyncio.to_thread(disturbances.end)
                _, unfinished = await asyncio.wait(asked, timeout=GRACE)
                for task in unfinished:
                    task.cancel()
                await asyncio.gather(*asked, return_exceptions=True)
                return watch, await watch.left(within=2.5 * LEASE)

    def submissions(self, cluster: Cluster, one: Submitted) -> list[asyncio.Task[None]]:
        """Submit the call *one* once or twice."""
        rng = self.rng
        seconds = rng.choice([0.1, 0.3, 0.3, 1.0, 1.0, 1.0, 2.0, 2.0, 4.0, 1.6 * LEASE])
        steps = max(round(2 * seconds), 1)
        args = one.number, seconds, steps, rng.choice([0, 0, 1, 1, 2]), rng.random() < 0.5
        one.affinity = rng.choice(self.nodes) if rng.random() < 0.15 else ""
        key = f"k{one.number}" if rng.random() < 0.6 else None
        options = {
            "idempotency_key": key,
            "affinity": one.affinity or None,
            "priority": rng.choice(["high", "normal", "normal", "low"]),
        }
        times = 2 if key and rng.random() < 0.4 else 1
        operation = rng.choice(OPERATIONS)

        async def submit(after: float) -> None:
            await asyncio.sleep(after)
            try:
                while True:
                    try:
                        handle = await cluster.submit(operation, *args, **options)
                        break
                    except UnreachableError:
                        if key is None:
                            raise
                one.call = handle.call
                one.results.append(await handle.result())
            except Exception as error:
                one.results.append(f"{type(error).__name__}: {error}")

        return [asyncio.create_task(submit(rng.uniform(0, 0.9 * self.seconds))) for _ in range(times)]


async def set_up(urls: Sequence[str]) -> None:
    """Make the streams. Servers that have only just met may lose an answer: then they are asked again."""
    for tries_left in reversed(range(5)):
        try:
            async with connect(urls, prefix=PREFIX, lease=LEASE):
                return
        except UnreachableError:
            if not tries_left:
                raise


def shown_kinds(disturbances: Disturbances) -> str:
    """How often what was killed and stopped."""
    kinds = Counter(f"{'servers' if one.name[0] == 'n' else 'workers'} {one.kind}" for one in disturbances.done)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def chaos(
    calls: int,
    workers: int,
    seconds: int,
    seed: int | None = None,
    keep: Path | None = None,
    slowdown: float = 1.0,
) -> tuple[list[Figure], list[str]]:
    """What is lost of so many *calls*, in so many *seconds* of kills and stops; and what was wrong, in words."""
    seed = random.randrange(10**6) if seed is None else seed
    print(f"seed {seed}, lease {LEASE:.0f} s", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="chaos") as name:
        folder = keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        return Chaos(folder, calls, workers, seconds, seed, slowdown).run()


def main() -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.chaos", description="Kill and stop at random.")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, help="of another run; random by default")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the logs and the evidence there")
    parser.add_argument("--slowdown", type=float, default=1.0, help="times longer that all may take on a busy machine")
    given = parser.parse_args()
    figures, wrong = chaos(given.calls, given.workers, given.seconds, given.seed, given.keep, given.slowdown)
    code = shown(figures)
    for text in wrong:  # last: the end of a log is what people see
        print(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
