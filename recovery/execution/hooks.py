"""The functions that a user puts around an attempt: what refuses a result, looks an effect up, prepares a retry.

Each surrounds the function once, at decoration, and only where the setting is given. For an async function each may be
async as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, final

from events.attempt import Attempt
from events.callables import is_async, name_of
from events.errors import AwaitableResultError, UnwantedResult, is_a
from events.own_log import own_log
from recovery.operations import Definition
from recovery.outcome import outcome_of
from recovery.settings import ABSENT, NO_FALLBACK, OperationConfig

log = own_log("recovery")

RETRY_IF_ERROR = "retry_if_error"
HOOKS = ("reconcile", "retry_if", RETRY_IF_ERROR, "before_retry", "fallback")
"""The settings that may be async functions, for an async function only."""


def check_hooks(name: str, config: OperationConfig) -> None:
    """Raise TypeError for an async hook of the plain function *name*, which could not await it."""
    for hook in HOOKS:
        if is_async(getattr(config, hook)):
            raise TypeError(f"{hook} must be a plain function for {name}, which is one")


def end_awaitable(awaitable: Any) -> None:
    """Close or cancel *awaitable*, so that nothing says that it was never awaited."""
    for way in ("close", "cancel"):
        if callable(end := getattr(awaitable, way, None)):
            with suppress(Exception):
                end()
            break


def refuse_awaitable(function: Callable[..., Any], result: Any) -> NoReturn:
    """End *result*, an awaitable that a plain *function* returned, and raise AwaitableResultError."""
    end_awaitable(result)
    raise AwaitableResultError(
        f"{name_of(function)} is a plain function and returned a {type(result).__name__}, which fails only when it is "
        "awaited, where no retry sees it; it was not awaited. Make the function an async def that awaits it, or put "
        "@recoverable below the decorators that hide its async def"
    )


def refuse_async_answer(hook: str, answer: Any) -> Any:
    """*answer*; raises AwaitableResultError if it is an awaitable, which a plain call cannot await."""
    if hasattr(type(answer), "__await__"):
        end_awaitable(answer)
        raise AwaitableResultError(f"{hook} returned a {type(answer).__name__}, which a plain function cannot await")
    return answer


def judged(function: Callable[..., Any], retry_if: Callable[[Any], Any] | None) -> Callable[..., Any]:
    """*function*, raising UnwantedResult instead of returning a result that *retry_if* says true to."""
    if retry_if is None:
        return function

    async def judge_async(*args: Any, **kwargs: Any) -> Any:
        result = await function(*args, **kwargs)
        if await _answer(retry_if(result)):
            raise UnwantedResult(result)
        return result

    def judge_sync(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if refuse_async_answer("retry_if", retry_if(result)):
            raise UnwantedResult(result)
        return result

    return judge_async if is_async(function) else judge_sync


def reconciled(function: Callable[..., Any], reconcile: Callable[..., Any] | None) -> Callable[..., Any]:
    """*function*, run only where *reconcile* says ABSENT: otherwise the effect is there, and that is the result."""
    if reconcile is None:
        return function

    async def reconcile_async(*args: Any, **kwargs: Any) -> Any:
        found = await _answer(reconcile(*args, **kwargs))
        return await function(*args, **kwargs) if found is ABSENT else found

    def reconcile_sync(*args: Any, **kwargs: Any) -> Any:
        found = reconcile(*args, **kwargs)
        return function(*args, **kwargs) if found is ABSENT else found

    return reconcile_async if is_async(function) else reconcile_sync


def prepared(
    invoke: Callable[..., Any], before_retry: Callable[[Any], Any] | None, *, awaits: bool
) -> Callable[..., Any]:
    """*invoke*, which runs an attempt, after *before_retry* where a failure of this process came before it."""
    if before_retry is None:
        return invoke

    async def prepare_async(attempt: Attempt, args: Any, kwargs: Any) -> Any:
        if attempt.call.failure is not None:
            await _answer(before_retry(attempt.call.failure))
        return await invoke(attempt, args, kwargs)

    def prepare_sync(attempt: Attempt, args: Any, kwargs: Any) -> Any:
        if attempt.call.failure is not None:
            refuse_async_answer("before_retry", before_retry(attempt.call.failure))
        return invoke(attempt, args, kwargs)

    return prepare_async if awaits else prepare_sync


@final
class ErrorJudge:
    """Asks *retry_if_error* about the live exception; a function that raises is logged, and has no opinion.

    Args:
        retry_if_error: The setting.
        name: The operation's name, for the log.
    """

    def __init__(self, retry_if_error: Callable[[Exception], Any], name: str) -> None:
        self._ask = retry_if_error
        self._name = name

    def judge(self, error: Exception) -> bool | None:
        """Whether to retry after *error*; ``None`` leaves that to the rules."""
        try:
            return None if is_a(error, UnwantedResult) else _flag(refuse_async_answer(RETRY_IF_ERROR, self._ask(error)))
        except Exception:
            self._log()
            return None

    async def ajudge(self, error: Exception) -> bool | None:
        """As ``judge``; the answer may be awaitable."""
        try:
            return None if is_a(error, UnwantedResult) else _flag(await _answer(self._ask(error)))
        except Exception:
            self._log()
            return None

    def _log(self) -> None:
        log.exception("retry_if_error of %s failed; the rules decide", self._name)


def with_fallback(wrapper: Callable[..., Any], config: OperationConfig, definition: Definition) -> Callable[..., Any]:
    """*wrapper*, giving its caller the fallback of *config* instead of the error of a call that has ended badly."""
    fallback, switch, name = config.fallback, definition.switch, definition.operation.name

    def has_ended(error: Exception) -> bool:
        outcome = outcome_of(error)
        return outcome is not None and outcome.operation == name

    if fallback is NO_FALLBACK:
        return wrapper

    async def fall_back_async(*args: Any, **kwargs: Any) -> Any:
        if not switch.is_on:
            return await wrapper(*args, **kwargs)
        try:
            return await wrapper(*args, **kwargs)
        except Exception as error:
            if not has_ended(error):
                raise
            return await _answer(fallback(error)) if callable(fallback) else fallback

    def fall_back_sync(*args: Any, **kwargs: Any) -> Any:
        if not switch.is_on:
            return wrapper(*args, **kwargs)
        try:
            return wrapper(*args, **kwargs)
        except Exception as error:
            if not has_ended(error):
                raise
            return refuse_async_answer("fallback", fallback(error)) if callable(fallback) else fallback

    return fall_back_async if is_async(wrapper) else fall_back_sync


async def _answer(given: Any) -> Any:
    return await given if inspect.isawaitable(given) else given


def _flag(answer: Any) -> bool | None:
    return None if answer is None else bool(answer)
