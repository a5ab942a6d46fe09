"""When to stop trying: closed, open, half-open, as one table of states and events. Pure; events bring the time.

closed --(too many failures)--> open --(break_duration)--> half-open --(a probe succeeds)--> closed
                                  ^---------(a probe fails: the break grows)--'

The states and their names are Michael Nygard's ("Release It!", 2007); rates over a count window, permits and the
modes of ``Break.force`` are as in resilience4j's CircuitBreaker, the growing break is what Polly's
BreakDurationGenerator is for.

What counts is, by default, a *call* that gave up: noise that retries absorb never opens the circuit. A circuit that
counts attempts suits a host: whether it can be reached is the same question for everyone (``BreakerPolicy.counts``).
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
from recovery import validation
from recovery.policies.retry import HOPELESS
from recovery.suggestions import Suggesting

STAGGER = 0.05
"""Of a break: how much later a call asks to probe for every attempt but its first, so that others go before it."""


MAX_EXPIRED_PERMITS = 8
"""So many probes whose lease has run out are remembered: they may still prove that somebody is there."""


class BreakerPolicy(msgspec.Struct, metaclass=Suggesting, frozen=True, kw_only=True):
    """When a circuit opens, and for how long.

    *failure_threshold* failures in a row open it; or, where *failure_rate* is given (above 0, at most 1), that share of
    the last *window* calls or attempts, once there were so many. It is open for *break_duration* seconds,
    *break_growth* times as long whenever a probe fails, *max_break* (or *break_duration*, if that is longer) at the
    most. Then *half_open_permits* calls at a time may probe, each for *lease* seconds at the most before another may
    take its place. *counts* says what a failure is: "calls" that gave up, or failed "attempts". *categories* narrows it
    down to failures of those kinds, and then any other failure breaks the row; ``None`` counts every kind that is not
    hopeless.

    Raises TypeError or ValueError, naming the field, for a value out of range. A rate over attempts needs a window of
    100 at least: at a failure rate of 0.3 a narrower one opens by chance, all the time.
    """

    failure_threshold: int = 5
    failure_rate: float | None = None
    window: int = 100
    break_duration: float = 30.0
    break_growth: float = 2.0
    max_break: float = 300.0
    counts: Literal["calls", "attempts"] = "calls"
    categories: frozenset[Category] | None = None
    half_open_permits: int = 1
    lease: float = 60.0

    def __post_init__(self) -> None:
        validation.whole("failure_threshold", self.failure_threshold, least=1)
        validation.number("break_duration", self.break_duration, above=0.0)
        validation.number("break_growth", self.break_growth, least=1.0)
        validation.number("max_break", self.max_break, above=0.0)
        validation.choice("counts", self.counts, ("calls", "attempts"))
        validation.whole("half_open_permits", self.half_open_permits, least=1)
        validation.number("lease", self.lease, above=0.0)
        validation.whole("window", self.window, least=1)
        if self.failure_rate is not None:
            if validation.number("failure_rate", self.failure_rate, above=0.0) > 1.0:
                raise ValueError(f"failure_rate must be at most 1, not {self.failure_rate!r}")
            validation.whole("window", self.window, least=100 if self.counts == "attempts" else 10)
        if self.categories is not None:
            known = tuple(map(str, Category))
            given = validation.items("categories", self.categories)
            chosen = frozenset(Category(validation.choice("categories", one, known)) for one in given)
            msgspec.structs.force_setattr(self, "categories", chosen)


class Closed(msgspec.Struct, frozen=True):
    """Everybody passes. *failures* in a row so far, and what the success counter said at the latest.

    For a rate: *recent* holds the numbers of the failures within the window, where everything since the circuit was
    closed is numbered through; *failures* is all that did not succeed, *base* what the success counter said then.
    """

    failures: int = 0
    successes: int = 0
    recent: tuple[int, ...] = ()
    base: int = 0


class Open(msgspec.Struct, frozen=True):
    """Nobody passes before *until*, on the bus's clock; opened *times* in a row without a success in between."""

    until: float
    failures: int = 0
    times: int = 1


class Permit(msgspec.Struct, frozen=True):
    """The right of one call to probe, until it *expires*: a probe that is lost must not wedge the circuit.

    A probe that takes longer may still close the circuit; its failure does not count once another probes in its place.
    """

    call: str
    expires: float


