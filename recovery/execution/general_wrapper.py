"""The wrapper that takes any arguments: for functions that ``exact_wrapper`` has none for."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from events.callables import is_async
from recovery.execution.attempts import begin, cancel_first
from recovery.execution.hooks import refuse_awaitable
from recovery.execution.runner import Runner

NO_KEYWORDS: dict[str, Any] = {}
"""Instead of an empty dictionary for each call that waits: it is only ever unpacked."""


def general_wrapper(runner: Runner) -> Callable[..., Any]:
    """The wrapper with ``*args, **kwargs`` around the function of *runner*."""
    return _plain_async(runner) if is_async(runner.original) else _plain(runner)


def _is_misfit(error: Exception, function: Callable[..., Any]) -> bool:
    """Whether *error* says that a call does not fit the parameters of *function*, which did not begin."""
    if type(error) is not TypeError or type(function) is not FunctionType:
        return False
    step = error.__traceback__
    while step is not None and step.tb_frame.f_code is not function.__code__:
        step = step.tb_next
    return step is None


def _plain(runner: Runner) -> Callable[..., Any]:
    function, operation, run = runner.function, runner.definition.operation, runner.run
    original, switch = runner.original, runner.definition.switch
    unchecked = function

    # All results of a function are awaitable, or none is: the first one tells, and the runner checks those of retries.
    def checked(*args: Any, **kwargs: Any) -> Any:
        nonlocal function
        function = unchecked
        result = unchecked(*args, **kwargs)
        if hasattr(type(result), "__await__") and switch.is_on:
            refuse_awaitable(original, result)
        return result

    function = checked

    # An empty ``**kwargs`` is copied for the call all the same: asking first takes a fifth of the time.
    def recoverable_call(*args: Any, **kwargs: Any) -> Any:
        if operation.observed.is_on:
            if not switch.is_on:
                return original(*args, **kwargs)
            return run(begin(operation), args, kwargs)
        try:
            result = function(*args, **kwargs) if kwargs else function(*args)
        except Exception as raised:  # the runner decides
            if not switch.is_on or _is_misfit(raised, original):
                raise
            error = raised
        except BaseException:
            if switch.is_on:
                cancel_first(operation)
            raise
        else:
            operation.successes += 1
            return result
        try:
            return runner.failed(error, args, kwargs)
        finally:
            del error  # its traceback holds this frame

    return recoverable_call


def _plain_async(runner: Runner) -> Callable[..., Any]:
    function, operation, run = runner.function, runner.definition.operation, runner.arun
    original, switch = runner.original, runner.definition.switch

    async def recoverable_call(*args: Any, **kwargs: Any) -> Any:
        if operation.observed.is_on:
            if not switch.is_on:
                return await original(*args, **kwargs)
            return await run(begin(operation), args, kwargs)
        try:
            result = await (function(*args, **kwargs) if kwargs else function(*args))
        except Exception as raised:  # the runner decides
            if not switch.is_on or _is_misfit(raised, original):
                raise
            error = raised
        except BaseException:
            if switch.is_on:
                cancel_first(operation)
            raise
        else:
            operation.successes += 1
            return result
        try:
            return await runner.failed(error, args, kwargs or NO_KEYWORDS)
        finally:
            del error  # its traceback holds this frame

    return recoverable_call
