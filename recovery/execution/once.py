"""A call while recovery is switched off: it is made once, and its body has the context that it asks for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import CodeType
from typing import TYPE_CHECKING, Any

from events.callables import is_async
from recovery.call_stack import ONCE, ROLES
from recovery.context import current
from recovery.only_attempt import OnlyAttempt

if TYPE_CHECKING:
    from recovery.settings import OperationConfig


_untouched: set[CodeType] = set()
"""The code of functions that a service which is switched off has returned as they are."""


def call_once(function: Callable[..., Any], config: OperationConfig, args: Any, kwargs: Any) -> Any:
    """Call *function* without recovery; what an async one returns is to be awaited."""
    if not config.has_context:
        return function(*args, **kwargs)
    key = config.idempotency_key
    attempt = OnlyAttempt(None if key is None else functools.partial(key, *args, **kwargs))
    return (_await_in_context if is_async(function) else _in_context)(attempt, function, args, kwargs)


def _in_context(attempt: OnlyAttempt, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    token = current.set(attempt)
    try:
        return function(*args, **kwargs)
    finally:
        current.reset(token)


async def _await_in_context(attempt: OnlyAttempt, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    token = current.set(attempt)
    try:
        return await function(*args, **kwargs)
    finally:
        current.reset(token)


def unrecovered(function: Callable[..., Any], config: OperationConfig) -> Callable[..., Any]:
    """*function* as a service that is switched off returns it: itself, or with a context where *config* gives one."""
    if not config.has_context:
        code = _body_of(function)
        if code is not None and code not in ROLES:
            ROLES[code] = ONCE
            _untouched.add(code)
        return function

    if is_async(function):

        async def made_once_async(*args: Any, **kwargs: Any) -> Any:
            return await call_once(function, config, args, kwargs)

        return functools.update_wrapper(made_once_async, function)

    def made_once(*args: Any, **kwargs: Any) -> Any:
        return call_once(function, config, args, kwargs)

    return functools.update_wrapper(made_once, function)


def forget(function: Callable[..., Any]) -> None:
    """*function* recovers in another service: its body runs in the attempts of that one."""
    if _untouched and (code := _body_of(function)) in _untouched:
        _untouched.discard(code)
        del ROLES[code]


def _body_of(function: Callable[..., Any]) -> CodeType | None:
    """The code of *function*, below its decorators and the arguments that are bound to it."""
    while isinstance(function, functools.partial):
        function = function.func
    called = inspect.unwrap(function)
    code = getattr(called, "__code__", None) or getattr(type(called).__call__, "__code__", None)
    return code if isinstance(code, CodeType) else None


ROLES.update({one.__code__: ONCE for one in (_in_context, _await_in_context)})
