"""The service: a bus with the built-in subscribers, the operations defined with it, and a journal if it has a store."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ForwardRef, Self

from events.bus import Bus
from recovery import validation
from recovery.calls import Calls
from recovery.circuits import Circuits
from recovery.declarations import Declarations
from recovery.definitions import Definitions
from recovery.execution.joinable import JoinableCalls
from recovery.execution.steering import Steering
from recovery.incidents import Incidents
from recovery.journal.config import JOURNAL_DEFAULTS, JournalConfig
from recovery.journalled_calls import JournalledCalls
from recovery.operations import MAX_KEYS
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.budget import RetryBudget
from recovery.policies.classification import Classifier
from recovery.policies.retry import RetryPolicy
from recovery.policies.rules import in_order
from recovery.questions import Questions
from recovery.registry import Registry
from recovery.service_lifetime import Lifetime
from recovery.settings import Settings, WhenOpen
from recovery.settings_check import Defaults, changed, checked_overrides
from recovery.subscribers.built_in import BuiltIn
from recovery.suggestions import with_suggestions
from recovery.waiting.calls import WaitingCalls
from recovery.waiting.waiters import Clock

if TYPE_CHECKING:
    from recovery.configuration import Source
    from recovery.journal.journal import Journal
    from recovery.journal.store import Store
    from recovery.monitoring.alerts import Thresholds
    from recovery.monitoring.monitor import Monitor
    from recovery.subscribers.resources import ResourceState
else:  # for inspect.signature(..., eval_str=True); the classes themselves would make the import slow
    Thresholds, Monitor = (ForwardRef(name, module="recovery.monitoring") for name in ("Thresholds", "Monitor"))
    Journal, Source, Store = map(ForwardRef, ("Journal", "Source", "Store"))
    ResourceState = ForwardRef("ResourceState", module="recovery.subscribers.resources")

DEFAULTS = Defaults()
NO_OVERRIDES: Mapping[str, Settings] = {}


class Recovery(Declarations, JournalledCalls):
    """A recovery service. Use it as a context manager; ``async with`` lets it resume async calls after a restart.

        with Recovery(store=SQLiteStore("journal.db")) as service:
            fetch = service.recoverable("fetch", max_retries=5)(fetch)

    ``service.bus`` takes subscribers, ``service.calls`` lists, finds and steers calls, ``service.circuits`` forces
    circuits, ``service.incidents`` lists what calls wait for together. With a store there is ``service.journal``.

    Args:
        store: Where the journal writes (``adapters.sqlite.SQLiteStore``, ``adapters.memory.MemoryStore``). ``None``
            persists nothing and starts no thread.
        enabled: False, or RECOVERY_DISABLED=1 in the environment, makes ``recoverable`` return functions untouched, but
            for a ``recovery.context`` where they have one.
        policy: The ``RetryPolicy`` of operations that declare none; by default ``RetryPolicy()``.
        breaker: The ``BreakerPolicy`` of operations that declare none; by default ``BreakerPolicy()``; ``None`` for no
            circuits.
        budget: The ``RetryBudget`` of operations that declare none; ``None`` for no limit.
        key: Makes the key of a call from its arguments, for operations that declare no ``key``; ``None`` for no keys.
        when_open: "reject" or "wait": what an open circuit does to calls of operations that declare neither.
        classifier: One ``Rule`` or function of the evidence, or several in order. Asked after an operation's own, and
            before the built-in rules.
        enable_classification: Whether operations that leave it open use the built-in rules.
        enable_logging: What operations that leave it open log: True, each retry at WARNING; ``None``, only retries that
            wait ten seconds and more, the others at INFO; False, nothing.
        clock: Reads monotonic seconds; for tests. Jumps of another clock are seen if it has ``boottime`` and
            ``process_time``, as ``VirtualClock`` has.
        rng: Draws from [0, 1) for the jitter; for tests.
        run: Names this process's run in the journal; 8 random hex digits by default.
        max_keys: How many keys of an operation are remembered; the least recently used is forgotten first.
        journal_config: What the journal holds in memory, and how long it waits.
        overrides: Settings by the name of an operation; they override those in the code.

    Raises:
        TypeError: An unknown option, or a value of the wrong type.
        ValueError: A value out of range.
    """

    @with_suggestions("Recovery")
    def __init__(
        self,
        *,
        store: Store | None = None,
        enabled: bool = True,
        policy: RetryPolicy = DEFAULTS.policy,
        breaker: BreakerPolicy | None = DEFAULTS.breaker,
        budget: RetryBudget | None = None,
        key: Callable[..., str] | None = None,
        when_open: WhenOpen = "reject",
        classifier: Classifier | Sequence[Classifier] = (),
        enable_classification: bool = True,
        enable_logging: bool | None = None,
        clock: Clock = time.monotonic,
        rng: Callable[[], float] = random.random,
        run: str | None = None,
        max_keys: int = MAX_KEYS,
        journal_config: JournalConfig = JOURNAL_DEFAULTS,
        overrides: Mapping[str, Settings] = NO_OVERRIDES,
    ) -> None:
        for name, function in (("clock", clock), ("rng", rng)):
            if not callable(function):
                raise TypeError(f"{name} must be a function without arguments, not {function!r}")
        validation.whole("max_keys", max_keys, least=1)
        self.bus = Bus(clock=clock, run=run)
        defaults = Defaults(policy=policy, breaker=breaker, budget=budget, key=key, when_open=when_open)
        self._registry = Registry(self.bus, lambda name: self._subscribers.forget(name), max_keys=max_keys)
        self._waiting = WaitingCalls(clock, rng)
        jumps = self._waiting.conditions.jumps
        self._joinable = JoinableCalls(self._registry, lambda: self._lifetime.journal, self.bus)
        self._steering = Steering(self._waiting, self.bus, self._registry)
        self._joinable.cancel = self._steering.cancel
        self._questions = Questions(self.bus, self._waiting, lambda: self._lifetime.journal is not None)
        self.calls = Calls(
            self._waiting, self._steering, self._joinable, self.bus, lambda: self._lifetime.journal, self._questions
        )
        self._subscribers = BuiltIn(self.bus, self._registry, rng, self._waiting, jumps.excuses, max_keys=max_keys)
        self._waiting.limited = self._subscribers.rate_limits.left
        jumps.connect(self.bus, self._subscribers.rate_limits.jumped, self._waiting.jumped)
        self.circuits = Circuits(self._subscribers.circuit_breaker)
        self.incidents = Incidents(
            self.bus, self._subscribers.incidents, self._subscribers.circuit_breaker, self._waiting
        )
        self._lifetime = Lifetime(journal_config, self._joinable, self.bus)
        self._definitions = Definitions(
            self.bus, self._registry, self._subscribers, self._waiting, self._joinable, self._lifetime, defaults
        )
        self._definitions.overrides = checked_overrides(overrides)
        self._monitor: Monitor | None = None
        self.configure(
            store=store,
            enabled=enabled,
            classifier=classifier,
            enable_classification=enable_classification,
            enable_logging=enable_logging,
        )

    @classmethod
    def from_config(
        cls, source: Source | None = None, *, env: Mapping[str, str] | None = None, **options: Any
    ) -> Recovery:
        """A service with the options of a TOML file and of environment variables (the page *Configuration by file*).

        Args:
            source: A TOML file, or a mapping of what one says; by default the file that RECOVERY_CONFIG names, if any.
            env: The variables; by default those of the process.
            options: As of ``Recovery``; they come before the file and the variables. A *classifier* is asked after the
                rules of the file.

        Raises:
            ConfigurationError: A file that cannot be read, an unknown key, or a wrong value.
        """
        from recovery.configuration import options_of  # here, for this alone: it derives types

        return cls(**options_of(source, env, **options))

    def __repr__(self) -> str:
        state = f"{len(self._registry)} operations, {len(self._waiting)} calls waiting, {self.journal or 'no journal'}"
        return f"<Recovery: {state}>" if self.is_enabled else "<Recovery: switched off>"

    @property
    def journal(self) -> Journal | None:
        """The journal, ``None`` without a store."""
        return self._lifetime.face

    @with_suggestions("configure")
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
        """Change the service in place; an option that is ``None`` stays as it is.

        *policy*, *breaker* and *budget* hold for operations defined from now on, everything else at once.
        ``enabled=False`` lets every failure pass, also of functions that are decorated already; a call that waits for
        its retry still makes it. The options are those of ``Recovery``.

        Raises:
            TypeError: An unknown option, or a value of the wrong type.
            ValueError: A second store, since calls may be under way that are journalled in the first.
        """
        flags = {"enabled": enabled, "enable_classification": enable_classification, "enable_logging": enable_logging}
        validation.flags(flags)
        changes = {"policy": policy, "breaker": breaker, "budget": budget}
        defaults = changed(
            self._definitions.defaults, {name: value for name, value in changes.items() if value is not None}
        )
        classifiers = None if classifier is None else in_order("classifier", classifier)
        if store is not None:
            from recovery.journal.circuit_history import Restore
            from recovery.resume.commands import Acts, CommandHandler  # here, for a journal alone

            questions, circuits = self._questions, self._subscribers.circuit_breaker.restore
            incidents, lifetime = self.incidents, self._lifetime
            acts = Acts(questions.answer, self._repeat, incidents.retry_now, incidents.give_up, lifetime.written)
            commands = CommandHandler(self._waiting, self._steering, self.bus, lambda: self._lifetime.resumption, acts)
            restore = Restore(
                circuits, questions.update, questions.as_written, lambda: questions.has_answered, questions.to_remember
            )
            self._lifetime.add_store(store, self.bus, self._registry.config_of, restore, commands)
        if enabled is not None:
            self._registry.switch.is_on = enabled
        self._definitions.defaults = defaults
        self._subscribers.configure(
            classification=enable_classification, logging=enable_logging, classifiers=classifiers
        )

    def resource(
        self,
        name: str,
        *,
        total: float | None = None,
        free: Callable[[], float] | None = None,
        unit: str = "",
        by_progress: bool = False,
    ) -> None:
        """Say how much there is of a resource that calls claim (the setting ``claims``).

            service.resource("vram", total=24e9, unit="B")

        A disk needs no such line: ``claims={"disk:models": size}`` is held against what is free in the folder
        "models". A name that is declared again changes.

        Args:
            name: What claims call it.
            total: How much there is. A call that needs more is rejected at once.
            free: Returns how much is free now, claims not counted; by default always *total*. It is called for each
                call that begins, and every few seconds while a call waits; it must not block.
            unit: The unit of its amounts, for messages ("B").
            by_progress: Whether a call that says ``context.progress(done)`` still claims only the rest: where *free*
                has already shrunk by what it has used, as for a disk.

        Raises:
            TypeError: An option has a wrong type.
            ValueError: Neither *total* nor *free* is given, or *total* is negative.
        """
        from recovery.subscribers.resources import Resource  # here, for resources alone

        about = Resource(name=name, free=free, total=total, unit=unit, by_progress=by_progress)
        self._definitions.holds.resources.declare(about)

    def resources(self) -> list[ResourceState]:
        """Every resource that was declared or claimed: how much is free, claimed, and waited for."""
        return self._definitions.holds.resources.states()

    def monitor(self, thresholds: Thresholds | None = None) -> Monitor:
        """The service's monitor (``recovery.monitoring.monitor.Monitor``), which counts from the first call on.

        Args:
            thresholds: When to raise alerts; the defaults of ``Thresholds`` if ``None``.

        Raises:
            ValueError: *thresholds* for a service that is monitored already.
            ImportError: The extra ``monitor`` is not installed.
        """
        if self._monitor is None:
            from recovery.monitoring.monitor import Monitor  # here, so that importing recovery stays light

            self._monitor = Monitor(
                self.bus,
                thresholds,
                config_of=self._registry.config_of,
                journal=lambda: self.journal,
                waiting=lambda: len(self._waiting),
                circuits=self.circuits.states,
                incidents=self.incidents.open,
            )
        elif thresholds is not None:
            raise ValueError("this service is monitored already; give the thresholds the first time")
        return self._monitor

    def stop(self) -> None:
        """Leave the calls that run to the next process: call it before they are cancelled, so that no end is written.

        Callers that joined one get StaysPendingError. The journal takes no more events, and calls are logged no more.
        """
        self._lifetime.stop()
        self.configure(enable_logging=False)  # what is cancelled now has not failed

    def close(self) -> None:
        """End for good: write the journal, deliver what is queued (5 s). Idempotent; later calls run unjournalled."""
        self._lifetime.close()

    def __enter__(self) -> Self:
        self._lifetime.enter()
        return self

    def __exit__(self, *_: object) -> None:
        self._lifetime.leave()

    async def __aenter__(self) -> Self:
        await self._lifetime.begin()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._lifetime.end(has_failed=raised[0] is not None)
