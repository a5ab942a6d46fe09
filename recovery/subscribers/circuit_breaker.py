"""The circuits of all operations: ``Break`` counts failures, and asks the open circuits whether an attempt may begin.

A closed circuit receives failures only. An open circuit subscribes to the starts and successes of its operation (or of
one key of it) and unsubscribes when it is closed again: a healthy operation stays unobserved.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from events.bus import Bus
from events.circuit_events import CircuitClosed
from events.conditions import Condition
from events.counting import as_counted
from events.event import FOREVER, CallEvent, Event
from events.operation_events import FailureClassified, GaveUp, OperationStarted, Parked
from events.verdicts import GiveUp, Park, Verdict
from recovery.operations import MAX_KEYS, OperationOf
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.circuit_breaker import admit, step, until_probed
from recovery.policies.circuit_states import Closed, HalfOpen, Open, expiry
from recovery.policies.incidents import open_circuit
from recovery.policies.retry import parks
from recovery.settings import ConfigOf
from recovery.subscribers.circuit_control import CircuitWaits
from recovery.subscribers.learnt_circuits import LearntCircuits


class Break(LearntCircuits):
    """Failures -> CircuitOpened, CircuitHalfOpened, CircuitClosed; starts while a circuit is open -> Park or GiveUp.

    Safe to use from any thread.

    Args:
        bus: Where it subscribes.
        config_of: Finds the config of an operation.
        operation_of: Finds an operation and its success counter.
        waits: The calls that wait for circuits.
        rng: Draws from [0, 1) for the jitter of breaks.
        max_keys: How many circuits are remembered; the least important is forgotten first.
    """

    def __init__(
        self,
        bus: Bus,
        config_of: ConfigOf,
        operation_of: OperationOf,
        waits: CircuitWaits,
        *,
        rng: Callable[[], float] = random.random,
        max_keys: int = MAX_KEYS,
    ) -> None:
        super().__init__(bus, config_of, waits, self.on_start, self.on_outcome, max_keys)
        self._operation_of = operation_of
        self._rng = rng
        self._measured = self._known.durations.followed
        self._latest: object = None
        self.subscription = bus.subscribe((FailureClassified, GaveUp, Parked), self.on_outcome, essential=True)
        """To the failures."""

    def on_outcome(self, event: CallEvent) -> list[Event | Verdict] | None:
        """Count *event*: what it does to the circuit, and a park if the circuit is open now."""
        config = self._config_of(event.operation)
        if type(event) is not FailureClassified:
            counted = as_counted(event)
            if counted is None:
                return None
            event = counted
        if config is None or config.breaker is None:
            return None
        policy = config.breaker
        operation_key = (event.operation, event.key)
        if type(event) is Parked and operation_key not in self._circuits:
            return None
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
            failure: FailureClassified | None = None
            if after != before:
                self._known.operations[operation_key] = operation
                failure = event if isinstance(event, FailureClassified) else getattr(event, "failure", None)
                answers += self._move(operation_key, policy, before, after, event.at, failure)
        # A subscriber that parked this probe parks the other calls too: to wake them would not end.
        is_given_back = isinstance(before, HalfOpen) and isinstance(after, HalfOpen) and after != before
        if is_given_back and not isinstance(event, Parked):
            self._waits.may_probe(*operation_key)
        if isinstance(before, HalfOpen) and isinstance(after, Open) and failure is not None:
            self._waits.probe_failed(failure)
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
            answers = list[Event | Verdict](self._known.expire(event.at))
            forced, before = self._overrides.of(operation_key, event.at), self._circuits.get(operation_key)
            mode = None if forced is None else forced.mode
            if forced is not None and mode == "open":
                left = None if forced.until == math.inf else forced.until - event.at
                why = open_circuit(event.operation, event.key if operation_key in self._overrides else "")
                return [*answers, GiveUp(why, left) if rejects else Park(left or FOREVER, (why,))]
            if config is not None and policy is None and self._known.drop(operation_key) is not None:
                # It was restored, for an operation that has no circuit any more.
                closed = CircuitClosed(at=event.at, operation=event.operation, key=event.key, why="forgotten")
                return [*answers, closed]
            if policy is None or before is None or mode == "closed":
                return answers
            waits = not rejects and mode != "metrics_only" and event.at <= expiry(policy, before)
            if policy.probe is not None and not isinstance(before, Closed) and waits:
                left = before.until - event.at if isinstance(before, Open) else 0.0
                return [*answers, Park(max(left, 0.0), self._causes(policy, event))]
            after, wait = admit(policy, before, event.call, event.at)
            if wait is None and mode != "metrics_only" and isinstance(after, HalfOpen):
                asked = self.ask_cluster(*operation_key)
                if asked > 0.0:
                    return [*answers, Park(asked, (_why(event),))]
            answers += self._move(operation_key, policy, before, after, event.at)
        if wait is not None and mode != "metrics_only":
            come_back = until_probed(policy, after, event.at) or wait
            why = f"{_why(event)}{self.seen_by(operation_key)}"
            answers.append(GiveUp(why, come_back) if rejects else Park(wait, (_why(event),)))
        return answers

    def _causes(self, policy: BreakerPolicy, event: CallEvent) -> tuple[Condition | str, ...]:
        """What a call waits for at an open circuit: that a call or the policy's probe closes it."""
        why, probe, operation_key = _why(event), policy.probe, (event.operation, event.key)
        if probe is None:
            return (why,)

        def is_met() -> bool:
            self._keep(operation_key)
            return bool(probe.is_met()) and self._close(operation_key)

        return Condition(f"{probe.name}, {why}", is_met, blocks=probe.blocks, every=probe.every), why

    def _is_repeated(self, event: FailureClassified | GaveUp) -> bool:
        """Whether *event* is published once more for the same attempt, which counts once."""
        latest, self._latest = self._latest, (type(event), event.call, event.attempt)
        return latest == self._latest


def _why(event: CallEvent) -> str:
    return open_circuit(event.operation, event.key)
