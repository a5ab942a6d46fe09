"""How long an attempt may take: seconds in all, and seconds without progress.

No generator of ``contextlib`` is around user code: it assigns ``__traceback__`` to the exceptions that pass, and one
that refuses attributes (a frozen dataclass) would become another error.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from events.attempt import Attempt
from recovery.policies.retry import RetryPolicy
from recovery.waiting.waiters import soon_in_this_loop

R = TypeVar("R")


async def in_time(attempt: Attempt, policy: RetryPolicy, body: Callable[[], Awaitable[R]]) -> R:
    """What *body* returns.

    Raises:
        TimeoutError: *attempt* took, or made no progress for, longer than *policy* allows.
    """
    timeout, stall = policy.attempt_timeout, policy.stall_timeout
    with anyio.CancelScope(deadline=math.inf if timeout is None else anyio.current_time() + timeout):
        return await (body() if stall is None else _while_it_moves(attempt, stall, body))
    raise TimeoutError


async def _while_it_moves(attempt: Attempt, stall: float, body: Callable[[], Awaitable[R]]) -> R:
    token: Any = anyio.lowlevel.current_token().native_token  # an asyncio loop or a trio token: foreign types
    soon = soon_in_this_loop()
    home = threading.get_ident()
    with anyio.CancelScope() as scope:
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
            return await body()
        finally:
            progress.on_progress = None
    raise TimeoutError(f"no progress for {stall:g} s")
