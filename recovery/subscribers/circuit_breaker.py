"""The circuits of all operations: ``Break`` keeps their states and subscribes the open ones to the hot path.

A closed circuit receives failures only. An open circuit subscribes to the starts and successes of its operation (or of
one key of it) and unsubscribes when it is closed again: a healthy operation stays unobserved.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Collection
from typing import TypeAlias

from events.bus import Bus
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.event import FOREVER, CallEvent, Event
from events.fork_locks import fork_safe
from events.names import display_name
from events.operation_events import (
    FailureClassified,
    GaveUp,
    OperationStarted,
    Parked,
)
from events.verdicts import GiveUp, Park, Retry, Verdict
from recovery.operations import MAX_KEYS, OperationKey, OperationOf
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.circuit_breaker import admit, stagger, step, until_probed
from recovery.policies.circuit_states import Circuit, Closed, Forced, HalfOpen, Open
from recovery.policies.retry import parks
from recovery.settings import ConfigOf
from recovery.subscribers.known_circuits import UNDECLARED, KnownCircuits
from recovery.subscribers.overrides import Held, Mode, Override

OnPermit: TypeAlias = Callable[[str, str], object]


class Break:
    """Failures -> CircuitOpened, CircuitHalfOpened, CircuitClosed; starts while a circuit is open -> Park or GiveUp.

    Safe to use from any thread.

    Args:
        bus: Where it subscribes.
        config_of: Finds the config of an operation.
        operation_of: Finds an operation and its success counter.
        on_permit: Called with the operation's name and key when a permit to probe is free again.
        rng: Draws from [0, 1) for the jitter of breaks.
        max_keys: How many circuits are remembered; the least important is forgotten first.
    """

    def __init__(
        self,
        bus: Bus,
        config_of: ConfigOf,
        operation_of: OperationOf,
        on_permit: OnPermit,
        *,
        rng: Callable[[], float] = random.random,
        max_keys: int = MAX_KEYS,
    ) -> None:
        self._bus = bus
        self._on_permit = on_permit
        self._config_of = config_of
        self._max_keys = max_keys
        self._operation_of = operation_of
        self._rng = rng
        self._lock = fork_safe(threading.RLock())
        self._known = KnownCircuits(bus, config_of, self.on_start, self.on_outcome, max_keys)
        self._circuits, self._overrides = self._known.states, self._known.overrides
        self._measured = self._known.durations.followed
        self.known: Collection[OperationKey] = self._known.keys
        """The operation keys that are forced, or whose circuits have something to remember; always the same set."""
        self._latest: object = None
        self.subscription = bus.subscribe((FailureClassified, GaveUp), self.on_outcome, essential=True)
        """To the failures."""

    def states(self) -> dict[OperationKey, Circuit | Forced]:
        """Every circuit that is forced, or not closed without a failure, as it stands now."""
        now = self._bus.clock()
        with self._lock:
            ended, found = self._known.expire(now, math.inf), self._known.listed(now)
        self._publish(ended)
        return found

    def force(self, operation: str, mode: Mode, *, key: str = "", seconds: float | None = None) -> None:
        """Put a circuit into *mode*, as ``Circuits.force`` documents it."""
        operation_key, now = (operation, key), self._bus.clock()
        until = math.inf if seconds is None else now + seconds
        with self._lock:
            events = self._known.expire(now)
            before = self._overrides.pop(operation_key)
            was_forced_open = before is not None and before.mode == "open"
            circuit = self._circuits.get(operation_key)
            if mode == "half_open":
                if was_forced_open or not isinstance(circuit, HalfOpen):
                    times = 0 if circuit is None or isinstance(circuit, Closed) else circuit.times
                    events += self._put(operation_key, HalfOpen((), times, 0, now), now)
            else:
                self._known.drop(operation_key)
                if mode != "auto":
                    self._known.force(operation_key, Override(mode, until))
                if mode == "open":
                    if before != Override("open", until):
                        opened = CircuitOpened(
                            at=now, operation=operation, key=key, after=min(seconds or FOREVER, FOREVER), forced=True
                        )
                        events.append(opened)
                elif was_forced_open or isinstance(circuit, Open | HalfOpen):
                    # A journal must know, too: the next run would restore the circuit.
                    events.append(CircuitClosed(at=now, operation=operation, key=key))
        self._publish(events)
        self._on_permit(operation, key)

    def open_for(self, operation: str, seconds: float, *, key: str = "") -> None:
        """Open a circuit for *seconds*, as ``Circuits.open_for`` documents it."""
        now = self._bus.clock()
        with self._lock:
            events = self._known.expire(now)
            self._overrides.pop((operation, key))
            circuit = self._circuits.get((operation, key))
            times = circuit.times if isinstance(circuit, Open | HalfOpen) else 1
            events += self._put((operation, key), Open(now + seconds, 0, times), now)
        self._publish(events)

    def has_circuits(self, operation: str) -> bool:
        """Whether *operation* has circuits, or is not defined yet."""
        return self._known.policy_of(operation) is not None

    def lets_pass(self, operation: str, key: str) -> bool:
        """Whether a call of *operation* and *key* may begin now, if only to probe."""
        policy, now = self._known.policy_of(operation), self._bus.clock()
        with self._lock:
            mode, circuit = self._mode((operation, key), now), self._circuits.get((operation, key))
        if mode is not None or policy is None or circuit is None:
            return mode != "open"
        return admit(policy, circuit, "", now)[1] is None

    def restore(self, states: dict[OperationKey, Open]) -> None:
        """Take over the open circuits of an earlier run, unless they are known; their times are on the bus's clock.

        The break of one may have ended before now, even so long ago that the circuit has expired.
        """
        with self._lock:
            now, closed = self._bus.clock(), list[Event]()
            for operation_key, circuit in list(states.items())[-self._max_keys :]:
                if operation_key in self._circuits or operation_key in self._overrides:
                    continue
                closed += self._known.remember(operation_key, circuit, now)
                if operation_key in self._circuits:
                    self._known.subscribe(operation_key)
            closed += self._known.expire(now, math.inf)
        self._publish(closed)

    def follow(self, operation: str) -> None:
        """Take over the policy that *operation* has been defined with."""
        with self._lock:
            self._known.follow(operation)

    def on_outcome(self, event: CallEvent) -> list[Event | Verdict] | None:
        """Count *event*: what it does to the circuit, and a later retry if the circuit is open now."""
        config = self._config_of(event.operation)
        if config is None or config.breaker is None:
            return None
        policy = config.breaker
        operation_key = (event.operation, event.key)
        is_counted = (type(event) is GaveUp) is (policy.counts == "calls")
        if not is_counted and operation_key not in self._circuits and event.operation not in self._measured:
            return None  # the common case: nothing known, nothing counted
        with self._lock:
            took, answers = self._known.durations.of(event), list[Event | Verdict](self._known.expire(event.at))
            mode = self._mode(operation_key, event.at)
            if mode in ("open", "closed"):
                return answers
            before, operation = self._circuits.get(operation_key), self._operation_of(*operation_key)
            successes = 0 if operation is None else operation.successes
            if before is None:
                # Successes before the first failure count for a rate, but interrupt no row of failures.
                before = Closed(successes=0 if policy.failure_rate is not None else successes)
            if isinstance(event, (FailureClassified, GaveUp)) and self._is_repeated(event):
                return answers
            draw = self._rng() if policy.break_jitter else 0.0
            after = step(policy, before, event, successes, draw=draw, took=took)
            if after != before:
                self._known.operations[operation_key] = operation
                answers += self._move(operation_key, policy, before, after, event.at)
        # A subscriber that parked this probe parks the other calls too: to wake them would not end.
        is_given_back = isinstance(before, HalfOpen) and isinstance(after, HalfOpen) and after != before
        if is_given_back and not isinstance(event, Parked):
            self._on_permit(*operation_key)
        if isinstance(after, Open) and isinstance(event, FailureClassified) and mode != "metrics_only":
            left = after.until - event.at
            # A call that the policy parks asks before its next attempt, and uses no retry here. No other call is
            # parked: its attempt was made, and a host that never comes back must not be probed for ever.
            if left > 0 and not parks(config.policy, event):
                answers.append(Retry(left + stagger(policy, event.attempt)))
        return answers

    def on_start(self, event: OperationStarted) -> list[Event | Verdict] | None:
        """Whether an attempt may begin, for a circuit that is not closed."""
        config = self._config_of(event.operation)
        policy = None if config is None else config.breaker
        operation_key = (event.operation, event.key)
        rejects = config is not None and config.when_open == "reject" and not event.again
        with self._lock:
            ended = list[Event | Verdict](self._known.expire(event.at))
            forced, before = self._overrides.of(operation_key, event.at), self._circuits.get(operation_key)
            mode = None if forced is None else forced.mode
            if forced is not None and forced.mode == "open":
                left = None if forced.until == math.inf else forced.until - event.at
                return [*ended, GiveUp(_why(event), left) if rejects else Park(left or FOREVER, (_why(event),))]
            if config is not None and policy is None and self._known.drop(operation_key) is not None:
                # It was restored, for an operation that has no circuit any more.
                return [*ended, CircuitClosed(at=event.at, operation=event.operation, key=event.key)]
            if policy is None or before is None or mode == "closed":
                return ended
            after, wait = admit(policy, before, event.call, event.at, attempt=event.attempt)
            answers = [*ended, *self._move(operation_key, policy, before, after, event.at)]
        if wait is not None and mode != "metrics_only":
            come_back = until_probed(policy, after, event.at) or wait
            answers.append(GiveUp(_why(event), come_back) if rejects else Park(wait, (_why(event),)))
        return answers

    def forget(self, operation: str) -> None:
        """Forget every circuit of *operation*: a new operation gets its name."""
        with self._lock:
            self._known.forget(operation)

    def _is_repeated(self, event: FailureClassified | GaveUp) -> bool:
        """Whether *event* is published once more for the same attempt, which counts once."""
        latest, self._latest = self._latest, (type(event), event.call, event.attempt)
        return latest == self._latest

    def _mode(self, operation_key: OperationKey, now: float) -> Held | None:
        found = self._overrides.of(operation_key, now)
        return None if found is None else found.mode

    def _publish(self, events: list[Event]) -> None:
        for event in events:
            self._bus.publish(event)

    def _put(self, operation_key: OperationKey, circuit: Open | HalfOpen, now: float) -> list[Event]:
        """Put a circuit into a state by hand: the events that say so."""
        self._known.drop(operation_key)
        policy = self._known.policy_of(operation_key[0]) or UNDECLARED
        moved = self._move(operation_key, policy, Closed(), circuit, now)
        return [one for one in moved if isinstance(one, Event)]

    def _move(
        self, operation_key: OperationKey, policy: BreakerPolicy, before: Circuit, after: Circuit, now: float
    ) -> list[Event | Verdict]:
        """Note the new state, subscribe or unsubscribe as it needs, and return the events that say what changed."""
        operation, key = operation_key
        answers: list[Event | Verdict] = []
        if isinstance(after, Closed) and after.failures == 0 and policy.failure_rate is None and not after.slices:
            self._known.drop(operation_key)  # nothing to remember
        elif isinstance(before, Closed) and isinstance(after, Closed) and operation_key in self._circuits:
            self._circuits[operation_key] = after  # as important as before
        else:
            answers += self._known.remember(operation_key, after, now)
            if operation_key not in self._circuits:  # less important than all others
                return answers
        match before, after:
            case Closed() | HalfOpen(), Open(until, failures, times, slow):
                if isinstance(before, Closed):
                    self._known.subscribe(operation_key)
                opened = CircuitOpened(
                    at=now,
                    operation=operation,
                    key=key,
                    after=until - now,
                    failures=failures,
                    times=times,
                    slow=slow,
                    metrics_only=self._mode(operation_key, now) == "metrics_only",
                )
                answers.append(opened)
            case Closed() | Open(), HalfOpen():
                if isinstance(before, Closed):
                    self._known.subscribe(operation_key)
                answers.append(CircuitHalfOpened(at=now, operation=operation, key=key))
            case Open() | HalfOpen(), Closed():
                self._known.unsubscribe(operation_key)
                answers.append(CircuitClosed(at=now, operation=operation, key=key))
        return answers


def _why(event: CallEvent) -> str:
    return f"circuit open: {display_name(event.operation, event.key)}"
