"""Who may be told of facts: how receivers are told apart, named and refused."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from events.facts import Fact


def receiver_of(function: Any) -> Any:
    """Whoever connected to a signal itself, where *function* tells them as blinker would; otherwise *function*."""
    is_foreign = isinstance(function, functools.partial) and function.func is hear_as_blinker
    return function.args[0] if is_foreign else function


def identity(receiver: Any) -> object:
    """What tells *receiver* from others, as for blinker: a bound method is another object each time it is looked up."""
    receiver = receiver_of(receiver)
    function = getattr(receiver, "__func__", None)
    return id(receiver) if function is None else (id(function), id(receiver.__self__))


def hear_as_blinker(receiver: Callable[..., object], fact: Fact) -> object:
    """Tell a receiver that connected to the signal itself, as blinker would."""
    return receiver(fact.operation, fact=fact)


def is_async(function: object) -> bool:
    """Whether calling *function* gives something to await."""
    call = getattr(function, "__call__", None)  # noqa: B004  # its kind matters, not that it exists
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def name_of(function: object) -> str:
    """What to call a subscriber in a log."""
    function = receiver_of(function)
    if isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__qualname__", None) or type(function).__qualname__
