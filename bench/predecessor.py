"""A reconstruction of what the predecessor is said to have done, so that before and now can be shown in one run.

Its source is not at hand. What is known is what its report and our design say: a decorator that did everything inline,
on the caller's thread. So does this one: it opens a database, inserts and commits for every event, finds out what a
failure means by looking for words in its message, has one strategy (fixed delays that double), keeps its statistics in
lists, and logs. No figure of it is the predecessor's own; those are quoted where they are given, and marked.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TABLE = "CREATE TABLE IF NOT EXISTS events (at REAL, operation TEXT, attempt INTEGER, kind TEXT, message TEXT)"
WORDS = ("timeout", "timed out", "temporarily", "unavailable", "connection refused", "rate limit")
"""A failure whose message has none of these is taken to be permanent."""

log = logging.getLogger("bench.standin")


class StandIn:
    """Wraps async functions, with or without a database at *path*."""

    def __init__(self, path: Path | None = None, *, max_retries: int = 3, delay: float = 0.1) -> None:
        self._path = path
        self._max_retries = max_retries
        self._delay = delay
        self.durations: list[float] = []
        self.history: list[tuple[float, str, int, str]] = []

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """*function* with inline recovery around it."""

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            name = function.__qualname__
            began = time.time()
            attempt = 1
            while True:
                self._note(name, attempt, "started", "")
                try:
                    result = await function(*args, **kwargs)
                except Exception as error:  # as inline recovery does
                    self._note(name, attempt, "failed", str(error))
                    log.warning("%s failed in attempt %d: %s", name, attempt, error)
                    if attempt > self._max_retries or not _is_transient(error):
                        self._note(name, attempt, "gave up", str(error))
                        raise
                    await asyncio.sleep(self._delay * 2.0 ** (attempt - 1))
                    attempt += 1
                else:
                    self._note(name, attempt, "succeeded", "")
                    self.durations.append(time.time() - began)
                    return result

        return wrapper

    def _note(self, name: str, attempt: int, kind: str, message: str) -> None:
        at = time.time()
        self.history.append((at, name, attempt, kind))
        if self._path is None:
            return
        connection = sqlite3.connect(self._path)
        try:
            connection.execute(TABLE)
            connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", (at, name, attempt, kind, message))
            connection.commit()
        finally:
            connection.close()


def _is_transient(error: Exception) -> bool:
    text = str(error).lower()
    return any(word in text for word in WORDS)
