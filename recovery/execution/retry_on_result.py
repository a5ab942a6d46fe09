"""A result that is a failure after all: ``retry_on_result``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from events.callables import is_async
from events.errors import UnwantedResult


def raise_unwanted(function: Callable[..., Any], retry_on_result: Callable[[Any], bool]) -> Callable[..., Any]:
    """*function*, raising UnwantedResult instead of returning what *retry_on_result* says true to."""

    def judged(result: Any) -> Any:
        if retry_on_result(result):
            raise UnwantedResult(result)
        return result

    if is_async(function):

        async def asked(*args: Any, **kwargs: Any) -> Any:
            return judged(await function(*args, **kwargs))

        return functools.update_wrapper(asked, function)

    def called(*args: Any, **kwargs: Any) -> Any:
        return judged(function(*args, **kwargs))

    return functools.update_wrapper(called, function)
