"""What a deferred attempt waits for, and what a wait costs."""

from __future__ import annotations

from events.attempt import Attempt
from events.runner_api import park
from events.verdicts import OUT_OF_TIME, GiveUp, Park, Verdict
from recovery.policies.retry import RetryPolicy
from recovery.waiting.wait import Wait

MIN_DEFERRAL = 0.05
"""Seconds after which an attempt asks again that was deferred for no time at all."""

ROUNDING = 1e-6
"""Seconds left that are none: a sum of times may miss its end by less, and a clock may not advance by so little."""


def defer(attempt: Attempt, deferred: Verdict, left: float) -> Park | GiveUp:
    """The wait of an attempt that *deferred* does not let begin yet, published; GiveUp if it never may.

    Its cause may end early, so the attempt waits for as much of *left*, the seconds that the call has, as it needs.
    """
    if isinstance(deferred, GiveUp):
        return deferred
    until = deferred.until if isinstance(deferred, Park) else ()
    if left <= ROUNDING:
        return GiveUp((OUT_OF_TIME, *map(str, until)), deferred.after)
    after = MIN_DEFERRAL if deferred.after <= 0.0 else deferred.after
    verdict = Park(min(after, left), until, min(deferred.within, left))
    park(attempt, verdict)
    return verdict


def charge(wait: Wait, policy: RetryPolicy) -> GiveUp | None:
    """Why the attempt must not follow *wait*, if it must not.

    A wait whose conditions held all the time did not help: it uses a retry, or a failure with another cause would have
    no end.
    """
    if wait.ended is None and wait.was_unhelpful and not wait.is_deferred and not wait.counts_as_retry:
        call = wait.attempt.call
        call.retries += call.charge
        most = policy.retries_for(None if call.failure is None else call.failure.category)
        if most is not None and call.retries > max(most, 1):  # a park is worth one more attempt
            return GiveUp(f"out of retries ({most})")
    return wait.ended
