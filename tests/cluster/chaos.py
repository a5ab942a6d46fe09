"""Kill and stop servers and workers at random while calls run: ``python -m tests.cluster.chaos --calls 150``.

Prints what was lost, doubled or late. Exits with 1 if a figure misses its target.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.cluster.chaos_worker import service_of
from tests.cluster.disturbances import Disturbance, Disturbances, WorkerProcess
from tests.cluster.servers import NatsCluster, logs_of_a_failure
from tests.cluster.sink import Body, Sink
from tests.torture.figures import Figure, percentile, shown

PREFIX = "chaos"
LEASE = 30.0
"""Seconds after which the call of a dead worker goes on."""
ELECTION = 10.0
"""Seconds more that the servers may take where one of them died, too."""
GRACE = 120.0
"""Seconds after the last disturbance in which every call must have ended."""


def chaos(calls: int, workers: int, seconds: int, seed: int = 1) -> list[Figure]:
    """What is lost of so many *calls*, in so many *seconds* of kills and stops."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with NatsCluster(folder / "servers") as servers, logs_of_a_failure(servers.servers):
            sink = Sink(folder / "sink")
            program = [sys.executable, "-m", "tests.cluster.chaos_worker", ",".join(servers.urls), PREFIX]
            nodes = [
                WorkerProcess(f"w{at}", [*program, f"w{at}", folder / "sink"], folder / f"w{at}.log")
                for at in range(workers)
            ]
            for node in nodes:
                node.start()
            try:
                disturbances = Disturbances(servers, nodes, seed=seed, longest_stop=LEASE + 10.0)
                results = asyncio.run(submitted(servers, disturbances, calls, seconds, seed))
            finally:
                for node in nodes:
                    node.kill()
            return figures_of(results, sink, disturbances.done, calls)


async def submitted(
    servers: NatsCluster, disturbances: Disturbances, calls: int, seconds: int, seed: int
) -> list[object]:
    """Submit the calls, spread over the time of the disturbances; the outcome of each, an error for a bad end."""
    from adapters.nats import Cluster  # type: ignore[attr-defined]

    rng = random.Random(seed)

    async def one(cluster: Cluster, number: int) -> object:
        await asyncio.sleep(rng.uniform(0, seconds * 0.9))
        failures = rng.choice([0, 0, 0, 1, 2])
        handle = await cluster.submit("job", number, rng.uniform(0.2, 4.0), failures, idempotency_key=f"k{number}")
        return await handle.result()

    with tempfile.TemporaryDirectory() as folder:
        service = service_of("submitter", Sink(Path(folder, "unused")))
        async with Cluster(service, servers.urls, node="submitter", prefix=PREFIX) as cluster:
            asked = [asyncio.create_task(one(cluster, number)) for number in range(calls)]
            with disturbances:
                await asyncio.sleep(seconds)
            await asyncio.wait(asked, timeout=GRACE)
            for task in asked:
                task.cancel()
            return await asyncio.gather(*asked, return_exceptions=True)


def figures_of(results: list[object], sink: Sink, done: list[Disturbance], calls: int) -> list[Figure]:
    """What the outcomes, the notes of the bodies and the disturbances say together."""
    kinds = Counter(f"{'servers' if one.name[0] == 'n' else 'workers'} {one.kind}" for one in done)
    often = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    wrong = sum(result != number for number, result in enumerate(results))
    overlaps, refused = sink.overlaps(), {(call, fence) for call, fence, _, _ in sink.refused()}
    accepted = [earlier for earlier, later in overlaps if _wrote_late(earlier, later, sink)]
    late = [seconds for seconds, limit in successions(sink.bodies(), done) if seconds > limit]
    waited = [seconds for seconds, _ in successions(sink.bodies(), done)]
    return [
        Figure("calls without their one outcome", f"{calls} calls; {often}", f"{wrong}", "0", wrong == 0),
        Figure(
            "writes of an older fence that the sink took",
            f"{len(overlaps)} overlaps",
            f"{len(accepted)}, {len(refused)} refused",
            "0",
            not accepted,
        ),
        Figure(
            "calls of dead workers that went on late",
            f"{len(waited)} calls",
            f"{len(late)}, p50 {percentile(waited, 0.5):.0f} s",
            f"0 after {LEASE:.0f} s",
            not late,
        ),
    ]


def _wrote_late(earlier: Body, later: Body, sink: Sink) -> bool:
    return sink.newest(earlier.call) < later.fence


def successions(bodies: list[Body], done: list[Disturbance]) -> list[tuple[float, float]]:
    """For each body whose process was killed: the seconds until the next one of its call, and how many are allowed."""
    found = []
    for at, body in enumerate(bodies):
        if body.ended is not None:
            continue
        kill = next((d for d in done if d.name == body.node and d.kind == "killed" and d.began >= body.began), None)
        following = next((one for one in bodies[at + 1 :] if one.call == body.call), None)
        if kill is None or following is None:
            continue
        is_disturbed = any(
            d.name[0] == "n" and d.began < following.began and d.ended + ELECTION > kill.began for d in done
        )
        found.append((following.began - kill.began, LEASE + 1.0 + (ELECTION if is_disturbed else 0.0)))
    return found


def main() -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.chaos", description="Kill and stop at random.")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    return shown(chaos(given.calls, given.workers, given.seconds, given.seed))


if __name__ == "__main__":
    sys.exit(main())
