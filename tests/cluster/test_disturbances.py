"""The random kills and stops leave everything running; the sink refuses what it must."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.cluster.disturbances import Disturbances, WorkerProcess
from tests.cluster.servers import NatsCluster
from tests.cluster.sink import Sink
from tests.until import wait_until

BEATING = "import sys, time\nwhile True: print(time.time(), flush=True); time.sleep(0.02)"


def test_servers_and_workers_are_killed_and_stopped_and_run_again(three_servers: NatsCluster, tmp_path: Path):
    workers = [WorkerProcess(f"w{at}", [sys.executable, "-c", BEATING], tmp_path / f"w{at}") for at in range(2)]
    for worker in workers:
        worker.start()
    try:
        with Disturbances(three_servers, workers, seed=1, pause=0.5, longest_stop=0.5) as disturbances:
            kinds = {(name[0], kind) for name in "nw" for kind in ("killed", "stopped")}
            wait_until(lambda: kinds <= {(one.name[0], one.kind) for one in disturbances.done}, within=60)
        assert disturbances.errors == []
        three_servers.wait_ready()
        for worker in workers:
            began = worker.log.stat().st_size
            wait_until(lambda worker=worker, began=began: worker.log.stat().st_size > began)
    finally:
        for worker in workers:
            worker.kill()


def test_a_sink_refuses_a_lower_fence_and_finds_bodies_that_overlap(tmp_path: Path):
    sink = Sink(tmp_path / "sink")
    paused = sink.begin("render/k", 7, "gpu-a")
    assert sink.write("render/k", 7)
    time.sleep(0.002)
    current = Sink(tmp_path / "sink").begin("render/k", 9, "gpu-b")
    assert not sink.write("render/k", 7)
    assert sink.write("render/k", 9)
    assert sink.overlaps() == []  # the paused one may be dead
    sink.end(paused)
    sink.end(current)
    [(earlier, later)] = sink.overlaps()
    assert (earlier.fence, later.fence) == (7, 9)
    assert [(call, fence, newest) for call, fence, newest, _ in sink.refused()] == [("render/k", 7, 9)]
