"""``Schedule``: asks the policy and the budget what to do about a classified failure."""

from __future__ import annotations

import logging
from collections.abc import Callable

from events.operation_events import FailureClassified
from events.verdicts import GiveUp, Verdict
from recovery.policies.retry import UNSENT, decide
from recovery.settings import ConfigOf, OperationConfig
from recovery.subscribers.budget import RetryBudgets

log = logging.getLogger("recovery")


MAYBE_SENT = "not idempotent, and may have been done"


def judge(config: OperationConfig, failure: FailureClassified, draw: float) -> Verdict:
    """What *config* wants done about *failure*, its budget aside; *draw* is a number from [0, 1)."""
    try:
        verdict = decide(config.policy, failure, draw)
    except Exception as error:  # a backoff of the user's own
        log.exception("the policy of %s cannot decide", failure.operation)
        return GiveUp(f"the policy failed, {type(error).__name__}")
    if not (config.may_repeat or failure.category in UNSENT or isinstance(verdict, GiveUp)):
        return GiveUp(MAYBE_SENT)
    return verdict


class Schedule:
    """FailureClassified -> Retry, Park or GiveUp, as the operation's policy and its budget want it.

    *rng* draws from [0, 1). What was declared not idempotent is not tried again once it may have been sent, unless
    somebody can look whether it took effect.
    """

    def __init__(self, config_of: ConfigOf, rng: Callable[[], float], budgets: RetryBudgets) -> None:
        self._config_of = config_of
        self._rng = rng
        self._budgets = budgets

    def on_classified(self, failure: FailureClassified) -> Verdict | None:
        """The policy's verdict, or ``None`` for an operation that is not the service's."""
        config = self._config_of(failure.operation)
        if config is None:
            return None
        verdict = judge(config, failure, self._rng())
        return verdict if config.budget is None else self._budgets.charge(config.budget, failure, verdict)
