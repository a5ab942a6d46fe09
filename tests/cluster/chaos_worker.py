"""One worker of the chaos: ``python -m tests.cluster.chaos_worker URLS PREFIX NODE SINK``; it works until killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from adapters.memory import MemoryStore
from recovery import Recovery, context
from tests.cluster.sink import Sink


def service_of(node: str, sink: Sink) -> Recovery:
    """A service whose one operation, ``job``, notes its bodies in *sink*, and fails as often as it is told."""
    service = Recovery(store=MemoryStore(), enable_logging=False)

    @service.recoverable("job", max_retries=None, initial_delay=0.5, max_delay=4.0, breaker=None)
    async def job(number: int, seconds: float, failures: int) -> int:
        call, fence = context.key(), context.fence()  # type: ignore[attr-defined]
        body = sink.begin(call, fence, node)
        try:
            await asyncio.sleep(seconds)
            if context.attempt() <= failures:
                raise ConnectionError("not yet")
            sink.write(call, fence)
            return number
        finally:
            sink.end(body)

    return service


async def work(urls: str, prefix: str, node: str, path: str) -> None:
    """Take and run calls."""
    from adapters.nats import Cluster  # type: ignore[attr-defined]

    async with Cluster(service_of(node, Sink(Path(path))), urls.split(","), node=node, prefix=prefix) as cluster:
        await cluster.work(["job"], concurrency=2)


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
