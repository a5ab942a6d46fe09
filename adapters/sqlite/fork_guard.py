"""A fork waits while SQLite works: a child that inherits SQLite's locks can hang for ever in its first call.

Of 1 640 forks beside a thread that wrote all the time, 4 left such a child.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

FORK_TIMEOUT = 0.5
"""Seconds that a fork waits at most. A transaction takes milliseconds, but more if another program locks the file."""


class ForkGuard:
    """Runs calls while no fork is under way, and delays a fork until running calls have returned."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin without running calls: in a forked child, those of the parent do not exist."""
        self._changed = threading.Condition()
        self._running = 0
        self._is_closed = False

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *function* as soon as no fork is under way."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_closed)
            self._running += 1
        try:
            return function(*args, **kwargs)
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Let no further call begin, and wait up to ``FORK_TIMEOUT`` for the running ones."""
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: not self._running, FORK_TIMEOUT)

    def open(self) -> None:
        """Let calls begin again."""
        with self._changed:
            self._is_closed = False
            self._changed.notify_all()


fork_guard = ForkGuard()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=fork_guard.close, after_in_parent=fork_guard.open, after_in_child=fork_guard.renew)
