"""How journals learn that the process forks or ends, and which boot of the machine it belongs to."""

from __future__ import annotations

import os
import threading
import time
import weakref
from pathlib import Path
from typing import Protocol


class ProcessBound(Protocol):
    """An object that must act when the process ends, and in a forked child."""

    def finish(self) -> None:
        """Begin to end, without waiting."""

    def wait_for_end(self, timeout: float) -> None:
        """Block until it has ended, for up to *timeout* seconds."""

    def after_fork(self) -> None:
        """Start afresh: this process is a forked child."""


_bound: weakref.WeakSet[ProcessBound] = weakref.WeakSet()
_watchers: list[threading.Thread] = []


def bind_to_process(one: ProcessBound) -> None:
    """Have *one* informed of forks, and ended with the main thread. Holds no strong reference."""
    _bound.add(one)


def watch_main_thread(timeout: float) -> None:
    """Start one thread that ends all bound objects after the main thread.

    This thread is not a daemon, so the interpreter waits for it: all objects together have *timeout* seconds.
    """
    if not _watchers:
        thread = threading.Thread(target=_end_with_main_thread, args=(timeout,), name="recovery-journal-watcher")
        thread.start()
        _watchers.append(thread)


def _end_with_main_thread(timeout: float) -> None:
    threading.main_thread().join()
    bound, end = list(_bound), time.monotonic() + timeout
    for one in bound:
        one.finish()
    for one in bound:
        one.wait_for_end(max(end - time.monotonic(), 0.0))


def _after_fork() -> None:
    _watchers.clear()
    for one in list(_bound):
        one.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def boot_id() -> str:
    """The id of this boot of the machine; "" where the system has none: then restarts compare wall clocks."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
