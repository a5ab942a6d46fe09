"""The service: a bus with the recovery stages on it, the operations defined with it, and a journal if it has a store.

README, "What happens when an operation fails", has the six steps of a failing operation and their modules.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, Unpack, cast, overload

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from events.bus import Bus
from events.circuit_events import CircuitClosed, CircuitOpened
from events.event import Event
from events.fork_locks import fork_safe
from events.operation import Operation
from events.operation_events import FailureClassified, OperationFailed
from events.subscription import Subscription
from recovery import validation
from recovery.execution.decorator import check_by_hand, check_function, wrap
from recovery.execution.runner import Runner
from recovery.journal.journal import Journal
from recovery.journal.store import Store, check_store
from recovery.operations import Definition, Registry, name_of_function
from recovery.policies.budget import RetryBudget
from recovery.policies.circuit_breaker import BreakerPolicy
from recovery.policies.classification import Classifier
from recovery.policies.retry import RetryPolicy
from recovery.policies.rules import in_order
from recovery.resume.commands import CommandHandler
from recovery.resume.handles import Resumption
from recovery.resume.resumer import Resumer
from recovery.settings import Defaults, Settings, make_config
from recovery.subscribers.budget import RetryBudgets
from recovery.subscribers.circuit_breaker import Break
from recovery.subscribers.classification import Classify
from recovery.subscribers.log import Log
from recovery.subscribers.rate_limit import RateLimits
from recovery.subscribers.retry import Schedule
from recovery.waiting.calls import WaitingCalls
from recovery.waiting.waiters import Clock

if TYPE_CHECKING:
    from recovery.monitoring.alerts import Thresholds
    from recovery.monitoring.monitor import Monitor

P = ParamSpec("P")
R = TypeVar("R")

DEFAULTS = Defaults()


class Recovery:
    """A recovery service. Use it as a context manager; ``async with`` lets it resume async calls after a restart.

    *store* is where the journal writes (``adapters.sqlite.store.SQLiteStore``, ``adapters.memory.MemoryStore``);
    without one
    nothing is persisted and there is no thread. *policy*, *breaker* (``None``: no circuits) and *budget* hold for
    operations that declare none. *classifier*, one ``Rule`` or function or several, is asked after an operation's own
    and before the built-in judgement. *enable_classification* and *enable_logging* hold for operations that leave it
    open. With *enabled* False, or RECOVERY_DISABLED=1 in the environment, ``recoverable`` returns functions untouched.

    *clock* reads monotonic seconds, *rng* draws from [0, 1) for the jitter: both for tests. *run* names this
    process's run in the journal.

    ``waits`` knows every call that waits, and steers it; ``circuits`` the circuits, and forces them.
    """

    def __init__(
        self,
        *,
        store: Store | None = None,
        enabled: bool = True,
        policy: RetryPolicy = DEFAULTS.policy,
        breaker: BreakerPolicy | None = DEFAULTS.breaker,
        budget: RetryBudget | None = None,
        classifier: Classifier | Sequence[Classifier] = (),
        enable_classification: bool = True,
        enable_logging: bool = False,
        clock: Clock = time.monotonic,
        rng: Callable[[], float] = random.random,
        run: str | None = None,
    ) -> None:
        check_store(store)
        flags = {"enabled": enabled, "enable_classification": enable_classification, "enable_logging": enable_logging}
        validation.flags(flags)
        for name, function in (("clock", clock), ("rng", rng)):
            if not callable(function):
                raise TypeError(f"{name} must be a function without arguments, not {function!r}")
        self.bus = Bus(clock=clock, run=run)
        self._enabled = enabled
        self._defaults = Defaults(policy=policy, breaker=breaker, budget=budget)
        self._logging = enable_logging
        self._registry = Registry(self.bus, self._forget)
        self.calls = WaitingCalls(clock, rng)
        self._journal: Journal | None = None
        self._monitor: Monitor | None = None
        self._log_subscription: Subscription | None = None
        self._group: anyio.abc.TaskGroup | None = None
        self._resumption: Resumption | None = None
        self._resuming = fork_safe(threading.Lock())
        config_of = self._registry.config_of
        classifiers = in_order("classifier", classifier)
        self._classify = Classify(config_of, enabled=enable_classification, classifiers=classifiers)
        self.bus.subscribe(OperationFailed, self._classify.on_failure, essential=True)
        self.budgets = RetryBudgets(self.bus, config_of, self._registry.operation_of)
        self.bus.subscribe(FailureClassified, Schedule(config_of, rng, self.budgets).on_classified, essential=True)
        self.circuits = Break(self.bus, config_of, self._registry.operation_of, self.calls.wake)
        self.pauses = RateLimits(self.bus, config_of, rng)
        self.bus.subscribe((CircuitClosed, CircuitOpened), self._wake_held, essential=True)
        self.configure(store=store, enable_logging=enable_logging)

    @property
    def is_enabled(self) -> bool:
        """Whether ``recoverable`` does anything: the switch given, unless the environment says RECOVERY_DISABLED=1."""
        return self._enabled and os.environ.get("RECOVERY_DISABLED", "") not in ("1", "true", "yes")

    @property
    def journal(self) -> Journal | None:
        """The journal, ``None`` without a store."""
        return self._journal

    def configure(
        self,
        *,
        store: Store | None = None,
        enabled: bool | None = None,
        policy: RetryPolicy | None = None,
        breaker: BreakerPolicy | None = None,
        budget: RetryBudget | None = None,
        classifier: Classifier | Sequence[Classifier] | None = None,
        enable_classification: bool | None = None,
        enable_logging: bool | None = None,
    ) -> None:
        """Change the service in place; what is ``None`` stays as it is.

        A policy, a breaker, a budget and the off switch hold for operations defined from now on, everything else at
        once.
        Raises ValueError for a second store: calls may be under way that are journalled in the first.
        """
        check_store(store)
        flags = {"enabled": enabled, "enable_classification": enable_classification, "enable_logging": enable_logging}
        validation.flags(flags)
        changes = {"policy": policy, "breaker": breaker, "budget": budget}
        given = {name: value for name, value in changes.items() if value is not None}
        defaults = Defaults(**{**msgspec.structs.asdict(self._defaults), **given})
        classifiers = self._classify.classifiers if classifier is None else in_order("classifier", classifier)
        if store is not None:
            if self._journal is not None:
                raise ValueError("this service has a store already; make another service")
            commands = CommandHandler(self.calls, lambda: self._resumption)
            self._journal = Journal(store, self.bus, self._registry.config_of, self.circuits.restore, commands)
        self._enabled = self._enabled if enabled is None else enabled
        self._defaults = defaults
        self._classify.classifiers = classifiers
        if enable_classification is not None:
            self._classify.enabled = enable_classification
        if enable_logging is not None:
            self._logging = enable_logging
            if enable_logging:
                self._attach_log()

    @overload
    def recoverable(self, function: Callable[P, R], /) -> Callable[P, R]: ...

    @overload
    def recoverable(
        self, name: str | None = None, /, **settings: Unpack[Settings]
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def recoverable(self, name: Any = None, /, **settings: Unpack[Settings]) -> Any:
        """Make a function, plain or async, recover by itself. Bare, or with a name and the settings of ``Settings``.

        The function keeps its signature and type. After the last attempt the caller gets the function's own exception,
        with a note of what was tried; a call that an open circuit turned away raises CallRejectedError. The name (by
        default the function's module and qualified name) is the operation's on the bus, in logs and in the journal.

        Raises TypeError for generators, unknown settings and wrong types, ValueError for values out of range,
        contradictions, a ``attempt_timeout`` for a plain function, and a name that is defined with other settings
        already.
        """
        if name is not None and not isinstance(name, str):
            if settings:
                raise TypeError("recoverable() takes a name and settings, or a function: @recoverable(max_retries=5)")
            return self.recoverable(None)(name)
        if name == "":
            raise ValueError("the name of an operation must not be empty")
        config = make_config(settings, defaults=self._defaults, has_store=self._journal is not None)

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            check_function(function, config)
            if not self.is_enabled:
                return function
            definition = self._registry.define(name or name_of_function(function), config, explicit=name is not None)
            self._attend_to(definition)
            if config.resumable:
                definition.resume_with(function)
            return cast("Callable[P, R]", wrap(self._runner(function, definition)))

        return decorate

    def operation(self, name: str, **settings: Unpack[Settings]) -> Operation:
        """The operation of that name, for code that emits by hand; defined with *settings* if it was not yet.

        Asking again with the same settings, or with none, gives the same one. Raises as ``recoverable`` does, and
        ValueError for settings that need a wrapper around the function (``attempt_timeout``, ``key``, ``resumable``,
        ...).
        """
        if not isinstance(name, str) or not name:
            raise ValueError(f"the name of an operation must be a text that is not empty, not {name!r}")
        known = self._registry.get(name)
        if known is not None and not settings:
            return known.operation
        config = make_config(settings, defaults=self._defaults, has_store=self._journal is not None)
        check_by_hand(config)
        if not self.is_enabled:
            return Operation(name, self.bus)  # not defined here, so nobody answers: every failure is given up
        definition = self._registry.define(name, config, explicit=True)
        self._attend_to(definition)
        return definition.operation

    def resume(self) -> Resumption:
        """Resume the resumable calls that dead processes left in the journal. Never blocks.

        Call it when the operations are defined: calls find their function by its operation's name, nothing is
        imported. Under ``async with``, async calls run as tasks of the service, which waits for them at the end;
        plain calls run on four daemon threads. While the journal cannot be read, the answer is not ``loaded``. Asking
        again gives the same answer. Raises ValueError without a store.
        """
        if self._journal is None:
            raise ValueError("there is nothing to resume without a store: Recovery(store=...)")
        with self._resuming:  # two threads that ask at once would run every call twice
            if self._resumption is None or not self._resumption.is_ours:
                resumer = Resumer(self._registry, self._runner, self._journal, self.calls.spread)
                self._resumption = resumer.in_threads() if self._group is None else resumer.in_tasks(self._group)
            return self._resumption

    def monitor(self, thresholds: Thresholds | None = None) -> Monitor:
        """The service's monitor (``recovery.monitoring.monitor.Monitor``), which counts from the moment it is first
        asked for.

        Raises ValueError for *thresholds* when it has some already, ImportError without the extra ``monitor``.
        """
        if self._monitor is None:
            from recovery.monitoring.monitor import Monitor  # here, so that importing recovery stays light

            self._monitor = Monitor(
                self.bus,
                thresholds,
                config_of=self._registry.config_of,
                journal=lambda: self._journal,
                waiting=lambda: self.calls.number,
                circuits=self.circuits.circuits,
            )
        elif thresholds is not None:
            raise ValueError("this service is monitored already; its thresholds are those of the first time")
        return self._monitor

    def close(self) -> None:
        """Write what the journal has accepted and close it. Idempotent; later calls run unjournalled."""
        self._interrupt()
        if self._journal is not None:
            self._journal.close()

    def __enter__(self) -> Self:
        if self._journal is not None:
            self._journal.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self.__enter__()
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        group, self._group = self._group, None
        assert group is not None
        if self._resumption is not None:
            self._resumption.close()
        try:
            # The body's own exception passes as it is, not in a group: what the group runs raises nothing.
            if raised[0] is not None:
                self._interrupt()
                if self._journal is not None:
                    self._journal.seal()  # what is cancelled with the launcher is resumed next time
                group.cancel_scope.cancel()
            await group.__aexit__(None, None, None)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self.close)

    def _interrupt(self) -> None:
        if self._resumption is not None:
            self._resumption.interrupt()

    def _runner(self, function: Callable[..., Any], definition: Definition) -> Runner:
        return Runner(function, definition, self.calls, lambda: self._journal)

    def _attend_to(self, definition: Definition) -> None:
        """Give the journal and the log the seats that this operation's plan asks for."""
        if definition.config.journalled and self._journal is not None:
            self._journal.follow(definition.operation.name)
        if definition.config.budget is not None:
            self.budgets.follow(definition.operation.name)
        if definition.config.logging:
            self._attach_log()

    def _forget(self, operation: str) -> None:
        self.circuits.forget(operation)
        self.budgets.forget(operation)

    def _attach_log(self) -> None:
        if self._log_subscription is None:
            self._log_subscription = self.bus.subscribe(Event, Log(self._logs), essential=True)

    def _logs(self, operation: str) -> bool:
        config = self._registry.config_of(operation)
        return self._logging if config is None or config.logging is None else config.logging

    def _wake_held(self, event: Event) -> None:
        # Also when a circuit opens again: who waits for a probe then learns when the next one may be made.
        self.calls.wake(event.operation, event.key, spread=isinstance(event, CircuitClosed))


default = Recovery()
"""The default service, which the module-level ``recoverable`` uses: one object, no store, no thread."""

recoverable = default.recoverable
configure = default.configure
