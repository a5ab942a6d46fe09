"""What a running resumable call can ask and note about itself.

    from recovery import context

    @service.recoverable("copy", resumable=True)
    def copy(source: str) -> None:
        start = context.saved(default=0)
        ...
        context.checkpoint(position)

Calls with durability "journal" have a context (``resumable=True`` implies it), calls whose progress matters
(``stall_timeout``, ``progress_resets``), and calls of a cluster. Other calls have none, and pay nothing for it. The
context is a context variable: the tasks and worker threads that the call starts see it. Only ``attempt`` answers in
every call.

While recovery is switched off (``RECOVERY_DISABLED=1``, ``enabled=False``), the call is made once and has a context all
the same: attempt 1, no checkpoint but its own, and nothing is kept after its end.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import msgspec

from events.attempt import Attempt
from recovery.call_stack import attempt_number
from recovery.only_attempt import OnlyAttempt

current: ContextVar[Attempt | OnlyAttempt | None] = ContextVar("recovery_attempt")
"""The attempt that runs; what runs the function sets it."""


def checkpoint(value: Any) -> None:
    """Save how far the call has come, for its later attempts and for a restart. Never blocks.

    Make the effect durable first (fsync), then save the checkpoint: it must never run ahead.

    Args:
        value: Plain data that JSON can hold.

    Raises:
        LookupError: No call with a context runs here.
        TypeError: JSON cannot hold *value*.
    """
    _attempt().checkpoint(msgspec.json.encode(value))


def progress(done: float) -> None:
    """Note that the call has come as far as *done*. Takes microseconds; callable from any thread.

    Farther than before in this attempt restarts the ``stall_timeout``. Farther than ever before in this call gives the
    retries back at the next failure, if ``progress_resets`` allows it. The progress of a resumable call is written once
    a second: an attempt that came farther before its process died uses no retry.

    Args:
        done: How far, in units of its own (bytes, say).

    Raises:
        LookupError: No call with a context runs here.
        TypeError: *done* is no number.
    """
    if not isinstance(done, int | float):
        raise TypeError(f"progress is a number, not {done!r}")
    _attempt().progress(done)


def saved(default: Any = None) -> Any:
    """The latest checkpoint of this call, from any of its attempts and processes; *default* if there is none.

    Raises:
        LookupError: No call with a context runs here.
    """
    data = _attempt().call.saved
    return default if data is None else msgspec.json.decode(data)


def key() -> str:
    """A key that is the same for all attempts of this call and across restarts: for idempotent requests.

    It is what the operation's ``idempotency_key`` makes of the call's arguments; without one, the call's id.

    Raises:
        LookupError: No call with a context runs here.
    """
    call = _attempt().call
    return call.idempotency_key or call.id


def fence() -> int:
    """The number of the claim under which this node runs the call of a cluster: for sinks that refuse a lower one.

        table.put(row, fence=context.fence())

    It grows with each claim of the call: a body of an earlier claim that still runs has a lower one.

    Raises:
        LookupError: No call of a cluster runs here.
    """
    running = current.get(None)
    if running is None or not running.call.fence:
        raise LookupError("no call of a cluster runs here, so it has no fence")
    return running.call.fence


def attempt() -> int:
    """The number of the attempt that runs, from 1: in the body of any recoverable call, without declaring anything.

    Raises:
        LookupError: No recoverable call runs in this thread or task.
    """
    number = attempt_number()
    if number is not None:
        return number
    if is_running():  # in a thread or a task that a call with a context started
        return _attempt().number
    raise LookupError("no recoverable call runs in this thread or task")


def cancelled() -> bool:
    """Whether this call is to be cancelled (``service.calls.cancel``): a plain function ends itself then.

        for block in blocks:
            if context.cancelled():
                raise CallCancelledError("stopped between two blocks")
            ...

    An error that the function raises then is not retried, and the call ends as cancelled; a result ends it as usual. An
    async function need not ask: it is cancelled where it awaits.

    Raises:
        LookupError: No call with a context runs here.
    """
    return _attempt().call.cancelled is not None


def is_running() -> bool:
    """Whether a call with a context runs here, so that the other functions have an answer."""
    return current.get(None) is not None


def _attempt() -> Attempt | OnlyAttempt:
    attempt = current.get(None)
    if attempt is None:
        raise LookupError(
            "no call with a context runs here; declare the operation with resumable=True, durability='journal', "
            "progress_resets or stall_timeout"
        )
    return attempt
