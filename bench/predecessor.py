"""A reconstruction of the predecessor, so that one run can compare it with launcher-recovery.

The predecessor's source is not available. Its report describes a decorator that did everything inline, on the caller's
thread, and so does this one. For every event it opens a database, inserts a row and commits. It classifies a failure by
words in its message, doubles a fixed delay, keeps statistics in lists, and logs. Its figures are not the predecessor's;
those are quoted as given, and marked.
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
"""A failure whose message contains none of these words counts as permanent."""

log = logging.getLogger("bench.predecessor")


class Reconstruction:
    """A decorator for async functions that recovers inline, with or without a database at *path*."""

    def __init__(self, path: Path | None = None, *, max_retries: int = 3, delay: float = 0.1) -> None:
        self._path = path
        self._max_retries = max_retries
        self._delay = delay
        self.durations: list[float] = []
        self.history: list[tuple[float, str, int, str]] = []

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap *function* in inline recovery."""

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            name = function.__qualname__
            began = time.time()
            attempt = 1
            while True:
                self._record(name, attempt, "started", "")
                try:
                    result = await function(*args, **kwargs)
                except Exception as error:  # inline recovery catches everything
                    self._record(name, attempt, "failed", str(error))
                    log.warning("%s failed in attempt %d: %s", name, attempt, error)
                    if attempt > self._max_retries or not _is_transient(error):
                        self._record(name, attempt, "gave up", str(error))
                        raise
                    await asyncio.sleep(self._delay * 2.0 ** (attempt - 1))
                    attempt += 1
                else:
                    self._record(name, attempt, "succeeded", "")
                    self.durations.append(time.time() - began)
                    return result

        return wrapper

    def _record(self, name: str, attempt: int, kind: str, message: str) -> None:
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
