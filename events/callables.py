"""What a callable is: coroutine function or plain, and the name to log for it."""

from __future__ import annotations

import functools
import inspect


def is_async(function: object) -> bool:
    """Whether calling *function* gives something to await, as far as that can be told without calling it."""
    return any(map(inspect.iscoroutinefunction, bodies_of(function)))


def is_generator(function: object) -> bool:
    """Whether calling *function* gives a generator, plain or async."""
    bodies = bodies_of(function)
    return any(map(inspect.isgeneratorfunction, bodies)) or any(map(inspect.isasyncgenfunction, bodies))


def bodies_of(function: object) -> tuple[object, object]:
    """What a call of *function* runs: the function itself, or the ``__call__`` of an object; below ``partial``."""
    while isinstance(function, functools.partial):
        function = function.func
    return function, getattr(function, "__call__", None)  # noqa: B004  # its kind matters, not that it exists


def name_of(function: object) -> str:
    """What to call a function in a message."""
    if isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def close_coroutines(*answers: object) -> None:
    """Close the coroutines among *answers*: Python warns of one that is neither awaited nor closed."""
    for one in answers:
        if inspect.iscoroutine(one):
            one.close()
