"""A host that is down for twenty minutes, and fifty calls that want something from it."""

from __future__ import annotations

import random
import time
from collections import Counter

import anyio
import pytest

from events.circuit_events import CircuitOpened
from events.operation_events import FailureClassified, GaveUp
from recovery.policies.hosts import HOST_BREAKER
from recovery.service import Recovery
from recovery.testing import VirtualClock
from tests.recorded_events import events_of

BACK = 1200.0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_fifty_downloads_outlive_an_outage_of_twenty_minutes_with_three_attempts_each(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, rng=random.Random(20).random)
    attempts: Counter[int] = Counter()
    done: dict[int, float] = {}

    @service.recoverable("download", max_retries=3, breaker=HOST_BREAKER, when_open="wait", key=lambda *_: "host")
    async def download(number: int) -> None:
        attempts[number] += 1
        await anyio.sleep(0.01)
        if clock() < BACK:
            raise ConnectionRefusedError
        done[number] = clock()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(download, number)

    opened, gave_up = events_of(service, CircuitOpened), events_of(service, GaveUp)
    began = time.process_time()
    clock.run(main, backend=backend)
    assert time.process_time() - began < 2.0  # the calls wait by the virtual clock
    assert (len(done), gave_up) == (50, [])
    assert max(attempts.values()) <= 3
    breaks = [event.after for event in opened if isinstance(event, CircuitOpened)]
    assert breaks[:5] == pytest.approx([30.0, 60.0, 120.0, 240.0, 300.0])
    assert len(set(done.values())) > 40  # they come back spread out, not all at once


def test_a_call_during_the_outage_waits_without_an_attempt() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    failures = events_of(service, FailureClassified)
    late: list[float] = []

    @service.recoverable("download", max_retries=3, breaker=HOST_BREAKER, when_open="wait", key=lambda *_: "host")
    async def download() -> None:
        if clock() < BACK:
            raise ConnectionRefusedError
        late.append(clock())

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(download)
            await anyio.sleep(1.0)
            for _ in range(45):
                group.start_soon(download)

    clock.run(main)
    assert len(late) == 50
    assert len(failures) == 5 + 6  # five before the circuit opened, then one probe for each break
