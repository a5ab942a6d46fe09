from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bench.workloads import (
    fails_every_other,
    fails_every_other_async,
    fails_every_other_with_note,
    handwritten_yielding,
    observed,
)
from events.event import Event
from events.operation_events import OperationFailed, OperationRecovered, RetryScheduled
from recovery import Recovery


def test_three_observers_receive_the_failure_the_retry_and_the_recovery():
    service, received = Recovery(), list[type[Event]]()
    observed(service, "observed", lambda event: received.append(type(event)))
    service.recoverable("observed", initial_delay=0.0)(fails_every_other())()
    service.recoverable("other", initial_delay=0.0)(fails_every_other())()
    assert received == [OperationFailed, RetryScheduled, OperationRecovered]


@pytest.mark.parametrize("make", [fails_every_other, fails_every_other_with_note])
def test_every_other_call_fails(make: Callable[[], Callable[[], Any]]):
    function = make()
    for _ in range(2):
        with pytest.raises(ConnectionError, match="reset"):
            function()
        function()


def test_the_yielding_retry_by_hand_lets_another_task_run_before_it_retries():
    order: list[str] = []

    async def both() -> None:
        fails = fails_every_other_async()

        async def attempt() -> None:
            order.append("attempt")
            await fails()

        async def other() -> None:
            order.append("other")

        await asyncio.gather(handwritten_yielding(attempt)(), other())

    asyncio.run(both())
    assert order == ["attempt", "other", "attempt"]
