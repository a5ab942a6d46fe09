"""Callers that ask for equal calls at the same time: threads and tasks, and a body that waits until it is let go."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from recovery.service import Recovery


class Body:
    """A plain function that counts its runs and waits to be let go; *outcomes* are returned or raised in turn."""

    def __init__(self, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        self.runs: list[tuple[Any, ...]] = []
        self.threads: list[int] = []
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.side_by_side = 0
        self._inside = 0

    def __call__(self, *args: Any) -> object:
        self.runs.append(args)
        self.threads.append(threading.get_ident())
        self._inside += 1
        self.side_by_side = max(self.side_by_side, self._inside)
        self.begun.release()
        try:
            assert self.go_on.wait(10.0)
        finally:
            self._inside -= 1
        outcome = self.outcomes.pop(0) if self.outcomes else len(self.runs)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def in_thread(function: Callable[..., Any], *args: Any) -> Future[Any]:
    """Call *function* in a thread of its own."""
    future: Future[Any] = Future()

    def call() -> None:
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future


def joined(service: Recovery, count: int) -> None:
    """Wait until *count* callers wait for calls that others run."""
    for _ in range(10_000):
        if service.calls.joining() >= count:
            return
        threading.Event().wait(0.001)
    raise AssertionError(f"{service.calls.joining()} callers have joined, not {count}")
