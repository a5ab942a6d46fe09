"""When to stop trying: closed, open, half-open, as one table of states and facts. Pure; facts bring the time.

closed --(failure_threshold in a row)--> open --(break_duration)--> half-open --(a probe succeeds)--> closed
                                           ^---------(a probe fails)---------'

What counts is, by default, a *call* that gave up: noise that retries absorb never opens the circuit. A circuit that
counts attempts suits a host: whether it can be reached is the same question for everyone (``BreakerPolicy.counts``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from events.facts import CallFact, Category, FailureClassified, GaveUp, OperationCancelled, OperationSucceeded
from recovery import checks
from recovery.policy import HOPELESS


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a circuit opens, and for how long.

    *failure_threshold* failures in a row open it for *break_duration* seconds; then *half_open_permits* calls at a time
    may probe, each for *lease* seconds at the most before another may take its place. *counts* says what a failure is:
    "calls" that gave up, or failed "attempts". *categories* narrows it down to failures of those kinds, and then any
    other failure breaks the row; ``None`` counts every kind that is not hopeless.

    Raises TypeError or ValueError, naming the field, for a value out of range.
    """

    failure_threshold: int = 5
    break_duration: float = 30.0
    counts: Literal["calls", "attempts"] = "calls"
    categories: frozenset[Category] | None = None
    half_open_permits: int = 1
    lease: float = 60.0

    def __post_init__(self) -> None:
        checks.whole("failure_threshold", self.failure_threshold, least=1)
        checks.number("break_duration", self.break_duration, above=0.0)
        checks.choice("counts", self.counts, ("calls", "attempts"))
        checks.whole("half_open_permits", self.half_open_permits, least=1)
        checks.number("lease", self.lease, above=0.0)
        if self.categories is not None:
            known = tuple(str(category) for category in Category)
            given: object = self.categories
            if isinstance(given, str) or not isinstance(given, Iterable):
                raise TypeError(f"categories must be a set of categories, not {given!r}")
            chosen = frozenset(Category(checks.choice("categories", one, known)) for one in given)
            msgspec.structs.force_setattr(self, "categories", chosen)


class Closed(msgspec.Struct, frozen=True):
    """Everybody passes. *failures* in a row so far, and what the success counter said at the latest."""

    failures: int = 0
    successes: int = 0


class Open(msgspec.Struct, frozen=True):
    """Nobody passes before *until*, on the bus's clock."""

    until: float
    failures: int = 0


class Permit(msgspec.Struct, frozen=True):
    """The right of one call to probe, until it *expires*: a probe that is lost must not wedge the circuit."""

    call: str
    expires: float


class HalfOpen(msgspec.Struct, frozen=True):
    """Whoever holds a permit passes. Only their results decide: a late answer to an older question does not."""

    permits: tuple[Permit, ...] = ()


Circuit: TypeAlias = Closed | Open | HalfOpen


def step(policy: BreakerPolicy, circuit: Circuit, fact: CallFact, successes: int = 0) -> Circuit:
    """The circuit after *fact*; *successes* is what the operation's success counter says now.

    A closed circuit does not listen to successes: it learns of them here, by comparing the counter.
    """
    match circuit, fact:
        case Closed(failures, seen), FailureClassified() | GaveUp() if _is_judged(policy, fact):
            failures = 0 if successes != seen else failures
            if not _counts(policy, fact):
                return Closed(0 if policy.categories is not None else failures, successes)
            if failures + 1 >= policy.failure_threshold:
                return Open(fact.at + policy.break_duration, failures + 1)
            return Closed(failures + 1, successes)
        case HalfOpen(permits), _ if any(permit.call == fact.call for permit in permits):
            others = HalfOpen(tuple(permit for permit in permits if permit.call != fact.call))
            match fact:
                case OperationSucceeded():
                    return Closed(0, successes)
                case FailureClassified() | GaveUp() if _is_judged(policy, fact):
                    if _counts(policy, fact):
                        return Open(fact.at + policy.break_duration, 1)
                    return Closed(0, successes) if policy.categories is not None else others
                case GaveUp() | OperationCancelled():
                    return others
    return circuit


def admit(policy: BreakerPolicy, circuit: Circuit, call: str, now: float) -> tuple[Circuit, float | None]:
    """Whether *call* may begin an attempt *now*: the circuit after asking, and the seconds to wait, ``None`` to go."""
    match circuit:
        case Closed():
            return circuit, None
        case Open(until) if now < until:
            return circuit, until - now
        case Open():
            permits: tuple[Permit, ...] = ()
        case HalfOpen(permits):
            permits = tuple(permit for permit in permits if permit.expires > now and permit.call != call)
    if len(permits) >= policy.half_open_permits:
        return HalfOpen(permits), min(permit.expires for permit in permits) - now
    return HalfOpen((*permits, Permit(call, now + policy.lease))), None


def _is_judged(policy: BreakerPolicy, fact: CallFact) -> bool:
    """Whether this is the kind of fact that the policy counts, and not a change of mind."""
    kind = FailureClassified if policy.counts == "attempts" else GaveUp
    return isinstance(fact, kind) and fact.category not in (Category.CANCELLED, Category.SPENT)


def _counts(policy: BreakerPolicy, fact: FailureClassified | GaveUp) -> bool:
    if policy.categories is not None:
        return fact.category in policy.categories
    return fact.category not in HOPELESS
