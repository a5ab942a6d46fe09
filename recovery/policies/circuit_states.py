"""The states of a circuit, and how long each is remembered. Pure."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import msgspec

from events.evidence import Category
from recovery.policies.breaker_policy import BreakerPolicy


class Slice(msgspec.Struct, frozen=True):
    """What a measured circuit counted in a part of its window.

    Args:
        at: When it began.
        calls: The calls or attempts in it.
        failures: Those that failed.
        slow: Those that were slow.
    """

    at: float
    calls: int = 0
    failures: int = 0
    slow: int = 0


class Closed(msgspec.Struct, frozen=True):
    """Every attempt begins.

    Args:
        failures: Failures in a row; for a rate, all failures since the circuit closed.
        successes: The operation's success counter at the latest failure.
        recent: For a rate: the numbers of the failures in the window. Calls or attempts are numbered from the moment
            the circuit closed.
        base: For a rate: the success counter when the circuit closed.
        at: When the latest failure that counts happened, or the circuit closed.
        slices: For a policy that measures: the window, oldest first. Then *recent* is empty.
    """

    failures: int = 0
    successes: int = 0
    recent: tuple[int, ...] = ()
    base: int = 0
    at: float = 0.0
    slices: tuple[Slice, ...] = ()


class Open(msgspec.Struct, frozen=True):
    """No attempt begins before *until*.

    Args:
        until: The end of the break, on the bus's clock.
        failures: The failures that opened it.
        times: How often in a row it opened without a success in between.
        slow: The slow calls or attempts that opened it.
    """

    until: float
    failures: int = 0
    times: int = 1
    slow: int = 0


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
        successes: The probes that have succeeded.
        idle_since: Where there is no permit: when the last one was given back.
    """

    permits: tuple[Permit, ...] = ()
    times: int = 1
    successes: int = 0
    idle_since: float = 0.0


Circuit: TypeAlias = Closed | Open | HalfOpen


class Reopened(msgspec.Struct, frozen=True):
    """A circuit that an earlier run left open.

    Args:
        circuit: It, for the rest of its break.
        category: The category of the failure that opened it; None if no failure did.
        cause: What that failure means, in a few words.
    """

    circuit: Open
    category: Category | None = None
    cause: str = ""


class Forced(msgspec.Struct, frozen=True):
    """A circuit that ``service.circuits.force`` has put into a mode.

    Args:
        mode: What it does, whatever the policy says.
        circuit: What it counts meanwhile; None if it counts nothing.
        until: The end of the mode, on the bus's clock; None for good.
    """

    mode: Literal["open", "closed", "metrics_only"]
    circuit: Circuit | None = None
    until: float | None = None


def last_use(circuit: Circuit) -> float:
    """When the latest failure of a closed circuit happened, or the break or the latest probe ends."""
    match circuit:
        case Closed(at=at, slices=slices):
            return max(at, slices[-1].at) if slices else at
        case Open(until):
            return until
        case HalfOpen(permits, _, _, idle_since):
            return max((permit.expires for permit in permits), default=idle_since)


def expiry(policy: BreakerPolicy, circuit: Circuit) -> float:
    """The time after which *circuit* is forgotten, if nothing happens meanwhile."""
    return math.inf if policy.forget_after is None else last_use(circuit) + policy.forget_after
