"""How a call asks a person, once its retries have run out."""

from __future__ import annotations

import math

from events.attempt import Attempt, publish_outcome
from events.verdicts import GiveUp, Park, Verdict
from recovery.policies.retry import ASK, OUT_OF_RETRIES, RetryPolicy
from recovery.waiting.polling import Conditions
from recovery.waiting.wait import Wait


def ask_instead(attempt: Attempt, ended: Verdict | None, policy: RetryPolicy, conditions: Conditions) -> Wait | None:
    """The wait for a person of a call whose retries *ended* while it waited, published; None if it is over.

    Args:
        attempt: The attempt that must not begin.
        ended: Why the wait before it has ended for good.
        policy: How the call decides.
        conditions: Polls conditions, and guards the wait.
    """
    if policy.then != "ask" or not isinstance(ended, GiveUp):
        return None
    if not any(reason.startswith(OUT_OF_RETRIES) for reason in ended.reasons):
        return None
    publish_outcome(
        attempt.call, max(attempt.number - 1, 1), Park(math.inf, (*ASK.until, *ended.reasons), asks_person=True)
    )
    return asking(attempt, conditions)


def asking(attempt: Attempt, conditions: Conditions) -> Wait:
    """The wait for a person before *attempt*, which is published already."""
    attempt.call.asks_person = True
    return Wait(conditions, attempt, attempt.number, ASK)
