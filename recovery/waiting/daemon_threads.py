"""Threads of the package, and how the process ends: it waits for threads that are no daemons, and starts none later."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")


def start_daemon(name: str, target: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Run *target* in a daemon thread. Raises RuntimeError if no thread can be started (any more)."""
    start(threading.Thread(target=target, name=name, args=args, kwargs=kwargs, daemon=True))


def start(thread: threading.Thread) -> None:
    """Start *thread*. Raises RuntimeError if that cannot be done (any more)."""
    if sys.is_finalizing():  # before CPython 3.12 the thread would never run, and ``Thread.start`` never return
        raise RuntimeError("the interpreter is shutting down")
    thread.start()


def is_process_ending() -> bool:
    """Whether the interpreter has waited for all threads that it waits for: only its exit handlers are left."""
    return sys.is_finalizing() or not _living_threads()


def wait_for_last_thread() -> None:
    """Block until every other thread that the interpreter waits for has ended, the main thread included."""
    while threads := _living_threads(threading.current_thread()):
        threads[0].join()


def _living_threads(*others: threading.Thread) -> list[threading.Thread]:
    return [one for one in threading.enumerate() if not one.daemon and one.is_alive() and one not in others]
