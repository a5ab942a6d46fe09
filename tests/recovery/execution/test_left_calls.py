"""A body that leaves its call to a later one, or to the next process."""

from __future__ import annotations

import pytest

from adapters.memory import MemoryStore
from events.errors import StaysPendingError
from events.operation_events import GaveUp, OperationFailed, OperationInterrupted
from recovery import Recovery, context
from tests.recorded_events import events_of

pytestmark = pytest.mark.anyio


async def test_a_body_that_leaves_its_call_keeps_it_pending() -> None:
    store, attempts = MemoryStore(), []

    def service() -> tuple[Recovery, object]:
        made = Recovery(store=store, enable_logging=False)

        @made.recoverable("wait", resumable=True, idempotency_key=lambda: "one")
        async def wait() -> str:
            attempts.append(context.attempt())
            if len(attempts) < 3:
                left = StaysPendingError("its block is over")
                left.attempt = context.current.get()
                raise left
            return "done"

        return made, wait

    first, wait = service()
    events = events_of(first, OperationFailed, GaveUp, OperationInterrupted)
    async with first:
        for _ in range(2):
            with pytest.raises(StaysPendingError, match="its block is over"):
                await wait()  # type: ignore[operator]
    assert [type(one) for one in events] == [OperationInterrupted] * 2
    second, _ = service()
    async with second:
        resumption = second.resume()
        await resumption
    assert [one.result for one in resumption.calls] == ["done"]
    assert attempts == [1, 1, 1]
