"""``CircuitControl``: the states of circuits, as people and journals see and change them."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection
from typing import Protocol

import msgspec

from events.bus import Bus
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.event import FOREVER, CallEvent, Event
from events.evidence import Category
from events.fork_locks import fork_safe
from events.operation_events import FailureClassified, OperationStarted
from recovery.operations import OperationKey
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.circuit_breaker import admit
from recovery.policies.circuit_states import Circuit, Closed, Forced, HalfOpen, Open, Reopened, expiry
from recovery.settings import ConfigOf
from recovery.subscribers.known_circuits import UNDECLARED, KnownCircuits
from recovery.subscribers.overrides import Held, Mode, Override


class CircuitWaits(Protocol):
    """What circuits tell the calls that wait for them (``recovery.waiting.calls``)."""

    def may_probe(self, operation: str, key: str) -> None:
        """Let the next call probe: a permit is free."""

    def probe_failed(self, failure: FailureClassified) -> None:
        """Count the failure of a probe as an attempt of every call."""

    def circuit_closed(self, operation: str, key: str) -> None:
        """Let every call go on."""


class CircuitControl:
    """Looks at circuits and puts them into states. Safe to use from any thread.

    Args:
        bus: Where it publishes what changes.
        config_of: Finds the config of an operation.
        waits: The calls that wait for circuits.
        on_start: Receives the starts while a circuit is open.
        on_outcome: Receives the ends of calls while a circuit is open, or measures.
        max_keys: How many circuits are remembered; the least important is forgotten first.
    """

    def __init__(
        self,
        bus: Bus,
        config_of: ConfigOf,
        waits: CircuitWaits,
        on_start: Callable[[OperationStarted], object],
        on_outcome: Callable[[CallEvent], object],
        max_keys: int,
    ) -> None:
        self._bus = bus
        self._waits = waits
        self._config_of = config_of
        self._max_keys = max_keys
        self._lock = fork_safe(threading.RLock())
        self._known = KnownCircuits(bus, config_of, on_start, on_outcome, max_keys)
        self._circuits, self._overrides = self._known.states, self._known.overrides
        self.known: Collection[OperationKey] = self._known.keys
        """The operation keys that are forced, or whose circuits have something to remember; always the same set."""

    def states(self) -> dict[OperationKey, Circuit | Forced]:
        """Every circuit that is forced, or not closed without a failure, as it stands now."""
        now = self._bus.clock()
        with self._lock:
            ended, found = self._known.expire(now, math.inf), self._known.listed(now)
        self._publish(ended)
        return found

    def until_probe(self, operation: str, key: str) -> float | None:
        """Seconds until a call may probe, or until a circuit is forced open no longer.

        ``None`` while a call probes, and for a circuit that is forced open for good.
        """
        now = self._bus.clock()
        with self._lock:
            forced, circuit = self._overrides.of((operation, key), now), self._circuits.get((operation, key))
        if forced is not None:
            return None if forced.until == math.inf else forced.until - now
        if isinstance(circuit, HalfOpen) and any(permit.expires > now for permit in circuit.permits):
            return None
        return max(circuit.until - now, 0.0) if isinstance(circuit, Open) else 0.0

    def force(self, operation: str, mode: Mode, *, key: str = "", seconds: float | None = None) -> None:
        """Put a circuit into *mode*, as ``Circuits.force`` documents it."""
        operation_key, now = (operation, key), self._bus.clock()
        with self._lock:
            events = self._known.expire(now)
            before = self._overrides.pop(operation_key)
            was_forced_open, circuit = before is not None and before.mode == "open", self._circuits.get(operation_key)
            if mode == "half_open":
                if was_forced_open or not isinstance(circuit, HalfOpen):
                    times = circuit.times if isinstance(circuit, Open | HalfOpen) else 0
                    events += self._put(operation_key, HalfOpen((), times, 0, now), now)
            else:
                self._known.drop(operation_key)
                override = None if mode == "auto" else Override(mode, math.inf if seconds is None else now + seconds)
                if override is not None:
                    self._known.force(operation_key, override)
                if mode == "open":
                    if before != override:
                        after = FOREVER if seconds is None else min(seconds, FOREVER)
                        events.append(CircuitOpened(at=now, operation=operation, key=key, after=after, forced=True))
                elif was_forced_open or isinstance(circuit, Open | HalfOpen):
                    # A journal must know, too: the next run would restore the circuit.
                    events.append(CircuitClosed(at=now, operation=operation, key=key, why="forced"))
        self._publish(events)
        if mode == "half_open":
            self._waits.may_probe(operation, key)
        elif mode != "open":
            self._waits.circuit_closed(operation, key)

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

    def end_break(self, operation: str, key: str) -> bool:
        """End the break of an open circuit: a call may probe now. Returns whether there was one."""
        now = self._bus.clock()
        with self._lock:
            circuit = self._circuits.get((operation, key))
            if not isinstance(circuit, Open) or self._mode((operation, key), now) is not None:
                return False
            self._circuits[operation, key] = msgspec.structs.replace(circuit, until=now)
        return True

    def is_open(self, operation: str, key: str) -> bool:
        """Whether a circuit is open, half-open or forced open."""
        with self._lock:
            forced = self._overrides.of((operation, key), self._bus.clock())
            circuit = self._circuits.get((operation, key))
        return isinstance(circuit, Open | HalfOpen) if forced is None else forced.mode == "open"

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

    def restore(self, states: dict[OperationKey, Reopened]) -> None:
        """Take over the open circuits of an earlier run, unless they are known; their times are on the bus's clock.

        The break of one may have ended before now. One that has expired is closed.
        """
        with self._lock:
            now, changed = self._bus.clock(), list[Event]()
            for operation_key, reopened in list(states.items())[-self._max_keys :]:
                (operation, key), circuit = operation_key, reopened.circuit
                config = self._config_of(operation)
                if operation_key in self._circuits or operation_key in self._overrides:
                    continue
                if config is not None and config.breaker is not None and now > expiry(config.breaker, circuit):
                    changed.append(CircuitClosed(at=now, operation=operation, key=key, why="forgotten"))
                    continue
                changed += self._known.remember(operation_key, circuit, now)
                if operation_key in self._circuits:
                    self._known.subscribe(operation_key)
                    since = min(now, circuit.until)  # as old as it is
                    changed.append(opening(operation_key, circuit, since, reopened.category, reopened.cause))
        self._publish(changed)

    def follow(self, operation: str) -> None:
        """Take over the policy that *operation* has been defined with."""
        with self._lock:
            self._known.follow(operation)

    def forget(self, operation: str) -> None:
        """Forget every circuit of *operation*: a new operation gets its name."""
        with self._lock:
            self._known.forget(operation, self._bus.clock())

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
        return self._move(operation_key, policy, Closed(), circuit, now)

    def _keep(self, operation_key: OperationKey) -> None:
        """Do not forget a circuit whose break is over: calls wait for the probe of its policy."""
        now = self._bus.clock()
        with self._lock:
            match circuit := self._circuits.get(operation_key):
                case Open(until) if until < now:
                    circuit = msgspec.structs.replace(circuit, until=now)
                case HalfOpen(permits) if all(permit.expires <= now for permit in permits):
                    circuit = msgspec.structs.replace(circuit, permits=(), idle_since=now)
                case _:
                    return
            self._known.remember(operation_key, circuit, now)

    def _close(self, operation_key: OperationKey) -> bool:
        """Close a circuit whose break is over: the probe of its policy holds."""
        operation, key = operation_key
        with self._lock:
            circuit = self._circuits.get(operation_key)
            was_open = isinstance(circuit, Open | HalfOpen)
            if was_open:
                self._known.drop(operation_key)
        if was_open:
            self._bus.publish(CircuitClosed(at=self._bus.clock(), operation=operation, key=key))
        return True

    def _move(
        self,
        operation_key: OperationKey,
        policy: BreakerPolicy,
        before: Circuit,
        after: Circuit,
        now: float,
        failure: FailureClassified | None = None,
    ) -> list[Event]:
        """Note the new state, subscribe or unsubscribe as it needs, and return the events that say what changed."""
        operation, key = operation_key
        events: list[Event] = []
        if isinstance(after, Closed) and after.failures == 0 and policy.failure_rate is None and not after.slices:
            self._known.drop(operation_key)  # nothing to remember
        elif isinstance(before, Closed) and isinstance(after, Closed) and operation_key in self._circuits:
            self._circuits[operation_key] = after  # as important as before
        else:
            events += self._known.remember(operation_key, after, now)
            if operation_key not in self._circuits:  # less important than all others
                return events
        match before, after:
            case Closed() | HalfOpen(), Open():
                if isinstance(before, Closed):
                    self._known.subscribe(operation_key)
                self._known.nodes.pop(operation_key, None)
                is_muted = self._mode(operation_key, now) == "metrics_only"
                category, cause = (None, "too slow" if after.slow else "")
                if failure is not None:
                    category, cause = failure.category, failure.brief
                events.append(opening(operation_key, after, now, category, cause, metrics_only=is_muted))
            case Closed() | Open(), HalfOpen():
                if isinstance(before, Closed):
                    self._known.subscribe(operation_key)
                self._known.nodes.pop(operation_key, None)
                events.append(CircuitHalfOpened(at=now, operation=operation, key=key))
            case Open() | HalfOpen(), Closed():
                self._known.unsubscribe(operation_key)
                why = "forgotten" if now > expiry(policy, before) else "recovered"
                events.append(CircuitClosed(at=now, operation=operation, key=key, why=why))
        return events


def opening(
    operation_key: OperationKey,
    circuit: Open,
    now: float,
    category: Category | None,
    cause: str,
    *,
    metrics_only: bool = False,
    node: str = "",
) -> CircuitOpened:
    """The event of *circuit*, which a failure of that *category* and *cause* has opened."""
    return CircuitOpened(
        at=now,
        operation=operation_key[0],
        key=operation_key[1],
        after=max(circuit.until - now, 0.0),
        failures=circuit.failures,
        slow=circuit.slow,
        times=circuit.times,
        metrics_only=metrics_only,
        category=category,
        cause=cause,
        node=node,
    )
