"""What a running resumable call can ask and note about itself.

    from recovery import context

    @service.recoverable("copy", resumable=True)
    def copy(source: str) -> None:
        start = context.saved(default=0)
        ...
        context.checkpoint(position)

There is a context in calls with durability "journal" (``resumable=True`` implies it), and where it matters how far a
call has come (``stall_timeout``, ``progress_resets``): other calls take no part in any of this, and pay nothing for
it. It is a
context variable: it is seen in the tasks and worker threads that the call starts.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import msgspec

from events.attempt import Attempt

current: ContextVar[Attempt] = ContextVar("recovery_attempt")
"""The attempt that runs; set by the runner."""


def checkpoint(value: Any) -> None:
    """Note how far the call has come, for its later attempts and for a restart. Never blocks.

    *value* is plain data that JSON can hold. Make the effect durable first (fsync), then note it: a checkpoint must
    never run ahead. Raises LookupError where there is no context, TypeError for what JSON cannot hold.
    """
    _attempt().checkpoint(msgspec.json.encode(value))


def progress(done: float) -> None:
    """Note that the call has come as far as *done*, in units of its own (bytes, say). Microseconds; from any thread.

    What is more than before in this attempt puts off the ``stall_timeout``; what is more than ever before in this call
    ``progress_resets`` the retries at the next failure. Unlike a checkpoint it is not written down. Raises TypeError
    for no
    number, LookupError where there is no context.
    """
    if not isinstance(done, int | float):
        raise TypeError(f"progress is a number, not {done!r}")
    _attempt().progress(done)


def saved(default: Any = None) -> Any:
    """What ``checkpoint`` noted last in this call, in whatever attempt or process, or *default*.

    Raises LookupError where there is no context.
    """
    data = _attempt().call.saved
    return default if data is None else msgspec.json.decode(data)


def key() -> str:
    """A key that is the same for all attempts of this call and across restarts: for idempotent requests.

    It is what the operation's ``idempotency_key`` made of the call's arguments, or else the call's id. Raises
    LookupError where there is no context.
    """
    attempt = _attempt()
    return attempt.call.idempotency_key or attempt.call.id


def attempt() -> int:
    """The number of the attempt that runs, from 1. Raises LookupError where there is no context."""
    return _attempt().number


def is_running() -> bool:
    """Whether this is a call in which the other functions have an answer."""
    return current.get(None) is not None


def _attempt() -> Attempt:
    try:
        return current.get()
    except LookupError:
        raise LookupError(
            "no such call is running here; declare the operation with resumable=True, durability='journal', "
            "refills or stall_timeout"
        ) from None
