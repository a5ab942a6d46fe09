"""Locks that a forked child finds free, whoever held them in its parent: that thread does not exist in the child."""

from __future__ import annotations

import os
from typing import TypeVar
from weakref import WeakSet

L = TypeVar("L")

_locks: WeakSet[object] = WeakSet()


def fork_safe(lock: L) -> L:
    """*lock*, a new one of ``threading``, which from now on is made new in every forked child.

    What it guards is as the fork found it: that must be no worse than stale.
    """
    _locks.add(lock)
    return lock


def _after_fork() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()  # type: ignore[attr-defined]  # what threading itself does with its own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
