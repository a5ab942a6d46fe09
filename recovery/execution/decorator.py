"""The wrapper that ``recoverable`` puts around a function, chosen at decoration for what its config needs.

The common one tests one attribute, calls the function inside ``try``, counts the success and returns: no clock, no id,
no context variable, no event. It has the parameters of the function where it can (``exact_wrapper``), otherwise
``*args, **kwargs`` (``general_wrapper``). The other goes through the runner from the start: for calls that are
journalled, keyed or timed. Calls that equal calls may join go through ``JoinableCalls`` first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, cast
from weakref import ref

from events.callables import is_async, is_generator
from events.operation import Operation
from recovery.call_stack import ROLES
from recovery.execution.attempts import begin, begin_with
from recovery.execution.compiled_start import StartPath, in_task, in_thread, is_compiled
from recovery.execution.exact_wrapper import Detours, exact_wrapper
from recovery.execution.general_wrapper import general_wrapper
from recovery.execution.hooks import HOOKS, check_hooks, refuse_awaitable, with_fallback
from recovery.execution.invocation import Args, Kwargs
from recovery.execution.joinable import JoinableCalls
from recovery.execution.once import call_once
from recovery.execution.runner import Runner
from recovery.settings import NO_FALLBACK, OperationConfig, Settings
from recovery.settings_check import vary

P = ParamSpec("P")
R = TypeVar("R")

TIMEOUTS = ("attempt_timeout", "stall_timeout")
"""The settings of a policy that only an async function can keep."""


def check_by_hand(config: OperationConfig, settings: Settings) -> None:
    """Raise ValueError for *settings* that need a function to wrap, where attempts are made by hand or by a loop."""
    unkept = [name for name in TIMEOUTS if getattr(config.policy, name) is not None]
    wrapped = (
        "key",
        "idempotency_key",
        "resumable",
        "retry_if",
        "retry_if_error",
        "before_retry",
        "reconcile",
        "fallback",
        "before",
        "claims",
    )
    unkept += [name for name in wrapped if settings.get(name)]  # of the operation's own: a service's key does no harm
    if unkept:
        raise ValueError(f"{unkept[0]} needs a function to wrap; it cannot be kept for attempts made by hand")


def check_block(name: str, config: OperationConfig) -> None:
    """Raise ValueError if *config*, of the operation *name*, has what a block of code cannot keep."""
    unkept = [limit for limit in TIMEOUTS if getattr(config.policy, limit) is not None]
    unkept += [hook for hook in HOOKS if getattr(config, hook) not in (None, NO_FALLBACK)]
    unkept += [one for one in ("resumable", "idempotency_key") if getattr(config, one)]
    unkept += ["durability='strict'"] if config.durability == "strict" else []
    if unkept:
        raise ValueError(f"{unkept[0]} of {name} needs a function to wrap; a block of code cannot keep it")


def check_function(function: object, config: OperationConfig) -> None:
    """Refuse what cannot be made recoverable.

    A generator's body does not run when it is called, so there is nothing to try again. A thread cannot be stopped from
    outside, so a plain function cannot have a timeout; nor can it await an async ``reconcile``.

    Raises:
        TypeError: It is no function, or a generator, or a plain function with an async ``reconcile``.
        ValueError: It has a timeout that cannot be enforced.
    """
    if isinstance(function, staticmethod | classmethod):
        raise TypeError(f"put @recoverable below @{type(function).__name__}, next to the function")
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"recoverable() takes a function, not {function!r}")
    name = getattr(function, "__qualname__", repr(function))
    if is_generator(function):
        raise TypeError(f"{name} is a generator; wrap what it iterates over, or collect it in a function")
    if is_async(function):
        return
    for limit in TIMEOUTS:
        if getattr(config.policy, limit) is not None:
            raise ValueError(f"{limit} cannot be kept for {name}: a plain function cannot be stopped from outside")
    check_hooks(name, config)


def wrap(runner: Runner, joinable: JoinableCalls | None = None) -> Callable[..., Any]:
    """The function of *runner* with recovery around it: same signature, same name.

    Args:
        runner: Runs its calls.
        joinable: Runs those that equal calls may join; ``None`` where there are none.
    """
    config = runner.config
    needs_runner = (
        config.has_context
        or config is not runner.definition.config
        or config.key is not None
        or config.retry_if is not None  # it must not run while the service is switched off
        or config.policy.attempt_timeout is not None
        or config.policy.max_elapsed is not None
    )
    wrapper: Any
    if joinable is not None and (config.resumable or config.idempotency_key is not None):
        wrapper = (
            _run_joinable_async(runner, joinable) if is_async(runner.original) else _run_joinable(runner, joinable)
        )
    elif isinstance(runner.start, StartPath) and is_compiled(config):
        wrapper = in_task(runner.start) if is_async(runner.original) else in_thread(runner.start)
    elif needs_runner:
        wrapper = _run_async(runner) if is_async(runner.original) else _run(runner)
    else:
        wrapper = _exact(runner) or general_wrapper(runner)
    ROLES[wrapper.__code__] = "wrapper"
    wrapped: Any = functools.update_wrapper(with_fallback(wrapper, config, runner.definition), runner.original)
    wrapped.recovery = FunctionRecovery(runner, joinable, ref(wrapped))
    return cast("Callable[..., Any]", wrapped)


class FunctionRecovery(Generic[P, R]):
    """What a recoverable function has as ``f.recovery``; ``recovery_of(f)`` is the same, with types.

    Args:
        runner: Runs the calls of the function.
        joinable: Runs those that equal calls may join.
        wrapper: The recoverable function: ``functools.wraps`` copies its attributes, this one too, to other functions.
    """

    def __init__(self, runner: Runner, joinable: JoinableCalls | None, wrapper: Callable[[], object]) -> None:
        self._runner = runner
        self._joinable = joinable
        self.wrapper = wrapper

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it with its wrapper, which holds it, and is made before it."""
        return FunctionRecovery, (self._runner, self._joinable, _no_wrapper), self.wrapper()

    def __setstate__(self, wrapper: Callable[..., Any]) -> None:
        """Note the wrapper of a function that is loaded."""
        self.wrapper = self._runner.definition.wrapper = ref(wrapper)

    def __repr__(self) -> str:
        return f"<recovery of {self._runner.original.__qualname__}: {self.operation}>"

    @property
    def operation(self) -> Operation:
        """The operation, with its name and its count of successes."""
        return self._runner.definition.operation

    @property
    def function(self) -> Callable[P, R]:
        """The function without recovery."""
        return self._runner.original

    def but(self, **settings: Unpack[Settings]) -> Callable[P, R]:
        """A copy of the function whose calls decide otherwise: the same operation, circuit and journal.

            patient = fetch.recovery.but(max_retries=9)

        A call that is resumed after a restart, or joined, keeps the settings it began with there. The copy of a method
        takes the object as its first argument.

        Args:
            settings: What one call decides with: the retries, delays and limits of a ``RetryPolicy`` (or a whole one),
                ``retry_on``, ``retry_if``, ``retry_if_error``, ``retry_exhausted``, ``before_retry``, ``fallback``.

        Raises:
            TypeError: An unknown setting, one that all calls of the operation share, or a value of the wrong type.
            ValueError: A value out of range, or a contradiction.
        """
        config = vary(self._runner.config, settings)
        check_function(self._runner.original, config)
        return wrap(self._runner.varied(config), self._joinable)


