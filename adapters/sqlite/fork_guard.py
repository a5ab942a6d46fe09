"""Nobody forks while SQLite is at work: its own locks would stay taken in the child, where nobody can free them.

Of 1 640 forks beside a thread that wrote all the time, 4 left a child in which the first call of SQLite hung for ever.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

FORK_TIMEOUT = 0.5
"""Seconds that a fork waits; a transaction takes a few thousandths, one that waits for somebody's lock much longer."""


class ForkGuard:
    """Calls pass while nobody forks."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Be new, in a forked child: those who are inside are the parent's."""
        self._changed = threading.Condition()
        self._inside = 0
        self._is_closed = False

    def passing(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *function*, as soon as nobody forks."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_closed)
            self._inside += 1
        try:
            return function(*args, **kwargs)
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Let nobody in, and wait until those inside have left, ``FORK_TIMEOUT`` at the most."""
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: not self._inside, FORK_TIMEOUT)

    def open(self) -> None:
        """Let everybody in."""
        with self._changed:
            self._is_closed = False
            self._changed.notify_all()


fork_guard = ForkGuard()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=fork_guard.close, after_in_parent=fork_guard.open, after_in_child=fork_guard.renew)
