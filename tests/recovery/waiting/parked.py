"""Builders for the tests of waiting calls."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from events.conditions import Condition
from events.evidence import Category
from recovery.policies.backoff import Constant
from recovery.policies.retry import RetryPolicy, Strategy
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock

HOUR = RetryPolicy(backoff=Constant(3600.0), jitter="none", max_delay=3600.0)
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
KINDS = pytest.mark.parametrize("kind", ["plain", "asyncio", "trio"])


def parks(*until: Condition, **fields: float) -> RetryPolicy:
    """A policy that parks transient failures until these conditions hold."""
    strategy = Strategy(wait_for=until, backoff=Constant(0.0), **fields)
    return RetryPolicy(max_retries=1, per_category={Category.TRANSIENT: strategy})


def only(service: Recovery) -> str:
    """The id of the one call that waits."""
    [call] = service.calls.waiting()
    return call.call


def run(kind: str, service: Recovery, script: Script, **settings: Any) -> Any:
    """Run *script* once as the operation "fetch": as a plain function, or on asyncio or trio."""
    if kind == "plain":
        return service.recoverable("fetch", **settings)(script)()
    clock = service.bus.clock
    run_loop = clock.run if isinstance(clock, VirtualClock) else anyio.run
    return run_loop(service.recoverable("fetch", **settings)(script.as_async()), backend=kind)


@asynccontextmanager
async def background(*calls: Callable[[], Awaitable[Any]], seconds: float = 1.0) -> AsyncIterator[list[Exception]]:
    """Run *calls* as tasks, the body *seconds* after their start; the list fills with what they raise."""
    errors: list[Exception] = []

    async def noted(call: Callable[[], Awaitable[Any]]) -> None:
        try:
            await call()
        except Exception as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        for call in calls:
            group.start_soon(noted, call)
        await anyio.sleep(seconds)
        for _ in range(10):  # on a busy machine the time passes before the calls have had their turns
            await anyio.lowlevel.checkpoint()
        yield errors


def steered(
    service: Recovery,
    script: Script,
    act: Callable[[str], object],
    *,
    seconds: float = 1.0,
    backend: str = "asyncio",
    **settings: Any,
) -> list[Exception]:
    """Run *script* as the operation "fetch" on a virtual clock, and *act* on its call after *seconds*; its errors."""
    fetch = service.recoverable("fetch", **settings)(script.as_async())

    async def main() -> list[Exception]:
        async with background(fetch, seconds=seconds) as errors:
            act(only(service))
        return errors

    clock = service.bus.clock
    assert isinstance(clock, VirtualClock)
    return list(clock.run(main, backend=backend))


def run_all(clock: VirtualClock, *calls: Callable[[], Awaitable[Any]], backend: str = "asyncio") -> list[Exception]:
    """Run *calls* as tasks at one time until all have ended; their errors."""

    async def main() -> list[Exception]:
        async with background(*calls, seconds=0.0) as errors:
            pass
        return errors

    return list(clock.run(main, backend=backend))


@contextmanager
def waiting_thread(policy: RetryPolicy) -> Iterator[tuple[Recovery, threading.Thread]]:
    """A plain call that waits in a thread, on the real clock; the body must end its wait."""
    service = Recovery(policy=policy)
    call = service.recoverable("fetch")(Script(ConnectionError("reset")))

    def until_it_ends() -> None:
        with suppress(ConnectionError):
            call()

    thread = threading.Thread(target=until_it_ends, daemon=True)
    thread.start()
    while not service.calls.waiting():
        time.sleep(0)
    yield service, thread
    thread.join(10.0)
    assert not thread.is_alive()
