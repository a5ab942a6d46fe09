"""One run of the function for one attempt, with what surrounds it.

The user's hooks surround the function (``recovery.execution.hooks``), ``recovery.context`` knows the attempt meanwhile,
and timeouts end it.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from events.attempt import Attempt
from events.callables import is_async
from recovery.context import current
from recovery.execution.hooks import judged, prepared, reconciled, refuse_awaitable

if TYPE_CHECKING:
    from recovery.journal.idempotency import RecordedResults
    from recovery.operations import Definition
    from recovery.policies.retry import RetryPolicy
    from recovery.settings import OperationConfig

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]
Invoke: TypeAlias = Callable[[Attempt, Args, Kwargs], Any]

MAX_ORDINARY = 256
"""Classes of arguments that are known to be no iterators: to ask each time takes a microsecond."""
_ordinary: set[type] = set()


def warn_of_used_up(
    definition: Definition, function: Callable[..., Any], value: object, args: Args, kwargs: Kwargs
) -> bool:
    """Warn once that a retry gets *value*, an iterator or an open file that the first attempt may have used up.

    Returns whether it is one to warn of.
    """
    try:
        arguments = inspect.signature(function).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):  # a built-in function may tell no signature
        arguments = {}
    name = next((name for name, one in arguments.items() if one is value), "")
    if name != "self" and all(value is not one for one in (sys.stdin, sys.stdout, sys.stderr)):
        called = f"argument {name!r}" if name else "an argument"
        definition.warn_once(
            "a retry gets an argument that the first attempt may have used up",
            f"{called} is a {type(value).__name__}; pass a list or a path, or make or rewind it inside the function",
        )
        return True
    return False


def may_be_used_up(args: Args, kwargs: Kwargs) -> bool:
    """Whether an argument is an iterator or an open file, which a first attempt may have used up."""
    try:
        for one in (*args, *kwargs.values()) if kwargs else args:
            if (kind := type(one)) not in _ordinary:
                if _is_iterator(kind):
                    return True
                if len(_ordinary) >= MAX_ORDINARY:
                    _ordinary.clear()
                _ordinary.add(kind)
    except Exception:  # a class that raises when it is looked up
        return True
    return False


def _is_iterator(kind: type) -> bool:
    return hasattr(kind, "__next__") or hasattr(kind, "__anext__")


def invoker(
    function: Callable[..., Any],
    config: OperationConfig,
    results: RecordedResults | None,
    definition: Definition,
) -> Invoke:
    """What runs *function* for an attempt, and records the result; that of an async function is to be awaited."""
    first = judged(function, config.retry_if)
    again = judged(reconciled(function, config.reconcile), config.retry_if)

    has_warned = False

    # Both look at the arguments in line: a failing call takes no Python call for it.
    def run(attempt: Attempt, args: Args, kwargs: Kwargs) -> Any:
        nonlocal has_warned
        if attempt.number == 2 and not has_warned:
            for one in (*args, *kwargs.values()):
                if hasattr(type(one), "__next__") or hasattr(type(one), "__anext__"):
                    has_warned |= warn_of_used_up(definition, function, one, args, kwargs)
        return (again if attempt.call.has_failed else first)(*args, **kwargs)

    def run_plain(attempt: Attempt, args: Args, kwargs: Kwargs) -> Any:
        nonlocal has_warned
        if attempt.number == 2 and not has_warned:
            for one in (*args, *kwargs.values()):
                if hasattr(type(one), "__next__"):
                    has_warned |= warn_of_used_up(definition, function, one, args, kwargs)
        result = (again if attempt.call.has_failed else first)(*args, **kwargs)
        if hasattr(type(result), "__await__"):
            refuse_awaitable(function, result)
        return result

    awaits = is_async(function)
    invoke = surrounded = prepared(run if awaits else run_plain, config.before_retry, awaits=awaits)
    if config.policy.attempt_timeout is not None or config.policy.stall_timeout is not None:
        surrounded = _in_time(invoke, config.policy)
    if not config.has_context:
        return surrounded
    return (_in_context if is_async(function) else _in_plain_context)(surrounded, results)


def _in_time(invoke: Invoke, policy: RetryPolicy) -> Invoke:
    from recovery.execution.timeouts import in_time  # here, for a timeout: it needs anyio, which takes milliseconds

    async def invoke_in_time(attempt: Attempt, args: Args, kwargs: Kwargs) -> Any:
        return await in_time(attempt, policy, functools.partial(invoke, attempt, args, kwargs))

    return invoke_in_time


def _in_context(invoke: Invoke, results: RecordedResults | None) -> Invoke:
    async def invoke_in_context(attempt: Attempt, args: Args, kwargs: Kwargs) -> Any:
        token = current.set(attempt)
        try:
            result = await invoke(attempt, args, kwargs)
        finally:
            current.reset(token)
        if results is not None:
            results.record(attempt.call, result)
        return result

    return invoke_in_context


def _in_plain_context(invoke: Invoke, results: RecordedResults | None) -> Invoke:
    def invoke_in_context(attempt: Attempt, args: Args, kwargs: Kwargs) -> Any:
        token = current.set(attempt)
        try:
            result = invoke(attempt, args, kwargs)
        finally:
            current.reset(token)
        if results is not None:
            results.record(attempt.call, result)
        return result

    return invoke_in_context
