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


def test_a_thread_that_waits_is_woken_from_another() -> None:
    waiter = ThreadWaiter()
    threading.Timer(0.01, waiter.wake).start()
    began = time.monotonic()
    waiter.wait(60.0)
    assert time.monotonic() - began < 10.0


def test_a_waiter_woken_before_it_waits_does_not_wait() -> None:
    clock = VirtualClock()
    waiter = ThreadWaiter(clock)
    waiter.wake()
    waiter.wait(60.0)
    assert clock() == 0.0


@pytest.mark.anyio
async def test_a_task_that_waits_is_woken_from_a_thread() -> None:
    async def wait() -> None:
        assert await waiter.wait(60.0)

    waiter = TaskWaiter()
    with anyio.fail_after(10.0):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(waiter.wake)


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
        timers = [one for one in gc.get_objects() if isinstance(one, asyncio.TimerHandle) and not one.cancelled()]
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


@pytest.mark.anyio
async def test_a_task_passes_a_latch_that_a_thread_opens() -> None:
    latch = Latch()
    with anyio.fail_after(10.0):
        async with anyio.create_task_group() as group:
            group.start_soon(latch.opened)
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(latch.open)
