"""``BuiltIn``: the subscribers that every service has, on its bus."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.operation_events import FailureClassified, OperationFailed, Outcome
from recovery.subscribers.budget import RetryBudgets
from recovery.subscribers.circuit_breaker import Break
from recovery.subscribers.circuit_control import CircuitWaits
from recovery.subscribers.classification import Classify, Excuses
from recovery.subscribers.incidents import Incidents
from recovery.subscribers.log import DETAILS, LEVELS, Log
from recovery.subscribers.rate_limit import RateLimits
from recovery.subscribers.retry import Schedule

if TYPE_CHECKING:
    from events.bus import Bus
    from events.event import Event
    from events.subscription import Subscription
    from recovery.operations import Definition
    from recovery.policies.breaker_policy import BreakerPolicy
    from recovery.policies.classification import Classifier
    from recovery.registry import Registry


class Waits(CircuitWaits, Protocol):
    """What the subscribers tell the calls that wait (``recovery.waiting.calls``)."""

    def circuit_opened(self, opened: CircuitOpened, policy: BreakerPolicy | None) -> None:
        """Hold the calls that wait for a circuit, until its break ends."""

    def circuit_probed(self, operation: str, key: str) -> None:
        """Have the calls that wait for a circuit wait for the answer of a probe."""


class BuiltIn:
    """Classification, retries, circuits, rate limits and budgets of one service, and its log where it is wanted.

    Args:
        bus: The service's bus.
        registry: The service's operations.
        rng: Draws from [0, 1).
        waits: The calls that wait for circuits.
        excuses: Whether a failure is due to a jump of the clock.
        max_keys: How many keys of an operation each of them remembers.
    """

    def __init__(
        self, bus: Bus, registry: Registry, rng: Callable[[], float], waits: Waits, excuses: Excuses, *, max_keys: int
    ) -> None:
        config_of, operation_of = registry.config_of, registry.operation_of
        self.rng = rng
        self.classify = Classify(config_of, registry.call_configs, registry.switch, excuses=excuses)
        classify = bus.subscribe(OperationFailed, self.classify.on_failure, essential=True)
        self.budgets = RetryBudgets(bus, config_of, operation_of, max_keys=max_keys)
        schedule = bus.subscribe(
            FailureClassified,
            Schedule(config_of, rng, self.budgets, registry.call_configs).on_classified,
            essential=True,
        )
        self.circuit_breaker = Break(bus, config_of, operation_of, waits, rng=rng, max_keys=max_keys)
        self.rate_limits = RateLimits(bus, config_of, rng, max_keys=max_keys)
        self.subscriptions = {classify, schedule, self.circuit_breaker.subscription, self.rate_limits.subscription}
        """Those that decide about failures."""
        bus.subscribe((CircuitClosed, CircuitHalfOpened, CircuitOpened), self._on_circuit, essential=True)
        self.incidents = Incidents(bus)
        self._bus = bus
        self._registry = registry
        self._config_of = config_of
        self._waits = waits
        self._log = Log(registry.logs, most_retries=self._most_retries)
        self._log_subscriptions: dict[bool, list[Subscription]] = {}
        self._logs_all_of_some = False

    def configure(
        self, *, classification: bool | None, logging: bool | None, classifiers: tuple[Classifier, ...] | None
    ) -> None:
        """Set the service's choices for operations that leave them open; ``None`` changes nothing.

        Until it is set, *logging* is ``None``: retries are details.
        """
        if classification is not None:
            self.classify.enabled = classification
        if classifiers is not None:
            self.classify.classifiers = classifiers
        if logging is not None:
            self._registry.logging = logging
        self._follow_log()
        self._bus.invalidate()

    def follow(self, definition: Definition) -> None:
        """Subscribe to what the operation's config asks for."""
        self.circuit_breaker.follow(definition.operation.name)
        if definition.config.budget is not None:
            self.budgets.follow(definition.operation.name)
        if definition.config.logging and not self._logs_all_of_some:
            self._logs_all_of_some = True
            self._follow_log()

    def forget(self, operation: str) -> None:
        """Forget the state of *operation*: a new operation gets its name."""
        self.circuit_breaker.forget(operation)
        self.budgets.forget(operation)

    def _follow_log(self) -> None:
        """Subscribe the log to what some operation wants logged; a call that recovers causes details only."""
        logging = self._registry.logging
        logs_all = logging is True or self._logs_all_of_some
        wanted = (logs_all,) if logs_all or logging is None else ()
        for old in [one for one in self._log_subscriptions if one not in wanted]:
            for subscription in self._log_subscriptions.pop(old):
                subscription.close()
        for new in [one for one in wanted if one not in self._log_subscriptions]:
            notable = tuple(kind for kind in LEVELS if kind not in DETAILS)
            self._log_subscriptions[new] = [
                self._bus.subscribe(notable, self._log, essential=True),
                self._bus.subscribe(DETAILS, self._log, essential=True, is_detail=not logs_all),
            ]

    def _most_retries(self, outcome: Outcome) -> int | None:
        config = self._registry.call_configs.get(outcome.call) or self._config_of(outcome.operation)
        return None if config is None else config.policy.retries_for(outcome.category)

    def _on_circuit(self, event: Event) -> CircuitClosed | None:
        match event:
            case CircuitOpened(metrics_only=False):
                config = self._config_of(event.operation)
                self._waits.circuit_opened(event, None if config is None else config.breaker)
                if not self.circuit_breaker.is_open(event.operation, event.key):  # a thread that closed it was faster
                    return CircuitClosed(at=event.at, operation=event.operation, key=event.key)
            case CircuitHalfOpened():
                self._waits.circuit_probed(event.operation, event.key)
            case CircuitClosed():
                self._waits.circuit_closed(event.operation, event.key)
        return None
