"""How soon a restart resumes the first of ten thousand calls."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import msgspec

from adapters.sqlite.store import SQLiteStore
from events.operation_events import CheckpointSaved, OperationStarted, RetryScheduled
from recovery.service import Recovery
from tests.torture.figures import Figure, scaled
from tests.torture.fork_server import ForkServer
from tests.torture.stalls import failure, printed_by

PENDING = 10_000
MAX_SECONDS = 2.0
REPEATED = 3


def leave_pending(path: Path, count: int) -> None:
    """Leave a journal with *count* unfinished calls: some run, some wait, most have a checkpoint."""
    with Recovery(store=SQLiteStore(path)) as service:
        publish_pending(service, count)


def publish_pending(service: Recovery, count: int) -> None:
    """The same in a journal that is open."""
    service.operation("work", durability="journal")
    for number in range(count):
        call = service.bus.new_call_id()
        about: dict[str, Any] = {"at": service.bus.clock(), "operation": "work", "call": call}
        arguments = msgspec.Raw(msgspec.json.encode([[f"file-{number}", number], {}]))
        service.bus.publish(OperationStarted(**about, arguments=arguments))
        if number % 4:
            data = msgspec.Raw(msgspec.json.encode({"offset": number}))
            service.bus.publish(CheckpointSaved(**about, data=data))
        if number % 2:
            failed = msgspec.structs.replace(failure(number, "connection reset"), operation="work", call=call)
            service.bus.publish(failed)
            service.bus.publish(RetryScheduled(**about, after=0.0, retry=1))
        if number % 500 == 0 or number == count - 1:
            service.journal.receipt().wait()


def restart(path: str, mode: str) -> None:
    """Print the seconds from before the service is made to the body of the first call."""
    began, first, has_begun = time.monotonic(), threading.Lock(), threading.Event()
    service = Recovery(store=SQLiteStore(path))

    def work(name: str, number: int) -> None:
        if first.acquire(blocking=False):  # four threads resume the calls of `def`
            print(json.dumps(time.monotonic() - began), flush=True)
            has_begun.set()

    async def work_async(name: str, number: int) -> None:
        work(name, number)

    async def main() -> None:
        async with service:
            service.resume()
            while not has_begun.is_set():
                await anyio.sleep(0.001)
            os._exit(0)

    service.recoverable("work", resumable=True)(work if mode == "plain" else work_async)
    if mode != "plain":
        anyio.run(main, backend=mode)
    with service:
        service.resume()
        has_begun.wait(60.0)
        os._exit(0)


def restarts(fork_server: ForkServer, share: float, *, repeated: int = REPEATED) -> list[Figure]:
    """The figures of restarts."""
    count, figures = scaled(PENDING, share), []
    for mode in ("plain", "asyncio", "trio"):
        took = []
        for _ in range(repeated):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "calls.db"
                leave_pending(path, count)
                took.append(printed_by(fork_server, restart, str(path), mode))
        text = f"{', '.join(f'{seconds:.2f}' for seconds in sorted(took))} s"
        figures.append(Figure(f"first resumed call, {mode}", f"{count} pending", text, "2 s", max(took) < MAX_SECONDS))
    return figures