def _no_wrapper() -> None:
    """The wrapper of a function while it is loaded."""


def recovery_of(function: Callable[P, R]) -> FunctionRecovery[P, R]:
    """``function.recovery``, with types.

        recovery_of(fetch).operation.successes

    Args:
        function: A recoverable function, or a bound method.

    Raises:
        TypeError: The function is not recoverable.
    """
    found = getattr(function, "recovery", None)
    if not isinstance(found, FunctionRecovery) or found.wrapper() is not getattr(function, "__func__", function):
        raise TypeError(f"{function!r} is not recoverable; decorate it with @recoverable")
    return found


def _exact(runner: Runner) -> Callable[..., Any] | None:
    """The wrapper with the parameters of the function, where there is one."""
    if runner.config.reconcile is not None:  # it gets each argument as the caller gave it: by position or by name
        return None
    original, operation, switch = runner.original, runner.definition.operation, runner.definition.switch
    is_plain = not is_async(original)
    run = runner.run if is_plain else runner.arun

    def observed(args: Args, kwargs: Kwargs) -> Any:
        if not switch.is_on:
            return original(*args, **kwargs)
        return run(begin(operation), args, kwargs)

    # All results of a function are awaitable, or none is: checking each would cost a third of a healthy call. The
    # runner checks those of later attempts.
    def first(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if hasattr(type(result), "__await__") and switch.is_on:
            refuse_awaitable(original, result)
        return result

    return exact_wrapper(original, operation, Detours(switch, observed, runner), first if is_plain else None)


def _run(runner: Runner) -> Callable[..., Any]:
    original, switch = runner.original, runner.definition.switch

    def recoverable_call(*args: Any, **kwargs: Any) -> Any:
        if not switch.is_on:
            return call_once(original, runner.config, args, kwargs)
        return runner.run(begin_with(runner.definition, runner.config, args, kwargs), args, kwargs)

    return recoverable_call


def _run_async(runner: Runner) -> Callable[..., Any]:
    original, switch = runner.original, runner.definition.switch

    async def recoverable_call(*args: Any, **kwargs: Any) -> Any:
        if not switch.is_on:
            return await call_once(original, runner.config, args, kwargs)
        return await runner.arun(begin_with(runner.definition, runner.config, args, kwargs), args, kwargs)

    return recoverable_call


def _run_joinable(runner: Runner, joinable: JoinableCalls) -> Callable[..., Any]:
    original, switch = runner.original, runner.definition.switch

    def recoverable_call(*args: Any, **kwargs: Any) -> Any:
        if not switch.is_on:
            return call_once(original, runner.config, args, kwargs)
        return joinable.call(runner, args, kwargs)

    return recoverable_call


def _run_joinable_async(runner: Runner, joinable: JoinableCalls) -> Callable[..., Any]:
    original, switch = runner.original, runner.definition.switch

    async def recoverable_call(*args: Any, **kwargs: Any) -> Any:
        if not switch.is_on:
            return await call_once(original, runner.config, args, kwargs)
        return await joinable.acall(runner, args, kwargs)

    return recoverable_call