class HalfOpen(msgspec.Struct, frozen=True):
    """Whoever holds a permit passes. Only their results decide: a late answer to an older question does not."""

    permits: tuple[Permit, ...] = ()
    times: int = 1


Circuit: TypeAlias = Closed | Open | HalfOpen


def break_length(policy: BreakerPolicy, times: int) -> float:
    """Seconds that a circuit stays open when it opens for the *times*-th time in a row."""
    longest = max(policy.max_break, policy.break_duration)
    growth = (times - 1) * math.log(policy.break_growth)
    # Compared as logarithms before the power, which raises OverflowError long before a break stops growing.
    if growth >= math.log(longest / policy.break_duration):
        return policy.break_duration if times == 1 else longest
    return float(policy.break_duration * policy.break_growth ** (times - 1))


def step(policy: BreakerPolicy, circuit: Circuit, event: CallEvent, successes: int = 0) -> Circuit:
    """The circuit after *event*; *successes* is what the operation's success counter says now.

    A closed circuit does not listen to successes: it learns of them here, by comparing the counter.
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
                case OperationSucceeded():  # however late: somebody was there
                    return Closed(0, successes)
                case FailureClassified() | GaveUp() if _is_judged(policy, event):
                    if is_superseded:
                        return others
                    if _counts(policy, event):
                        return Open(event.at + break_length(policy, times + 1), 1, times + 1)
                    return Closed(0, successes) if policy.categories is not None else others
                case GaveUp() | OperationCancelled() | CallRejected() | Parked(error=None):
                    return others
    return circuit


def _after_failure(policy: BreakerPolicy, circuit: Closed, successes: int, *, counts: bool) -> Closed:
    if policy.failure_rate is None:
        failures = 0 if successes != circuit.successes else circuit.failures
        if not counts:
            return Closed(0 if policy.categories is not None else failures, successes)
        return Closed(failures + 1, successes)
    # Successes come without numbers, but how many there were between two failures is known: that is all it takes.
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


def admit(
    policy: BreakerPolicy, circuit: Circuit, call: str, now: float, *, attempt: int = 1
) -> tuple[Circuit, float | None]:
    """Whether *call* may begin an attempt *now*: the circuit after asking, and the seconds to wait, ``None`` to go.

    A call waits longer, the more attempts it has made: probing must not use up the retries of one, time and again.
    """
    match circuit:
        case Closed():
            return circuit, None
        case Open(until, _, times) if now < until:
            return circuit, until - now + stagger(policy, attempt - 1)
        case Open(_, _, times):
            permits: tuple[Permit, ...] = ()
        case HalfOpen(permits, times):
            permits = tuple(permit for permit in permits if permit.call != call)
    live = [permit for permit in permits if permit.expires > now]
    if len(live) >= policy.half_open_permits:
        return HalfOpen(permits, times), min(permit.expires for permit in live) - now
    permits = (*[permit for permit in permits if permit.expires <= now][-MAX_EXPIRED_PERMITS:], *live)
    return HalfOpen((*permits, Permit(call, now + policy.lease)), times), None


def importance(circuit: Circuit, now: float) -> tuple[int, float]:
    """Orders circuits by what is lost with them: closed ones first, then by the end of their break or probe."""
    match circuit:
        case Closed():
            return 0, 0.0
        case Open(until):
            return 1, until
        case HalfOpen(permits):
            return 1, max((permit.expires for permit in permits), default=now)


def stagger(policy: BreakerPolicy, made: int) -> float:
    """How many seconds after a break a call that has *made* so many attempts had better ask; half a break at most."""
    return policy.break_duration * min(STAGGER * max(made - 1, 0), 0.5)


def _is_judged(policy: BreakerPolicy, event: CallEvent) -> bool:
    """Whether this is the kind of event that the policy counts, and not a change of mind."""
    kind = FailureClassified if policy.counts == "attempts" else GaveUp
    return isinstance(event, kind) and event.category not in (Category.CANCELLED, Category.EXHAUSTED)


def _counts(policy: BreakerPolicy, event: FailureClassified | GaveUp) -> bool:
    if policy.categories is not None:
        return event.category in policy.categories
    return event.category not in HOPELESS
