"""Builders for the tests of sleeps: calls that sleep, and the loops and tasks that they sleep in."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from events.attempt import Attempt
from events.bus import Bus
from events.operation import Operation
from events.operation_events import OperationFailed
from events.verdicts import Retry
from recovery.waiting.calls import WaitingCalls
from recovery.waiting.sleep import Sleep
from recovery.waiting.wait import Wait
from recovery.waiting.waiters import Clock

R = TypeVar("R")
LONG = 3600.0


class Sleepers:
    """Calls of one operation, each of which sleeps once."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.bus = Bus(clock=clock)
        self.waiting = WaitingCalls(clock, lambda: 0.0)
        self.operation = Operation("fetch", self.bus, key="host")
        self.ids: list[str] = []
        """The calls, in the order in which they began."""
        self._verdict = Retry()
        self.bus.subscribe(OperationFailed, lambda _: self._verdict)

    def failed(self, after: float, within: float = math.inf) -> Attempt:
        """An attempt that failed, and is to be made again."""
        self._verdict = Retry(after, within)
        attempt = self.operation.start()
        assert attempt.fail(ConnectionError("reset")) == self._verdict
        return attempt

    async def sleep(self, after: float, within: float = math.inf) -> Wait | None:
        """Fail, sleep, and leave the wait if there is one."""
        attempt = self.failed(after, within)
        self.ids.append(attempt.call.id)
        wait = await Sleep(self.waiting, attempt.call.id, after, lambda record: record, attempt)
        if wait is not None:
            self.waiting.leave(wait)
        return wait

    def task(self, after: float, within: float = math.inf) -> asyncio.Task[Wait | None]:
        return asyncio.get_running_loop().create_task(self.sleep(after, within))


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def uvloop() -> Any:
    return pytest.importorskip("uvloop").new_event_loop()


def python_task(loop: Any, coro: Any, **options: Any) -> Any:
    return asyncio.tasks._PyTask(coro, loop=loop, **options)  # type: ignore[attr-defined]  # what runs without C


def python_tasks() -> Any:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(python_task)
    return loop


def eager_tasks() -> Any:
    if sys.version_info < (3, 12):
        pytest.skip("no eager tasks before Python 3.12")
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def debug() -> Any:
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    return loop


LOOPS: list[Callable[[], Any]] = [asyncio.new_event_loop, uvloop, python_tasks, eager_tasks, debug]
EVERY_LOOP = pytest.mark.parametrize("loop_factory", LOOPS, ids=lambda one: one.__name__)


def run(loop_factory: Callable[[], Any], main: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Run *main* in a loop of that kind."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main())
