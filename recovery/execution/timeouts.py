"""How long an attempt may take: seconds in all, and seconds without progress."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import anyio
import anyio.lowlevel

from events.attempt import Attempt
from recovery.policies.retry import RetryPolicy
from recovery.waiting.waiters import soon_in_this_loop


def in_time(attempt: Attempt, policy: RetryPolicy) -> AbstractContextManager[object]:
    """Raise TimeoutError inside *attempt* once it takes, or makes no progress for, longer than *policy* allows."""
    if policy.stall_timeout is None:
        return anyio.fail_after(policy.attempt_timeout)
    return _moving(attempt, policy.stall_timeout, policy.attempt_timeout)


@contextmanager
def _moving(attempt: Attempt, stall: float, timeout: float | None) -> Iterator[None]:
    token: Any = anyio.lowlevel.current_token().native_token  # an asyncio loop or a trio token: foreign types
    soon = soon_in_this_loop()
    home = threading.get_ident()
    with anyio.fail_after(timeout), anyio.CancelScope() as scope:
        # The loop's own clock: a callback of asyncio's runs in no task, and anyio finds the clock by the task.
        now = getattr(token, "time", None) or anyio.current_time

        def extend() -> None:
            scope.deadline = now() + stall

        def on_progress() -> None:  # from the task, or from a thread that works for it
            if threading.get_ident() == home:
                extend()
            else:
                soon(extend)

        extend()
        progress = attempt.call.own_progress()
        progress.on_progress = on_progress
        try:
            yield
        finally:
            progress.on_progress = None
    if scope.cancelled_caught:
        raise TimeoutError(f"no progress for {stall:g} s")
