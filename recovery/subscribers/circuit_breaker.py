"""The circuits of all operations: ``Break`` keeps their states and subscribes the open ones to the hot path.

A closed circuit receives failures only. An open circuit subscribes to the starts and successes of its operation (or of
one key of it) and unsubscribes when it is closed again: a healthy operation stays unobserved.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Literal, Protocol, TypeAlias

import msgspec

from events.bus import Bus
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.conditions import Condition
from events.event import FOREVER, CallEvent, Event
from events.fork_locks import fork_safe
from events.operation import Operation
from events.operation_events import (
    CallRejected,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationStarted,
    OperationSucceeded,
    Parked,
    as_counted,
)
from events.parts import Parts
from events.subscription import Subscription
from events.verdicts import GiveUp, Park, Verdict
from recovery.operations import MAX_KEYS, OperationKey, OperationOf
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.circuit_breaker import (
    Circuit,
    Closed,
    Forced,
    HalfOpen,
    Open,
    admit,
    as_of_now,
    importance,
    step,
    until_probed,
)
from recovery.policies.incidents import open_circuit
from recovery.policies.retry import parks
from recovery.settings import ConfigOf
from recovery.subscribers.ranking import Ranking

Mode: TypeAlias = Literal["auto", "open", "closed", "metrics_only"]
MODES: tuple[Mode, ...] = ("auto", "open", "closed", "metrics_only")


class CircuitWaits(Protocol):
    """What circuits tell the calls that wait for them (``recovery.waiting.calls``)."""

    def may_probe(self, operation: str, key: str) -> None:
        """Let the next call probe: a permit is free."""

    def circuit_closed(self, operation: str, key: str) -> None:
        """Let every call go on."""


class Break:
    """Failures -> CircuitOpened, CircuitHalfOpened, CircuitClosed; starts while a circuit is open -> Park or GiveUp.

    Safe to use from any thread.

    Args:
        bus: Where it subscribes.
        config_of: Finds the config of an operation.
        operation_of: Finds an operation and its success counter.
        waits: The calls that wait for circuits.
        max_keys: How many circuits are remembered; the least important is forgotten first.
    """

    def __init__(
        self, bus: Bus, config_of: ConfigOf, operation_of: OperationOf, waits: CircuitWaits, *, max_keys: int = MAX_KEYS
    ) -> None:
        self._bus = bus
        self._waits = waits
        self._config_of = config_of
        self._operation_of = operation_of
        self._max_keys = max_keys
        self._lock = fork_safe(threading.RLock())
        self._circuits: dict[OperationKey, Circuit] = {}
        self._importance: Ranking[OperationKey, tuple[int, float]] = Ranking()
        self._subscriptions: dict[OperationKey, tuple[Subscription, ...]] = {}
        self._kept: dict[OperationKey, Operation | None] = {}  # for their counters
        self._forced: dict[OperationKey, Literal["open", "closed", "metrics_only"]] = {}
        self._parts = Parts()  # with a circuit or a forced mode
        self._latest: object = None
        self.subscription = bus.subscribe((FailureClassified, GaveUp, Parked), self.on_outcome, essential=True)
        """To the failures."""

    @property
    def known(self) -> Collection[OperationKey]:
        """The operation keys whose circuits are not closed without a failure, as they were left; always the same."""
        return self._circuits

    def states(self) -> dict[OperationKey, Circuit | Forced]:
        """Every circuit that is forced, or not closed without a failure, as it stands now."""
        found: dict[OperationKey, Circuit | Forced] = {}
        with self._lock:
            for operation_key, circuit in self._circuits.items():
                if isinstance(circuit, Closed):
                    circuit = self._as_of_now(operation_key, circuit)
                if circuit != Closed():
                    found[operation_key] = circuit
            for operation_key, mode in self._forced.items():
                found[operation_key] = Forced(mode, self._circuits.get(operation_key))
        return found

    def _as_of_now(self, operation_key: OperationKey, circuit: Closed) -> Closed:
        config, operation = self._config_of(operation_key[0]), self._kept.get(operation_key)
        if config is None or config.breaker is None or operation is None:
            return circuit
        return as_of_now(config.breaker, circuit, operation.successes)

    def force(self, operation: str, mode: Mode, *, key: str = "") -> None:
        """Put a circuit into *mode*, as ``Circuits.force`` documents it."""
        operation_key = (operation, key)
        with self._lock:
            before = self._forced.pop(operation_key, None)
            if mode != "auto":
                self._forced[operation_key] = mode
                self._parts.add(operation_key)
            was_open = isinstance(self._drop(operation_key), Open | HalfOpen) or before == "open"
            if mode == "open":
                self._subscribe(operation_key)
        now = self._bus.clock()
        if mode == "open":
            if before != "open":
                self._bus.publish(CircuitOpened(at=now, operation=operation, key=key, after=FOREVER, forced=True))
        elif was_open:  # a journal must know, too: the next run would restore the circuit
            self._bus.publish(CircuitClosed(at=now, operation=operation, key=key, why="forced"))
        if mode != "open":
            self._waits.circuit_closed(operation, key)

    def lets_pass(self, operation: str, key: str) -> bool:
        """Whether a call of *operation* and *key* may begin now, if only to probe."""
        config = self._config_of(operation)
        policy = BreakerPolicy() if config is None else config.breaker  # None: the operation is not defined yet
        with self._lock:
            mode, circuit = self._mode((operation, key)), self._circuits.get((operation, key))
        if mode is not None or policy is None or circuit is None:
            return mode != "open"
        return admit(policy, circuit, "", self._bus.clock())[1] is None

    def is_probed(self, operation: str, key: str) -> bool:
        """Whether a call probes the circuit of *operation* and *key* now."""
        with self._lock:
            circuit = self._circuits.get((operation, key))
        now = self._bus.clock()
        return isinstance(circuit, HalfOpen) and any(permit.expires > now for permit in circuit.permits)

    def end_break(self, operation: str, key: str) -> bool:
        """End the break of an open circuit: a call may probe now. Returns whether there was one."""
        with self._lock:
            circuit = self._circuits.get((operation, key))
            if not isinstance(circuit, Open) or self._mode((operation, key)) is not None:
                return False
            self._circuits[operation, key] = msgspec.structs.replace(circuit, until=self._bus.clock())
        return True

    def restore(self, states: dict[OperationKey, Open]) -> None:
        """Take over the open circuits of an earlier run, unless they are known; their times are on the bus's clock."""
        changed: list[Event] = []
        with self._lock:
            for operation_key, circuit in list(states.items())[-self._max_keys :]:
                if operation_key in self._circuits or operation_key in self._forced:
                    continue
                now = self._bus.clock()
                changed += self._remember(operation_key, circuit, now)
                if operation_key in self._circuits:
                    self._subscribe(operation_key)
                    operation, key = operation_key
                    after = max(circuit.until - now, 0.0)
                    changed.append(
                        CircuitOpened(
                            at=now,
                            operation=operation,
                            key=key,
                            after=after,
                            failures=circuit.failures,
                            times=circuit.times,
                        )
                    )
        for event in changed:
            self._bus.publish(event)

    def on_outcome(self, event: CallEvent) -> list[Event | Verdict] | None:
        """Count *event*: what it does to the circuit, and a park if the circuit is open now."""
        config = self._config_of(event.operation)
        counted = as_counted(event)
        if config is None or config.breaker is None or counted is None:
            return None
        policy, event = config.breaker, counted
        operation_key = (event.operation, event.key)
        if type(event) is Parked and operation_key not in self._circuits:
            return None
        is_counted = (type(event) is GaveUp) is (policy.counts == "calls")
        if not is_counted and operation_key not in self._circuits:
            return None  # the common case: nothing known, nothing counted
        with self._lock:
            mode = self._mode(operation_key)
            if mode in ("open", "closed"):
                return None
            before, operation = self._circuits.get(operation_key), self._operation_of(*operation_key)
            successes = 0 if operation is None else operation.successes
            if before is None:
                # Successes before the first failure count for a rate, but interrupt no row of failures.
                before = Closed(successes=0 if policy.failure_rate is not None else successes)
            if isinstance(event, (FailureClassified, GaveUp)) and self._is_repeated(event):
                return None
            after = step(policy, before, event, successes)
            self._kept[operation_key] = operation
            failure = event if isinstance(event, FailureClassified) else getattr(event, "failure", None)
            answers = self._move(operation_key, policy, before, after, event.at, failure)
        # A subscriber that parked this probe parks the other calls too: to wake them would not end.
        is_given_back = isinstance(before, HalfOpen) and isinstance(after, HalfOpen) and after != before
        if is_given_back and not isinstance(event, Parked):
            self._waits.may_probe(*operation_key)
        if isinstance(after, Open) and isinstance(event, FailureClassified) and mode != "metrics_only":
            left = after.until - event.at
            # The policy's Retry makes this park one that counts as a retry. A call that the policy parks itself asks
            # before its next attempt.
            if left > 0 and not parks(config.policy, event):
                answers.append(Park(left, self._causes(policy, event)))
        return answers

    def on_start(self, event: OperationStarted) -> list[Event | Verdict] | None:
        """Whether an attempt may begin, for a circuit that is not closed."""
        config = self._config_of(event.operation)
        policy = None if config is None else config.breaker
        operation_key = (event.operation, event.key)
        rejects = config is not None and config.when_open == "reject" and not event.again
        with self._lock:
            mode, before = self._mode(operation_key), self._circuits.get(operation_key)
            if mode == "open":
                return [GiveUp(_why(event)) if rejects else Park(FOREVER, (_why(event),))]
            if config is not None and policy is None and self._drop(operation_key) is not None:
                # It was restored, for an operation that has no circuit any more.
                return [CircuitClosed(at=event.at, operation=event.operation, key=event.key, why="forgotten")]
            if policy is None or before is None or mode == "closed":
                return None
            if policy.probe is not None and isinstance(before, Open) and not rejects and mode != "metrics_only":
                return [Park(max(before.until - event.at, 0.0), self._causes(policy, event))]
            after, wait = admit(policy, before, event.call, event.at)
            answers = self._move(operation_key, policy, before, after, event.at)
        if wait is not None and mode != "metrics_only":
            come_back = until_probed(policy, after, event.at) or wait
            answers.append(GiveUp(_why(event), come_back) if rejects else Park(wait, (_why(event),)))
        return answers

    def _causes(self, policy: BreakerPolicy, event: CallEvent) -> tuple[Condition | str, ...]:
        """What a call waits for at an open circuit: that a call or the policy's probe closes it."""
        why, probe = _why(event), policy.probe
        if probe is None:
            return (why,)

        def is_met() -> bool:
            return bool(probe.is_met()) and self._close((event.operation, event.key))

        return Condition(f"{probe.name}, {why}", is_met, blocks=probe.blocks, every=probe.every), why

    def _close(self, operation_key: OperationKey) -> bool:
        """Close an open circuit: the probe of its policy holds."""
        operation, key = operation_key
        with self._lock:
            was_open = isinstance(self._circuits.get(operation_key), Open)
            if was_open:
                self._drop(operation_key)
        if was_open:
            self._bus.publish(CircuitClosed(at=self._bus.clock(), operation=operation, key=key))
        return True

    def forget(self, operation: str) -> None:
        """Forget every circuit of *operation*: a new operation gets its name."""
        with self._lock:
            for operation_key in self._parts.within(operation):
                self._forced.pop(operation_key, None)
                self._drop(operation_key)

    def _is_repeated(self, event: FailureClassified | GaveUp) -> bool:
        """Whether *event* is published once more for the same attempt, which counts once."""
        latest, self._latest = self._latest, (type(event), event.call, event.attempt)
        return latest == self._latest

    def _mode(self, operation_key: OperationKey) -> Mode | None:
        forced = self._forced
        return (forced.get(operation_key) or forced.get((operation_key[0], ""))) if forced else None

    def _move(
        self,
        operation_key: OperationKey,
        policy: BreakerPolicy,
        before: Circuit,
        after: Circuit,
        now: float,
        failure: FailureClassified | None = None,
    ) -> list[Event | Verdict]:
        """Note the new state, subscribe or unsubscribe as it needs, and return the events that say what changed."""
        operation, key = operation_key
        answers: list[Event | Verdict] = []
        if isinstance(after, Closed) and after.failures == 0 and policy.failure_rate is None:
            self._drop(operation_key)  # nothing to remember
        elif isinstance(before, Closed) and isinstance(after, Closed) and operation_key in self._circuits:
            self._circuits[operation_key] = after  # as important as before
        else:
            answers += self._remember(operation_key, after, now)
            if operation_key not in self._circuits:  # less important than all others
                return answers
        match before, after:
            case Closed() | HalfOpen(), Open(until, failures, times):
                if isinstance(before, Closed):
                    self._subscribe(operation_key)
                muted, rest = self._mode(operation_key) == "metrics_only", until - now
                opened = CircuitOpened(
                    at=now,
                    operation=operation,
                    key=key,
                    after=rest,
                    failures=failures,
                    times=times,
                    metrics_only=muted,
                    category=None if failure is None else failure.category,
                    cause="" if failure is None else failure.brief,
                )
                answers.append(opened)
            case Open(), HalfOpen():
                answers.append(CircuitHalfOpened(at=now, operation=operation, key=key))
            case Open() | HalfOpen(), Closed():
                self._unsubscribe(operation_key)
                answers.append(CircuitClosed(at=now, operation=operation, key=key))
        return answers

    def _remember(self, operation_key: OperationKey, circuit: Circuit, now: float) -> list[Event]:
        """Note the state of a circuit, and forget the least important one beyond ``max_keys``, which may be this.

        Returns the event that says so where that one was open.
        """
        self._circuits[operation_key] = circuit
        self._importance.put(operation_key, importance(circuit, now))
        self._parts.add(operation_key)
        if len(self._circuits) <= self._max_keys:
            return []
        operation, key = least = self._importance.least()
        was_open = isinstance(self._drop(least), Open | HalfOpen) and least != operation_key
        return [CircuitClosed(at=now, operation=operation, key=key, why="forgotten")] if was_open else []

    def _drop(self, operation_key: OperationKey) -> Circuit | None:
        """Forget the circuit of *operation_key*, and unsubscribe it."""
        self._unsubscribe(operation_key)
        self._kept.pop(operation_key, None)
        self._importance.remove(operation_key)
        if operation_key not in self._forced:
            self._parts.discard(operation_key)
        return self._circuits.pop(operation_key, None)

    def _unsubscribe(self, operation_key: OperationKey) -> None:
        for subscription in self._subscriptions.pop(operation_key, ()):
            subscription.close()

    def _subscribe(self, operation_key: OperationKey) -> None:
        operation, key = operation_key
        outcomes = (OperationSucceeded, OperationCancelled, CallRejected)
        self._subscriptions[operation_key] = (
            self._bus.subscribe(OperationStarted, self.on_start, operation=operation, key=key or None, essential=True),
            self._bus.subscribe(outcomes, self.on_outcome, operation=operation, key=key or None, essential=True),
        )


def _why(event: CallEvent) -> str:
    return open_circuit(event.operation, event.key)
