"""What is measured with: work that succeeds or fails, and the smallest wrapper that a person would write around it."""

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
"""Keep everything: so that the rows written can be counted, and written again."""


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


def work() -> None:
    return None


async def work_async() -> None:
    return None


def fails_first() -> Callable[[], None]:
    """A function that fails at every other call."""
    odd = False

    def work() -> None:
        nonlocal odd
        odd = not odd
        if odd:
            raise ConnectionError("reset")

    return work


def fails_first_async() -> Callable[[], Any]:
    """The same, async."""
    inner = fails_first()

    async def work() -> None:
        inner()

    return work


async def fails_once(tries: Iterator[object]) -> None:
    """Fail at the first try, of a call's own ``tries(1)``."""
    for _ in tries:
        raise ConnectionError("reset")


def tries(count: int) -> Iterator[object]:
    """So many things to take, one each try."""
    return itertools.repeat(None, count)


@contextmanager
def scratch(name: str = "bench.db") -> Iterator[Path]:
    """A path for a database, in a directory that goes away."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / name


@contextmanager
def journalled(**settings: Any) -> Iterator[Recovery]:
    """A service with an SQLite journal, everything else as it comes."""
    with scratch() as path, Recovery(store=SQLiteStore(path, retention=NO_RETENTION), **settings) as service:
        yield service


def settle(*services: Recovery) -> None:
    """Let the journals write what they have; whatever is timed next has the machine to itself."""
    for service in services:
        if service.journal is not None:
            service.journal.receipt().wait(60.0)
