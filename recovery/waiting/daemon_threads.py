"""Threads of the package, and how the process ends: it waits for threads that are no daemons, and starts none later."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import ParamSpec

from events.fork_locks import fork_safe

P = ParamSpec("P")

POLL_SECONDS = 0.1
"""Between two looks at the threads that outlive the main thread."""


def start_daemon(name: str, target: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Run *target* in a daemon thread. Raises RuntimeError if no thread can be started (any more)."""
    start(threading.Thread(target=target, name=name, args=args, kwargs=kwargs, daemon=True))


def start(thread: threading.Thread) -> None:
    """Start *thread*. Raises RuntimeError if that cannot be done (any more)."""
    if sys.is_finalizing():  # before CPython 3.12 the thread would never run, and ``Thread.start`` never return
        raise RuntimeError("the interpreter is shutting down")
    thread.start()


class Workers:
    """Daemon threads that do jobs, at most *most* at a time. A thread whose call asks a person counts no more.

    Args:
        name: The name of the threads.
        most: The most threads.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._lock = fork_safe(threading.Lock())
        self._jobs: deque[Callable[[], object]] = deque()
        self._working = 0

    def add(self, jobs: Iterable[Callable[[], object]]) -> None:
        """Do *jobs* soon, after those that were added before. They must not raise."""
        with self._lock:
            self._jobs.extend(jobs)
        self._start()

    def _start(self) -> None:
        with self._lock:
            new = min(self._most - self._working, len(self._jobs))
            self._working += new
        for _ in range(new):
            start_daemon(self._name, self._work)

    def _work(self) -> None:
        _here.workers = self
        while _here.workers is not None:
            with self._lock:
                if not self._jobs:
                    self._working -= 1
                    return
                job = self._jobs.popleft()
            job()

    def replace(self) -> None:
        """Have another thread do the next job: this one is kept by its job."""
        with self._lock:
            self._working -= 1
        self._start()


_here = threading.local()  # the workers that this thread is one of


def leave_jobs_to_others() -> None:
    """Let another thread do the next job of ``Workers``, if this is one of theirs: it may wait for days."""
    workers: Workers | None = getattr(_here, "workers", None)
    if workers is not None:
        _here.workers = None
        workers.replace()


def is_process_ending() -> bool:
    """Whether the interpreter has waited for all threads that it waits for: only its exit handlers are left.

    The main thread of a forked child is the thread that forked, which may be a daemon: pools replace their workers so.
    """
    return sys.is_finalizing() or not (threading.main_thread().is_alive() or _living_threads())


def wait_for_last_thread() -> None:
    """Block until every other thread that the interpreter waits for has ended, the main thread included."""
    threading.main_thread().join()
    while threads := _living_threads(threading.current_thread()):
        for thread in threads:
            _stop_abandoned(thread)
        threads[0].join(POLL_SECONDS)


def _living_threads(*others: threading.Thread) -> list[threading.Thread]:
    return [one for one in threading.enumerate() if not one.daemon and one.is_alive() and one not in others]


def _stop_abandoned(thread: threading.Thread) -> None:
    """Stop one of anyio's worker threads whose loop is closed.

    The loop's last task should have done that, but a KeyboardInterrupt may have ended the loop before. Then the thread
    would wait for work for ever, and the interpreter for the thread.
    """
    if type(thread).__name__ == "WorkerThread" and type(thread).__module__.startswith("anyio."):
        loop, stop = getattr(thread, "loop", None), getattr(thread, "stop", None)
        if loop is not None and stop is not None and loop.is_closed():
            import queue  # here, for this alone; anyio has imported it for the thread

            with suppress(queue.Full):  # it works on for a while, and has been told twice
                stop()
