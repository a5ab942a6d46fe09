"""Cancellations, interruptions and timeouts."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from events.operation_events import GaveUp, OperationCancelled, RetryScheduled
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of, names

FAST: dict[str, Any] = {"initial_delay": 0.0}


class Stop(BaseException):
    """An exception of an unknown framework that is no failure."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, Stop])
@pytest.mark.parametrize(("errors", "outcome"), [([], []), ([ConnectionError()], ["RetryScheduled"])])
def test_a_base_exception_passes_and_is_a_cancellation(
    kind: type[BaseException], errors: list[Exception], outcome: list[str]
) -> None:
    service, stop = Recovery(), kind()
    events = events_of(service, OperationCancelled, RetryScheduled, GaveUp)
    script = Script(*errors, stop)
    with pytest.raises(kind) as caught:
        service.recoverable(**FAST)(lambda: script())()
    assert caught.value is stop
    assert (script.calls, names(events)) == (len(errors) + 1, [*outcome, "OperationCancelled"])


@pytest.mark.anyio
async def test_a_cancelled_wait_is_published_as_cancelled() -> None:
    service = Recovery()
    events = events_of(service, OperationCancelled)
    call = service.recoverable(initial_delay=60.0, jitter="none")(Script(ConnectionError()).as_async())
    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert names(events) == ["OperationCancelled"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_timeout_ends_an_attempt_and_is_retried(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    attempts = 0

    @service.recoverable(attempt_timeout=5.0, **FAST)
    async def slow_at_first() -> str:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await anyio.sleep(100.0)
        return "done"

    assert clock.run(slow_at_first, backend=backend) == "done"
    assert clock() == pytest.approx(5.0)
