"""Timeouts that are met late, because the process was stopped: they begin again, once."""

from __future__ import annotations

import anyio
import pytest

from recovery import Recovery, context
from recovery.testing import VirtualClock
from tests.recovery.waiting.parked import BACKENDS

TIMEOUTS = pytest.mark.parametrize("timeout", ["attempt_timeout", "stall_timeout"])


@BACKENDS
@TIMEOUTS
@pytest.mark.parametrize(("stopped", "ended"), [((), 30.0), ((5.0,), 30.0), ((100.0,), 150.0), ((100.0, 100.0), 240.0)])
def test_a_timeout_that_is_met_late_begins_again_once(
    backend: str, timeout: str, stopped: tuple[float, ...], ended: float
) -> None:
    clock = VirtualClock()

    @Recovery(clock=clock).recoverable("download", max_retries=0, **{timeout: 30.0})
    async def download() -> None:
        for seconds in stopped:
            await anyio.sleep(20.0)
            clock.freeze(seconds)
        await anyio.sleep(1000.0)

    with pytest.raises(TimeoutError):
        clock.run(download, backend=backend)
    # Twice: 20 s, stopped for 100 s, all 30 s begin; 20 s of them, stopped for 100 s again, and it is over.
    assert clock() == pytest.approx(ended, abs=0.01)


@BACKENDS
def test_an_attempt_that_goes_on_after_a_stop_may_still_succeed(backend: str) -> None:
    clock = VirtualClock()

    @Recovery(clock=clock).recoverable("download", max_retries=0, attempt_timeout=30.0)
    async def download() -> str:
        await anyio.sleep(20.0)
        clock.freeze(8 * 3600.0)
        await anyio.sleep(20.0)
        return "done"

    assert clock.run(download, backend=backend) == "done"


@BACKENDS
def test_progress_moves_a_stall_timeout_after_a_stop_too(backend: str) -> None:
    clock = VirtualClock()

    @Recovery(clock=clock).recoverable("download", max_retries=0, stall_timeout=30.0)
    async def download() -> str:
        for done in range(1, 9):
            await anyio.sleep(20.0)
            if done == 3:
                clock.freeze(8 * 3600.0)
            await anyio.lowlevel.checkpoint()
            context.progress(done)
        return "done"

    assert clock.run(download, backend=backend) == "done"


@BACKENDS
def test_many_timeouts_are_met_late_at_one_time(backend: str) -> None:
    clock = VirtualClock()
    done: list[int] = []

    @Recovery(clock=clock).recoverable("download", max_retries=0, attempt_timeout=30.0, stall_timeout=25.0)
    async def download(number: int) -> None:
        await anyio.sleep(20.0 + number / 10)
        done.append(number)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(download, number)
            await anyio.sleep(10.0)
            clock.freeze(8 * 3600.0)

    clock.run(main, backend=backend)
    assert sorted(done) == list(range(20))
