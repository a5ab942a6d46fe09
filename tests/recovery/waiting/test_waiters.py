"""Sleeps that end early, and the latch, in threads and tasks."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import anyio
import anyio.to_thread
import pytest

from recovery.testing import VirtualClock
from recovery.waiting.waiters import Latch, TaskWaiter, ThreadWaiter


@pytest.mark.parametrize("delay", [0.0, 0.01], ids=["before it waits", "while it waits"])
def test_a_thread_that_waits_is_woken_from_another(delay: float) -> None:
    waiter = ThreadWaiter()
    timer = threading.Timer(delay, waiter.wake)
    timer.start()
    if not delay:
        timer.join()
    began = time.monotonic()
    assert waiter.wait(60.0)
    assert time.monotonic() - began < 10.0


@pytest.mark.anyio
async def test_a_task_that_waits_for_a_waiter_or_a_latch_is_woken_from_a_thread() -> None:
    waiter, latch, answers = TaskWaiter(), Latch(), list[bool]()

    async def wait() -> None:
        answers.append(await waiter.wait(60.0))

    with anyio.fail_after(10.0):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            group.start_soon(latch.opened)
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(waiter.wake)
            await anyio.to_thread.run_sync(latch.open)
    assert answers == [True]


@pytest.mark.parametrize("ends", ["woken", "cancelled"])
def test_a_sleep_that_ended_early_leaves_no_timer_behind(ends: str) -> None:
    async def main() -> None:
        waiter = TaskWaiter()

        async def wait() -> None:
            try:
                await waiter.wait(3600.0)
            finally:
                waiter.close()

        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        if ends == "woken":
            waiter.wake()
        else:
            task.cancel()
        await asyncio.wait([task])
        gc.collect()  # those of other tests
        timers = [one for one in gc.get_objects() if issubclass(type(one), asyncio.TimerHandle) and not one.cancelled()]
        assert not timers

    asyncio.run(main())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_waking_a_task_whose_loop_has_ended_is_harmless(backend: str) -> None:
    async def make() -> TaskWaiter:
        return TaskWaiter()

    anyio.run(make, backend=backend).wake()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_task_sleeps_for_the_time_given(backend: str) -> None:
    clock = VirtualClock()

    async def main() -> None:
        await TaskWaiter().wait(3600.0)

    clock.run(main, backend=backend)
    assert clock() == pytest.approx(3600.0)


def test_a_thread_passes_an_open_latch() -> None:
    latch = Latch()
    assert not latch.wait(timeout=0.001)
    latch.open()
    assert latch.wait()
