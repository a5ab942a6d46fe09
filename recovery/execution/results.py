"""What a result means: ``retry_on_result`` refuses it, ``reconcile`` finds it without running the function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from events.callables import is_async
from events.errors import UnwantedResult
from recovery.settings import ABSENT


def raise_unwanted(function: Callable[..., Any], retry_on_result: Callable[[Any], bool]) -> Callable[..., Any]:
    """*function*, raising UnwantedResult instead of returning a result that *retry_on_result* says true to."""

    def judged(result: Any) -> Any:
        if retry_on_result(result):
            raise UnwantedResult(result)
        return result

    if is_async(function):

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            return judged(await function(*args, **kwargs))

        return functools.update_wrapper(awaited, function)

    def called(*args: Any, **kwargs: Any) -> Any:
        return judged(function(*args, **kwargs))

    return functools.update_wrapper(called, function)


def reconciled(function: Callable[..., Any], reconcile: Callable[..., Any]) -> Callable[..., Any]:
    """*function*, run only where *reconcile* says ABSENT: otherwise the effect is there, and that is the result."""
    if is_async(function):

        async def found_or_awaited(*args: Any, **kwargs: Any) -> Any:
            found = reconcile(*args, **kwargs)
            if inspect.isawaitable(found):
                found = await found
            return await function(*args, **kwargs) if found is ABSENT else found

        return found_or_awaited

    def found_or_called(*args: Any, **kwargs: Any) -> Any:
        found = reconcile(*args, **kwargs)
        return function(*args, **kwargs) if found is ABSENT else found

    return found_or_called
