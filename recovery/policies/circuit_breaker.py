"""When a circuit opens and closes: one table of states and events. Pure; events bring the time.

closed --(too many failures)--> open --(break_duration)--> half-open --(probes succeed)--> closed
                                  ^---------(a probe fails: the break grows)--'

What is old is forgotten (``BreakerPolicy.forget_after``): a row of failures begins again, an open circuit closes.

By default a *call* that gave up counts, so that noise which retries absorb never opens the circuit. A probe is one
attempt all the same: calls that wait for its answer do not wait for its retries. A circuit that
counts attempts suits a host, which all calls reach or fail to reach alike (``BreakerPolicy.counts``).

Source: Michael Nygard, "Release It!", 2007 (states); resilience4j's CircuitBreaker (rates over a count window, slow
calls, permits, forced states); Polly's BreakDurationGenerator (growing breaks) and SamplingDuration (rates over a
window by time, counted in tenths).
"""

from __future__ import annotations

import math

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
from recovery.policies.circuit_states import Circuit, Closed, HalfOpen, Open, Permit, Slice, expiry
from recovery.policies.retry import HOPELESS

MIN_PROBE = 1.0
"""Seconds that a probe is expected to take at least."""

MAX_EXPIRED_PERMITS = 8
"""How many probes with an expired lease are remembered: their success still closes the circuit."""


SLICES = 10
"""Parts in which a measured circuit counts its window."""


def break_length(policy: BreakerPolicy, times: int, draw: float = 0.0) -> float:
    """Seconds that a circuit stays open when it opens for the *times*-th time in a row.

    *draw* is a random number from [0, 1), for the jitter.
    """
    return _bare_break(policy, times) * (1.0 + policy.break_jitter * draw)


def _bare_break(policy: BreakerPolicy, times: int) -> float:
    longest = max(policy.max_break, policy.break_duration)
    growth = (times - 1) * math.log(policy.break_growth)
    # Compared as logarithms before the power, which raises OverflowError long before a break stops growing.
    if growth >= math.log(longest / policy.break_duration):
        return policy.break_duration if times == 1 else longest
    return float(policy.break_duration * policy.break_growth ** (times - 1))


def step(
    policy: BreakerPolicy,
    circuit: Circuit,
    event: CallEvent,
    successes: int = 0,
    *,
    draw: float = 0.0,
    took: float = 0.0,
) -> Circuit:
    """The circuit after *event*.

    A closed circuit does not receive successes, unless its policy measures: it learns of them here, from the counter.

    Args:
        policy: The operation's policy.
        circuit: The state before.
        event: What happened to a call.
        successes: The operation's success counter now.
        draw: A random number from [0, 1), for the jitter of a break.
        took: Seconds that the attempt took, where the policy asks for slow calls.
    """
    is_slow = policy.slow_call_rate is not None and took >= policy.slow_call_seconds
    match circuit, event:
        case Closed(), OperationSucceeded() if policy.is_measured:
            circuit = _aged(policy, circuit, event.at)
            slices = _counted(policy, circuit.slices, Slice(event.at, 1, 0, is_slow))
            return _judged(policy, msgspec.structs.replace(circuit, slices=slices), event.at, draw)
        case Closed(), FailureClassified() | GaveUp() if _is_judged(policy, event):
            counts = _counts(policy, event)
            failed = _after_failure(policy, _aged(policy, circuit, event.at), event.at, successes, counts=counts)
            if policy.is_measured:
                slices = _counted(policy, failed.slices, Slice(event.at, 1, counts, is_slow))
                failed = msgspec.structs.replace(failed, slices=slices)
            return _judged(policy, failed, event.at, draw) if counts or is_slow else failed
        case HalfOpen(permits, times), _ if any(permit.call == event.call for permit in permits):
            others = _without(circuit, event)
            is_superseded = any(permit.expires > event.at for permit in others.permits) and all(
                permit.expires <= event.at for permit in permits if permit.call == event.call
            )
            match event:
                case OperationSucceeded() if is_slow:
                    if is_superseded:
                        return others
                    return Open(event.at + break_length(policy, times + 1, draw), 0, times + 1, 1)
                case OperationSucceeded():  # however late: the host answered
                    return _after_answer(policy, others, event.at, successes)
                case FailureClassified() | GaveUp() if _is_answer(policy, event):
                    if is_superseded:
                        return others
                    if _counts(policy, event):
                        return Open(event.at + break_length(policy, times + 1, draw), 1, times + 1)
                    return others if policy.categories is None else _after_answer(policy, others, event.at, successes)
                case GaveUp() | OperationCancelled() | CallRejected() | Parked(category=None):
                    return others
    return circuit


