"""What a stalled store costs: publishing takes microseconds (D1), and memory is bounded (D7)."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from adapters.memory import MemoryStore
from events.event import Event
from events.evidence import Category, Evidence
from events.operation_events import CheckpointSaved, FailureClassified, GaveUp
from recovery.journal.store import Row
from recovery.service import Recovery
from tests.torture.figures import Figure, percentile, scaled
from tests.torture.fork_server import ForkServer

EVENTS = 100_000
FLOOD = 1_000_000
MAX_SECONDS = 50e-6
MAX_BYTES = 64 * 1024 * 1024


class StalledStore(MemoryStore):
    """A store that never finishes a batch; ``asked`` is set when it gets one."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    async def append(self, rows: Sequence[Row]) -> None:
        self.asked.set()
        threading.Event().wait()


def stalled_service() -> Recovery:
    """A service with a stalled store."""
    store = StalledStore()
    service = Recovery(store=store)
    service.bus.publish(GaveUp(at=0.0, operation="fetch", call="first"))
    assert store.asked.wait(10.0)
    return service


def failure(number: int, message: str) -> FailureClassified:
    evidence = Evidence(type="builtins.ConnectionError", kinds=("builtins.OSError",), message=message)
    at = time.monotonic()
    return FailureClassified(
        at=at, operation="fetch", call=f"c-{number}", category=Category.TRANSIENT, evidence=evidence
    )


def time_publishing(count: int) -> None:
    """Print how long each of *count* publishes took, in nanoseconds."""
    service = stalled_service()
    service.operation("fetch")
    publish, clock = service.bus.publish, time.perf_counter_ns
    took = []
    for event in (failure(number, "connection reset") for number in range(count)):
        began = clock()
        publish(event)
        took.append(clock() - began)
    _print_and_exit(took)


def flood(count: int) -> None:
    """Publish *count* events of all sizes; print the peak memory of the process in bytes."""
    service = stalled_service()
    progress = msgspec.Raw(msgspec.json.encode({"offset": 1}))
    for number in range(count):
        event: Event = failure(number, "x" * (number % 4096))
        if number % 3 == 0:
            event = CheckpointSaved(at=0.0, operation="fetch", call=f"c-{number % 1000}", data=progress)
        service.bus.publish(event)
    status = Path("/proc/self/status").read_text()
    [most] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    counts = service.journal.counts
    assert counts.issued == counts.stored + counts.coalesced + counts.dropped + counts.waiting == count + 1
    _print_and_exit(int(most) * 1024)


def _print_and_exit(value: object) -> None:
    """Print *value* and exit without waiting for the store."""
    print(json.dumps(value), flush=True)
    os._exit(0)


def printed_by(fork_server: ForkServer, function: Any, *arguments: object) -> Any:
    """The JSON that *function* prints when called in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        child = fork_server.fork(function, *arguments, out=Path(folder) / "out")
        code = child.wait(100.0)
        printed = child.out.read_text()
        assert code == 0, printed
        for line in printed.splitlines():
            with suppress(ValueError):  # log lines are there too
                return json.loads(line)
        raise AssertionError(f"nothing was printed: {printed}")


def publishing(fork_server: ForkServer, share: float) -> list[Figure]:
    """The time to publish a failure."""
    count = scaled(EVENTS, share)
    took = [nanoseconds / 1e9 for nanoseconds in printed_by(fork_server, time_publishing, count)]
    p99 = percentile(took, 0.99)
    text = f"p50 {percentile(took, 0.5) * 1e6:.1f}, p99 {p99 * 1e6:.1f}, most {max(took) * 1e6:.0f} µs"
    return [Figure("D1: publishing while the store stalls", f"{count} failures", text, "p99 50 µs", p99 < MAX_SECONDS)]


def memory(fork_server: ForkServer, share: float) -> list[Figure]:
    """The memory that a flood takes."""
    count = scaled(FLOOD, share)
    growth = printed_by(fork_server, flood, count) - printed_by(fork_server, flood, 10)
    text = f"{growth / 2**20:.1f} MiB"
    return [Figure("D7: memory of a flood on a stalled store", f"{count} events", text, "64 MiB", growth <= MAX_BYTES)]
