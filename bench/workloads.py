"""Functions to measure with: they succeed or fail by their arguments; and the smallest hand-written retry wrapper."""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapters.sqlite.store import Retention, SQLiteStore
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


def fails_every_other_async() -> Callable[[], Any]:
    """Return a coroutine function that fails at its first, third, fifth ... call."""
    inner = fails_every_other()

    async def function() -> None:
        inner()

    return function


async def fails_while(failures: Iterator[object]) -> None:
    """Fail as long as *failures* yields: ``fails_while(failures(1))`` fails at its first attempt only."""
    for _ in failures:
        raise ConnectionError("reset")


def failures(count: int) -> Iterator[object]:
    """Return an iterator of *count* items, one for each attempt that is to fail."""
    return itertools.repeat(None, count)


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


def settle(*services: Recovery) -> None:
    """Wait until the journals have written their queues, so that their threads do not disturb the next measurement."""
    for service in services:
        if service.journal is not None:
            service.journal.receipt().wait(60.0)