def _without(circuit: HalfOpen, event: CallEvent) -> HalfOpen:
    """*circuit* when the call of *event* has given back its permit."""
    permits = tuple(permit for permit in circuit.permits if permit.call != event.call)
    return HalfOpen(permits, circuit.times, circuit.successes, 0.0 if permits else event.at)


def _after_answer(policy: BreakerPolicy, circuit: HalfOpen, at: float, successes: int) -> Circuit:
    """*circuit* when one more probe has succeeded."""
    if circuit.successes + 1 >= policy.half_open_successes:
        return Closed(0, successes, at=at)
    return msgspec.structs.replace(circuit, successes=circuit.successes + 1)


def as_of_now(policy: BreakerPolicy, circuit: Circuit, successes: int, now: float) -> Circuit:
    """*circuit* as it stands *now*, though no event has told it so.

    An open circuit whose break is over is half-open. What has expired is ``Closed()``, and so is a closed circuit
    without a failure that still counts: since the latest one, *successes* may have ended the row or filled the window.
    """
    if now > expiry(policy, circuit):
        return Closed()
    match circuit:
        case Open(until, _, times) if now >= until:
            return HalfOpen((), times, 0, until)
        case Closed() if policy.is_measured:
            failures = circuit.failures if successes == circuit.successes else 0
            slices = _in_window(policy, circuit.slices, now)
            is_clean = not failures and not any(one.failures or one.slow for one in slices)
            return Closed() if is_clean else msgspec.structs.replace(circuit, failures=failures, slices=slices)
        case Closed() if policy.failure_rate is None:
            return circuit if successes == circuit.successes else Closed()
        case Closed():
            oldest = circuit.failures + successes - circuit.base - policy.window
            recent = tuple(one for one in circuit.recent if one > oldest)
            return msgspec.structs.replace(circuit, recent=recent) if recent else Closed()
    return circuit


def _aged(policy: BreakerPolicy, circuit: Closed, now: float) -> Closed:
    return Closed() if now > expiry(policy, circuit) else circuit


def _after_failure(policy: BreakerPolicy, circuit: Closed, at: float, successes: int, *, counts: bool) -> Closed:
    at = at if counts else circuit.at
    if policy.failure_rate is None or policy.is_measured:
        failures = 0 if successes != circuit.successes else circuit.failures
        if not counts:
            failures = 0 if policy.categories is not None else failures
            return Closed(failures, successes, at=at, slices=circuit.slices)
        return Closed(failures + 1, successes, at=at, slices=circuit.slices)
    # Successes are not numbered, but the counter tells how many there were between two failures: that is enough.
    base = circuit.base if circuit.failures else circuit.successes
    failures = circuit.failures + 1
    number = failures + successes - base
    recent = (*circuit.recent, number) if counts else circuit.recent
    return Closed(failures, successes, tuple(one for one in recent if one > number - policy.window), base, at)


