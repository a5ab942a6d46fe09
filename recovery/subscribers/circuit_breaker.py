"""The circuits of all operations: ``Break`` keeps their states and gives the open ones a seat on the hot path.

A closed circuit hears failures only. When it opens, it takes a seat on the starts and successes of its one operation
(or of one key of it), and leaves the seat when it is closed again: a healthy operation is never asked.

A circuit can be forced, as resilience4j's can: *open* lets nobody pass, *closed* everybody, and *metrics* only says
what it would have done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal, TypeAlias

from events.bus import Bus
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.conditions import Condition
from events.event import FOREVER, CallEvent, Event
from events.fork_locks import fork_safe
from events.names import display_name
from events.operation import Operation
from events.operation_events import (
    CallRejected,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationStarted,
    OperationSucceeded,
    Parked,
)
from events.subscription import Subscription
from events.verdicts import GiveUp, Park, Retry, Verdict
from recovery import validation
from recovery.operations import MAX_KEYS, OperationKey
from recovery.policies.circuit_breaker import BreakerPolicy, Circuit, Closed, HalfOpen, Open, admit, stagger, step
from recovery.policies.retry import parks
from recovery.settings import ConfigOf

Mode: TypeAlias = Literal["auto", "open", "closed", "metrics_only"]
MODES: tuple[Mode, ...] = ("auto", "open", "closed", "metrics_only")

CIRCUIT_OPEN = "circuit open"


class Break:
    """Failures -> CircuitOpened, CircuitHalfOpened, CircuitClosed; starts while a circuit is open -> Park or GiveUp.

    *operation_of* finds a part, with its success counter; *released* is told of a part where a permit to probe was
    given
    back. Safe to use from any thread.
    """

    def __init__(
        self,
        bus: Bus,
        config_of: ConfigOf,
        operation_of: Callable[[str, str], Operation | None],
        released: Callable[[str, str], object] = lambda _operation, _key: None,
    ) -> None:
        self._bus = bus
        self._released = released
        self._config_of = config_of
        self._operation_of = operation_of
        self._lock = fork_safe(threading.RLock())
        self._circuits: dict[OperationKey, Circuit] = {}
        self._subscriptions: dict[OperationKey, tuple[Subscription, ...]] = {}
        self._kept: dict[OperationKey, Operation | None] = {}  # for their counters
        self._forced: dict[OperationKey, Mode] = {}
        self._latest: object = None
        bus.subscribe((FailureClassified, GaveUp), self.on_outcome, essential=True)

    def circuits(self) -> dict[OperationKey, Circuit]:
        """A copy of every circuit that is not plainly closed."""
        with self._lock:
            return dict(self._circuits)

    def force(self, operation: str, mode: Mode, *, key: str = "") -> None:
        """Put the circuit of *operation* (or of one *key* of it) into *mode*, until it is told otherwise.

        What holds for the whole operation holds for each of its keys that is not told otherwise itself.
        "open" holds back whoever comes, "closed" nobody, whatever happens; "metrics_only" counts, and publishes what it
        would have done, but holds nobody back; "auto" is as its policy says, from a clean slate. An operation that has
        no breaker can be forced, too. Raises ValueError for another mode.
        """
        validation.choice("mode", mode, MODES)
        part = (operation, key)
        with self._lock:
            if mode == "auto":
                self._forced.pop(part, None)
            else:
                self._forced[part] = mode
            dropped = self._drop(part)
            self._unsubscribe(part)
            if mode == "open":
                self._subscribe(part)
        if isinstance(dropped, Open | HalfOpen):  # or the next run would restore it
            self._bus.publish(CircuitClosed(at=self._bus.clock(), operation=operation, key=key))
        self._released(operation, key)  # whoever waits asks again

    def closed(self, operation: str, *, key: str = "") -> Condition:
        """The condition that this circuit lets somebody pass, if only to probe: for ``Park``."""

        def is_closed() -> bool:
            config = self._config_of(operation)
            with self._lock:
                mode = self._mode((operation, key))
                if mode is not None:
                    return mode != "open"
                if config is not None and config.breaker is None:
                    return True
                now = self._bus.clock()
                match self._circuits.get((operation, key)):
                    case Open(until):
                        return until <= now
                    case HalfOpen(permits):
                        return all(permit.expires <= now for permit in permits)
                return True

        return Condition(f"circuit closed: {display_name(operation, key)}", is_closed)

    def restore(self, states: dict[OperationKey, Open]) -> None:
        """Take over what an earlier run knew, unless something is known already; the times are on the bus's clock."""
        with self._lock:
            for part, circuit in list(states.items())[-MAX_KEYS:]:
                if part not in self._circuits and part not in self._forced:
                    self._circuits[part] = circuit
                    self._subscribe(part)

    def on_outcome(self, event: CallEvent) -> list[Event | Verdict] | None:
        """Count *event*; say what it did to the circuit, and hold the next attempt back if the circuit is open now."""
        policy = self._policy(event)
        if policy is None:
            return None
        part = (event.operation, event.key)
        is_counted = (type(event) is GaveUp) is (policy.counts == "calls")
        if not is_counted and part not in self._circuits:
            return None  # the common case: nothing known, nothing counted
        with self._lock:
            mode = self._mode(part)
            if mode in ("open", "closed"):
                return None
            before, operation = self._circuits.get(part), self._operation_of(*part)
            successes = 0 if operation is None else operation.successes
            if before is None:
                if not is_counted:
                    return None
                # What succeeded before counts for a rate, and breaks no row.
                before = Closed(successes=0 if policy.failure_rate is not None else successes)
            if isinstance(event, (FailureClassified, GaveUp)):
                is_echo, self._latest = (
                    self._latest == (type(event), event.call, event.attempt),
                    (type(event), event.call, event.attempt),
                )
                if is_echo:
                    return None  # somebody judged the same failure once more
            after = step(policy, before, event, successes)
            self._kept[part] = operation
            answers = self._move(part, policy, before, after, event.at)
        # Whoever parked this call parks the others too, and wakes them: they would only wake each other.
        is_given_back = isinstance(before, HalfOpen) and isinstance(after, HalfOpen) and after != before
        if is_given_back and not isinstance(event, Parked):
            self._released(*part)
        is_deferred = isinstance(after, Open) and event.at < after.until and mode != "metrics_only"
        if is_deferred and isinstance(after, Open) and isinstance(event, FailureClassified) and not self._parks(event):
            # Not a Park: what has been tried has been tried, or a host that never comes back would be probed for ever.
            answers.append(Retry(after.until - event.at + stagger(policy, event.attempt)))
        return answers

    def on_start(self, event: OperationStarted) -> list[Event | Verdict] | None:
        """Whether an attempt may begin: the seat of a circuit that is not closed."""
        policy, config = self._policy(event), self._config_of(event.operation)
        part = (event.operation, event.key)
        rejects = config is not None and config.when_open == "reject" and not event.again
        with self._lock:
            mode, before = self._mode(part), self._circuits.get(part)
            if mode == "open":
                return [GiveUp(_why(event)) if rejects else Park(FOREVER, (_why(event),))]
            if config is not None and policy is None:
                self._drop(part)  # restored, for an operation that has no circuit any more
                self._unsubscribe(part)
            if policy is None or before is None or mode == "closed":
                return None
            after, wait = admit(policy, before, event.call, event.at, attempt=event.attempt)
            answers = self._move(part, policy, before, after, event.at)
        if wait is not None and mode != "metrics_only":
            answers.append(GiveUp(_why(event), wait) if rejects else Park(wait, (_why(event),)))
        return answers

    def _parks(self, failure: FailureClassified) -> bool:
        """Whether the policy parks the call: then it asks before its next attempt, and need not be charged here."""
        config = self._config_of(failure.operation)
        return config is not None and parks(config.policy, failure)

    def _mode(self, part: OperationKey) -> Mode | None:
        forced = self._forced
        return (forced and (forced.get(part) or forced.get((part[0], "")))) or None

    def _policy(self, event: CallEvent) -> BreakerPolicy | None:
        config = self._config_of(event.operation)
        return None if config is None else config.breaker

    def _move(
        self, part: OperationKey, policy: BreakerPolicy, before: Circuit, after: Circuit, now: float
    ) -> list[Event | Verdict]:
        """Note the new state, take or leave the seats it needs, and say what changed."""
        operation, key = part
        if isinstance(after, Closed) and after.failures == 0 and policy.failure_rate is None:
            self._drop(part)  # nothing to remember
        else:
            self._circuits[part] = after
            if len(self._circuits) > MAX_KEYS:
                self._forget_one(now)
                if part not in self._circuits:
                    return []
        match before, after:
            case Closed() | HalfOpen(), Open(until, failures, times):
                if isinstance(before, Closed):
                    self._subscribe(part)
                opened = CircuitOpened(
                    at=now,
                    operation=operation,
                    key=key,
                    after=until - now,
                    failures=failures,
                    times=times,
                    metrics_only=self._mode(part) == "metrics_only",
                )
                return [opened]
            case Open(), HalfOpen():
                return [CircuitHalfOpened(at=now, operation=operation, key=key)]
            case Open() | HalfOpen(), Closed():
                self._unsubscribe(part)
                return [CircuitClosed(at=now, operation=operation, key=key)]
        return []

    def _forget_one(self, now: float) -> None:
        """Of very many keys, forget the one that matters least: closed, or else the one whose break ends first."""

        def weight(part: OperationKey) -> tuple[int, float]:
            match self._circuits[part]:
                case Closed():
                    return 0, 0.0
                case Open(until):
                    return 1, until
                case HalfOpen(permits):
                    return 1, max((permit.expires for permit in permits), default=now)

        part = min(self._circuits, key=weight)
        self._drop(part)
        self._unsubscribe(part)

    def forget(self, operation: str) -> None:
        """Forget every circuit of *operation*: its name is another's now."""
        with self._lock:
            for part in [part for part in {**self._circuits, **self._forced} if part[0] == operation]:
                self._forced.pop(part, None)
                self._drop(part)
                self._unsubscribe(part)

    def _drop(self, part: OperationKey) -> Circuit | None:
        self._kept.pop(part, None)
        return self._circuits.pop(part, None)

    def _unsubscribe(self, part: OperationKey) -> None:
        for subscription in self._subscriptions.pop(part, ()):
            subscription.close()

    def _subscribe(self, part: OperationKey) -> None:
        operation, key = part
        narrow = key or None
        subscribe = self._bus.subscribe
        self._subscriptions[part] = (
            subscribe(OperationStarted, self.on_start, operation=operation, key=narrow, essential=True),
            subscribe(
                (OperationSucceeded, OperationCancelled, CallRejected, Parked),
                self.on_outcome,
                operation=operation,
                key=narrow,
                essential=True,
            ),
        )


def _why(event: CallEvent) -> str:
    return f"{CIRCUIT_OPEN}: {display_name(event.operation, event.key)}"
