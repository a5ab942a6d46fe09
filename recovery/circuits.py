"""The circuits of all operations: ``Break`` keeps their states and gives the open ones a seat on the hot path.

A closed circuit hears failures only. When it opens, it takes a seat on the starts and successes of its one operation
(or of one key of it), and leaves the seat when it is closed again: a healthy operation is never asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

from events.bus import Bus, Subscription, sender_of
from events.facts import (
    CallFact,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    Fact,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationStarted,
    OperationSucceeded,
)
from events.verdicts import GiveUp, Park, Retry, Verdict
from recovery.breaker import BreakerPolicy, Circuit, Closed, HalfOpen, Open, admit, step
from recovery.registry import MAX_PARTS
from recovery.subscribers import PlanOf

Part: TypeAlias = tuple[str, str]
"""An operation's name, and a key or ""."""

CIRCUIT_OPEN = "circuit open"


class Break:
    """Failures -> CircuitOpened, CircuitHalfOpened, CircuitClosed; starts while a circuit is open -> Park or GiveUp.

    *successes* reads the success counter of a part; *released* is told of a part where a permit to probe was given
    back. Safe to use from any thread.
    """

    def __init__(
        self,
        bus: Bus,
        plan_of: PlanOf,
        successes: Callable[[str, str], int],
        released: Callable[[str, str], object] = lambda _operation, _key: None,
    ) -> None:
        self._bus = bus
        self._released = released
        self._plan_of = plan_of
        self._successes = successes
        self._lock = threading.RLock()
        self._circuits: dict[Part, Circuit] = {}
        self._seats: dict[Part, tuple[Subscription, ...]] = {}
        bus.subscribe((FailureClassified, GaveUp), self.hear, essential=True)

    def circuits(self) -> dict[Part, Circuit]:
        """A copy of every circuit that is not plainly closed."""
        with self._lock:
            return dict(self._circuits)

    def hear(self, fact: CallFact) -> list[Fact | Verdict] | None:
        """Count *fact*; say what it did to the circuit, and hold the next attempt back if the circuit is open now."""
        policy = self._policy(fact)
        if policy is None:
            return None
        part = (fact.operation, fact.key)
        with self._lock:
            before = self._circuits.get(part)
            if before is None:
                if isinstance(fact, GaveUp) is not (policy.counts == "calls"):
                    return None  # the common case: nothing known, nothing counted
                before = Closed(successes=self._successes(*part))
            after = step(policy, before, fact, self._successes(*part))
            answers = self._move(part, policy, before, after, fact.at)
        if isinstance(before, HalfOpen) and isinstance(after, HalfOpen) and after != before:
            self._released(*part)
        if isinstance(after, Open) and isinstance(fact, FailureClassified) and fact.at < after.until:
            # Not a Park: what has been tried has been tried, or a host that never comes back would be probed for ever.
            answers.append(Retry(after.until - fact.at))
        return answers

    def ask(self, fact: OperationStarted) -> list[Fact | Verdict] | None:
        """Whether an attempt may begin: the seat of a circuit that is not closed."""
        policy, plan = self._policy(fact), self._plan_of(fact.operation)
        part = (fact.operation, fact.key)
        with self._lock:
            before = self._circuits.get(part)
            if policy is None or plan is None or before is None:
                return None
            after, wait = admit(policy, before, fact.call, fact.at)
            answers = self._move(part, policy, before, after, fact.at)
        if wait is not None:
            rejected = plan.when_open == "reject" and fact.attempt == 1
            answers.append(GiveUp(_why(fact), wait) if rejected else Park(wait, until=(_why(fact),)))
        return answers

    def _policy(self, fact: CallFact) -> BreakerPolicy | None:
        plan = self._plan_of(fact.operation)
        return None if plan is None else plan.breaker

    def _move(
        self, part: Part, policy: BreakerPolicy, before: Circuit, after: Circuit, now: float
    ) -> list[Fact | Verdict]:
        """Note the new state, take or leave the seats it needs, and say what changed."""
        operation, key = part
        if isinstance(after, Closed) and after.failures == 0:
            self._circuits.pop(part, None)  # nothing to remember
        else:
            self._circuits[part] = after
            if len(self._circuits) > MAX_PARTS:
                self._forget_one(now)
        match before, after:
            case Closed(), Open(until, failures):
                self._take_seats(part)
                return [CircuitOpened(at=now, operation=operation, key=key, after=until - now, failures=failures)]
            case HalfOpen(), Open(until, failures):
                return [CircuitOpened(at=now, operation=operation, key=key, after=until - now, failures=failures)]
            case Open(), HalfOpen():
                return [CircuitHalfOpened(at=now, operation=operation, key=key)]
            case Open() | HalfOpen(), Closed():
                for seat in self._seats.pop(part, ()):
                    seat.close()
                return [CircuitClosed(at=now, operation=operation, key=key)]
        return []

    def _forget_one(self, now: float) -> None:
        """Of very many keys, forget one that is closed, or else one whose break is over and that nobody has probed."""

        def is_idle(circuit: Circuit) -> bool:
            return isinstance(circuit, Closed) or (isinstance(circuit, Open) and circuit.until <= now)

        idle = [part for part, circuit in self._circuits.items() if is_idle(circuit)]
        if idle:
            part = min(idle, key=lambda one: isinstance(self._circuits[one], Open))
            del self._circuits[part]
            for seat in self._seats.pop(part, ()):
                seat.close()

    def _take_seats(self, part: Part) -> None:
        operation, key = part
        narrow = key or None
        subscribe = self._bus.subscribe
        self._seats[part] = (
            subscribe(OperationStarted, self.ask, operation=operation, key=narrow, essential=True),
            subscribe(
                (OperationSucceeded, OperationCancelled), self.hear, operation=operation, key=narrow, essential=True
            ),
        )


def _why(fact: CallFact) -> str:
    return f"{CIRCUIT_OPEN}: {sender_of(fact.operation, fact.key)}"