def _counted(policy: BreakerPolicy, slices: tuple[Slice, ...], one: Slice) -> tuple[Slice, ...]:
    """*slices* of the window with *one* more call or attempt."""
    if slices:
        last = slices[-1]
        if policy.window_seconds is None:
            is_full = last.calls * SLICES >= policy.window
        else:
            is_full = one.at - last.at >= policy.window_seconds / SLICES
        if not is_full:
            one = Slice(last.at, last.calls + 1, last.failures + one.failures, last.slow + one.slow)
            slices = slices[:-1]
    return _in_window(policy, (*slices, one), one.at)


def _in_window(policy: BreakerPolicy, slices: tuple[Slice, ...], now: float) -> tuple[Slice, ...]:
    if policy.window_seconds is not None:
        return tuple(one for one in slices if one.at > now - policy.window_seconds)
    while sum(one.calls for one in slices[1:]) >= policy.window:
        slices = slices[1:]
    return slices


def _judged(policy: BreakerPolicy, circuit: Closed, now: float, draw: float) -> Circuit:
    """*circuit*, or an open one if too much failed or was slow."""
    failures, slow = circuit.failures, 0
    is_too_much = policy.failure_rate is None and failures >= policy.failure_threshold
    if policy.is_measured:
        calls = sum(one.calls for one in circuit.slices)
        if calls >= (policy.window if policy.window_seconds is None else policy.minimum_calls):
            failed, slow = sum(one.failures for one in circuit.slices), sum(one.slow for one in circuit.slices)
            if policy.failure_rate is not None:
                failures, is_too_much = failed, failed / calls >= policy.failure_rate
            is_too_much |= policy.slow_call_rate is not None and slow / calls >= policy.slow_call_rate
    elif policy.failure_rate is not None:
        total, failures = failures + circuit.successes - circuit.base, len(circuit.recent)
        is_too_much = total >= policy.window and failures / policy.window >= policy.failure_rate
    return Open(now + break_length(policy, 1, draw), failures, 1, slow) if is_too_much else circuit


def admit(policy: BreakerPolicy, circuit: Circuit, call: str, now: float) -> tuple[Circuit, float | None]:
    """Whether *call* may begin an attempt now: the circuit after asking, and the seconds to wait, ``None`` to begin.

    Args:
        policy: The operation's policy.
        circuit: The state before.
        call: The id of the call.
        now: The time on the bus's clock.
    """
    if now > expiry(policy, circuit):
        return Closed(), None
    match circuit:
        case Closed():
            return circuit, None
        case Open(until, _, times) if now < until:
            return circuit, until - now
        case Open(_, _, times):
            circuit = HalfOpen((), times)
    permits = tuple(permit for permit in circuit.permits if permit.call != call)
    live = [permit for permit in permits if permit.expires > now]
    if len(live) >= policy.half_open_permits:
        return msgspec.structs.replace(circuit, permits=permits), min(permit.expires for permit in live) - now
    permits = (*[permit for permit in permits if permit.expires <= now][-MAX_EXPIRED_PERMITS:], *live)
    permits = (*permits, Permit(call, now + policy.lease))
    return HalfOpen(permits, circuit.times, circuit.successes), None


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


def _is_judged(policy: BreakerPolicy, event: CallEvent) -> bool:
    """Whether the policy counts events of this kind, and the call was not cancelled, exhausted or excused."""
    kind = FailureClassified if policy.counts == "attempts" else GaveUp
    return isinstance(event, kind) and _is_chargeable(event)


def _is_answer(policy: BreakerPolicy, event: FailureClassified | GaveUp) -> bool:
    """Whether *event* ends a probe. An attempt does where calls count, too: else the others wait for its retries."""
    return (policy.counts == "calls" or isinstance(event, FailureClassified)) and _is_chargeable(event)


def _is_chargeable(event: FailureClassified | GaveUp) -> bool:
    return not event.uncharged and event.category not in (Category.CANCELLED, Category.EXHAUSTED)


def _counts(policy: BreakerPolicy, event: FailureClassified | GaveUp) -> bool:
    if policy.categories is not None:
        return event.category in policy.categories
    return event.category not in HOPELESS
