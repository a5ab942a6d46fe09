"""The calls that an open circuit holds, in the order in which they may probe.

A held call does not ask while the answer is known: it asks when it is its turn, or when the circuit is closed.
"""

from __future__ import annotations

import math

import msgspec

from events.circuit_events import CircuitOpened
from events.event import FOREVER
from events.operation_events import FailureClassified
from events.verdicts import GiveUp
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.incidents import after_failed_probe, open_circuit
from recovery.waiting.wait import Wait

ROUNDING = 1e-6
"""Seconds by which two sums of the same times may differ."""


class Held(msgspec.Struct, eq=False):
    """What is noted of a call that waits.

    Args:
        not_before: The time before which it must not end, for a reason of its own.
        failing_since: When the first probe failed for which it has waited.
    """

    not_before: float
    failing_since: float | None = None


class HeldCalls(msgspec.Struct, eq=False):
    """The calls that wait for one open circuit. The caller of its methods holds the lock of the waits.

    As many calls as may probe at a time are due at *turn_at*. Each further group is due one lease later, in case those
    before it are lost without an answer.

    Args:
        cause: What the calls name that wait for the circuit.
        turn_at: When the next call may probe, on the clock of the waits.
        permits: How many may probe at a time.
        lease: The most seconds that a probe may take.
        charges: Whether a failed probe counts for every call: not where a condition probes.
        waits: Their waits, the first to probe first. A call that has probed comes last.
    """

    cause: str
    turn_at: float
    permits: int
    lease: float
    charges: bool = True
    waits: dict[Wait, Held] = {}

    @classmethod
    def by(cls, opened: CircuitOpened, policy: BreakerPolicy | None) -> HeldCalls:
        """Those of the circuit that *opened*, under *policy*."""
        policy = policy or BreakerPolicy()
        cause, turn_at = open_circuit(opened.operation, opened.key), _end_of_break(opened)
        return cls(cause, turn_at, policy.half_open_permits, policy.lease, policy.probe is None)

    def enter(self, wait: Wait) -> None:
        """Add *wait*, which waits for this circuit: it is the last to probe."""
        self.waits[wait] = held = Held(wait.due if self._is_longer(wait) else -math.inf)
        now = wait.conditions.clock()
        if wait.is_deferred and self.turn_at <= now and held.not_before < now:
            self.turn_at = wait.due  # it was refused its turn: none is earlier
        self._hold(wait, len(self.waits) - 1)
        if self.turn_at > now:
            self.turn()

    def _is_longer(self, wait: Wait) -> bool:
        """Whether *wait* has a reason of its own to last at least as long as it does."""
        if any(not cause.endswith(self.cause) for cause in wait.causes):
            return True
        failure = wait.attempt.call.failure
        # Not by ``wait.due``: a real clock has gone on since the failure.
        return (
            not wait.is_deferred and failure is not None and failure.at + wait.verdict.after > self.turn_at + ROUNDING
        )

    def leave(self, wait: Wait) -> None:
        """Remove *wait*. If it was its turn, and it leaves without asking, it is the turn of the next."""
        if wait not in self.waits:
            return
        was_first = wait in self._first()
        del self.waits[wait]
        if was_first and not (wait.is_over and wait.ended is None):
            self.turn()

    def end(self) -> list[Wait]:
        """The waits that may end now that the circuit is closed: not those with a reason of their own to last."""
        ended = []
        for wait, held in self.waits.items():
            if wait.is_deferred or held.not_before == -math.inf:
                ended.append(wait)
            else:
                wait.hold_until(held.not_before)
        return ended

    def may_probe(self, now: float) -> None:
        """Let the next call probe at once: a permit is free."""
        self.turn_at = now
        self.turn()

    def probed(self, now: float) -> None:
        """Have the next call wait for the answer of a probe, at most as long as its lease."""
        self.turn_at = now + self.lease
        self.turn()

    def opened_again(self, opened: CircuitOpened) -> None:
        """Have the calls wait for the next break to end."""
        self.turn_at = _end_of_break(opened)
        for number, wait in enumerate(wait for wait in self.waits if not (wait.is_over or wait.is_paused)):
            self._hold(wait, number)

    def probe_failed(self, failure: FailureClassified) -> None:
        """Count *failure*, that of a probe, as an attempt of every call; one whose policy allows no more gives up."""
        if not self.charges:
            return
        failures = [wait.attempt.call.failure for wait in self.waits if wait.is_deferred]
        conditions_held = any(one is not None and one.category is failure.category for one in failures)
        for wait, held in list(self.waits.items()):
            if wait.is_over or wait.is_paused or wait.policy is None:
                continue
            if held.failing_since is None:
                held.failing_since = failure.at
            call, failing = wait.attempt.call, failure.at - held.failing_since
            used = call.retries + (not wait.is_deferred and wait.counts_as_retry)
            answer = after_failed_probe(wait.policy, failure, used, failing=failing, conditions_held=conditions_held)
            if isinstance(answer, GiveUp):
                wait.give_up(answer)
                del self.waits[wait]  # now: to look for the next among thousands that are over takes long
            else:
                call.retries += answer

    def _first(self) -> list[Wait]:
        """The waits whose turn is next."""
        first: list[Wait] = []
        for wait in self.waits:
            if len(first) == self.permits:
                break
            if not (wait.is_over or wait.is_paused or self.waits[wait].not_before > self.turn_at):
                first.append(wait)
        return first

    def give_up(self, wait: Wait) -> None:
        """Remove *wait*, which a person has given up; it is the turn of the next."""
        if self.waits.pop(wait, None) is not None:
            self.turn()

    def turn(self) -> None:
        """Give the turn to the next call, or calls."""
        for wait in self._first():
            self._hold(wait, 0)

    def _hold(self, wait: Wait, number: int) -> None:
        due = self.turn_at + self.lease * (number // self.permits)
        wait.hold_until(max(due, self.waits[wait].not_before))


def _end_of_break(opened: CircuitOpened) -> float:
    return opened.at + min(opened.after, FOREVER)
