"""``Schedule``: asks the policy and the budget what to do about a classified failure."""

from __future__ import annotations

import logging
from collections.abc import Callable

from events.operation_events import FailureClassified
from events.verdicts import GiveUp, Verdict
from recovery.policies.retry import UNSENT, decide
from recovery.settings import Plan, PlanOf
from recovery.subscribers.budget import Spend

log = logging.getLogger("recovery")


MAYBE_SENT = "not idempotent, and may have been done"


def judge(plan: Plan, failure: FailureClassified, chance: float) -> Verdict:
    """What *plan* wants done about *failure*, its budget aside; *chance* is a draw from [0, 1)."""
    try:
        verdict = decide(plan.policy, failure, chance)
    except Exception as error:  # a backoff of the user's own
        log.exception("the policy of %s cannot decide", failure.operation)
        return GiveUp(f"the policy failed, {type(error).__name__}")
    if not (plan.may_repeat or failure.category in UNSENT or isinstance(verdict, GiveUp)):
        return GiveUp(MAYBE_SENT)
    return verdict


class Schedule:
    """FailureClassified -> Retry, Park or GiveUp, as the operation's policy and its budget want it.

    *chance* draws from [0, 1). What was declared not idempotent is not tried again once it may have been sent, unless
    somebody can look whether it took effect.
    """

    def __init__(self, plan_of: PlanOf, chance: Callable[[], float], spend: Spend) -> None:
        self._plan_of = plan_of
        self._chance = chance
        self._spend = spend

    def hear(self, failure: FailureClassified) -> Verdict | None:
        """The policy's verdict, or ``None`` for an operation that is not the service's."""
        plan = self._plan_of(failure.operation)
        if plan is None:
            return None
        verdict = judge(plan, failure, self._chance())
        return verdict if plan.budget is None else self._spend.ask(plan.budget, failure, verdict)
