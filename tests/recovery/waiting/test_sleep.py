"""The sleep of an asyncio call, in every kind of loop: it ends once, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from events.operation_events import CallSteered
from events.verdicts import OUT_OF_TIME, GiveUp, Retry
from recovery.testing import VirtualClock
from recovery.waiting.calls import WaitingCalls
from recovery.waiting.sleep import Sleep
from recovery.waiting.wait import Wait, WaitCommand
from recovery.waiting.waiters import ThreadWaiter
from tests.recovery.waiting.sleepers import EVERY_LOOP, LONG, LOOPS, Sleepers, run, turns, uvloop
from tests.slow import few

# How long it sleeps


@pytest.mark.parametrize("after", [-5.0, 0.0, 1.0, 1e6])
def test_a_sleep_takes_its_time_and_answers_none(after: float, clock: VirtualClock) -> None:
    sleepers = Sleepers(clock)
    assert clock.run(sleepers.sleep, after) is None
    assert clock() == max(after, 0.0)
    assert len(sleepers.waiting) == 0


@EVERY_LOOP
@pytest.mark.parametrize("after", [-1.0, 0.0, 0.001])
def test_a_short_sleep_suspends_its_task_in_every_loop(loop_factory: Callable[[], Any], after: float) -> None:
    sleepers = Sleepers()

    async def main() -> list[object]:
        return [len(sleepers.waiting), await asyncio.gather(*(sleepers.task(after) for _ in range(20)))]

    assert run(loop_factory, main) == [0, [None] * 20]
    assert len(sleepers.waiting) == 0


@EVERY_LOOP
@pytest.mark.parametrize("after", [LONG, 1e12, 1e300, math.inf])
def test_a_long_sleep_does_not_delay_a_later_and_shorter_one(loop_factory: Callable[[], Any], after: float) -> None:
    sleepers = Sleepers()

    async def main() -> bool:
        long = sleepers.task(after)
        await turns()
        async with asyncio.timeout(10.0):
            await sleepers.sleep(0.001)
        return long.done()

    assert run(loop_factory, main) is False


def test_a_sleep_ends_by_the_clock_of_its_loop_not_by_that_of_the_service(clock: VirtualClock) -> None:
    assert clock.run(Sleepers(lambda: 7.0).sleep, 5.0) is None
    assert clock() == 5.0


def test_sleeps_that_are_due_at_once_end_in_one_turn_in_the_order_of_their_times(clock: VirtualClock) -> None:
    sleepers, ended, turn = Sleepers(clock), list[tuple[int, float]](), [0]

    async def sleep(after: float) -> None:
        await sleepers.sleep(after)
        ended.append((turn[0], after))

    async def main() -> None:
        tasks = [asyncio.ensure_future(sleep(float(after))) for after in (*range(1, 1000, 3), *range(999, 0, -3))]
        await turns()
        clock.advance(2000.0)
        while len(sleepers.waiting) or not ended:
            turn[0] += 1
            await asyncio.sleep(0)
        await asyncio.wait(tasks)

    clock.run(main)
    assert len({when for when, _ in ended}) == 1
    assert [after for _, after in ended] == sorted(after for _, after in ended)
    assert len(ended) == 666


# What is shown of it, and what steers it


@pytest.mark.parametrize("passed", [0.0, 600.0])
def test_a_sleep_is_listed_as_the_wait_of_the_same_call(passed: float, clock: VirtualClock) -> None:
    sleepers = Sleepers(clock)

    async def main() -> None:
        attempt = sleepers.failed(LONG)
        call = attempt.call.id
        wait = Wait(sleepers.waiting.conditions, attempt, 2, Retry(LONG))
        sleep = Sleep(sleepers.waiting, call, LONG, lambda record: record, attempt)
        task = asyncio.ensure_future(_await(sleep))
        await asyncio.sleep(passed)
        assert (len(sleepers.waiting), call in sleepers.waiting, "other" in sleepers.waiting) == (1, True, False)
        assert sleepers.waiting.describe(call) == wait.describe()
        assert sleepers.waiting.describe_all() == [wait.describe()]
        assert wait.describe().left == LONG - passed
        task.cancel()

    clock.run(main)


async def _await(sleep: Sleep) -> Wait | None:
    return await sleep


@EVERY_LOOP
@pytest.mark.parametrize(
    ("command", "ended", "is_paused"),
    [("retry now", None, False), ("give up", GiveUp("given up by hand: enough"), False), ("pause", None, True)],
)
def test_a_command_ends_the_sleep_and_is_carried_out_on_its_wait(
    loop_factory: Callable[[], Any], command: WaitCommand, ended: GiveUp | None, is_paused: bool
) -> None:
    sleepers, events = Sleepers(), list[Any]()
    sleepers.bus.subscribe(CallSteered, events.append)

    async def main() -> Wait | None:
        task = sleepers.task(LONG)
        await turns()
        [call] = sleepers.ids
        assert sleepers.waiting.steer(call, command, "enough")
        assert [one.is_paused for one in sleepers.waiting.describe_all()] == [is_paused]
        return await task

    wait = run(loop_factory, main)
    assert wait is not None
    assert (wait.ended, wait.phase == "over") == (ended, not is_paused)
    assert [(one.call, one.attempt, one.command, one.reason) for one in events] == [
        (sleepers.ids[0], 2, command, "enough")
    ]
    assert len(sleepers.waiting) == 0


def test_a_command_that_changes_nothing_lets_the_call_sleep(clock: VirtualClock) -> None:
    sleepers, events = Sleepers(clock), list[Any]()
    sleepers.bus.subscribe(CallSteered, events.append)

    async def main() -> Wait | None:
        task = sleepers.task(LONG)
        await turns()
        assert not sleepers.waiting.steer(sleepers.ids[0], "unpause")
        return await task

    assert clock.run(main) is None
    assert (clock(), events) == (LONG, [])


def test_a_paused_sleep_keeps_the_rest_of_its_time_and_its_deadline(clock: VirtualClock) -> None:
    sleepers = Sleepers(clock)

    async def main() -> None:
        task = sleepers.task(LONG, within=5000.0)
        await asyncio.sleep(600.0)
        sleepers.waiting.steer(sleepers.ids[0], "pause")
        wait = await task
        assert wait is not None
        assert wait.left == LONG - 600.0
        assert wait.next_sleep(ThreadWaiter()) == 5000.0 - 600.0
        wait.slept()
        assert wait.next_sleep(ThreadWaiter()) is None
        assert wait.ended == GiveUp(OUT_OF_TIME)

    clock.run(main)


def test_a_sleep_that_is_steered_just_before_it_is_due_goes_on_in_its_wait(clock: VirtualClock) -> None:
    sleepers = Sleepers(clock)

    async def main() -> list[Wait | None]:
        tasks = [sleepers.task(10.0) for _ in range(5)]
        await turns()
        sleepers.waiting.steer(sleepers.ids[2], "pause")
        clock.advance(20.0)
        return await asyncio.gather(*tasks)

    assert [wait is not None for wait in clock.run(main)] == [False, False, True, False, False]


@EVERY_LOOP
def test_a_sleep_is_steered_from_a_thread_at_once(loop_factory: Callable[[], Any]) -> None:
    sleepers = Sleepers()

    async def once() -> float:
        task = sleepers.task(LONG)
        await turns()
        began = time.perf_counter()
        assert await asyncio.to_thread(sleepers.waiting.steer, sleepers.ids[-1], "retry now")
        async with asyncio.timeout(10.0):
            assert await task is not None
        return time.perf_counter() - began

    async def main() -> list[float]:
        return [await once() for _ in range(5)]

    assert min(run(loop_factory, main)) < 0.1


@pytest.mark.parametrize("loop_factory", few(LOOPS, asyncio.new_event_loop, uvloop), ids=lambda one: one.__name__)
def test_a_sleep_that_a_thread_steers_while_it_is_cancelled_or_ends_is_over_once(
    loop_factory: Callable[[], Any],
) -> None:
    sleepers, is_over, ends = Sleepers(), threading.Event(), list[object]()

    def steer() -> None:
        while not is_over.is_set():
            for call in sleepers.waiting.describe_all():
                sleepers.waiting.steer(call.call, "retry now")

    async def sleep(after: float) -> None:
        try:
            ends.append(await sleepers.sleep(after))
        except asyncio.CancelledError:
            ends.append("cancelled")

    async def main() -> None:
        for _ in range(30):
            tasks = [asyncio.ensure_future(sleep(after)) for after in [0.0005, 0.001, LONG] * 5]
            await asyncio.sleep(0.0005)
            for task in tasks[::2]:
                task.cancel()
            async with asyncio.timeout(10.0):
                await asyncio.wait(tasks)

    thread = threading.Thread(target=steer, daemon=True)
    thread.start()
    try:
        run(loop_factory, main)
    finally:
        is_over.set()
        thread.join(10.0)
    assert len(ends) == 30 * 15
    assert len(sleepers.waiting) == 0


def test_a_subscriber_that_raises_an_interrupt_leaves_no_call_asleep(clock: VirtualClock) -> None:
    sleepers = Sleepers(clock)

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    sleepers.bus.subscribe(CallSteered, interrupt)

    async def main() -> Wait | None:
        task = sleepers.task(LONG)
        await turns()
        with pytest.raises(KeyboardInterrupt):
            sleepers.waiting.steer(sleepers.ids[0], "give up")
        return await task

    assert clock.run(main) is not None
    assert clock() == 0.0


# How it is cancelled


@EVERY_LOOP
def test_a_cancelled_sleep_raises_the_message(loop_factory: Callable[[], Any]) -> None:
    sleepers = Sleepers()

    async def main() -> object:
        task = sleepers.task(LONG)
        await turns()
        task.cancel("shutdown")
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
        assert task.cancelled()
        return raised.value.args or raised.value.__context__.args  # type: ignore[union-attr]

    assert run(loop_factory, main) == ("shutdown",)
    assert len(sleepers.waiting) == 0


async def _wait_for(sleepers: Sleepers) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sleepers.sleep(LONG), 0.001)


async def _timeout(sleepers: Sleepers) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await sleepers.sleep(LONG)


async def _task_group(sleepers: Sleepers) -> None:
    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(sleepers.sleep(LONG))
            await turns()
            raise ConnectionError


async def _cancel_scope(sleepers: Sleepers) -> None:
    with anyio.move_on_after(0.001) as scope:
        await sleepers.sleep(LONG)
    assert scope.cancelled_caught


async def _anyio_group(sleepers: Sleepers) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(sleepers.sleep, LONG)
        await turns()
        group.cancel_scope.cancel()


async def _by_itself(sleepers: Sleepers) -> None:
    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await sleepers.sleep(LONG)

    await asyncio.wait([asyncio.ensure_future(main())])


async def _before_its_first_step(sleepers: Sleepers) -> None:
    task = sleepers.task(LONG)
    task.cancel()
    await asyncio.wait([task])


async def _after_it_was_steered(sleepers: Sleepers) -> None:
    task = sleepers.task(LONG)
    await turns()
    assert sleepers.waiting.steer(sleepers.ids[0], "pause")
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def _closed(sleepers: Sleepers) -> None:
    coroutine = sleepers.sleep(LONG)
    coroutine.send(None)
    assert len(sleepers.waiting) == 1
    coroutine.close()


CANCELS: list[Callable[[Sleepers], Coroutine[Any, Any, None]]] = [
    _wait_for,
    _timeout,
    _task_group,
    _cancel_scope,
    _anyio_group,
    _by_itself,
    _before_its_first_step,
    _after_it_was_steered,
    _closed,
]


@EVERY_LOOP
@pytest.mark.parametrize("cancel", CANCELS, ids=lambda one: one.__name__)
def test_a_sleep_is_cancelled_as_any_other(
    cancel: Callable[[Sleepers], Coroutine[Any, Any, None]], loop_factory: Callable[[], Any]
) -> None:
    sleepers = Sleepers()

    async def main() -> bool:
        async with asyncio.timeout(10.0):
            await cancel(sleepers)
            await sleepers.sleep(0.001)  # the others are not affected
        return True

    assert run(loop_factory, main)
    assert len(sleepers.waiting) == 0


@pytest.mark.slow
def test_cancelled_sleeps_leave_no_timer_behind(clock: VirtualClock) -> None:
    sleepers = Sleepers(clock)

    async def main() -> None:
        for task in [sleepers.task(LONG + number) for number in range(100)]:
            await turns()
            task.cancel()
        await turns()
        gc.collect()  # those of other tests
        timers = [one for one in gc.get_objects() if issubclass(type(one), asyncio.TimerHandle) and not one.cancelled()]
        assert not timers

    clock.run(main)


@pytest.mark.parametrize("loop_factory", few([asyncio.new_event_loop, uvloop], asyncio.new_event_loop))
@pytest.mark.slow
def test_a_cancelled_sleep_takes_no_memory(loop_factory: Callable[[], Any]) -> None:
    waiting = WaitingCalls(time.monotonic, lambda: 0.0)
    ids = [str(number) for number in range(1_000)]

    async def sleep(call: str) -> None:
        await Sleep(waiting, call, LONG, lambda record: record, None)

    async def left() -> float:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        tasks = [asyncio.ensure_future(sleep(call)) for call in ids]
        await turns()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        del tasks, task
        await turns()
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / len(ids)

    async def main() -> float:
        alone = asyncio.ensure_future(sleep("alone"))  # the heap and the register never are empty
        taken = LONG
        for _ in range(6):  # asyncio's own table of tasks grows now and then, and other threads allocate
            if (taken := await left()) <= 20.0:
                break
        alone.cancel()
        return taken

    tracemalloc.start()
    try:
        assert run(loop_factory, main) <= 20.0
    finally:
        tracemalloc.stop()


# Loops that end, loops in threads, forked children


def test_a_closed_loop_is_freed_with_the_calls_that_wait_in_it() -> None:
    sleepers, loop = Sleepers(), asyncio.new_event_loop()
    task = loop.create_task(sleepers.sleep(LONG))
    loop.run_until_complete(turns())
    loop.close()
    assert len(sleepers.waiting.describe_all()) == 1
    assert sleepers.waiting.steer(sleepers.ids[0], "retry now")
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own way to silence it
    freed = weakref.ref(loop)
    del loop, task, sleepers
    gc.collect()
    assert freed() is None


def test_a_loop_whose_sleeps_are_over_is_freed_while_the_service_lives_on() -> None:
    sleepers, loop = Sleepers(), asyncio.new_event_loop()
    loop.run_until_complete(sleepers.sleep(0.001))
    loop.close()
    freed = weakref.ref(loop)
    del loop
    gc.collect()
    assert freed() is None


def test_each_thread_has_sleeps_of_its_own() -> None:
    sleepers, answers = Sleepers(), list[object]()

    async def main() -> None:
        answers.extend(await asyncio.gather(*(sleepers.task(0.001 * number) for number in range(10))))

    threads = [threading.Thread(target=asyncio.run, args=(main(),), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert answers == [None] * 40
    assert len(sleepers.waiting) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_ends_no_sleep_of_its_parent() -> None:
    sleepers, loop = Sleepers(), asyncio.new_event_loop()
    task = loop.create_task(sleepers.sleep(0.01))
    loop.run_until_complete(turns())
    child = os.fork()
    if child == 0:
        is_listed = len(sleepers.waiting) > 0  # the call waits in the parent alone
        own = loop.create_task(sleepers.sleep(0.02))
        loop.run_until_complete(asyncio.wait([own], timeout=5.0))
        os._exit(0 if own.done() and not task.done() and not is_listed else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert loop.run_until_complete(task) is None
    loop.close()
