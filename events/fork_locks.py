"""What a forked child begins with: free locks, for the threads that held them do not exist there; runs of its own."""

from __future__ import annotations

import os
from typing import Protocol, TypeVar
from weakref import WeakSet

L = TypeVar("L")


class BeginsRun(Protocol):
    """What has a run (``events.Bus``)."""

    def begin_run(self) -> None:
        """Take a new name for this process's run."""


_locks: WeakSet[object] = WeakSet()
_with_runs: WeakSet[BeginsRun] = WeakSet()


def fork_safe(lock: L) -> L:
    """*lock*, a new one of ``threading``, which is free in every forked child from now on.

    The data that it guards is as the fork found it: stale data must do no harm there.
    """
    _locks.add(lock)
    return lock


def begins_run_after_fork(one: BeginsRun) -> None:
    """Have *one* begin a run of its own in every forked child, so that the calls of parent and child differ."""
    _with_runs.add(one)


def _after_fork() -> None:
    for one in list(_with_runs):
        one.begin_run()
    for lock in list(_locks):
        lock._at_fork_reinit()  # type: ignore[attr-defined]  # what threading itself does with its own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
