"""Functions to measure with: they succeed or fail by their arguments; and the smallest hand-written retry wrapper."""

from __future__ import annotations

import asyncio
import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapters.sqlite.store import Retention, SQLiteStore
from bench.measure import Timed
from events.operation_events import OperationFailed, OperationRecovered, RetryScheduled
from recovery import Recovery

NO_RETENTION = Retention(seconds=1e9, calls=10**9, bytes=10**12)
"""Keep every row, so that the rows can be counted and copied."""


def handwritten(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except ConnectionError:
            return function(*args, **kwargs)

    return wrapper


def handwritten_async(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return await function(*args, **kwargs)
        except ConnectionError:
            return await function(*args, **kwargs)

    return wrapper


def handwritten_yielding(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, but it leaves one pass of the event loop to other tasks before it retries."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return await function(*args, **kwargs)
        except ConnectionError:
            await asyncio.sleep(0)
            return await function(*args, **kwargs)

    return wrapper


def do_nothing() -> None:
    return None


def do_nothing_with(_url: str) -> None:
    return None


async def do_nothing_async() -> None:
    return None


def fails_every_other() -> Callable[[], None]:
    """Return a function that fails at its first, third, fifth ... call."""
    is_odd = False

    def function() -> None:
        nonlocal is_odd
        is_odd = not is_odd
        if is_odd:
            raise ConnectionError("reset")

    return function


def fails_every_other_with_note() -> Callable[[], None]:
    """The same, but the exception has a note, as an unusual failure has: the general path decides about it."""
    is_odd = False

    def function() -> None:
        nonlocal is_odd
        is_odd = not is_odd
        if is_odd:
            error = ConnectionError("reset")
            error.add_note("while it was read")
            raise error

    return function


def fails_every_other_async() -> Callable[[], Any]:
    """Return a coroutine function that fails at its first, third, fifth ... call."""
    inner = fails_every_other()

    async def function() -> None:
        inner()

    return function


async def fails_while(failures: list[str]) -> None:
    """Fail as long as there are *failures*: ``fails_while(["reset"])`` fails at its first attempt only."""
    if failures:
        raise ConnectionError(failures.pop())


@contextmanager
def scratch(name: str = "bench.db") -> Iterator[Path]:
    """A path for a database in a temporary directory, which is deleted at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / name


@contextmanager
def journalled(**settings: Any) -> Iterator[Recovery]:
    """A service with an SQLite journal; everything else has its default."""
    with scratch() as path, Recovery(store=SQLiteStore(path, retention=NO_RETENTION), **settings) as service:
        yield service


def ignore(_: object) -> None:
    return None


def observed(service: Recovery, operation: str, observer: Callable[[Any], None] = ignore) -> None:
    """Subscribe three observers of *operation*: of its failures, its retries and its recoveries."""
    for kind in (OperationFailed, RetryScheduled, OperationRecovered):
        service.bus.subscribe(kind, observer, operation=operation)


def settle(*services: Recovery) -> None:
    """Wait until the journals have written their queues, so that their threads do not disturb the next measurement."""
    for service in services:
        if service.journal is not None:
            service.journal.receipt().wait(60.0)


def on_all_threads(call: Callable[[], object], service: Recovery) -> Timed:
    """Make *call* a candidate, timed by the processor time of all threads until its events are committed."""

    def timed(times: int) -> float:
        began = time.process_time()
        for _ in range(times):
            call()
        settle(service)
        return time.process_time() - began

    return timed
