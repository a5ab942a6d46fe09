"""What a callable is: coroutine function or plain, and the name to log for it."""

from __future__ import annotations

import functools
import inspect


def is_async(function: object) -> bool:
    """Whether calling *function* gives something to await."""
    call = getattr(function, "__call__", None)  # noqa: B004  # its kind matters, not that it exists
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def name_of(function: object) -> str:
    """What to call a subscriber in a log."""
    if isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__qualname__", None) or type(function).__qualname__
