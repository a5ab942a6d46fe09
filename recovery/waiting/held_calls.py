"""The calls that an open circuit holds, in the order in which they may probe.

A held call does not ask while the answer is known: it asks when it is its turn, or when the circuit is closed.
"""

from __future__ import annotations

import math

import msgspec

from events.circuit_events import CircuitOpened
from events.event import FOREVER
from events.names import display_name
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.incidents import after_failed_probe, open_circuit
from recovery.waiting.wait import Wait


class HeldCalls(msgspec.Struct, eq=False):
    """The calls that wait for one open circuit. The caller of its methods holds the lock of the waits.

    As many calls as may probe at a time are due at *turn_at*. Each further group is due one lease later, in case those
    before it are lost without an answer.

    Args:
        turn_at: When the next call may probe, on the clock of the waits.
        permits: How many may probe at a time.
        lease: The most seconds that a probe may take.
        charges: Whether a failed probe counts for every call: not where a condition probes.
        waits: Their waits, the first to probe first, each with the time before which it must not end. A call that has
            probed comes last.
    """

    turn_at: float
    permits: int
    lease: float
    charges: bool = True
    waits: dict[Wait, float] = {}

    @classmethod
    def by(cls, opened: CircuitOpened, policy: BreakerPolicy | None) -> HeldCalls:
        """Those of the circuit that *opened*, under *policy*."""
        policy = policy or BreakerPolicy()
        return cls(_end_of_break(opened), policy.half_open_permits, policy.lease, policy.probe is None)

    def enter(self, wait: Wait) -> None:
        """Add *wait*, if it waits for this circuit: it is the last to probe."""
        causes = wait.causes
        if open_circuit(*wait.operation_key) not in causes or wait.attempt.call.asks_person:
            return
        is_longer = len(causes) > 1 or (not wait.is_deferred and wait.due > self.turn_at)
        self.waits[wait] = wait.due if is_longer else -math.inf
        # Its answer may know more than the turn: a probe after a lost one, say. To ask before would not end.
        wait.hold_until(max(wait.due, self._due(0 if wait in self._first() else len(self.waits) - 1)))

    def leave(self, wait: Wait) -> None:
        """Remove *wait*. If it was its turn, and it leaves without asking, it is the turn of the next."""
        if wait not in self.waits:
            return
        was_first = wait in self._first()
        del self.waits[wait]
        if was_first and not (wait.is_over and wait.ended is None):
            self.turn()

    def may_probe(self, now: float) -> None:
        """Let the next call probe at once: a permit is free."""
        self.turn_at = now
        self.turn()

    def probed(self, now: float) -> None:
        """Have the next call wait for the answer of a probe, at most as long as its lease."""
        self.turn_at = now + self.lease
        self.turn()

    def opened_again(self, opened: CircuitOpened) -> None:
        """Charge every call for the probe that failed; those that may wait on, wait for the next break to end."""
        self.turn_at = _end_of_break(opened)
        number = 0
        for wait in self.waits:
            if wait.is_over or wait.is_paused:
                continue
            if self.charges and opened.times > 1 and opened.failures and self._charge(wait, opened):
                continue
            self._hold(wait, number)
            number += 1

    def _charge(self, wait: Wait, opened: CircuitOpened) -> bool:
        """Count the failed probe as an attempt of the call of *wait*; returns whether that ends it."""
        call, policy = wait.attempt.call, wait.policy
        if policy is None:
            return False
        used = call.retries + (not wait.is_deferred and wait.counts_as_retry)
        incident = display_name(opened.operation, opened.key)
        ended = after_failed_probe(policy, used, opened.category, incident, opened.cause)
        if ended is not None:
            wait.give_up(ended)
        else:
            call.retries += 1
        return ended is not None

    def _first(self) -> list[Wait]:
        """The waits whose turn is next."""
        first: list[Wait] = []
        for wait in self.waits:
            if len(first) == self.permits:
                break
            if not (wait.is_over or wait.is_paused):
                first.append(wait)
        return first

    def turn(self) -> None:
        """Give the turn to the next call, or calls."""
        for wait in self._first():
            self._hold(wait, 0)

    def _hold(self, wait: Wait, number: int) -> None:
        wait.hold_until(max(self._due(number), self.waits[wait]))

    def _due(self, number: int) -> float:
        return self.turn_at + self.lease * (number // self.permits)


def _end_of_break(opened: CircuitOpened) -> float:
    return opened.at + min(opened.after, FOREVER)
