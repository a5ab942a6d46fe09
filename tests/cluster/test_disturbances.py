"""The random kills and stops leave everything running; the sink refuses what it must."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cluster.disturbances import Disturbances, WorkerProcess
from tests.cluster.servers import NatsCluster
from tests.cluster.sink import BEGIN, END, RESULT, Body, RefusedWriteError, Sink
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


def test_a_sink_refuses_a_lower_fence_from_the_begin_of_the_higher_one(tmp_path: Path):
    with Sink(tmp_path / "sink") as sink:
        paused = Body(sink.path, "gpu-a", number=1, fence=7, attempt=1)
        paused.say(BEGIN)
        paused.say(RESULT)
        current = Body(sink.path, "gpu-b", number=1, fence=9, attempt=2)
        current.say(BEGIN)
        with pytest.raises(RefusedWriteError):
            paused.say(RESULT)
        paused.say(END)
        Body(sink.path, "gpu-a", number=2, fence=1, attempt=1).say(BEGIN)
        current.say(RESULT)
    said = [(note.what, note.fence, note.taken) for note in sink.notes if note.number == 1]
    assert said[2:] == [(BEGIN, 9, True), (RESULT, 7, False), (END, 7, True), (RESULT, 9, True)]
