"""When a circuit opens and closes: one table of states and events. Pure; events bring the time.

closed --(too many failures)--> open --(break_duration)--> half-open --(a probe succeeds)--> closed
                                  ^---------(a probe fails: the break grows)--'

By default a *call* that gave up counts, so that noise which retries absorb never opens the circuit. A circuit that
counts attempts suits a host, which all calls reach or fail to reach alike (``BreakerPolicy.counts``).

Source: Michael Nygard, "Release It!", 2007 (states); resilience4j's CircuitBreaker (rates over a count window, permits,
forced states); Polly's BreakDurationGenerator (growing breaks).
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import msgspec

from events.event import CallEvent
from events.evidence import Category
from events.operation_events import (
    CallRejected,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationSucceeded,
    Parked,
)
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.retry import HOPELESS

MIN_PROBE = 1.0
"""Seconds that a probe is expected to take at least."""

MAX_EXPIRED_PERMITS = 8
"""How many probes with an expired lease are remembered: their success still closes the circuit."""


class Closed(msgspec.Struct, frozen=True):
    """Every attempt begins.

    Args:
        failures: Failures in a row; for a rate, all failures since the circuit closed.
        successes: The operation's success counter at the latest failure.
        recent: For a rate: the numbers of the failures in the window. Calls or attempts are numbered from the moment
            the circuit closed.
        base: For a rate: the success counter when the circuit closed.
    """

    failures: int = 0
    successes: int = 0
    recent: tuple[int, ...] = ()
    base: int = 0


class Open(msgspec.Struct, frozen=True):
    """No attempt begins before *until*.

    Args:
        until: The end of the break, on the bus's clock.
        failures: The failures that opened it.
        times: How often in a row it opened without a success in between.
    """

    until: float
    failures: int = 0
    times: int = 1


class Permit(msgspec.Struct, frozen=True):
    """The right of one call to probe until it expires: a lost probe must not block the circuit.

    A probe that takes longer may still close the circuit; its failure does not count once another call probes.

    Args:
        call: The id of the call.
        expires: The end of its lease, on the bus's clock.
    """

    call: str
    expires: float


class HalfOpen(msgspec.Struct, frozen=True):
    """Calls with a permit probe; their results alone decide, not those of attempts that began earlier.

    Args:
        permits: The permits that were given.
        times: How often in a row the circuit opened without a success in between.
    """

    permits: tuple[Permit, ...] = ()
    times: int = 1


Circuit: TypeAlias = Closed | Open | HalfOpen


class Forced(msgspec.Struct, frozen=True):
    """A circuit that ``service.circuits.force`` has put into a *mode*; *circuit* is what it counts meanwhile."""

    mode: Literal["open", "closed", "metrics_only"]
    circuit: Circuit | None = None


def break_length(policy: BreakerPolicy, times: int) -> float:
    """Seconds that a circuit stays open when it opens for the *times*-th time in a row."""
    longest = max(policy.max_break, policy.break_duration)
    growth = (times - 1) * math.log(policy.break_growth)
    # Compared as logarithms before the power, which raises OverflowError long before a break stops growing.
    if growth >= math.log(longest / policy.break_duration):
        return policy.break_duration if times == 1 else longest
    return float(policy.break_duration * policy.break_growth ** (times - 1))


def step(policy: BreakerPolicy, circuit: Circuit, event: CallEvent, successes: int = 0) -> Circuit:
    """The circuit after *event*.

    A closed circuit does not receive successes: it learns of them here, from the counter.

    Args:
        policy: The operation's policy.
        circuit: The state before.
        event: What happened to a call.
        successes: The operation's success counter now.
    """
    match circuit, event:
        case Closed(), FailureClassified() | GaveUp() if _is_judged(policy, event):
            counts = _counts(policy, event)
            failed = _after_failure(policy, circuit, successes, counts=counts)
            if counts and _is_too_much(policy, failed):
                return Open(event.at + break_length(policy, 1), len(failed.recent) or failed.failures)
            return failed
        case HalfOpen(permits, times), _ if any(permit.call == event.call for permit in permits):
            others = HalfOpen(tuple(permit for permit in permits if permit.call != event.call), times)
            is_superseded = any(permit.expires > event.at for permit in others.permits) and all(
                permit.expires <= event.at for permit in permits if permit.call == event.call
            )
            match event:
                case OperationSucceeded():  # however late: the host answered
                    return Closed(0, successes)
                case FailureClassified() | GaveUp() if _is_judged(policy, event):
                    if is_superseded:
                        return others
                    if _counts(policy, event):
                        return Open(event.at + break_length(policy, times + 1), 1, times + 1)
                    return Closed(0, successes) if policy.categories is not None else others
                case GaveUp() | OperationCancelled() | CallRejected() | Parked(category=None):
                    return others
    return circuit


def as_of_now(policy: BreakerPolicy, circuit: Closed, successes: int) -> Closed:
    """*circuit* as it stands now: since its latest failure, *successes* may have ended the row or filled the window.

    A closed circuit without a failure that still counts is ``Closed()``.
    """
    if policy.failure_rate is None:
        return circuit if successes == circuit.successes else Closed()
    oldest = circuit.failures + successes - circuit.base - policy.window
    recent = tuple(one for one in circuit.recent if one > oldest)
    return msgspec.structs.replace(circuit, recent=recent) if recent else Closed()


def _after_failure(policy: BreakerPolicy, circuit: Closed, successes: int, *, counts: bool) -> Closed:
    if policy.failure_rate is None:
        failures = 0 if successes != circuit.successes else circuit.failures
        if not counts:
            return Closed(0 if policy.categories is not None else failures, successes)
        return Closed(failures + 1, successes)
    # Successes are not numbered, but the counter tells how many there were between two failures: that is enough.
    base = circuit.base if circuit.failures else circuit.successes
    failures = circuit.failures + 1
    number = failures + successes - base
    recent = (*circuit.recent, number) if counts else circuit.recent
    return Closed(failures, successes, tuple(one for one in recent if one > number - policy.window), base)


def _is_too_much(policy: BreakerPolicy, circuit: Closed) -> bool:
    if policy.failure_rate is None:
        return circuit.failures >= policy.failure_threshold
    total = circuit.failures + circuit.successes - circuit.base
    return total >= policy.window and len(circuit.recent) / policy.window >= policy.failure_rate


def admit(policy: BreakerPolicy, circuit: Circuit, call: str, now: float) -> tuple[Circuit, float | None]:
    """Whether *call* may begin an attempt now: the circuit after asking, and the seconds to wait, ``None`` to begin.

    Args:
        policy: The operation's policy.
        circuit: The state before.
        call: The id of the call.
        now: The time on the bus's clock.
    """
    match circuit:
        case Closed():
            return circuit, None
        case Open(until, _, times) if now < until:
            return circuit, until - now
        case Open(_, _, times):
            permits: tuple[Permit, ...] = ()
        case HalfOpen(permits, times):
            permits = tuple(permit for permit in permits if permit.call != call)
    live = [permit for permit in permits if permit.expires > now]
    if len(live) >= policy.half_open_permits:
        return HalfOpen(permits, times), min(permit.expires for permit in live) - now
    permits = (*[permit for permit in permits if permit.expires <= now][-MAX_EXPIRED_PERMITS:], *live)
    return HalfOpen((*permits, Permit(call, now + policy.lease)), times), None


def until_probed(policy: BreakerPolicy, circuit: Circuit, now: float) -> float | None:
    """Seconds after which a probe may have answered: as long as it has taken so far, and never beyond its lease.

    ``None`` if no call probes.
    """
    permits = circuit.permits if isinstance(circuit, HalfOpen) else ()
    waits = [
        min(max(now - (permit.expires - policy.lease), MIN_PROBE), permit.expires - now)
        for permit in permits
        if permit.expires > now
    ]
    return min(waits, default=None)


def importance(circuit: Circuit, now: float) -> tuple[int, float]:
    """Orders circuits by what is lost with them: closed ones first, then by the end of their break or probe.

    *now* is when the circuit came into its state: a probe that has ended, ended then.
    """
    match circuit:
        case Closed():
            return 0, 0.0
        case Open(until):
            return 1, until
        case HalfOpen(permits):
            return 1, max((permit.expires for permit in permits), default=now)


def _is_judged(policy: BreakerPolicy, event: CallEvent) -> bool:
    """Whether the policy counts events of this kind, and the call was neither cancelled nor exhausted further in."""
    kind = FailureClassified if policy.counts == "attempts" else GaveUp
    return isinstance(event, kind) and event.category not in (Category.CANCELLED, Category.EXHAUSTED)


def _counts(policy: BreakerPolicy, event: FailureClassified | GaveUp) -> bool:
    if policy.categories is not None:
        return event.category in policy.categories
    return event.category not in HOPELESS
