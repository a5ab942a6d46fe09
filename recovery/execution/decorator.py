"""The wrapper that ``recoverable`` puts around a function, chosen at decoration for what its plan needs.

The common one tests one attribute, calls the function inside ``try``, counts the success and returns: no clock, no id,
no context variable, no event. The other goes through the driver from the start: for calls that are journalled, keyed or
timed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from events.attempt import Attempt
from events.call import Call
from events.callables import is_async
from events.operation import Operation
from recovery.execution.runner import Driver
from recovery.operations import Definition
from recovery.serialization import decoded, encoded_or_none
from recovery.settings import OperationConfig

P = ParamSpec("P")
R = TypeVar("R")

NO_KEYWORDS: dict[str, Any] = {}
"""Instead of an empty dictionary for each call that waits: it is only ever unpacked."""
NOT_RESUMABLE = "a call is not resumable, its arguments are not plain data"


def check_by_hand(config: OperationConfig) -> None:
    """Raise ValueError for settings that cannot be kept for attempts made by hand."""
    wrapped = {
        name: getattr(config, name) for name in ("key", "idempotency_key", "resumable", "retry_on_result", "reconcile")
    }
    limits = {name: getattr(config.policy, name) for name in ("attempt_timeout", "stall_timeout")}
    for setting, value in (limits | wrapped).items():
        if value:
            raise ValueError(f"{setting} needs a function to wrap; it cannot be kept for attempts made by hand")


def check_function(function: object, config: OperationConfig) -> None:
    """Refuse what cannot be made recoverable: TypeError for no function or a generator, ValueError for a kept promise.

    A generator's body does not run when it is called, so there is nothing to try again; a thread cannot be stopped from
    outside, so a plain function cannot have a timeout; nor can it await an async ``reconcile``.
    """
    if isinstance(function, staticmethod | classmethod):
        raise TypeError(f"put @recoverable below @{type(function).__name__}, next to the function")
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"recoverable() takes a function, not {function!r}")
    name = getattr(function, "__qualname__", repr(function))
    call = getattr(function, "__call__", None)  # noqa: B004  # its kind matters, not that it exists
    if any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in (function, call)):
        raise TypeError(f"{name} is a generator; wrap what it iterates over, or collect it in a function")
    if is_async(function):
        return
    for limit in ("attempt_timeout", "stall_timeout"):
        if getattr(config.policy, limit) is not None:
            raise ValueError(f"{limit} cannot be kept for {name}: a plain function cannot be stopped from outside")
    if is_async(config.reconcile):
        raise TypeError(f"reconcile must be a plain function for {name}, which is one")


def wrap(function: Callable[P, R], definition: Definition, driver: Driver) -> Callable[P, R]:
    """*function* with recovery around it: same signature, same type."""
    config = definition.config
    needs_driver = (
        config.has_context
        or config.key is not None
        or config.policy.attempt_timeout
        or config.policy.max_elapsed is not None
    )
    wrapper: Callable[..., Any]
    match bool(needs_driver), is_async(function):
        case False, False:
            wrapper = _plain(function, definition, driver)
        case False, True:
            wrapper = _plain_async(function, definition, driver)
        case True, False:
            wrapper = _driven(function, definition, driver)
        case _:
            wrapper = _driven_async(function, definition, driver)
    return cast("Callable[P, R]", functools.update_wrapper(wrapper, function))


def _plain(function: Callable[..., Any], definition: Definition, driver: Driver) -> Callable[..., Any]:
    operation = definition.operation

    # An empty ``**kwargs`` is copied for the call all the same: asking first takes a fifth of the time.
    def recoverable_call(*args: Any, **kwargs: Any) -> Any:
        if operation.is_observed:
            return driver.run(function, args, kwargs, begun(operation))
        try:
            result = function(*args, **kwargs) if kwargs else function(*args)
        except Exception as raised:  # the driver decides
            error = raised
        except BaseException:
            _cancelled(operation)
            raise
        else:
            operation.successes += 1
            return result
        call = Call(operation, operation.bus.new_call_id())
        try:
            return driver.run(function, args, kwargs, Attempt(call), error)
        finally:
            del error  # its traceback holds this frame

    # Unless it holds the definition, nobody does: the registry is weak.
    recoverable_call.__recovery_definition__ = definition  # type: ignore[attr-defined]
    return recoverable_call


def _plain_async(function: Callable[..., Any], definition: Definition, driver: Driver) -> Callable[..., Any]:
    operation = definition.operation

    async def recoverable_call(*args: Any, **kwargs: Any) -> Any:
        if operation.is_observed:
            return await driver.arun(function, args, kwargs, begun(operation))
        try:
            result = await (function(*args, **kwargs) if kwargs else function(*args))
        except Exception as raised:  # the driver decides
            error = raised
        except BaseException:
            _cancelled(operation)
            raise
        else:
            operation.successes += 1
            return result
        kwargs = kwargs or NO_KEYWORDS
        call = Call(operation, operation.bus.new_call_id())
        try:
            return await driver.arun(function, args, kwargs, Attempt(call), error)
        finally:
            del error  # its traceback holds this frame

    recoverable_call.__recovery_definition__ = definition  # type: ignore[attr-defined]
    return recoverable_call


def begun(operation: Operation) -> Attempt:
    """The first attempt of a new call that begins now."""
    bus = operation.bus
    return Attempt(Call(operation, bus.new_call_id(), bus.clock()))


def _cancelled(operation: Operation) -> None:
    """Say that a call was cancelled in an attempt of which nothing was known until now."""
    Attempt(Call(operation, operation.bus.new_call_id()), is_started=True).cancel()


def _driven(function: Callable[..., Any], definition: Definition, driver: Driver) -> Callable[..., Any]:
    results = driver.results

    def recoverable_call(*args: Any, **kwargs: Any) -> Any:
        attempt = first_attempt(definition, args, kwargs)
        if results is not None and (recorded := results.recall(attempt.call)) is not None:
            return decoded(recorded.result)
        return driver.run(function, args, kwargs, attempt)

    return recoverable_call


def _driven_async(function: Callable[..., Any], definition: Definition, driver: Driver) -> Callable[..., Any]:
    results = driver.results

    async def recoverable_call(*args: Any, **kwargs: Any) -> Any:
        attempt = first_attempt(definition, args, kwargs)
        if results is not None and (recorded := await results.arecall(attempt.call)) is not None:
            return decoded(recorded.result)
        return await driver.arun(function, args, kwargs, attempt)

    return recoverable_call


def first_attempt(definition: Definition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Attempt:
    """The first attempt of a new call, with all that its plan wants known about it."""
    config = definition.config
    operation = definition.operation if config.key is None else definition.keyed(str(config.key(*args, **kwargs)))
    bus = operation.bus
    call = Call(operation, bus.new_call_id(), bus.clock(), version=config.version)
    if config.idempotency_key is not None:
        call.idempotency_key = str(config.idempotency_key(*args, **kwargs))
        definition.warn_of_secret("idempotency_key", call.idempotency_key)
    if config.resumable:
        call.arguments = encoded_or_none([list(args), kwargs], functools.partial(definition.warn_once, NOT_RESUMABLE))
    return Attempt(call)
