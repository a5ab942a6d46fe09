"""Locks that a forked child finds free: the thread that held one in the parent does not exist in the child."""

from __future__ import annotations

import os
from typing import TypeVar
from weakref import WeakSet

L = TypeVar("L")

_locks: WeakSet[object] = WeakSet()


def fork_safe(lock: L) -> L:
    """*lock*, a new one of ``threading``, which is free in every forked child from now on.

    The data that it guards is as the fork found it: stale data must do no harm there.
    """
    _locks.add(lock)
    return lock


def _after_fork() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()  # type: ignore[attr-defined]  # what threading itself does with its own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
