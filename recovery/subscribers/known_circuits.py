"""``KnownCircuits``: the circuits that have something to remember, until they expire or too many are known."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TypeAlias

from events.bus import Bus
from events.circuit_events import CircuitClosed
from events.event import CallEvent, Event
from events.operation import Operation
from events.operation_events import OperationStarted
from events.parts import Parts
from events.subscription import Subscription
from recovery.operations import OperationKey
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.circuit_breaker import as_of_now
from recovery.policies.circuit_states import Circuit, Closed, Forced, HalfOpen, Open, expiry, last_use
from recovery.settings import ConfigOf
from recovery.subscribers.durations import OUTCOMES, Durations
from recovery.subscribers.overrides import Override, Overrides
from recovery.subscribers.ranking import Ranking

Rank: TypeAlias = tuple[float, float]
"""When a circuit expires, and when it was last of use."""

NEVER: Rank = (math.inf, math.inf)

UNDECLARED = BreakerPolicy()
"""The policy of an operation that is not defined yet."""

EXPIRED_AT_A_TIME = 2
"""Looks for an expired circuit, of each kind, that one failure or start pays for."""


class KnownCircuits:
    """Circuits and forced modes by operation and key, and the subscriptions of the open ones. Guard it by a lock.

    Nothing expires by itself: ``expire`` finds what is due, in logarithmic time, when something is asked or fails.

    Args:
        bus: Where an open circuit subscribes.
        config_of: Finds the config of an operation.
        on_start: Receives the starts while a circuit is open.
        on_outcome: Receives the ends of calls while a circuit is open, or measures.
        max_keys: How many circuits are remembered.
    """

    def __init__(
        self,
        bus: Bus,
        config_of: ConfigOf,
        on_start: Callable[[OperationStarted], object],
        on_outcome: Callable[[CallEvent], object],
        max_keys: int,
    ) -> None:
        self.states: dict[OperationKey, Circuit] = {}
        self.overrides = Overrides()
        self.durations = Durations(bus, on_outcome)
        self.operations: dict[OperationKey, Operation | None] = {}
        """The operations whose success counters the circuits read."""
        self.nodes: dict[OperationKey, str] = {}
        """The nodes of the cluster from which the circuits were learnt that no failure of this process has opened."""
        self.keys: set[OperationKey] = set()
        """The keys that are forced, or have a circuit here; always the same set."""
        self._bus, self._config_of, self._max_keys = bus, config_of, max_keys
        self._on_start, self._on_outcome = on_start, on_outcome
        self._gone: list[Event] = []  # what ``forget`` has ended
        self._parts = Parts()  # the same keys, by operation
        self._subscriptions: dict[OperationKey, tuple[Subscription, ...]] = {}
        self._closed: Ranking[OperationKey, Rank] = Ranking()
        self._open: Ranking[OperationKey, Rank] = Ranking()  # or half-open

    def policy_of(self, operation: str) -> BreakerPolicy | None:
        """The policy of *operation*; ``None`` for one without circuits."""
        config = self._config_of(operation)
        return UNDECLARED if config is None else config.breaker

    def follow(self, operation: str) -> None:
        """Take over the policy that *operation* has been defined with: what it measures, and when circuits expire."""
        policy = self.policy_of(operation)
        self.durations.follow(operation, is_measured=policy is not None and policy.is_measured)
        for operation_key in self._parts.within(operation):
            if operation_key in self.states:
                self._rank(operation_key)

    def forget(self, operation: str, now: float) -> None:
        """Forget every circuit and forced mode of *operation*. The next ``expire`` says so of those that were open."""
        for operation_key in list(self._parts.within(operation)):
            forced = self.overrides.pop(operation_key)
            was_open = isinstance(self.drop(operation_key), Open | HalfOpen)
            if was_open or (forced is not None and forced.mode == "open"):
                gone = CircuitClosed(at=now, operation=operation, key=operation_key[1], why="forgotten")
                self._gone.append(gone)

    def listed(self, now: float) -> dict[OperationKey, Circuit | Forced]:
        """Every circuit that is forced, or not closed without a failure, as it stands now."""
        seen = {operation_key: self._as_of_now(operation_key, now) for operation_key in self.states}
        found: dict[OperationKey, Circuit | Forced] = {one: state for one, state in seen.items() if state != Closed()}
        for operation_key, (mode, until) in self.overrides:
            end = None if until == math.inf else until
            found[operation_key] = Forced(mode, self.states.get(operation_key), end)
        return found

    def force(self, operation_key: OperationKey, override: Override) -> None:
        """Force *operation_key*, whose circuit is forgotten."""
        self.drop(operation_key)
        self.overrides.put(operation_key, override)
        self._add(operation_key)
        if override.mode == "open":
            self.subscribe(operation_key)

    def remember(self, operation_key: OperationKey, circuit: Circuit, now: float) -> list[Event]:
        """Note the state of a circuit, and forget the least important one beyond *max_keys*, which may be this.

        Returns the event that says so where that one was open.
        """
        self.states[operation_key] = circuit
        self._rank(operation_key)
        self._add(operation_key)
        if len(self.states) <= self._max_keys:
            return []
        operation, key = least = (self._closed or self._open).least()
        was_open = isinstance(self.drop(least), Open | HalfOpen) and least != operation_key
        return [CircuitClosed(at=now, operation=operation, key=key, why="forgotten")] if was_open else []

    def expire(self, now: float, most: float = EXPIRED_AT_A_TIME) -> list[Event]:
        """End the overrides that are over, and forget circuits that have expired: the events that say so.

        Args:
            now: The time on the bus's clock.
            most: How often it looks for an expired circuit of each kind.
        """
        gone, self._gone = self._gone, []
        ended = dict.fromkeys(self.overrides.ended(now), "forced")
        for operation_key in ended:
            self.drop(operation_key)
        for ranking in (self._closed, self._open):
            looks, due = 0, (now, -math.inf)
            while looks < most and (one := ranking.first_below(due)) is not None:
                looks += 1
                self._rank(one)  # each failure of a row leaves the rank of the first
                if ranking.get(one, NEVER) < due and isinstance(self.drop(one), Open | HalfOpen):
                    ended[one] = "forgotten"
        for (operation, key), why in ended.items():
            gone.append(CircuitClosed(at=now, operation=operation, key=key, why=why))
        return gone

    def drop(self, operation_key: OperationKey) -> Circuit | None:
        """Forget the circuit of *operation_key*, and unsubscribe it."""
        self.unsubscribe(operation_key)
        self._closed.remove(operation_key)
        self._open.remove(operation_key)
        self.operations.pop(operation_key, None)
        self.nodes.pop(operation_key, None)
        if operation_key not in self.overrides:
            self._parts.discard(operation_key)
            self.keys.discard(operation_key)
        return self.states.pop(operation_key, None)

    def subscribe(self, operation_key: OperationKey) -> None:
        """Have the circuit of *operation_key* hear of starts, and of the ends of calls."""
        operation, key = operation_key
        subscribe = functools.partial(self._bus.subscribe, operation=operation, key=key or None, essential=True)
        outcomes = () if operation in self.durations.followed else (subscribe(OUTCOMES, self._on_outcome),)
        self._subscriptions[operation_key] = (subscribe(OperationStarted, self._on_start), *outcomes)

    def unsubscribe(self, operation_key: OperationKey) -> None:
        """Have it hear of failures only."""
        for subscription in self._subscriptions.pop(operation_key, ()):
            subscription.close()

    def _as_of_now(self, operation_key: OperationKey, now: float) -> Circuit:
        policy, operation = self.policy_of(operation_key[0]), self.operations.get(operation_key)
        circuit = self.states[operation_key]
        if policy is None or (isinstance(circuit, Closed) and operation is None):
            return circuit
        return as_of_now(policy, circuit, 0 if operation is None else operation.successes, now)

    def _rank(self, operation_key: OperationKey) -> None:
        circuit, config = self.states[operation_key], self._config_of(operation_key[0])
        # A circuit of an earlier run is kept until its operation, which may never forget, is defined.
        expires = math.inf if config is None or config.breaker is None else expiry(config.breaker, circuit)
        is_closed = isinstance(circuit, Closed)
        (self._open if is_closed else self._closed).remove(operation_key)
        (self._closed if is_closed else self._open).put(operation_key, (expires, last_use(circuit)))

    def _add(self, operation_key: OperationKey) -> None:
        self._parts.add(operation_key)
        self.keys.add(operation_key)
