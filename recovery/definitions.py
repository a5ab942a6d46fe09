"""What a service defines: operations by name, the functions made recoverable, and blocks of code."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import ref

import msgspec

from events.callables import is_async
from events.operation import Operation
from recovery.execution.compiled import compiled
from recovery.execution.compiled_start import StartPath
from recovery.execution.decorator import check_block, check_by_hand, check_function, recovery_of, wrap
from recovery.execution.held_runner import HeldRunner
from recovery.execution.once import forget, unrecovered
from recovery.execution.plan import Planner
from recovery.execution.runner import Runner
from recovery.journal.commit_barrier import CommitBarrier
from recovery.operations import Definition, Switch
from recovery.registry import Registry, name_of_function
from recovery.settings_check import Defaults, make_config, overridden

if TYPE_CHECKING:
    from events.bus import Bus
    from recovery.execution.blocks import Attempts
    from recovery.execution.joinable import JoinableCalls
    from recovery.execution.leased_runner import Leg
    from recovery.held_outcomes import HeldOutcomes
    from recovery.service_lifetime import Lifetime
    from recovery.settings import OperationConfig, Settings
    from recovery.subscribers.built_in import BuiltIn
    from recovery.subscribers.holds import Holds
    from recovery.waiting.calls import WaitingCalls


class Definitions:
    """Defines operations, and makes functions and blocks recoverable, for one service.

    Args:
        bus: The service's bus.
        registry: The operations that are defined.
        subscribers: Follow what an operation's config asks for.
        waiting: Where calls wait.
        joinable: Runs the calls that equal calls may join.
        lifetime: Has the journal, and the calls to resume.
        defaults: The settings of operations that declare none; may be changed at any time.
    """

    def __init__(
        self,
        bus: Bus,
        registry: Registry,
        subscribers: BuiltIn,
        waiting: WaitingCalls,
        joinable: JoinableCalls,
        lifetime: Lifetime,
        defaults: Defaults,
    ) -> None:
        self._bus = bus
        self._registry = registry
        self._subscribers = subscribers
        self.waiting = waiting
        """Where calls wait."""
        self.joinable = joinable
        self._lifetime = lifetime
        self.defaults = defaults
        self.switch = registry.switch
        self.overrides: Mapping[str, Settings] = {}
        """Settings by operation that override those in the code."""
        self.legs: dict[str, Leg] = {}
        """The legs of a cluster's calls that run here, by the ids of their calls."""
        self._switched_off: dict[str, tuple[Callable[[], Any], OperationConfig]] = {}
        self._planner = Planner(bus, registry, subscribers, lambda: lifetime.journal, waiting.conditions.jumps)

    @functools.cached_property
    def holds(self) -> Holds:
        """Holds calls before they begin, where the settings ask for it."""
        from recovery.subscribers.holds import Holds  # here, for such settings alone

        return Holds(self._bus, self.waiting.conditions.poll_soon)

    @functools.cached_property
    def outcomes(self) -> HeldOutcomes:
        """Keeps outcomes that a cluster cannot be given now."""
        from recovery.held_outcomes import HeldOutcomes  # here, for nodes of a cluster alone

        return HeldOutcomes(self._bus, lambda: self._lifetime.journal)

    def leased(self, name: str) -> tuple[Definition, Callable[..., Any]] | None:
        """The operation *name* with its function, for the legs of its calls, whose starts are journalled from now on.

        Its switch is off where the function was defined while the service was switched off. None if there is none.
        """
        definition = self._registry.get(name)
        wrapper = None if definition is None else definition.wrapper()
        if definition is not None and wrapper is not None:
            if self._lifetime.journal is not None:
                self._lifetime.journal.follow(name)
            return definition, recovery_of(wrapper).function
        function, config = self._switched_off.get(name, (lambda: None, None))
        if (body := function()) is None or config is None:
            return None
        switch = Switch()
        switch.is_on = False
        return Definition(config, Operation(name, self._bus), switch=switch), body

    def names(self) -> list[str]:
        """The names of the operations that ``leased`` finds."""
        return [name for name in {*self._registry.names(), *self._switched_off} if self.leased(name) is not None]

    def config(self, settings: Settings, caller: str, name: str = "") -> OperationConfig:
        """The config of *settings*, with those that override them for the operation *name*.

        Raises TypeError or ValueError, in the name of *caller*.
        """
        has_store = self._lifetime.journal is not None
        changes = self.overrides.get(name)
        if changes is None:
            return make_config(settings, defaults=self.defaults, has_store=has_store, caller=caller)
        try:
            both = overridden(settings, changes)
            return make_config(both, defaults=self.defaults, has_store=has_store, caller=f"overrides[{name!r}]")
        except (TypeError, ValueError) as error:
            error.add_note(f"operation {name!r}: its settings in the code are overridden by {dict(changes)}")
            raise

    def runner(
        self, function: Callable[..., Any], definition: Definition, config: OperationConfig | None = None
    ) -> Runner:
        """Runs the calls of *function*, as *config* wants it where that differs from the config of its operation."""
        lifetime = self._lifetime  # one attribute for each journalled call, not a property and an attribute
        given = function, definition, self.waiting, lambda: lifetime.journal, config
        if (config or definition.config).has_holds:
            runner: Runner = HeldRunner(self.holds, *given)
        else:
            runner = Runner(*given)
        runner.failed = compiled(runner, self._planner, awaits=is_async(function))
        runner.start = StartPath(runner, self._planner)
        return runner

    def load(self, name: str, config: OperationConfig, function: Callable[..., Any] | None) -> Definition:
        """The operation of a function that another process has pickled.

        It gets a number where its name has other settings here, unless its calls are resumable: without a store, they
        are not.
        """
        if self._lifetime.journal is None and config.resumable:
            config = msgspec.structs.replace(config, resumable=False)
        return self._define(name, config, False, function)

    def function(
        self,
        function: Callable[..., Any],
        name: str | None,
        config: OperationConfig,
        settings: Settings,
        *,
        is_enabled: bool,
    ) -> Callable[..., Any]:
        """*function*, made recoverable, with the *config* of *settings*; ``unrecovered`` where the service is off."""
        if (name or name_of_function(function)) in self.overrides:
            config = self.config(settings, "recoverable", name or name_of_function(function))
        check_function(function, config)
        if not is_enabled:
            with suppress(TypeError):  # a built-in function takes no weak reference
                self._switched_off[name or name_of_function(function)] = ref(function), config
            return unrecovered(function, config)
        forget(function)
        definition = self._define(name or name_of_function(function), config, name is not None, function)
        definition.add(function)
        wrapped = wrap(self.runner(function, definition), self.joinable)
        definition.wrapper = ref(wrapped)
        self._lifetime.pick_up(definition.operation.name)
        return wrapped

    def operation(self, name: str, settings: Settings, *, is_enabled: bool, caller: str = "operation") -> Operation:
        """The operation *name*, defined with *settings* if it is new."""
        if not isinstance(name, str) or not name:
            raise ValueError(f"the name of an operation must be a text that is not empty, not {name!r}")
        known = self._registry.get(name)
        if known is not None and not settings:
            return known.operation
        config = self.config(settings, caller, name)
        check_by_hand(config, settings)
        if not is_enabled:
            return Operation(name, self._bus)  # unknown to the built-in subscribers: each failure is given up at once
        return self._define(name, config).operation

    def attempts(self, name: str, settings: Settings, *, is_enabled: Callable[[], bool]) -> Attempts:
        """The attempts of a block of the operation *name*."""
        from recovery.execution.blocks import Attempts  # here, for blocks alone

        operation = self.operation(name, settings, is_enabled=True, caller="attempts")
        config = self._registry.config_of(name) or self.config(settings, "attempts", name)
        check_block(name, config)
        lifetime = self._lifetime
        barrier = CommitBarrier(config, lambda: lifetime.journal)
        return Attempts(operation, config, self.waiting, barrier, is_enabled=is_enabled)

    def _define(
        self, name: str, config: OperationConfig, explicit: bool = True, function: Callable[..., Any] | None = None
    ) -> Definition:
        definition = self._registry.define(name, config, explicit=explicit, function=function)
        if config.journalled and self._lifetime.journal is not None:
            self._lifetime.journal.follow(definition.operation.name)
        self._subscribers.follow(definition)
        if config.has_holds:
            self.holds.follow(definition.operation.name)
        return definition
