"""One run of the function for one attempt, with what surrounds it.

``retry_on_result`` may refuse the result, ``reconcile`` may find it without a run, ``recovery.context`` knows the
attempt meanwhile, and timeouts end it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

from events.attempt import Attempt
from events.callables import is_async
from events.errors import UnwantedResult
from recovery.context import current
from recovery.execution.timeouts import in_time
from recovery.journal.idempotency import RecordedResults
from recovery.policies.retry import RetryPolicy
from recovery.settings import ABSENT, OperationConfig

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]
Invoke: TypeAlias = Callable[[Attempt, Args, Kwargs], Any]


def judged(function: Callable[..., Any], retry_on_result: Callable[[Any], bool] | None) -> Callable[..., Any]:
    """*function*, raising UnwantedResult instead of returning a result that *retry_on_result* says true to."""
    if retry_on_result is None:
        return function

    def judge(result: Any) -> Any:
        if retry_on_result(result):
            raise UnwantedResult(result)
        return result

    async def judge_async(*args: Any, **kwargs: Any) -> Any:
        return judge(await function(*args, **kwargs))

    def judge_sync(*args: Any, **kwargs: Any) -> Any:
        return judge(function(*args, **kwargs))

    return judge_async if is_async(function) else judge_sync


def reconciled(function: Callable[..., Any], reconcile: Callable[..., Any] | None) -> Callable[..., Any]:
    """*function*, run only where *reconcile* says ABSENT: otherwise the effect is there, and that is the result."""
    if reconcile is None:
        return function

    async def reconcile_async(*args: Any, **kwargs: Any) -> Any:
        found = reconcile(*args, **kwargs)
        if inspect.isawaitable(found):
            found = await found
        return await function(*args, **kwargs) if found is ABSENT else found

    def reconcile_sync(*args: Any, **kwargs: Any) -> Any:
        found = reconcile(*args, **kwargs)
        return function(*args, **kwargs) if found is ABSENT else found

    return reconcile_async if is_async(function) else reconcile_sync


def invoker(function: Callable[..., Any], config: OperationConfig, results: RecordedResults | None) -> Invoke:
    """What runs *function* for an attempt, and records the result; that of an async function is to be awaited."""
    first = judged(function, config.retry_on_result)
    again = judged(reconciled(function, config.reconcile), config.retry_on_result)

    def invoke(attempt: Attempt, args: Args, kwargs: Kwargs) -> Any:
        return (again if attempt.call.has_failed else first)(*args, **kwargs)

    surrounded: Invoke = invoke
    if config.policy.attempt_timeout is not None or config.policy.stall_timeout is not None:
        surrounded = _in_time(invoke, config.policy)
    if not config.has_context:
        return surrounded
    return (_in_context if is_async(function) else _in_plain_context)(surrounded, results)


def _in_time(invoke: Invoke, policy: RetryPolicy) -> Invoke:
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
