"""This process, as its journals see it: what boot of the machine it is of, and that it forks and ends."""

from __future__ import annotations

import os
import threading
import time
import weakref
from pathlib import Path
from typing import Protocol


class Kept(Protocol):
    """What has to be done when the process ends, and in a child of its."""

    def finish(self) -> None:
        """Begin to end; does not wait."""

    def wait_for_end(self, timeout: float) -> None:
        """Block until it has ended, *timeout* seconds at the most."""

    def after_fork(self) -> None:
        """This is a forked child."""


_kept: weakref.WeakSet[Kept] = weakref.WeakSet()
_watchers: list[threading.Thread] = []


def look_after(one: Kept) -> None:
    """Have *one* told of a fork."""
    _kept.add(one)


def watch(timeout: float) -> None:
    """End everything that is looked after when the main thread ends, if nobody has.

    Whoever joins the main thread returns before the interpreter waits for the threads that are no daemons: this one
    keeps it waiting until all is written, *timeout* seconds at the most for everything together.
    """
    if not _watchers:
        thread = threading.Thread(target=_end_with_main_thread, args=(timeout,), name="recovery-journal-watcher")
        thread.start()
        _watchers.append(thread)


def _end_with_main_thread(timeout: float) -> None:
    threading.main_thread().join()
    kept, end = list(_kept), time.monotonic() + timeout
    for one in kept:
        one.finish()
    for one in kept:
        one.wait_for_end(max(end - time.monotonic(), 0.0))


def _after_fork() -> None:
    _watchers.clear()
    for one in list(_kept):
        one.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def boot_id() -> str:
    """What identifies this boot of the machine; "" where the system does not tell (then wall clocks are compared)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
