"""What a running resumable call can ask and note about itself.

    from recovery import context

    @service.recoverable("copy", resumable=True)
    def copy(source: str) -> None:
        start = context.saved(default=0)
        ...
        context.checkpoint(position)

A call has a context if it is journalled (``resumable=True``, durability "journal" or "strict"), or if its progress
matters (``stall_timeout``, ``progress_resets``). Other calls pay nothing for it. It is a context variable: the tasks
and worker threads that the call starts have it, too.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any

import msgspec

from events.attempt import Attempt

_current: ContextVar[Attempt] = ContextVar("recovery_attempt")


class Running:
    """Makes *attempt* the one that runs, inside a ``with``; for drivers."""

    __slots__ = ("_attempt", "_token")

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def __enter__(self) -> None:
        self._token: Token[Attempt] = _current.set(self._attempt)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def checkpoint(value: Any) -> None:
    """Note how far the call has come, for its later attempts and for a restart. Never blocks.

    Make the effect durable first (fsync), then note it: a checkpoint must never run ahead.

    Args:
        value: Plain data that JSON can hold.

    Raises:
        LookupError: There is no context.
        TypeError: JSON cannot hold the value.
    """
    _attempt().checkpoint(msgspec.json.encode(value))


def progress(done: float) -> None:
    """Note how much of its work the call has done. Takes microseconds; from any thread.

    More than before in this attempt restarts the ``stall_timeout``. More than ever before in this call resets the used
    retries at the next failure, as ``progress_resets`` allows. Unlike a checkpoint it is not journalled.

    Args:
        done: The amount, in any unit (bytes, say).

    Raises:
        LookupError: There is no context.
        TypeError: *done* is no number.
    """
    if not isinstance(done, int | float):
        raise TypeError(f"progress is a number, not {done!r}")
    _attempt().progress(done)


def saved(default: Any = None) -> Any:
    """The latest ``checkpoint`` of this call, from any attempt or process, or *default*.

    Raises LookupError where there is no context.
    """
    data = _attempt().saved
    return default if data is None else msgspec.json.decode(data)


def key() -> str:
    """The key that all attempts of this call share, across restarts too: for idempotent requests.

    It is the result of the operation's ``idempotency_key``, or else the call's id. Raises LookupError where there is no
    context.
    """
    attempt = _attempt()
    return attempt.idempotency_key or attempt.call


def attempt() -> int:
    """The number of the attempt that runs, from 1. Raises LookupError where there is no context."""
    return _attempt().number


def is_running() -> bool:
    """Whether this is a call in which the other functions have an answer."""
    return _current.get(None) is not None


def _attempt() -> Attempt:
    try:
        return _current.get()
    except LookupError:
        raise LookupError(
            "no such call is running here; declare the operation with resumable=True, durability='journal', "
            "progress_resets or stall_timeout"
        ) from None
