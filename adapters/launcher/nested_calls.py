"""The calls of bricks that steps make: after a crash they resume by themselves, beside the run of the steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextvars import ContextVar
from typing import TypeAlias

import anyio

from recovery.journal.journal import Journal
from recovery.service import Recovery

Note: TypeAlias = Callable[[str], Awaitable[None]]

noting: ContextVar[Note | None] = ContextVar("recovery_noting_calls", default=None)
"""Commits the idempotency key of a call that a step is about to make; None outside steps."""

POLL_INTERVAL = 0.1
"""Seconds between two looks whether a call runs, or is over."""

START_TIMEOUT = 1.0
"""Seconds in which a call that is resumed runs. One that is not resumed has no effect."""


async def note(key: str) -> None:
    """Note that the call with that idempotency key begins, where a step makes it."""
    if (known := noting.get()) is not None:
        await known(key)


async def end_calls(service: Recovery, journal: Journal, what: str, keys: Collection[str], *, cancel: bool) -> None:
    """Wait until the calls with these *keys* are over that dead processes left.

    Args:
        service: Resumes the calls.
        journal: Knows them.
        what: The run that made them, for messages.
        keys: Their idempotency keys.
        cancel: Whether they are cancelled.
    """
    left = [one for one in journal.pending(0.0).calls if one.idempotency_key in keys] if keys else []
    for one in left:
        await _end_call(service, one.call, f"{one.operation} of {what}", cancel=cancel)


async def _end_call(service: Recovery, call: str, what: str, *, cancel: bool) -> None:
    with anyio.move_on_after(START_TIMEOUT):  # what it left running is ended with it, once it runs
        while not _is_here(service, call):
            await anyio.sleep(POLL_INTERVAL)
        await anyio.sleep(POLL_INTERVAL)
    while (record := await service.calls.afind(call)) is not None and not record.is_over:
        if cancel and not service.calls.cancel(call, f"{what} is undone") and not _is_here(service, call):
            return
        if not cancel and not _is_here(service, call):
            return
        await anyio.sleep(POLL_INTERVAL)


def _is_here(service: Recovery, call: str) -> bool:
    """Whether the call runs, or waits, in this process."""
    here = {one.call for one in service.calls.running()} | {one.call for one in service.calls.waiting()}
    return call in here
