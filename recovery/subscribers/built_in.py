"""``BuiltIn``: the subscribers that every service has, on its bus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from events.bus import Bus
from events.circuit_events import CircuitClosed, CircuitOpened
from events.event import Event
from events.operation_events import FailureClassified, OperationFailed
from events.subscription import Subscription
from recovery.operations import Definition, Registry
from recovery.policies.classification import Classifier
from recovery.subscribers.budget import RetryBudgets
from recovery.subscribers.circuit_breaker import Break
from recovery.subscribers.classification import Classify
from recovery.subscribers.log import Log
from recovery.subscribers.rate_limit import RateLimits
from recovery.subscribers.retry import Schedule


class Wake(Protocol):
    """Wakes the deferred calls of an operation and key, so that they ask again whether they may begin."""

    def __call__(self, operation: str, key: str, /, *, spread: bool = False) -> object:
        """Wake them at once, or *spread* over a while."""


class BuiltIn:
    """Classification, retries, circuits, rate limits and budgets of one service, and its log where it is wanted.

    Args:
        bus: The service's bus.
        registry: The service's operations.
        rng: Draws from [0, 1).
        wake: Wakes deferred calls when a circuit changes.
        max_keys: How many keys of an operation each of them remembers.
    """

    def __init__(self, bus: Bus, registry: Registry, rng: Callable[[], float], wake: Wake, *, max_keys: int) -> None:
        config_of, operation_of = registry.config_of, registry.operation_of
        self.is_logging = False
        self.classify = Classify(config_of)
        bus.subscribe(OperationFailed, self.classify.on_failure, essential=True)
        self.budgets = RetryBudgets(bus, config_of, operation_of, max_keys=max_keys)
        bus.subscribe(FailureClassified, Schedule(config_of, rng, self.budgets).on_classified, essential=True)
        self.circuit_breaker = Break(bus, config_of, operation_of, wake, max_keys=max_keys)
        self.rate_limits = RateLimits(bus, config_of, rng, max_keys=max_keys)
        bus.subscribe((CircuitClosed, CircuitOpened), self._on_circuit, essential=True)
        self._bus = bus
        self._config_of = config_of
        self._wake = wake
        self._log: Subscription | None = None

    def configure(
        self, *, classification: bool | None, logging: bool | None, classifiers: tuple[Classifier, ...] | None
    ) -> None:
        """Set the service's choices for operations that leave them open; ``None`` changes nothing."""
        if classification is not None:
            self.classify.enabled = classification
        if classifiers is not None:
            self.classify.classifiers = classifiers
        if logging is not None:
            self.is_logging = logging
            if logging:
                self._start_log()

    def follow(self, definition: Definition) -> None:
        """Subscribe to what the operation's config asks for."""
        if definition.config.budget is not None:
            self.budgets.follow(definition.operation.name)
        if definition.config.logging:
            self._start_log()

    def forget(self, operation: str) -> None:
        """Forget the state of *operation*: a new operation gets its name."""
        self.circuit_breaker.forget(operation)
        self.budgets.forget(operation)

    def _start_log(self) -> None:
        if self._log is None:
            self._log = self._bus.subscribe(Event, Log(self._logs), essential=True)

    def _logs(self, operation: str) -> bool:
        config = self._config_of(operation)
        return self.is_logging if config is None or config.logging is None else config.logging

    def _on_circuit(self, event: Event) -> None:
        # Also when a circuit opens again: a call that waits for a probe then learns when the next one may be made.
        self._wake(event.operation, event.key, spread=isinstance(event, CircuitClosed))
